"""The error of a failed check, and the function that runs checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from molgen.core.errors import MolgenError


class Complaint(MolgenError, AssertionError):
    """A failed check: what was found, what was expected, and how to fix it.

    Example:
        >>> print(Complaint("3 fields, expected 2", fix="leave one out"))
        3 fields, expected 2; fix: leave one out
    """

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem if fix is None else f"{problem}; fix: {fix}")


def demand(holds: object, problem: str, fix: str) -> None:
    """Raises a `Complaint` unless the condition holds."""
    if not holds:
        raise Complaint(problem, fix)


@contextmanager
def refused(what: str, fix: str, *kinds: type[MolgenError]) -> Iterator[list[MolgenError]]:
    """Raises a `Complaint` unless the block raises one of molgen's errors; the error is returned.

    Arguments:
        what: the input that should be refused, for the complaint.
        fix: how.
        kinds: the accepted errors.
    """
    caught: list[MolgenError] = []
    wanted = " or ".join(kind.__name__ for kind in kinds)
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    except Exception as error:
        raise Complaint(f"{what} raises {type(error).__name__} ({error}), expected {wanted}", fix) from error
    else:
        raise Complaint(f"{what} is taken, expected {wanted}", fix)


@final
@dataclass(frozen=True)
class Check:
    """One check of one thing.

    Arguments:
        name: the promise in words, e.g. ``"round trip"``.
        run: raises if the promise is broken.
    """

    name: str
    run: Callable[[], None]

    def __call__(self) -> None:
        self.run()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def run_all(
    title: str, checks: Iterable[Check], told: Callable[[str, str, float], None] = lambda *args: None
) -> None:
    """Runs every check, and raises one `Complaint` with all that failed.

    Arguments:
        title: the subject of the checks.
        checks: in order.
        told: called with the name, the complaint (empty if none) and the seconds of each.
    """
    failures, count = [], 0
    for check in checks:
        count, begun, complaint = count + 1, time.monotonic(), ""
        try:
            check()
        except Complaint as error:
            complaint = str(error)
        except Exception as error:  # a plugin may raise any error
            first = (str(error).splitlines() or [""])[0]
            complaint = f"{type(error).__name__}: {first}; fix: the traceback of this check alone shows where"
        if complaint:
            failures.append(f"{check.name}: {complaint}")
        told(check.name, complaint, time.monotonic() - begun)
    if failures:
        lines = "".join(f"\n  {line}" for line in failures)
        raise Complaint(f"{title} fails {len(failures)} of {count} checks:{lines}")
