"""`python -m benchmarks costs [NAME ...]`: how time and memory grow with the number of samples or records."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import provenance
from molgen.io.files import atomic

RESULTS = Path(__file__).parent / "results" / "costs.json"

_COUNTS = (1024, 8192, 16_384)
"""Samples: kernels kept for each shape of a batch fill memory up to some thousands."""
_BATCHES = (16, 32, 64, 128)
_RECORDS = 10_000


def main(argv: list[str]) -> int:
    """Measures the named costs, or all; writes benchmarks/results/costs.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks costs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(COSTS)}")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(COSTS):
        parser.error(f"unknown cost {', '.join(sorted(unknown))}; there are {', '.join(COSTS)}")
    for name in args.names or COSTS:
        result = COSTS[name]() | provenance()
        print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)
        found = json.loads(RESULTS.read_text())["costs"] if RESULTS.is_file() else {}
        with atomic(RESULTS) as temporary:
            temporary.write_text(
                json.dumps({"kind": "costs", "costs": {**found, name: result}}, indent=1) + "\n"
            )
    return 0


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    r"""The b of :math:`c \propto n^b`, by least squares in logarithms; 1 is linear, 0 is flat.

    Example:
        >>> exponent([1, 2, 4], [3, 12, 48])
        2.0
    """
    x, y = ([math.log(v) for v in values] for values in (sizes, costs))
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


# ---------------------------------------------------------------------- sampling


def sampling(cell: str, suffix: str) -> dict[str, Any]:
    """CPU seconds and largest memory of child processes that sample to a file, by number of samples.

    The cost of starting is measured by a child that draws a single sample.
    """
    start, least = _child(cell, suffix, 1)
    rows = [(n, *_child(cell, suffix, n)) for n in _COUNTS]
    return {
        "of": f"molgen sample {cell} -n N, to a {suffix} file",
        "n": [n for n, _, _ in rows],
        "cpu_seconds": [round(seconds - start, 3) for _, seconds, _ in rows],
        "megabytes": [round(memory - least, 1) for _, _, memory in rows],
        "exponent": exponent(_COUNTS, [seconds - start for _, seconds, _ in rows]),
        "megabytes_per_1000": 1000 * (rows[-1][2] - rows[-2][2]) / (rows[-1][0] - rows[-2][0]),
    }


_SPENT = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Runs a command and prints its CPU time and memory. On Linux the peak memory of a process
includes that of its parent at the start, so the parent must be a small process."""


def used(command: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak megabytes of a command.

    Errors: `CalledProcessError` if it fails.
    """
    told = subprocess.run([sys.executable, "-c", _SPENT, *command], check=True, capture_output=True)
    seconds, memory = map(float, told.stdout.split())
    return seconds, memory / (2**20 if sys.platform == "darwin" else 2**10)


def _child(cell: str, suffix: str, n: int) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one child that samples."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / f"out{suffix}")
        return used([sys.executable, "-m", "molgen", "sample", cell, "-n", str(n), "-o", out])


def speed(cell: str, n: int) -> dict[str, Any]:
    """Samples a second of shipped weights on all cores, with the options of the tables, without loading."""
    import molgen
    from benchmarks.cells import CELLS
    from benchmarks.measure import draw

    model, asked = molgen.load(cell), CELLS[cell].sample
    found = {
        precision: max(
            draw(model, n, 0, {**asked, "precision": precision})[1]["samples_per_second"] for _ in range(3)
        )
        for precision in ("fp32", "bf16")
    }
    return {"of": f"{cell}, {n} samples as the tables draw them", "n": n, "per_second": found}


# ---------------------------------------------------------------------- training


def training() -> dict[str, Any]:
    """CPU seconds of a training step by batch size, and the overhead of the trainer."""
    import torch

    from benchmarks.peers.shared import Step
    from benchmarks.peers.timing import alternated
    from molgen import DiffusionModel
    from molgen.core.registry import get_modality
    from molgen.core.rng import BatchRandom, generator

    torch.set_num_threads(1)
    records = get_modality("graph").datasets["gdb6"].load("train")
    model = DiffusionModel("graph")
    model.fit(records[:16], validation=records[:1], max_steps=1, batch_size=16)
    data = model.encode(records)

    def step(size: int) -> Callable[[], object]:
        batch = data[torch.arange(size) % len(data)].trimmed()
        terms = partial(model.losses, model.trained, batch, BatchRandom(generator(0)))
        return Step(model.trained, lambda: torch.stack(list(terms().values())).sum())

    seconds = {n: min(_seconds(step(n), 5)) for n in _BATCHES}
    # The overhead of fit, from two runs that differ only in their steps.
    size, few, many = 32, 10, 60
    bare = step(size)
    fit = {
        n: partial(model.fit, records, validation=records[:1], max_steps=n, batch_size=size)
        for n in (few, many)
    }
    short, long = alternated(fit[few], fit[many], 3, time.process_time)
    each = (min(long) - min(short)) / (many - few)
    return {
        "of": "diffusion on graphs, a step on one thread",
        "batch": list(_BATCHES),
        "cpu_seconds": [seconds[n] for n in _BATCHES],
        "exponent": exponent(_BATCHES, [seconds[n] for n in _BATCHES]),
        "fit_seconds_per_step": each,
        "bare_seconds_per_step": min(_seconds(bare, 5)),
        "fit_batch": size,
    }


def _seconds(run: Callable[[], object], repeats: int) -> list[float]:
    run()
    found = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        found.append(time.process_time() - begun)
    return found


# ---------------------------------------------------------------------- evaluation


def evaluation(modality: str) -> dict[str, Any]:
    """Seconds to score 10,000 molecules, without PoseBusters, on all cores."""
    from molgen.core.registry import get_modality

    kind = get_modality(modality)
    records = list(kind.datasets["qm9"].load("test")[:_RECORDS])
    options = {"n_posebusters": 0} if modality == "molecule" else {}
    kind.evaluate(records[:50], "qm9", **options)  # reads the reference
    used, begun = os.times(), time.perf_counter()
    kind.evaluate(records, "qm9", **options)
    now = os.times()
    cpu = sum(now[:4]) - sum(used[:4])
    return {
        "of": f"{len(records):,} molecules of QM9 as {modality}, all scores but PoseBusters",
        "n": len(records),
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu_seconds": round(cpu, 2),
    }


COSTS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "sampling-smiles": partial(sampling, "autoregressive-smiles", ".smi"),
    "sampling-graph": partial(sampling, "gan-graph", ".sdf"),
    **{
        f"speed-{kind}": partial(speed, f"diffusion-{kind}", n)
        for kind, n in {"image": 100, "smiles": 400, "graph": 200, "molecule": 60, "protein": 8}.items()
    },
    "training": training,
    "evaluation-smiles": partial(evaluation, "smiles"),
    "evaluation-molecule": partial(evaluation, "molecule"),
}
"""The measurements by name."""


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The figures as Markdown; nothing if there are none."""
    lines = [_line(r) for result in results for _, r in sorted(result["costs"].items())]
    if not lines:
        return ""
    head = "\n\n## Costs\n\nTime grows as a power of the number; the power is given, 1 is linear "
    return head + "(`python -m benchmarks costs`).\n\n" + "\n".join(lines)


def _line(r: Mapping[str, Any]) -> str:
    where = f"({r['machine']}, {r['date']})"
    if "per_second" in r:
        each = ", ".join(f"{value:.1f} in {precision}" for precision, value in r["per_second"].items())
        return f"- {r['of']}: a second, the best of three, {each} {where}"
    if "megabytes" in r:
        counts = ", ".join(f"{n:,}" for n in r["n"])
        seconds = ", ".join(f"{s:.1f}" for s in r["cpu_seconds"])
        memory = ", ".join(f"{m:.0f}" for m in r["megabytes"])
        return (
            f"- `{r['of']}`: {seconds} CPU seconds for {counts} samples beyond those of starting, power "
            f"{r['exponent']:.2f}; {memory} MB more at most than for one sample, "
            f"{r['megabytes_per_1000']:.1f} MB for 1,000 samples between the last two {where}"
        )
    if "batch" in r:
        sizes = ", ".join(map(str, r["batch"]))
        seconds = ", ".join(f"{1000 * s:.0f}" for s in r["cpu_seconds"])
        return (
            f"- {r['of']}: {seconds} ms for batches of {sizes}, power {r['exponent']:.2f}; `fit` takes "
            f"{1000 * r['fit_seconds_per_step']:.1f} ms a step of {r['fit_batch']}, the bare step "
            f"{1000 * r['bare_seconds_per_step']:.1f} {where}"
        )
    return f"- {r['of']}: {r['cpu_seconds']:.0f} CPU seconds, {r['seconds']:.0f} by the wall {where}"
