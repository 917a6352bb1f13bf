"""`python -m benchmarks score CELL`: samples shipped weights, scores them, and writes results and header."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cells import CELLS, Cell
from molgen.core.files import atomic

RESULTS = Path(__file__).parent / "results"


def main(argv: list[str]) -> int:
    """Scores one cell; its figures go to benchmarks/results/CELL.json and into the weights' header."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks score", description=__doc__)
    parser.add_argument("cell", choices=sorted(CELLS))
    parser.add_argument("--n", type=int, help="number of samples; by default the protocol's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--solver")
    parser.add_argument("--noise-scale", type=float)
    parser.add_argument("--weights", type=Path, help="another checkpoint; the header is then left alone")
    parser.add_argument("--name", help="name of the result; by default the cell's")
    args = parser.parse_args(argv)
    cell = CELLS[args.cell]
    given = {"steps": args.steps, "solver": args.solver, "noise_scale": args.noise_scale}
    options = dict(cell.sample) | {k: v for k, v in given.items() if v is not None}
    result = score(cell, args.weights, args.n or cell.n, args.seed, options)
    path = RESULTS / f"{args.name or cell.name}.json"
    path.parent.mkdir(exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    for key, value in result["scores"].items():
        print(f"{key:32} {value}")
    print(f"{path}: {result['samples_per_second']} samples a second")
    return 0


def score(cell: Cell, weights: Path | None, n: int, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Samples and scores a cell's weights; ships the scores in the header unless `weights` is given."""
    import torch

    import molgen
    from molgen.core.header import finite

    model = molgen.load(str(weights or cell.weights))
    model.sample(2, seed=seed, **options)  # warm-up, so that imports do not count as sampling
    begun = time.perf_counter()
    samples = model.sample(n, seed=seed, progress=True, **options)
    seconds = time.perf_counter() - begun
    scores = finite(model.evaluate(samples, reference=cell.data, **cell.evaluate))
    if weights is None:
        model.metrics = {**scores, "seed": seed}
        model.save(cell.weights, half=True)
    return {
        "cell": cell.name,
        "data": cell.data,
        "n": n,
        "seed": seed,
        "options": {"steps": model.option("steps", None), "solver": model.option("solver", None), **options},
        "scores": scores,
        "seconds": round(seconds, 2),
        "samples_per_second": round(n / seconds, 2),
        "parameters": model.parameters,
        "training": model.training,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in ("molgen", "torch", "rdkit")},
    }
