"""`python -m benchmarks likelihood CELL`: what a model says of test records, in nats and bits."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cells import CELLS
from molgen.core.files import atomic

if TYPE_CHECKING:
    from molgen.models.base import GenerativeModel

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
    found = measure(model, records, cell.likelihood, args.seed)
    result = {"kind": "likelihood", "cell": cell.name, "data": f"{cell.data}/test", **found}
    with atomic(RESULTS / f"likelihood-{cell.name}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0


def measure(
    model: GenerativeModel, records: Sequence[Any], options: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The mean of log p with its standard error; and log Z from both ends, where a model has one.

    Arguments:
        model: whose log p.
        records: domain objects.
        options: of `log_prob`, and of `log_partition_bounds`.
        seed: of the estimates.
    """
    from molgen.core.annealing import Bounded
    from molgen.core.header import finite

    begun = time.perf_counter()
    log_p = model.log_prob(records, seed=seed, **options)
    mean, error = float(log_p.mean()), float(log_p.std()) / math.sqrt(len(log_p))
    result: dict[str, Any] = {
        "likelihood": model.likelihood,
        "options": dict(options),
        "n": len(log_p),
        "seed": seed,
        "nats": mean,
        "error": error,
    }
    if model.modality.extent is not None:
        result["bits_per_dim"] = -mean / math.log(2) / math.prod(model.modality.extent)
    if isinstance(model, Bounded):
        bounds = model.log_partition_bounds(**options)
        result["log_z"] = {end: finite(found._asdict()) for end, found in bounds._asdict().items()}
    result["seconds"] = round(time.perf_counter() - begun, 2)
    result["date"] = time.strftime("%Y-%m-%d")
    return result
