"""`python -m benchmarks mnist|qm9|zinc250k|proteins`: all families and baselines side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import BENCHMARKS, CELLS, RUNS, Cell, chosen
from benchmarks.child import ChildError, Say, isolated
from benchmarks.measure import Job, costs, measure, train
from benchmarks.report import page
from benchmarks.store import RESULTS, Store, read_json
from molgen.core.errors import ConfigError
from molgen.io.files import atomic

FIRST_SEED = 1
"""Options of sampling were chosen on seed 0."""
WEIGHTS = "weights.safetensors"
KEY = ("cell", "weights", "seed")


def main(argv: list[str]) -> int:
    """Measures missing rows one by one, then writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--families", nargs="+", default=[], help="also names of baselines; by default all")
    parser.add_argument("--modalities", nargs="+", default=[], help="by default all")
    parser.add_argument("--variants", action="store_true", help="also cells that compare a variant")
    parser.add_argument("--weights", choices=["shipped", "train"], help="by default shipped where any ship")
    parser.add_argument("--budget", default="10m", help="of the training of each cell and seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 1 on")
    parser.add_argument("--n", type=int, help="samples; by default the protocol's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of NAME.json and NAME.md")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of training states, weights, logs")
    parser.add_argument("--retry", action="store_true", help="measure failed rows again")
    args = parser.parse_args(argv)
    if args.seeds < 1 or (args.n is not None and args.n < 10):
        raise ConfigError(f"seeds={args.seeds}, n={args.n}: expected at least one seed and ten samples")

    from molgen.train import parse_time

    parse_time(args.budget)
    cells = chosen(args.benchmark, args.families, args.modalities, args.variants)
    ships = any(cell.shipped for cell in cells) or all(cell.baseline for cell in cells)
    training = (args.weights or ("shipped" if ships else "train")) == "train"
    runs, seeds = args.runs / args.benchmark, range(FIRST_SEED, FIRST_SEED + args.seeds)
    # All cells with one seed before the next seed, so that an interrupted run has measured every cell.
    jobs = [
        trained_job(cell, cells, seed, args.n, args.budget, args.device, runs)
        if training and not cell.baseline
        else Job(cell, seed, args.n or cell.n, None if cell.baseline else cell.weights, device=args.device)
        for seed in seeds
        for cell in cells
    ]
    store = Store(args.out / f"{args.benchmark}.json", "benchmark", KEY)
    table = args.out / f"{args.benchmark}.md"

    def written() -> None:
        with atomic(table) as temporary:
            temporary.write_text(page(args.benchmark, store.rows), encoding="utf-8")

    failed = run(jobs, store, runs / "logs", args.retry, written)
    written()
    print(f"{table}: {len(store.rows)} rows, {failed} of this run's failed")
    return 0


def run(
    jobs: Sequence[Job],
    store: Store,
    logs: Path,
    retry: bool = False,
    written: Callable[[], None] = lambda: None,
    fitting: Callable[[Job, Say], None] = train,
    measuring: Callable[[Job, Say], None] = measure,
) -> int:
    """Measures the jobs that have no row yet, each in separate processes, and returns the number of failures.

    A failed job has a row with its error and its results so far; it is measured again only with `retry`, or
    if its settings change.

    Arguments:
        jobs: the requested rows.
        store: the existing rows.
        logs: a folder for the output of the processes.
        retry: whether to measure failed rows again.
        written: called after each row.
        fitting, measuring: the work of the processes.
    """
    failed = 0
    with _shown(len(jobs)) as show:
        for number, job in enumerate(jobs, 1):
            name = f"{job.cell.name}, seed {job.seed}"
            row = {**named(job), "request": job.request}
            known = store.find(**row)
            if known is not None and not (retry and known["error"]):
                failed += known["error"] is not None
                show(number, name, "there already")
                continue
            show(number - 1, name, "starting")
            row = _measured(
                job, row, logs, partial(show, number - 1, name), fitting=fitting, measuring=measuring
            )
            failed += row["error"] is not None
            store.put(row)
            written()
            show(number, name, row["error"] or "done")
    return failed


def _measured(
    job: Job,
    row: dict[str, Any],
    logs: Path,
    show: Callable[[str], None],
    fitting: Callable[[Job, Say], None],
    measuring: Callable[[Job, Say], None],
) -> dict[str, Any]:
    """The row of a job: its results, and the error that ended it, if any."""
    row = {**row, "n": job.n, "error": None}
    log = logs / f"{row['weights']}-{job.cell.name}-{job.seed}.log"

    def heard(phase: str, found: dict[str, Any]) -> None:
        row.update(found)
        show(phase)

    try:
        if job.folder is not None:
            isolated(fitting, job, log=log, heard=heard)
            row["fitting"] = read_json(costs(job)) if costs(job).is_file() else {}
        isolated(measuring, job, log=log, heard=heard)
    except ChildError as error:
        row["error"] = str(error)
    return row


def named(job: Job) -> dict[str, Any]:
    """The entries that identify a row."""
    trained = "trained" if job.folder is not None else "shipped"
    cell = job.cell
    return {
        "cell": cell.name,
        "family": cell.family,
        "modality": cell.modality,
        "data": cell.data,
        "weights": "none" if job.weights is None else trained,
        "seed": job.seed,
    }


def trained_job(
    cell: Cell, cells: Sequence[Cell], seed: int, n: int | None, budget: str, device: str, runs: Path
) -> Job:
    """The job that trains a cell; its teacher is trained in the same benchmark, or was before."""

    def folder(name: str) -> Path:
        return runs / f"{name}-{budget.replace(':', '.')}-{seed}"

    own, teacher = folder(cell.name), None
    if cell.teacher:
        teacher = folder(cell.teacher) / WEIGHTS
        if not teacher.is_file() and all(other.name != cell.teacher for other in cells):
            teacher = CELLS[cell.teacher].weights
    return Job(cell, seed, n or cell.n, own / WEIGHTS, own, budget, device, teacher)


@contextmanager
def _shown(total: int) -> Iterator[Callable[[int, str, str], None]]:
    """`show(done, name, phase)`: a bar on a terminal, else a line for each change of phase."""
    if not sys.stderr.isatty():

        def line(done: int, name: str, phase: str) -> None:
            print(f"[{done}/{total}] {name}: {phase}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)

        def show(done: int, name: str, phase: str) -> None:
            progress.update(task, completed=done, description=f"{name}: {phase}")
            if phase not in ("loading", "building"):
                progress.console.print(f"{name}: {phase}", highlight=False)

        yield show
