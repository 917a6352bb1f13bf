"""PrefixSharing of a network that samples share until they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

_FEW, _FULL = 64, 0.6
"""Samples below which, and share of rows over samples from which, copies cost more than sharing saves."""


@final
@dataclass(frozen=True)
class PrefixSharing:
    """Which samples share a row, since they are told the same and have written the same.

    Arguments:
        row: the row of each sample, `(B,)`.
        first: a sample of each row, `(R,)`.
        single: whether every sample has a row of its own, as few samples have, and most that have parted.

    Example:
        >>> rows = PrefixSharing.of([torch.zeros(100, 1)])
        >>> parted, came = rows.parted(torch.tensor([5, 7]).repeat(50))
        >>> len(rows), parted.row[:3].tolist(), came.tolist()
        (1, [0, 1, 0], [0, 0])
    """

    row: Tensor
    first: Tensor
    single: bool = False

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def own(cls, like: Tensor) -> PrefixSharing:
        """A row for each sample."""
        row = torch.arange(len(like), device=like.device)
        return cls(row, row, single=True)

    @classmethod
    def of(cls, told: Sequence[Tensor | None]) -> PrefixSharing:
        """One row for all samples that are told the same, `(B, ...)` each."""
        parts = [x.reshape(len(x), x[:1].numel()).double().nan_to_num(-1e30) for x in told if x is not None]
        if not len(parts[0]):
            return cls.own(parts[0])
        return cls._of(_numbered(torch.cat(parts, 1), dim=0))

    @classmethod
    def _of(cls, row: Tensor) -> PrefixSharing:
        count = int(row.max()) + 1
        if len(row) < _FEW or count >= _FULL * len(row):
            return cls.own(row)
        samples = torch.arange(len(row), device=row.device)
        return cls(row, row.new_zeros(count).scatter_(0, row, samples))

    def parted(self, x: Tensor) -> tuple[PrefixSharing, Tensor]:
        """The rows once the samples have written `x` `(B,)`, and the old row that each comes from."""
        rows = self._of(_numbered(self.row * len(x) + _numbered(x)))
        return rows, self.row[rows.first]


def _numbered(x: Tensor, dim: int | None = None) -> Tensor:
    """Which of the distinct entries each one is, in rising order."""
    numbers: Tensor = x.unique(dim=dim, return_inverse=True)[1]  # type: ignore[no-untyped-call]
    return numbers
