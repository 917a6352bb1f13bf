"""`python -m benchmarks score CELL`: samples shipped weights, scores them, and writes results and header."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cells import CELLS
from benchmarks.measure import about, draw, provenance, score
from benchmarks.store import RESULTS, write_json


def main(argv: list[str]) -> int:
    """Scores one cell and writes the scores to benchmarks/results/CELL.json and the header of the weights."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks score", description=__doc__)
    parser.add_argument("cell", choices=sorted(CELLS))
    parser.add_argument("--n", type=int, help="number of samples; by default the protocol's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--solver")
    parser.add_argument("--noise-scale", type=float)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--weights", type=Path, help="another checkpoint; the header is then left alone")
    parser.add_argument("--name", help="name of the result; by default the cell's")
    args = parser.parse_args(argv)

    import molgen

    cell = CELLS[args.cell]
    given = {name: getattr(args, name) for name in ("steps", "solver", "noise_scale", "restarts")}
    options = dict(cell.sample) | {k: v for k, v in given.items() if v is not None}
    model = molgen.load(str(args.weights or cell.weights))
    samples, drawn = draw(model, args.n or cell.n, args.seed, options)
    scores = score(model, cell, samples)
    if args.weights is None:
        model.metrics = {**scores, "seed": args.seed}
        model.save(cell.weights, half=True, whole=False)
    path = RESULTS / f"{args.name or cell.name}.json"
    named = {"cell": cell.name, "data": cell.data}
    write_json(path, {**named, **drawn, "scores": scores, **about(model), **provenance()})
    for key, value in scores.items():
        print(f"{key:32} {value}")
    print(f"{path}: {drawn['samples_per_second']} samples a second")
    return 0
