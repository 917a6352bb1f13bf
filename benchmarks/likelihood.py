"""`python -m benchmarks likelihood CELL`: log p of test records, in nats and bits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.cells import CELLS
from benchmarks.measure import about, log_p, provenance
from benchmarks.store import RESULTS, write_json


def main(argv: list[str]) -> int:
    """Evaluates log p, or its bound, on test records; writes benchmarks/results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks likelihood", description=__doc__)
    parser.add_argument("cell", choices=sorted(CELLS))
    parser.add_argument("--n", type=int, help="number of test records; by default the cell's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="another checkpoint")
    args = parser.parse_args(argv)

    import molgen

    cell = CELLS[args.cell]
    model = molgen.load(str(args.weights or cell.weights))
    result = {
        "kind": "likelihood",
        "cell": cell.name,
        "data": f"{cell.data}/test",
        "seed": args.seed,
        **log_p(model, cell, args.n or cell.records, args.seed),
        **about(model),
        **provenance(),
    }
    write_json(RESULTS / f"likelihood-{cell.name}.json", result)
    print(json.dumps(result, indent=1))
    return 0
