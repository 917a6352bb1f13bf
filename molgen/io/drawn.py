"""Samples that are drawn while they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, final


@final
class Drawn(Sequence[Any]):
    """A sequence whose items are drawn batch by batch as a writer walks through it.

    A writer that walks through once never holds more than a batch; one that wants an item or a part by
    number makes all items be drawn and kept.

    Arguments:
        count: the number of items.
        stream: starts drawing, and gives the items in order, in lists.

    Example:
        >>> drawn = Drawn(3, lambda: iter([["a", "b"], ["c"]]))
        >>> list(drawn), drawn[1:], len(drawn)
        (['a', 'b', 'c'], ['b', 'c'], 3)
    """

    def __init__(self, count: int, stream: Callable[[], Iterable[list[Any]]]) -> None:
        self._length, self.stream = count, stream
        self._kept: list[Any] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        if self._kept is not None:
            yield from self._kept
            return
        for items in self.stream():
            yield from items

    def __getitem__(self, index: Any) -> Any:
        if self._kept is None:
            self._kept = list(self)
        return self._kept[index]
