"""`python -m benchmarks table [--readme]`: the tables of measured figures, from benchmarks/results."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import costs, peers
from benchmarks.cells import CELLS, Cell
from molgen.core.errors import DataError
from molgen.core.files import atomic

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- table: python -m benchmarks table --readme -->", "<!-- end of table -->"

SHOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "image": (
        ("frechet", "Frechet distance"),
        ("coverage", "coverage"),
        ("class_min_share", "rarest digit over an even share"),
    ),
    "smiles": (("valid_x_unique", "valid x unique"), ("fcd", "FCD"), ("novelty", "novelty")),
    "graph": (("valid_x_unique", "valid x unique"), ("fcd", "FCD"), ("novelty", "novelty")),
    "molecule": (
        ("atom_stable", "atoms stable"),
        ("molecule_stable", "molecules stable"),
        ("valid_x_unique", "valid x unique"),
    ),
    "protein": (
        ("frechet", "Frechet distance"),
        ("ca_ca", "CA-CA within 3.8 +- .1 A"),
        ("helix", "helix"),
        ("strand", "strand"),
        ("clashes", "clashes per 100"),
    ),
}
"""The scores in the table per modality; all scores stand in the JSON files."""


HEADLINE: dict[str, tuple[str, tuple[str, ...]]] = {
    "image": ("MNIST: Frechet distance / floor", ("frechet",)),
    "smiles": ("QM9 strings: valid x unique %, FCD", ("valid_x_unique", "fcd")),
    "graph": ("QM9 graphs: valid x unique %, FCD", ("valid_x_unique", "fcd")),
    "molecule": (
        "QM9 in 3D: atoms stable %, molecules stable %, valid x unique %",
        ("atom_stable", "molecule_stable", "valid_x_unique_table"),
    ),
    "protein": ("chains: Frechet distance / floor", ("frechet",)),
}
"""What a family is compared by on each modality."""


def main(argv: list[str]) -> int:
    """Prints the tables, or writes them into the README between its markers and beside the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    parser.add_argument(
        "--readme", action="store_true", help="write README.md and benchmarks/results/README.md"
    )
    args = parser.parse_args(argv)
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in results:
        of[r.get("kind", "scores")].append(r)
    short = overview(of["scores"]) + conditions(of["conditions"]) + likelihoods(of["likelihood"])
    full = table(of["scores"]) + peers.table(of["peers"]) + costs.table(of["costs"])
    if not args.readme:
        print(short, full, sep="\n\n")
        return 0
    page = README.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise DataError(f"no line {BEGIN!r} followed by {END!r}", file=README, fix="put them back")
    before, rest = page.split(BEGIN, 1)
    with atomic(README) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{short}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    with atomic(RESULTS / "README.md") as temporary:
        temporary.write_text(f"# Measured figures\n\n{full}\n", encoding="utf-8")
    return 0


def overview(results: list[dict[str, Any]]) -> str:
    """Families by kinds of data, the headline figures with the minutes of training behind them."""
    rows: dict[str, dict[str, str]] = {}
    # Distances of fewer samples stand over the floor of the protocol's number too: floors grow faster with
    # fewer samples than distances do, so that their own would flatter them.
    floors = {
        CELLS[r["cell"]].modality: r["scores"].get("floor/frechet")
        for r in sorted(results, key=lambda r: r["n"])
        if r["cell"] in CELLS
    }
    for r in results:
        cell = CELLS.get(r["cell"])
        if cell is not None and cell.shipped:
            rows.setdefault(_row(cell), {})[cell.modality] = _headline(cell, r, floors[cell.modality])
    lines = [
        f"| | {' | '.join(title for title, _ in HEADLINE.values())} |",
        f"|---|{'---|' * len(HEADLINE)}",
        *(
            f"| {name} | {' | '.join(found.get(m, '-') for m in HEADLINE)} |"
            for name, found in sorted(rows.items())
        ),
    ]
    return "\n".join(lines)


def _row(cell: Cell) -> str:
    kind = cell.variant or cell.model.get("kind", "")
    return f"{cell.family}, {kind}" if kind else cell.family


def _headline(cell: Cell, r: dict[str, Any], floor: float) -> str:
    scores, minutes = r["scores"], r["training"]["seconds"] / 60
    parts = []
    for key in HEADLINE[cell.modality][1]:
        value = scores.get(key)
        if value is None:
            parts.append("-")
        elif key == "frechet":
            parts.append(f"{value / floor:.1f} x")
        else:
            parts.append(f"{value:.2f}" if key == "fcd" else f"{100 * value:.1f}")
    few = "" if r["n"] == cell.n else f", n {r['n']:,}"
    return f"{', '.join(parts)} ({minutes:.0f} min{few})"


def likelihoods(results: list[dict[str, Any]]) -> str:
    """What models say of test records, one line each."""
    lines = [
        f"- `{r['cell']}` on {r['data']}: {r['nats']:.2f} +- {r['error']:.2f} nats"
        + (f", {r['bits_per_dim']:.3f} bits per dimension" if "bits_per_dim" in r else "")
        + f" ({r['likelihood']}; n {r['n']:,}, seed {r['seed']})"
        for r in results
    ]
    head = "\n\nlog p of test records (`python -m benchmarks likelihood CELL`):\n\n"
    return head + "\n".join(lines) if lines else ""


def table(results: list[dict[str, Any]]) -> str:
    """Results as a Markdown table, floors beside their distances."""
    rows = [
        "| weights | data | figures (floor: training against test records) | n | seed | steps | samples/s "
        "| parameters | trained |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        modality = r["cell"].split("-")[1]
        figures = "; ".join(
            _figure(r["scores"], key, label) for key, label in SHOWN[modality] if key in r["scores"]
        )
        training = r["training"]
        budget = (
            f"{training['seconds'] / 60:.0f} min of {_threads(training)}, {training['samples']:,} samples"
        )
        rows.append(
            f"| `{r['cell']}` | {r['data']} | {figures} | {r['n']:,} | {r['seed']} "
            f"| {r['options']['steps'] or '-'} | {r['samples_per_second']:g} | {r['parameters']:,} "
            f"| {budget} |"
        )
    dates = ", ".join(sorted({r["date"] for r in results}))
    machines = ", ".join(sorted({r["machine"] for r in results}))
    return "\n".join([*rows, "", f"Measured {dates} on {machines} (`python -m benchmarks score CELL`)."])


def _threads(training: dict[str, Any]) -> str:
    machine = training["runs"][-1]["machine"] if training["runs"] else ""
    return "1 CPU core" if "1 thread" in machine else machine.split(", ")[-1]


def _figure(scores: dict[str, Any], key: str, label: str) -> str:
    value, shown = scores[key], "-"
    if value is not None:
        shown = f"{value:.3g}"
    for prefix, word in (("floor/", "floor"), ("data/", "data")):
        if scores.get(prefix + key) is not None:
            shown += f" ({word} {scores[prefix + key]:.3g})"
    return f"{label} {shown}"


def conditions(results: list[dict[str, Any]]) -> str:
    """How well samples follow their conditions, one line each."""
    lines = []
    for r in results:
        figures = ", ".join(f"{key} {value:.3g}" for key, value in r["scores"].items())
        drawn = f"n {r['n']}, seed {r['seed']}, guidance {r['guidance']:g}"
        lines.append(f"- `{r['cell']}` asked for {r['condition']}: {figures} ({drawn})")
    return "\n\nConditions (`python -m benchmarks conditions CELL`):\n\n" + "\n".join(lines) if lines else ""
