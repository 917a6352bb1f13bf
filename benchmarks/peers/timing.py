"""Two ways of doing one thing, timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, final

Clock = Callable[[], float]

CLOCKS: Mapping[str, Clock] = {"cpu": time.process_time, "wall": time.perf_counter}
"""Seconds of the process on its core, which do not count what else the machine does; or those of the wall."""


@final
@dataclass(frozen=True)
class Contest:
    """One piece of work, done by molgen and by a peer.

    Arguments:
        task: what is done.
        inputs: on what, the same for both.
        ours, theirs: do it once.
        parameters: trained numbers of the two networks; None where there are none.
        amount, unit: what one run gets done, e.g. 256 strings.
    """

    task: str
    inputs: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    parameters: tuple[int, int] | None
    amount: int
    unit: str

    def result(self, repeats: int, clock: Clock) -> dict[str, Any]:
        """What `compared` says of both, with all that a reader must know of it."""
        times = alternated(self.ours, self.theirs, repeats, clock)
        return {
            "task": self.task,
            "inputs": self.inputs,
            "parameters": None if self.parameters is None else list(self.parameters),
            "amount": self.amount,
            "unit": self.unit,
            **compared(*times),
        }


def alternated(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, clock: Clock
) -> tuple[list[float], list[float]]:
    """Seconds of every run of both, in turn, so that what slows the machine for a while slows both.

    Each runs once before, uncounted, so that neither pays for imports and first allocations.

    Example:
        >>> ticks = iter([0.0, 1.0, 1.0, 3.0])
        >>> alternated(lambda: None, lambda: None, 1, lambda: next(ticks))
        ([1.0], [2.0])
    """
    ours(), theirs()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, own in zip((ours, theirs), seconds, strict=True):
            begun = clock()
            run()
            own.append(clock() - begun)
    return seconds


def compared(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Medians of both, and how often our time fits into theirs: above 1, molgen is faster.

    The ratio is the median of the repeats' own, between the least and the largest of them.

    Example:
        >>> compared([1.0, 1.0, 2.0], [2.0, 3.0, 2.0])["ratio"]
        2.0
    """
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "seconds": median(ours),
        "peer_seconds": median(theirs),
        "ratio": median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
        "repeats": len(ratios),
    }
