"""Work in a separate process, whose peak memory is that of the work, and whose failure is caught."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[..., None]
"""`say(phase, **found)`: what the child is at, and what it has found so far."""


class ChildError(Exception):
    """The error of the child as one line, or how its process ended."""


def isolated(
    work: Callable[..., None], *args: Any, log: Path, heard: Callable[[str, dict[str, Any]], None]
) -> None:
    """Runs `work(*args, say)` in a new process and receives its reports.

    The output of the child is written to `log`. The child ends when the caller ends.

    Arguments:
        work: a function of a module, which reports its results.
        args: anything that can be pickled.
        log: the file for the output of the child.
        heard: called with every phase and its results.

    Errors: `ChildError` if the work raised, or the process died.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, args, sender, log))
    process.start()
    sender.close()
    error: str | None = "no answer"
    try:
        while True:
            try:
                phase, found, error = receiver.recv()
            except EOFError:
                break
            if phase is None:
                break
            heard(phase, found)
            error = "no answer"
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    if error == "no answer":
        killed = " (out of memory?)" if process.exitcode == -9 else ""
        error = f"the process ended with exit code {process.exitcode}{killed}"
    if error is not None:
        raise ChildError(error)


def _run(work: Callable[..., None], args: tuple[Any, ...], sender: Any, log: Path) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_with_parent, daemon=True).start()
    error = None
    try:
        work(*args, lambda phase, **found: sender.send((phase, found, None)))
    except Exception as problem:  # any error is written into the row
        traceback.print_exc()
        error = f"{type(problem).__name__}: {problem}".splitlines()[0]
    sender.send((None, {}, error))
    sender.close()


def _with_parent() -> None:
    """Ends this process when the one that started it has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def memory() -> float:
    """The peak memory of this process so far, in MB.

    On Linux it is that of this program alone; the value of `getrusage` is inherited there from the process
    that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
