"""`python -m benchmarks conditions CELL`: whether samples satisfy the requested condition."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from benchmarks.cells import CELLS
from benchmarks.store import RESULTS, write_json
from molgen.core.conditions import Label


def main(argv: list[str]) -> int:
    """Draws samples for values of the first condition of the model and measures the error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks conditions", description=__doc__)
    parser.add_argument(
        "cell", choices=sorted(name for name, cell in CELLS.items() if "condition" in cell.fit)
    )
    parser.add_argument("--n", type=int, default=500, help="samples, spread over ten values of the condition")
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    import molgen

    model = molgen.load(args.cell)
    condition = model.conditions[0]
    options = {"guidance": args.guidance}
    if isinstance(condition, Label):
        scores = _label(model, condition, args.n, args.seed, options)
    else:
        scores = _scalar(model, condition.name, CELLS[args.cell].data, args.n, args.seed, options)
    result = {
        "kind": "conditions",
        "cell": args.cell,
        "condition": condition.name,
        "n": args.n,
        "seed": args.seed,
        "guidance": args.guidance,
        "scores": scores,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(RESULTS / f"conditions-{args.cell}.json", result)
    print(json.dumps(result, indent=1))
    return 0


def _label(model: Any, condition: Label, n: int, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """Share of images that the classifier assigns to the requested digit."""
    from molgen.modalities.image.classifier import classify

    right = []
    for label in range(condition.classes):
        count = n // condition.classes
        images = model.sample(count, seed=seed + label, condition={condition.name: label}, **options)
        right.append(float((classify(images) == label).mean()))
    return {"accuracy": float(np.mean(right)), "worst class": float(min(right))}


def _scalar(model: Any, name: str, data: str, n: int, seed: int, options: dict[str, Any]) -> dict[str, float]:
    """Mean distance from the requested value, and that of unconditional samples, over valid samples."""
    test = model.modality.datasets[data].load("test")
    if name in test.labels:
        known = np.asarray(test.labels[name])
    else:
        known = np.array([model.modality.measure(r, name) for r in test[:2000]])
    targets = np.quantile(known[np.isfinite(known)], np.linspace(0.05, 0.95, 10))
    free = _values(model, name, model.sample(n, seed=seed))
    errors, baseline = [], []
    for i, target in enumerate(targets):
        drawn = model.sample(n // 10, seed=seed + 1 + i, condition={name: float(target)}, **options)
        errors.append(np.abs(_values(model, name, drawn) - target).mean())
        baseline.append(np.abs(free - target).mean())
    error, base = float(np.mean(errors)), float(np.mean(baseline))
    return {"error": error, "error unconditional": base, "ratio": error / base}


def _values(model: Any, name: str, samples: list[Any]) -> np.ndarray:
    valid = [s for s in samples if model.modality.is_valid(s)]
    return np.array([model.modality.measure(s, name) for s in valid] or [np.nan])
