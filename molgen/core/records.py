"""Domain objects with the labels that came with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np


@final
@dataclass(frozen=True)
class Records(Sequence[Any]):
    """Domain objects with the labels that came with them.

    Arguments:
        items: the domain objects.
        labels: per name an array `(n,)`; NaN or -1 where a record has none.
        name: where they came from, for error messages and checkpoints.
    """

    items: Sequence[Any]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = "data"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        """A record, or `Records` for a slice or an index array."""
        if isinstance(index, (int, np.integer)):
            return self.items[int(index)]
        picks = np.arange(len(self.items))[index]
        labels = {k: np.asarray(v)[picks] for k, v in self.labels.items()}
        return Records([self.items[i] for i in picks], labels, self.name)


def evenly(records: Sequence[Any], most: int) -> list[Any]:
    """At most so many records, evenly spaced, both ends included.

    The first ones would not do: a data set may be sorted.

    Example:
        >>> evenly("abcdefghi", 3), evenly("ab", 3)
        (['a', 'e', 'i'], ['a', 'b'])
    """
    return [records[int(i)] for i in np.linspace(0, len(records) - 1, min(len(records), most)).astype(int)]
