"""Two implementations of one task, timed alternately."""

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
    """One task for molgen and for a peer.

    Arguments:
        task: the task in words.
        inputs: its inputs, the same for both.
        ours, theirs: run it once.
        parameters: numbers of trained parameters of the two networks; None if there are none.
        amount, unit: the output of one run, e.g. 256 strings.
    """

    task: str
    inputs: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    parameters: tuple[int, int] | None
    amount: int
    unit: str

    def result(self, repeats: int, clock: Clock) -> dict[str, Any]:
        """The result of `compared`, with the description of the task."""
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
    """Seconds of alternating runs of both, so that a temporary slowdown of the machine affects both.

    Each has a warm-up run, which excludes imports and first allocations.

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
    """Medians of both, and the ratio of their time to ours: above 1, molgen is faster.

    The ratio is the median of the ratios of the repeats, with the smallest and the largest of them.

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
