"""Progress bars that are quiet when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(total: int | None, title: str, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal's error stream; nothing where that is not a terminal.

    Example:
        >>> with bar(3, "work", show=False) as advance:
        ...     advance(3)
    """
    if not (show and sys.stderr.isatty()):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.update(task, advance=count)


def warn(message: str) -> None:
    """One line of warning on the error stream, for what went on but should be known."""
    print(f"molgen: {message}", file=sys.stderr)
