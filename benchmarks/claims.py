"""`python -m benchmarks claims`: common claims about the seven families, and whether they hold here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import shorts
from benchmarks.cells import ASIDE, BASELINES, BENCHMARKS, CELLS, RUNS
from benchmarks.child import ChildError, isolated
from benchmarks.measure import digest, provenance
from benchmarks.report import Row, figure, made, modality_of, score, spread, table_lines, values
from benchmarks.store import RESULTS, Store, read_json
from molgen.core.errors import DataError
from molgen.io.files import atomic

FIDELITY = {
    "image": ("frechet", "lower"),
    "smiles": ("fcd", "lower"),
    "graph": ("fcd", "lower"),
    "molecule": ("atom_stable", "higher"),
    "protein": ("frechet", "lower"),
}
"""The main score of a kind of data, and whether lower or higher is better."""
STEPPED = {**FIDELITY, **dict.fromkeys(("smiles", "graph"), ("valid_x_unique", "higher"))}
"""The same over numbers of steps: an FCD uses valid samples alone, and its floor grows with fewer of them."""
DIVERSITY = {
    "image": ("coverage", "class_min_share"),
    "smiles": ("unique", "int_div"),
    "graph": ("unique", "int_div"),
    "molecule": ("unique",),
    "protein": ("diversity_tm",),
}
"""Scores of diversity; the first is the main one of the kind of data."""
_COVERED = 2000
"""The maximum number of images in coverage."""
_FEW = 200
"""The number of valid samples below which an FCD is mostly bias."""
_ANEW = " trained"
"""The suffix of a model that the benchmark trained itself."""
Groups = Mapping[str, Sequence[Row]]
"""The rows of each model over seeds, by its cell's name."""
Shorts = Mapping[str, Mapping[str, Any]]
"""The short measurements by name."""
Found = tuple[dict[str, bool], str]
"""On which kinds of data a claim holds, and the figures."""


def main(argv: list[str]) -> int:
    """Runs missing short measurements, then writes the tables and the claims."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks claims", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the benchmarks' results")
    parser.add_argument("--out", type=Path, help="folder of claims.json and claims.md; by default the same")
    parser.add_argument("--n", type=int, default=500, help="samples of each short measurement")
    parser.add_argument("--budget", default="10m", help="time of the training of the Boltzmann machine")
    parser.add_argument("--only", nargs="*", help="only these short measurements; without names none")
    parser.add_argument("--retry", action="store_true", help="repeat failed measurements")
    args = parser.parse_args(argv)
    out = args.out or args.results
    store = Store(out / "claims.json", "claims", ["name"])
    for name, work in measurements(args.n, args.budget).items():
        if args.only is not None and name.split(" ")[0] not in args.only:
            continue
        request = requested(*work)
        known = store.find(name=name, request=request)
        if known is not None and not (args.retry and known["error"]):
            continue
        row: dict[str, Any] = {"name": name, "request": request, "error": None}

        def heard(phase: str, found: dict[str, Any], row: dict[str, Any] = row) -> None:
            row.update(found)
            print(f"{row['name']}: {phase}", file=sys.stderr, flush=True)

        try:
            isolated(shorts.timed, *work, log=RUNS / "claims" / f"{name.replace(' ', '-')}.log", heard=heard)
        except ChildError as error:
            row["error"] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
        store.put({**row, **provenance()})
    with atomic(out / "claims.md") as temporary:
        temporary.write_text(page(rows_of(args.results), store.rows), encoding="utf-8")
    print(out / "claims.md")
    return 0


def measurements(n: int, budget: str) -> dict[str, tuple[Any, ...]]:
    """The short measurements by name: a function of `shorts` and its arguments."""
    out: dict[str, tuple[Any, ...]] = {}
    for cell in CELLS.values():
        if not cell.shipped or not cell.weights.is_file():
            continue
        key, count = STEPPED[cell.modality][0], min(n, cell.n)
        if cell.family == "consistency":
            out[f"steps {cell.name}"] = (shorts.stepping, cell.name, (1, 2, 0), count, key)
        if cell.family == "diffusion" and cell.modality != "protein":
            out[f"steps {cell.name}"] = (shorts.stepping, cell.name, (5, 10, 0), count, key)
        if cell.modality == "smiles":
            out[f"reach {cell.name}"] = (shorts.reach, cell.name, n)
    out["reach data"] = (shorts.reach, "data", n)
    for modality in ("image", "graph"):
        for cell in CELLS.values():
            if cell.modality == modality and cell.shipped and cell.data in ("mnist", "qm9"):
                out[f"cost {cell.name}"] = (shorts.step_cost, cell.name, 32, 5)
    return {**out, "tuning": (shorts.fine_tuning, (100, 1000, 60_000), budget)}


def requested(work: Callable[..., None], *arguments: Any) -> list[str]:
    """The settings of a measurement: its arguments, and the weights or the options of its model."""
    asked = [str(part) for part in arguments]
    if work in (shorts.stepping, shorts.reach) and arguments[0] in CELLS:
        asked.append(digest(CELLS[arguments[0]].weights))
    if work is shorts.step_cost:
        asked.append(str(shorts.built(CELLS[arguments[0]])))
    return asked


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of all benchmarks of a folder; the results of `score` for cells that have none."""
    rows = [
        row
        for name in BENCHMARKS
        if (folder / f"{name}.json").is_file()
        for row in Store(folder / f"{name}.json", "benchmark", []).rows
        if row["data"] not in ASIDE
    ]
    known = {row["cell"] for row in rows}
    for path in sorted(folder.glob("*.json")):
        row = read_json(path)
        if (
            "kind" not in row
            and row["cell"] not in known
            and CELLS[row["cell"]].shipped
            and row["data"] not in ASIDE
        ):
            rows.append(row)
    if not rows:
        raise DataError("no results", file=folder, fix="run python -m benchmarks qm9 first")
    return rows


def page(rows: Sequence[Row], measured: Sequence[Mapping[str, Any]]) -> str:
    """Tables and claims as Markdown."""
    groups = {m: grouped(rows, m) for m in FIDELITY}
    known = {str(row["name"]): row for row in measured if not row["error"]}
    best = {modality: standing(own) for modality, own in groups.items()}
    lines = []
    for title, find in CLAIMS.items():
        # Short trainings measure the stability of a family, but not its quality.
        holds, figures = find(groups if find is unstable else best, known)
        lines.append(f"- **{title}: {verdict(holds)}.** {figures or 'No figures yet.'}")
    tables = [f"## {m}\n\n" + "\n".join(_table(m, groups[m])) for m in FIDELITY if groups[m]]
    return "\n\n".join(["# Claims about the families", "\n".join(lines), *tables, made(rows)]) + "\n"


def grouped(rows: Sequence[Row], modality: str) -> dict[str, list[Row]]:
    """The scored and the failed rows of models by cell, shipped ones first."""
    out: dict[str, list[Row]] = {}
    own = [r for r in rows if modality_of(r) == modality and r.get("family") not in BASELINES]
    for row in sorted(own, key=lambda r: r.get("weights") == "trained"):
        name = row["cell"] + (_ANEW if row.get("weights") == "trained" else "")
        out.setdefault(name, []).append(row)
    return out


def standing(groups: Groups) -> dict[str, Sequence[Row]]:
    """The groups that represent models: those of shipped weights where there are any."""

    def shipped(name: str) -> bool:
        return any(not row.get("error") for row in groups.get(name.removesuffix(_ANEW), ()))

    return {name: own for name, own in groups.items() if not (name.endswith(_ANEW) and shipped(name))}


def verdict(holds: Mapping[str, bool]) -> str:
    """A verdict over kinds of data.

    Example:
        >>> verdict({"image": True, "graph": False}), verdict({})
        ('holds on image, not on graph', 'not measured')
    """
    yes, no = ([name for name, value in holds.items() if value is wanted] for wanted in (True, False))
    if not yes and not no:
        return "not measured"
    if not yes:
        return f"does not hold on {', '.join(no)}"
    return f"holds on {', '.join(yes)}" + (f", not on {', '.join(no)}" if no else "")


# ---------------------------------------------------------------------- figures of rows


def family(name: str) -> str:
    """The family of a cell, coupling flows by themselves."""
    return "coupling flow" if "coupling" in name else name.split("-")[0]


def rate(group: Sequence[Row]) -> float | None:
    """Samples a second, the mean over seeds."""
    return _mean(values(group, lambda r: r["samples_per_second"]))


def scored(group: Sequence[Row], key: str) -> float | None:
    """A score, the mean over seeds; a distance less its floor, to compare different numbers of samples.

    An FCD of few valid samples is mostly bias and is left out.
    """

    def get(row: Row) -> Any:
        scores = row["scores"]
        if key == "fcd" and scores["valid"] * row["n"] < _FEW:
            return None
        floor = scores.get(f"floor/{key}") if key in ("frechet", "fcd") else None
        return scores[key] - (floor or 0.0)

    return _mean(values(group, get))


def _mean(found: Sequence[float]) -> float | None:
    return sum(found) / len(found) if found else None


def _all(groups: Groups, get: Callable[[Sequence[Row]], float | None]) -> dict[str, float]:
    found = {name: get(group) for name, group in groups.items()}
    return {name: value for name, value in found.items() if value is not None}


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {spread([value])}" for name, value in sorted(figures.items(), key=lambda x: x[1])
    )


def _compared(
    groups: Mapping[str, Groups],
    get: Callable[[str, Sequence[Row]], float | None],
    holds: Callable[[str, dict[str, float]], bool | None],
) -> Found:
    """A claim about figures of rows, one kind of data after the other."""
    found, texts = {}, []
    for modality, own in groups.items():
        figures = _all(own, partial(get, modality))
        answer = holds(modality, figures)
        if answer is not None:
            found[modality] = answer
            texts.append(f"{modality}: {_told(figures)}")
    return found, "; ".join(texts)


def _of(figures: Mapping[str, float], *families: str) -> list[float]:
    return [value for name, value in figures.items() if family(name) in families]


def _others(figures: Mapping[str, float], *families: str) -> list[float]:
    return [value for name, value in figures.items() if family(name) not in families]


# ---------------------------------------------------------------------- claims


def slow_autoregression(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """Sampling entry by entry takes longer than one pass."""

    def holds(modality: str, figures: dict[str, float]) -> bool | None:
        ours, theirs = (
            _of(figures, "autoregressive"),
            _of(figures, "gan", "vae", "coupling flow", "consistency"),
        )
        return max(ours) < min(theirs) if ours and theirs else None

    found, text = _compared(groups, lambda m, g: rate(g), holds)
    return found, f"{text} (samples a second)" if text else ""


def fast_consistency(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """One step of consistency against diffusion's default: ten times as fast, within twice its shortfall."""
    found, texts = {}, []
    for modality, (key, better) in STEPPED.items():
        one, many = known.get(f"steps consistency-{modality}"), known.get(f"steps diffusion-{modality}")
        if one is None or many is None:
            continue
        ours, theirs = one["runs"][0], many["runs"][-1]
        ratio = ours["samples_per_second"] / theirs["samples_per_second"]
        a, b = (_short(run, better) for run in (ours, theirs))
        good = a is not None and b is not None and a <= 2 * b
        found[modality] = ratio >= 10 and good
        texts.append(
            f"{modality}: {ratio:.3g} times as fast in 1 step as diffusion in {theirs['steps']}, "
            f"{key} {_number(ours['score'])} against {_number(theirs['score'])} (n {one['n']})"
        )
    return found, "; ".join(texts)


def good_diffusion(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """The best of the families, except the one that is distilled from it."""

    def holds(modality: str, figures: dict[str, float]) -> bool | None:
        ours, theirs = _of(figures, "diffusion"), _others(figures, "diffusion", "consistency")
        best = min if FIDELITY[modality][1] == "lower" else max
        return best(*ours, *theirs) in ours if ours and theirs else None

    found, text = _compared(groups, lambda m, g: scored(g, FIDELITY[m][0]), holds)
    return found, f"distances less their floors, or shares of stable atoms: {text}" if text else ""


def many_steps(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """In five steps diffusion has at least twice the shortfall of its default number of steps."""
    found, texts = {}, []
    for modality, (key, better) in STEPPED.items():
        row = known.get(f"steps diffusion-{modality}")
        if row is None:
            continue
        few, default = (_short(row["runs"][i], better) for i in (0, -1))
        found[modality] = few is None or (default is not None and few >= 2 * default)
        told = ", ".join(f"{_number(r['score'])} in {r['steps']}" for r in row["runs"])
        texts.append(f"{modality}: {key} {told} (n {row['n']})")
    return found, "; ".join(texts)


def collapse(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """The least diverse of the families, at equal n, since few samples are all distinct."""

    def n(modality: str, group: Sequence[Row]) -> int:
        return min(group[0]["n"], _COVERED) if modality == "image" else int(group[0]["n"])

    def holds(modality: str, figures: dict[str, float]) -> bool | None:
        ours, theirs = _of(figures, "gan"), _others(figures, "gan")
        worse = max if modality == "protein" else min  # similarity there
        return worse(*ours, *theirs) in ours if ours and theirs else None

    equal = {}
    for modality, own in groups.items():
        sizes = {n(modality, group) for name, group in own.items() if family(name) == "gan"}
        equal[modality] = {name: group for name, group in own.items() if n(modality, group) in sizes}
    return _compared(equal, lambda m, g: scored(g, DIVERSITY[m][0]), holds)


def blur(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """The mean absolute Laplacian is below that of the data, and the smallest of the families."""

    def holds(modality: str, figures: dict[str, float]) -> bool | None:
        ours, theirs = _of(figures, "vae"), _others(figures, "vae")
        return max(ours) < 0.9 and max(ours) <= min(theirs) if ours and theirs else None

    found, text = _compared({"image": groups["image"]}, lambda m, g: scored(g, "sharpness"), holds)
    return found, f"sharpness over the data's: {text}" if text else ""


def _costs(known: Shorts, key: str) -> dict[str, dict[str, float]]:
    """A figure of one training step by kind of data and cell."""
    out: dict[str, dict[str, float]] = {}
    for name, row in known.items():
        if name.startswith("cost "):
            cell = name.removeprefix("cost ")
            out.setdefault(CELLS[cell].modality, {})[cell] = row[key]
    return out


def heavy_flow(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """A coupling flow keeps all dimensions in every layer: the most memory in a training step."""
    found, texts = {}, []
    for modality, figures in _costs(known, "memory").items():
        ours, theirs = _of(figures, "coupling flow"), _others(figures, "coupling flow")
        if ours and theirs:
            found[modality] = max(ours) >= max(theirs)
            texts.append(f"{modality}: {_told(figures)}")
    return found, f"MB for training at batch 32: {'; '.join(texts)}" if texts else ""


def dear_consistency(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """A training step of a consistency model takes longer than one of diffusion with the same network."""
    found, texts = {}, []
    for modality, figures in _costs(known, "seconds_per_step").items():
        ours, theirs = _of(figures, "consistency"), _of(figures, "diffusion")
        if ours and theirs:
            found[modality] = ours[0] > theirs[0]
            texts.append(
                f"{modality}: {ours[0]:.3g} s a step against {theirs[0]:.3g}, {ours[0] / theirs[0]:.2f} times"
            )
    return found, "; ".join(texts)


def short_reach(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """Distant brackets and rings are closed less often than near ones, by five points or more."""
    found, texts = {}, []
    for name, row in known.items():
        if not name.startswith("reach "):
            continue
        bins = [b for b in row["bins"] if b["closed"] + b["open"] >= 20]
        shares = [b["closed"] / (b["closed"] + b["open"]) for b in bins]
        if family(name.removeprefix("reach ")) == "autoregressive" and len(shares) > 1:
            found["smiles"] = shares[0] - shares[-1] >= 0.05
        told = ", ".join(f"to {b['to']} {100 * s:.1f}" for b, s in zip(bins, shares, strict=True))
        texts.append(f"{name.removeprefix('reach ')}: {told}")
    return found, f"% closed by distance in characters: {'; '.join(texts)}" if texts else ""


def pretraining(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """Pretraining without labels helps with few labels, and does no harm with many."""
    row = known.get("tuning")
    if row is None:
        return {}, ""
    found = {f"{run['labels']:,} labels": run["pretrained"] >= run["scratch"] for run in row["runs"]}
    told = [
        f"{run['labels']:,} labels: {100 * run['pretrained']:.1f} % against {100 * run['scratch']:.1f}"
        for run in row["runs"]
    ]
    return found, f"{'; '.join(told)} (pretrained {row['budget']}, one seed)"


def unstable(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """Over seeds of training the score of adversarial networks varies most, relative to its size."""
    found, texts = {}, []
    for modality, own in groups.items():
        spreads = {}
        key = FIDELITY[modality][0]
        for name, group in own.items():
            got = values(group, score(key))
            if name.endswith(_ANEW) and len(group) > 1:
                mean = _mean(got)
                failed = len(got) < len(group)
                spreads[name] = float("inf") if failed or not mean else (max(got) - min(got)) / abs(mean)
        ours, theirs = _of(spreads, "gan"), _others(spreads, "gan")
        if ours and theirs:
            found[modality] = max(ours) >= max(theirs)
            texts.append(f"{modality}: {_told(spreads)}")
    return found, f"range over mean: {'; '.join(texts)}" if texts else ""


def access(groups: Mapping[str, Groups], known: Shorts) -> Found:
    """Adversarial and consistency models have no likelihood."""
    found, texts = {}, []
    for modality, own in groups.items():
        told = {name: group[0]["access"] for name, group in own.items() if group[0].get("access")}
        if told:
            none = {name for name, what in told.items() if what == "none"}
            expected = {name for name in told if family(name) in ("gan", "consistency")}
            found[modality] = expected <= none
            texts.append(f"{modality}: {', '.join(f'{name} {what}' for name, what in told.items())}")
    return found, "; ".join(texts)


CLAIMS: dict[str, Callable[[Mapping[str, Groups], Shorts], Found]] = {
    "Autoregressive models are slow to sample": slow_autoregression,
    "Consistency models are fast and good in one step": fast_consistency,
    "Diffusion is the best": good_diffusion,
    "Diffusion needs many steps": many_steps,
    "Adversarial networks drop modes": collapse,
    "Adversarial networks are the least stable in training": unstable,
    "Variational autoencoders blur": blur,
    "Flows need the most memory": heavy_flow,
    "Autoregressive models lose distant dependencies": short_reach,
    "Consistency models are expensive to train": dear_consistency,
    "Pretraining a Boltzmann machine helps its classifier": pretraining,
    "Adversarial and consistency models give no likelihood": access,
}


def _short(run: Mapping[str, Any], better: str) -> float | None:
    """The shortfall of a run: a distance less its floor, at least a tenth of it, or one less a share.

    Example:
        >>> _short({"score": 3.0, "floor": 1.0}, "lower"), _short({"score": 0.75, "floor": None}, "higher")
        (2.0, 0.25)
    """
    if run["score"] is None:
        return None
    if better == "higher":
        return max(1 - float(run["score"]), 0.01)
    floor = run["floor"] or 0.0
    return max(float(run["score"]) - floor, floor / 10)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(modality: str, groups: Groups) -> list[str]:
    """Speed, likelihood, diversity, fidelity, stability and memory of the models of a kind of data."""
    key = FIDELITY[modality][0]
    head = [
        "model", "samples/s", "steps", "likelihood", *DIVERSITY[modality], f"fidelity: {key}", "n",
        "seeds, failed", "MB: sampling, training",
    ]  # fmt: skip
    body = []
    for name, group in groups.items():
        row = group[0]
        memory = [
            spread(values(group, get))
            for get in (lambda r: r["memory"]["peak"], lambda r: r["fitting"]["memory"]["peak"])
        ]
        body.append(
            [
                f"`{name}`",
                spread(values(group, lambda r: r["samples_per_second"])),
                str((row.get("options") or {}).get("steps") or "-"),
                row.get("access", "-"),
                *(figure(group, other) for other in DIVERSITY[modality]),
                figure(group, key),
                f"{row['n']:,}",
                f"{len(group)}, {sum(bool(r.get('error')) for r in group)}",
                ", ".join(memory),
            ]
        )
    return table_lines(head, body)
