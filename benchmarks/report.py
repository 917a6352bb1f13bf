"""Rows of measurements as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.cells import BASELINES

Row = Mapping[str, Any]

SHOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "image": (
        ("frechet", "Frechet distance"),
        ("coverage", "coverage"),
        ("class_min_share", "rarest digit over an even share"),
        ("sharpness", "sharpness over the data's"),
        ("nearer_to_train", "nearer to training than test images (.5 is new)"),
        ("accuracy", "p(y given x) accuracy"),
    ),
    "smiles": (
        ("valid_x_unique", "valid x unique"),
        ("unique", "unique of valid"),
        ("fcd", "FCD"),
        ("int_div", "internal diversity"),
        ("novelty", "novelty"),
    ),
    "molecule": (
        ("atom_stable", "atoms stable"),
        ("molecule_stable", "molecules stable"),
        ("valid_x_unique", "valid x unique (bonds)"),
        ("valid_x_unique_table", "valid x unique (distances)"),
        ("novelty", "novelty"),
        ("heteroatoms", "heteroatoms"),
        ("rings", "rings"),
    ),
    "protein": (
        ("frechet", "Frechet distance"),
        ("ca_ca", "CA-CA within 3.8 +- .1 A"),
        ("helix", "helix"),
        ("strand", "strand"),
        ("clashes", "clashes per 100"),
        ("diversity_tm", "mean pairwise TM"),
        ("nearest_tm", "TM to the nearest training fold"),
    ),
}
SHOWN["graph"] = SHOWN["smiles"]
"""The scores in the table per modality; all scores stand in the JSON files."""

_BESIDE = (("floor/", "floor"), ("data/", "data"))


def page(name: str, rows: Sequence[Row]) -> str:
    """The Markdown page of a benchmark."""
    parts = [f"# Benchmark {name}", table(rows)]
    failures = [row for row in rows if row.get("error")]
    if failures:
        lines = [
            f"- `{row['cell']}`, {row['weights']}, seed {row['seed']}: {row['error']}" for row in failures
        ]
        parts.append("\n".join(["Failed:", "", *lines]))
    warned = [(row, w) for row in rows for w in row.get("fitting", {}).get("warnings", [])]
    if warned:
        parts.append(
            "\n".join(
                [
                    "Warnings in training:",
                    "",
                    *(f"- `{r['cell']}`, seed {r['seed']}: {w}" for r, w in warned),
                ]
            )
        )
    known = {
        f"{family}: {what}" for family, what in BASELINES.items() if any(r["family"] == family for r in rows)
    }
    notes = [
        "In brackets: the floor, the score of as many training records, or the value of the data. Over "
        "several seeds: mean +- standard deviation; of training and sampling where cells are trained, of "
        f"sampling alone where weights ship. Baselines: {'; '.join(sorted(known)) or 'none'}.",
        f"Measured by `python -m benchmarks {name}`; benchmarks/README.md defines each figure.",
        made(rows),
    ]
    return "\n\n".join([*parts, *notes]) + "\n"


def made(rows: Sequence[Row]) -> str:
    """Date, machine and versions of the measurements, one line."""

    def each(get: Callable[[Row], str]) -> str:
        return "; ".join(sorted({get(row) for row in rows if "machine" in row}))

    versions = each(lambda row: ", ".join(f"{k} {v}" for k, v in row["versions"].items()))
    return f"Measured {each(lambda r: r['date'])} on {each(lambda r: r['machine'])}; {versions}."


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, a table for each kind of data; rows that differ only in the seed are merged."""
    parts = []
    for modality in SHOWN:
        own = [row for row in rows if modality_of(row) == modality]
        if own:
            parts.append(f"## {modality}\n\n" + "\n".join(_table(modality, own)))
    return "\n\n".join(parts)


def modality_of(row: Row) -> str:
    """The kind of data of a row."""
    return str(row.get("modality") or row["cell"].split("-")[1])


def _table(modality: str, rows: Sequence[Row]) -> list[str]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        # A failed seed has only its requested options; a single result has only those that were used.
        asked = row.get("request") or (row["n"], row["options"])
        same = (row["cell"], row.get("weights"), str(asked))
        groups.setdefault(same, []).append(row)
    scored = [
        (key, label)
        for key, label in SHOWN[modality]
        if any(row.get("scores", {}).get(key) is not None for row in rows)
    ]
    head = [
        "row", "data", *(label for _, label in scored), "n", "seeds", "log p of test records, nats",
        "parameters", "trained", "samples/s", "steps", "peak MB: sampling, training",
    ]  # fmt: skip
    return table_lines(head, [_cells(group, scored) for group in groups.values()])


def table_lines(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body)]


def _cells(group: Sequence[Row], scored: Sequence[tuple[str, str]]) -> list[str]:
    row = next((r for r in group if not r.get("error")), group[0])
    trained = ", trained" if row.get("weights") == "trained" else ""
    errors = sorted({r["error"] for r in group if r.get("error")})
    failed = f" **failed**: {' / '.join(errors)}".replace("|", "/") if errors else ""
    seeds = [r["seed"] for r in group]
    sampling, fitting = (
        _over(group, get) for get in (lambda r: r["memory"]["peak"], lambda r: r["fitting"]["memory"]["peak"])
    )
    return [
        f"`{row['cell']}`{trained}{failed}",
        row["data"],
        *(figure(group, key) for key, _ in scored),
        f"{row['n']:,}",
        ", ".join(map(str, seeds)),
        _likelihood(group),
        f"{row['parameters']:,}" if row.get("parameters") else "-",
        _trained(group),
        _over(group, lambda r: r.get("samples_per_second")),
        _steps(row.get("options") or {}),
        f"{sampling}, {fitting}",
    ]


def _steps(options: Mapping[str, Any]) -> str:
    """Steps, and the number of restarts."""
    steps, restarts = options.get("steps"), options.get("restarts")
    return f"{steps or '-'}, {restarts} restarts" if restarts else str(steps or "-")


def figure(group: Sequence[Row], key: str) -> str:
    """A score over seeds, with the floor or the value of the data in brackets."""
    shown = _over(group, score(key))
    for prefix, word in _BESIDE:
        beside = values(group, score(prefix + key))
        if beside and shown != "-":
            shown += f" ({word} {spread([statistics.fmean(beside)])})"
    return shown


def score(key: str) -> Callable[[Row], Any]:
    """The score of a row by this name."""
    return lambda row: row["scores"].get(key)


def values(group: Sequence[Row], get: Callable[[Row], Any]) -> list[float]:
    """The values of the rows that have one."""
    found = []
    for row in group:
        try:
            value = get(row)
        except (KeyError, TypeError):
            continue
        if value is not None:
            found.append(float(value))
    return found


def _over(group: Sequence[Row], get: Callable[[Row], Any]) -> str:
    """A score; over several seeds its mean and standard deviation."""
    return spread(values(group, get))


def spread(found: Sequence[float]) -> str:
    """Mean and standard deviation of values; of a single value the value itself.

    Example:
        >>> spread([2.0, 4.0]), spread([0.5]), spread([])
        ('3 +- 1.41', '0.5', '-')
    """
    if not found:
        return "-"
    mean = statistics.fmean(found)
    shown = f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.3g}"
    return shown if len(found) == 1 else f"{shown} +- {statistics.stdev(found):.3g}"


def asked(found: Mapping[str, Any]) -> str:
    """The number of records of a likelihood, and the number of records that the model cannot read.

    Example:
        >>> asked({"n": 984, "of": 1000})
        'n 984; it cannot read 16 of 1,000'
    """
    left = found.get("of", found["n"]) - found["n"]
    return f"n {found['n']:,}" + (f"; it cannot read {left:,} of {found['of']:,}" if left else "")


def _likelihood(group: Sequence[Row]) -> str:
    known = [row["likelihood"] for row in group if row.get("likelihood")]
    if not known:
        return str(group[0].get("access", "-"))
    nats = values(known, lambda x: x["nats"])
    out = f"{spread(nats)} ({asked(known[0])}, {known[0]['likelihood']}"
    bits = values(known, lambda x: x["bits_per_dim"])
    never = values(known, lambda x: x["impossible"])
    if not nats and never:
        out += f"; {spread([100 * share for share in never])} % are impossible"
    return out + (f"; {spread(bits)} bits per dimension)" if bits else ")")


def _trained(group: Sequence[Row]) -> str:
    training = group[0].get("training") or {}
    if not training.get("runs"):
        return "-"
    minutes = values(group, lambda r: r["training"]["seconds"] / 60)
    samples = values(group, lambda r: r["training"]["samples"])
    return f"{spread(minutes)} min of {_threads(training)}, {spread(samples)} samples"


def _threads(training: Mapping[str, Any]) -> str:
    machine = training["runs"][-1]["machine"]
    return "1 CPU core" if "1 thread" in machine else str(machine.split(", ")[-1])
