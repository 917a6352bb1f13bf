"""Records, data sources, the data folder, and downloads that can break off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Records(Sequence[Any]):
    """Domain objects with the labels that came with them.

    Arguments:
        items: the domain objects.
        labels: per name an array `(n,)`; NaN or -1 where a record has none.
        name: where they came from, for error messages and checkpoints.
        splits: optional indices of other parts, e.g. ``{"valid": array}``.
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


@dataclass(frozen=True)
class DataSource:
    """A named data set: what it is, and how each of its splits is read.

    Arguments:
        name: e.g. ``"qm9"``.
        load: `load(split)` with ``"train"``, ``"valid"`` or ``"test"`` gives `Records`; looks in the
            data folder first, else downloads from the official source.
        records: number of records, all splits together.
        source: where it comes from, for `molgen list`.
        licence: e.g. ``"CC0"``.
        files: the converted files relative to the data folder; empty if embedded.
        splits: the splits there are.
    """

    name: str
    load: Callable[[str], Records]
    records: int
    source: str
    licence: str
    files: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "valid", "test")
