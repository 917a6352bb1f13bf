"""`python -m benchmarks likelihood CELL`: what a model says of test records, in nats and bits."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

from benchmarks.cells import CELLS
from molgen.core.files import atomic

RESULTS = Path(__file__).parent / "results"


def main(argv: list[str]) -> int:
    """Evaluates log p, or its bound, on the first test records; writes benchmarks/results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks likelihood", description=__doc__)
    parser.add_argument("cell", choices=sorted(CELLS))
    parser.add_argument("--n", type=int, default=1000, help="number of test records")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="another checkpoint")
    args = parser.parse_args(argv)

    import molgen
    from molgen.core.resolve import resolve

    cell = CELLS[args.cell]
    model = molgen.load(str(args.weights or cell.weights))
    records = resolve(model.modality, cell.data, "test")[: args.n]
    begun = time.perf_counter()
    log_p = model.log_prob(records, seed=args.seed, **cell.likelihood)
    mean, error = float(log_p.mean()), float(log_p.std()) / math.sqrt(len(log_p))
    result = {
        "kind": "likelihood",
        "cell": cell.name,
        "data": f"{cell.data}/test",
        "likelihood": model.likelihood,
        "options": dict(cell.likelihood),
        "n": len(log_p),
        "seed": args.seed,
        "nats": mean,
        "error": error,
        "seconds": round(time.perf_counter() - begun, 2),
        "date": time.strftime("%Y-%m-%d"),
    }
    if model.modality.extent is not None:
        result["bits_per_dim"] = -mean / math.log(2) / math.prod(model.modality.extent)
    with atomic(RESULTS / f"likelihood-{cell.name}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0
