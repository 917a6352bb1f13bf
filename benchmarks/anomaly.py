"""`python -m benchmarks anomaly`: anomaly detection by likelihoods, its trap, and remedies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.drawing.shelf import MissingWeights, Shelf
from benchmarks.measure import digest, provenance, readable
from benchmarks.store import RESULTS, Store
from molgen.core.errors import ConfigError
from molgen.core.records import Records
from molgen.io.console import bar
from molgen.metrics.anomaly import Background, auroc, complexity, typicality

OUT = RESULTS / "anomaly.json"
RULES: Mapping[str, str] = {
    "likelihood": "low log p",
    "per entry": "low log p per character, the length apart",
    "typicality": "log p per entry far from that of training data, either way",
    "background": "low log p less that of independent symbols, per entry",
    "complexity": "low log p less that of a compressor, per entry",
}
"""The rules: an anomaly has a high score where the words hold."""


@dataclass(frozen=True)
class Task:
    """Normal records, anomalies, and the models that separate them.

    Arguments:
        name: e.g. ``"MNIST"``.
        modality: a registered name.
        data: the normal data set, on whose training split the models were trained.
        anomalies: from the first test records and a number, anomalies by name, as many of each at most.
        cells: names of weights, each with the maximum number of records that it scores and its options.
    """

    name: str
    modality: str
    data: str
    anomalies: Callable[[Sequence[Any], int, int], dict[str, Sequence[Any]]]
    cells: Mapping[str, tuple[int, Mapping[str, Any]]]


def _images(other: str) -> Callable[[Sequence[Any], int, int], dict[str, Sequence[Any]]]:
    """Another data set, and perturbed versions of the same images."""

    def made(records: Sequence[Any], n: int, seed: int) -> dict[str, Sequence[Any]]:
        from molgen.core.registry import get_modality
        from molgen.modalities.image.anomalies import disturbed

        theirs = get_modality("image").datasets[other].load("test")[:n]
        return {other: theirs, **{k: list(v) for k, v in disturbed(np.stack(list(records)), seed).items()}}

    return made


def _strings(records: Sequence[Any], n: int, seed: int) -> dict[str, Sequence[Any]]:
    """ZINC250k, the part of it that has lengths of the normal data, and strings simpler than any molecule."""
    from molgen.core.registry import get_modality

    zinc = get_modality("smiles").datasets["zinc250k"].load("test")
    lengths = sorted({len(r) for r in records})
    rng = np.random.default_rng(seed)
    return {
        "zinc250k": zinc,
        "zinc250k, as short": [r for r in zinc if len(r) <= lengths[-1]],
        "shuffled characters": ["".join(rng.permutation(list(r))) for r in records],
        "chains of C": ["C" * len(r) for r in records],
    }


_ALL: tuple[int, Mapping[str, Any]] = (1_000_000, {})
TASKS = (
    Task(
        "MNIST",
        "image",
        "mnist",
        _images("fashion_mnist"),
        {
            "flow-image-coupling": _ALL,
            "flow-image": (100, {"steps": 25}),
            "autoregressive-image": _ALL,
            "vae-image": _ALL,
            "diffusion-image": _ALL,
            "energy-image": _ALL,
            "energy-image-dbm": _ALL,
        },
    ),
    Task("Fashion-MNIST", "image", "fashion_mnist", _images("mnist"), {"flow-image-coupling-fashion": _ALL}),
    Task(
        "QM9",
        "smiles",
        "qm9",
        _strings,
        {
            "flow-smiles-coupling": _ALL,
            "flow-smiles": (200, {"steps": 25}),
            "autoregressive-smiles": _ALL,
            "vae-smiles": (1_000_000, {"samples": 8}),
            "diffusion-smiles": _ALL,
            "energy-smiles": _ALL,
        },
    ),
)


def main(argv: list[str]) -> int:
    """Measures each model on each task; keeps existing rows; a model without weights has a row, too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks anomaly", description=__doc__)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="names of weights; by default all")
    parser.add_argument("--n", type=int, default=500, help="records of each kind; slow models take fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="folder of NAME.safetensors to look in before molgen's")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    args = parser.parse_args(argv)
    known = [name for task in TASKS for name in task.cells]
    for name in args.cells:
        if name not in known:
            raise ConfigError.unknown("cell", name, known)
    if args.n < 2:
        raise ConfigError(f"n is {args.n}, expected 2 or more")
    shelf, store = Shelf(args.weights), Store(args.out, "anomaly", ["cell"])
    wanted = [(t, name) for t in TASKS for name in t.cells if not args.cells or name in args.cells]
    for task, name in wanted:
        asked = {"cell": name, "n": args.n, "seed": args.seed, "weights": _digest(shelf, name)}
        old = store.find(**asked)
        if old is not None and "anomalies" in old and not args.again:
            print(f"{name}: there already")
            continue
        store.put({**asked, "task": task.name, **_measured(task, name, shelf, args.n, args.seed)})
    print(table(store.rows))
    return 0


def _digest(shelf: Shelf, name: str) -> str | None:
    """A fingerprint of weights, so that a row is measured again when they change."""
    if not shelf.has(name):
        return None
    return digest(shelf.path(name))[:12]


def _measured(task: Task, name: str, shelf: Shelf, n: int, seed: int) -> dict[str, Any]:
    """The rows of a cell, or the reason why there are none."""
    begun = time.perf_counter()
    try:
        rows = measure(task, shelf.load(name), n, seed, *task.cells[name])
    except MissingWeights as error:
        print(f"{name}: {error}")
        return {"missing": str(error)}
    except Exception as error:  # a failed cell is a row, not a lost run
        print(f"{name}: {type(error).__name__}: {error}")
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        **rows,
        "options": dict(task.cells[name][1]),
        "seconds": round(time.perf_counter() - begun, 1),
        **provenance(),
    }


# ---------------------------------------------------------------------- one model


def measure(
    task: Task, model: Any, n: int, seed: int, most: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores of training, normal and anomalous records, and how well each rule separates them."""
    n = min(n, most)
    source = model.modality.datasets[task.data]
    train, test = source.load("train"), source.load("test")
    background = Background(symbols(model, r) for r in train[:5000])

    def said(records: Sequence[Any]) -> Said:
        return say(model, records, background, seed, options)

    usual, normal = said(train[:n]), said(test[:n])
    others = task.anomalies(test[:n], n, seed)
    rows = {}
    with bar(len(others), model.family) as advance:
        for kind, records in others.items():
            known = [r for r in records if readable(model, r)]
            row: dict[str, Any] = {"n": min(len(known), n)}
            if len(known) < len(records):
                row |= {"readable": len(known), "of": len(records)}
            if known:
                theirs = said(known[:n])
                row |= {"log_p": _mean(theirs.log_p), "per_entry": _mean(theirs.rate)}
                row["auroc"] = told_apart(usual, normal, theirs)
            rows[kind] = row
            advance(1)
    return {
        "measure": "energy, unnormalised" if _unnormalised(model) else model.likelihood,
        "normal": {"n": n, "log_p": _mean(normal.log_p), "per_entry": _mean(normal.rate)},
        "anomalies": rows,
    }


@dataclass(frozen=True)
class Said:
    """Scores of records under a model, `(n,)` each, in nats.

    Arguments:
        log_p: of the record, its size included; -inf for a size that is not in the data.
        rate: per entry, given the size.
        background: that of independent symbols, per entry.
        coded: that of a compressor, per entry.
    """

    log_p: np.ndarray
    rate: np.ndarray
    background: np.ndarray
    coded: np.ndarray


@torch.no_grad()
def say(
    model: Any, records: Sequence[Any], background: Background, seed: int, options: Mapping[str, Any]
) -> Said:
    """Scores records: log p given the size, or minus the energy, which lacks log Z of each size."""
    parts = [symbols(model, r) for r in records]
    entries = np.array([len(x) for x in parts], float)
    if _unnormalised(model):
        given_size = -model.energy(_untold(model, records)).double().numpy()
        sizes = np.zeros(len(entries))
    else:
        given_size, sizes = _given_size(model, records, seed, options)
    return Said(
        given_size + sizes,
        given_size / entries,
        np.array([background.log_prob(x) for x in parts]) / entries,
        np.array([-complexity(x.tobytes()) for x in parts]) / entries,
    )


def _given_size(
    model: Any, records: Sequence[Any], seed: int, options: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """log p of records given their sizes, and log p of the sizes; `log_prob` returns only the sum."""
    from molgen.core.rng import SampleRandom

    model.trained.eval()
    found, sizes, step = [], [], model.fit_options.batch_size
    for start in range(0, len(records), step):
        batch = model.encode(_untold(model, records[start : start + step])).trimmed()
        rng = SampleRandom(seed, range(start, start + len(batch)))
        found.append(model.log_density(batch, rng, **options).double())
        sizes += [model.modality.log_size(size) for size in batch.sizes.tolist()]
    return torch.cat(found).numpy(), np.array(sizes)


def _untold(model: Any, records: Sequence[Any]) -> Records:
    """Records without labels: an anomaly has none, and a normal record must not have the advantage of one."""
    hidden = {c.name: np.full(len(records), c.missing(), np.float32) for c in model.conditions}
    return Records(list(records), hidden)


def _unnormalised(model: Any) -> bool:
    """Whether the energy of a model is used in place of log p."""
    return hasattr(model, "energy")


def symbols(model: Any, record: Any) -> np.ndarray:
    """A record as the bytes that a model reads: grey levels, bits, or characters."""
    if isinstance(record, str):
        return np.frombuffer(record.encode(), np.uint8)
    levels = np.asarray(record, np.uint8).ravel()
    return np.uint8(255) * (levels >= 128) if model.view.discrete else levels


def told_apart(usual: Said, normal: Said, theirs: Said) -> dict[str, float]:
    """AUROC of each rule."""
    rules: dict[str, Callable[[Said], np.ndarray]] = {
        "likelihood": lambda x: -x.log_p,
        "per entry": lambda x: -x.rate,
        "typicality": lambda x: typicality(x.rate, usual.rate),
        "background": lambda x: x.background - x.rate,
        "complexity": lambda x: x.coded - x.rate,
    }
    return {name: round(auroc(rule(normal), rule(theirs)), 4) for name, rule in rules.items()}


def _mean(values: np.ndarray) -> float | None:
    """The mean, or None where a value is infinite."""
    mean = float(np.mean(values))
    return round(mean, 4) if np.isfinite(mean) else None


# ---------------------------------------------------------------------- the table


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown; the trap is an AUROC below 0.5, where anomalies are likelier than data."""
    lines = [
        "| normal | weights | anomaly | n | log p: normal, anomaly | " + " | ".join(RULES) + " |",
        "|---|---|---|---|---|" + "---|" * len(RULES),
    ]
    notes = []
    for cell in cells:
        name = cell["cell"]
        head = f"| {cell['task']} | `{name}` |"
        if "anomalies" not in cell:
            lines.append(f"{head} {cell.get('missing') or cell.get('error')} |" + " |" * (2 + len(RULES)))
            continue
        for kind, row in cell["anomalies"].items():
            if "readable" in row:
                notes.append(f"- `{name}` can read {row['readable']:,} of {row['of']:,} records of {kind}")
            scores = row.get("auroc", {})
            shown = " | ".join(_cell(scores.get(rule)) for rule in RULES)
            both = f"{_number(cell['normal']['log_p'])}, {_number(row.get('log_p'))}"
            lines.append(f"{head} {kind} | {row['n']} | {both} | {shown} |")
    lines += ["", "AUROC, bold below 0.5: there anomalies pass for data. Rules: "]
    lines[-1] += "; ".join(f"*{rule}*: {words}" for rule, words in RULES.items()) + "."
    return "\n".join([*lines, *([""] + notes if notes else [])])


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"**{value:.3f}**" if value < 0.5 else f"{value:.3f}"


def _number(value: float | None) -> str:
    return "-inf" if value is None else f"{value:.1f}"
