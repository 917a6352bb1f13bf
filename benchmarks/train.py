"""`python -m benchmarks train CELL --max-time 20m`: trains a cell, or continues its training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.cells import CELLS, RUNS
from benchmarks.measure import unfitted


def main(argv: list[str]) -> int:
    """Trains one cell and writes its weights (float16) where the package ships them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks train", description=__doc__)
    parser.add_argument("cell", choices=sorted(CELLS))
    parser.add_argument("--max-time", default="20m")
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--trunk")
    parser.add_argument(
        "--precision", default="32-true", help="Lightning's; bf16-mixed is faster on some processors"
    )
    parser.add_argument("--out", type=Path, help="the weights; by default where the package ships them")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--from", dest="start", type=Path, help="weights whose training is continued; times are summed"
    )
    begin.add_argument(
        "--like",
        type=Path,
        help="weights of another model for initialisation, where names and shapes agree; times are summed",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue an interrupted run from its training state"
    )
    args = parser.parse_args(argv)

    import torch

    import molgen

    if args.threads:
        torch.set_num_threads(args.threads)
    cell = CELLS[args.cell]
    runs = RUNS / cell.name
    if args.start:
        model = molgen.load(str(args.start))
    else:
        model = unfitted(cell, **({"trunk": args.trunk} if args.trunk else {}))
        if args.like:
            other = molgen.load(str(args.like))
            model.modality, model.history = other.modality, other.history
            known, named = {c.name: c for c in other.conditions}, cell.fit.get("condition", ())
            model.conditions = tuple(known.get(name, other.modality.conditions[name]) for name in named)
            model.warm_start(other.tensors())
    asked = {"lr": args.lr, "batch_size": args.batch_size}
    model.fit(
        cell.data,
        max_time=args.max_time,
        max_steps=args.max_steps,
        seed=args.seed,
        root_dir=runs,
        trainer={"precision": args.precision},
        ckpt_path=runs / "state.safetensors" if args.resume else None,
        **dict(cell.fit) | {name: value for name, value in asked.items() if value is not None},
    )
    out = args.out or cell.weights
    out.parent.mkdir(parents=True, exist_ok=True)
    model.save(out, half=True, whole=False)
    print(f"{out}: {model!r}, {model.history['runs'][-1]}", file=sys.stderr)
    return 0
