"""A layer of a Boltzmann machine: groups of units, with at most one unit of each group on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.densities import pick


@final
class Units:
    """Groups of units; the first class of a group is that no unit is on, each other class has a unit.

    So the input of a unit is relative to the first class, and a group of two classes is one unit.

    Arguments:
        groups: numbers of groups with their numbers of classes, in order.

    Example:
        >>> units = Units([(2, 2), (1, 3)])
        >>> units.count, units.mean(torch.zeros(4))
        (4, tensor([0.5000, 0.5000, 0.3333, 0.3333]))
    """

    def __init__(self, groups: Sequence[tuple[int, int]]) -> None:
        self.groups = list(groups)
        self.entries = sum(n for n, _ in groups)
        self.count = sum(n * (k - 1) for n, k in groups)

    def blocks(self, x: Tensor) -> Iterator[Tensor]:
        """The units of each kind of group, `(..., groups, classes - 1)`."""
        parts = torch.split(x, [n * (k - 1) for n, k in self.groups], -1)
        for part, (n, k) in zip(parts, self.groups, strict=True):
            yield part.reshape(*x.shape[:-1], n, k - 1)

    def mean(self, field: Tensor) -> Tensor:
        """The probability that a unit is on, given the input of units `(..., units)`."""
        return self._joined(field, torch.sigmoid, lambda block: F.pad(block, (1, 0)).softmax(-1)[..., 1:])

    def draw(self, field: Tensor, u: Tensor) -> Tensor:
        """Samples of units from uniforms `(..., entries)`, one for each group."""
        shares = iter(torch.split(u, [n for n, _ in self.groups], -1))

        def several(block: Tensor) -> Tensor:
            logits = F.pad(block, (1, 0))
            return F.one_hot(pick(logits.softmax(-1), next(shares)), logits.shape[-1])[..., 1:].to(field)

        return self._joined(
            field, lambda block: (next(shares)[..., None] < block.sigmoid()).to(field), several
        )

    def log_sum(self, field: Tensor) -> Tensor:
        """The logarithm of the sum of exp(field s) over the states of each group, `(..., entries)`."""
        return self._joined(field, F.softplus, lambda block: F.pad(block, (1, 0)).logsumexp(-1, keepdim=True))

    def total(self, s: Tensor) -> Tensor:
        """The sum over each group, `(..., entries)`."""
        return self._joined(s, lambda block: block, lambda block: block.sum(-1, keepdim=True))

    def spread(self, x: Tensor) -> Tensor:
        """Values of groups `(..., entries)`, repeated for their units `(..., units)`."""
        parts = torch.split(x, [n for n, _ in self.groups], -1)
        each = [part.repeat_interleave(k - 1, -1) for part, (_, k) in zip(parts, self.groups, strict=True)]
        return torch.cat(each, -1)

    def _joined(
        self, x: Tensor, one: Callable[[Tensor], Tensor], several: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Blocks of groups of one unit and of several, each mapped by its function, concatenated again."""
        done = [(one if b.shape[-1] == 1 else several)(b).flatten(-2) for b in self.blocks(x)]
        return done[0] if len(done) == 1 else torch.cat(done, -1)
