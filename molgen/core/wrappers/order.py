"""The order in which the entries of a sample are written, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor

from molgen.core.capabilities import Entries
from molgen.core.errors import ConfigError
from molgen.core.fields import Field

Order = str | Sequence[int]
PairOrder = Literal["first", "nearest"]


def _raster(extent: tuple[int, ...]) -> Tensor:
    """The sites in raster order as a matrix, one row for a sequence."""
    return torch.arange(math.prod(extent)).reshape(-1, extent[-1])


ORDERS: Mapping[str, Callable[[tuple[int, ...]], Tensor]] = {
    "forward": lambda extent: _raster(extent).flatten(),
    "backward": lambda extent: _raster(extent).flatten().flip(0),
    "columns": lambda extent: _raster(extent).T.flatten(),
}
"""Orders of sites: raster (the order of a sequence), its reverse, and column by column."""


def permutation(order: Order, extent: tuple[int, ...]) -> Tensor:
    """Sites in the order in which they are written, `(N,)`.

    Errors: `ConfigError` for an unknown name or a list that is no permutation of the sites.
    """
    if isinstance(order, str):
        if order not in ORDERS:
            raise ConfigError.unknown("order", order, ORDERS)
        return ORDERS[order](extent)
    count = math.prod(extent)
    if sorted(order) != list(range(count)):
        raise ConfigError(f"order: expected a permutation of 0 .. {count - 1}, got {len(order)} entries")
    return torch.tensor(list(order))


@final
@dataclass(frozen=True)
class GenerationOrder:
    """Slots in the order in which they are written: which entry of which field stands in each.

    Fields that resolve first under noise (whose window ends later) are written first; fields of one
    window take turns site by site, pairs after the later one of their two sites: those with the earliest
    sites first, or those with the nearest.

    Arguments:
        names: the fields.
        field: index of the field of each slot, `(T,)`.
        entry: which entry of the site, `(T,)`.
        site: the site, `(T,)`; for pairs the later one.
        other: the earlier site of a pair, otherwise the site, `(T,)`.
        sites: number of sites N.

    Example:
        >>> from molgen.core.fields import Categorical
        >>> layout = GenerationOrder.of({"a": Categorical(3), "b": Categorical(2, pairs=True)}, (3,))
        >>> [(layout.names[f], i, j) for f, i, j in zip(layout.field, layout.site.tolist(),
        ...                                             layout.other.tolist())]
        [('a', 0, 0), ('a', 1, 1), ('b', 1, 0), ('a', 2, 2), ('b', 2, 0), ('b', 2, 1)]
    """

    names: tuple[str, ...]
    field: Tensor
    entry: Tensor
    site: Tensor
    other: Tensor
    sites: int

    @classmethod
    def of(
        cls,
        fields: Mapping[str, Field],
        extent: tuple[int, ...],
        order: Order = "forward",
        pair_order: PairOrder = "first",
    ) -> GenerationOrder:
        """The layout of samples on an extent `(N,)` or `(H, W)`."""
        path = permutation(order, extent).tolist()
        names = tuple(fields)
        rows: list[tuple[int, int, int, int]] = []
        for end in sorted({f.window.end for f in fields.values()}, reverse=True):
            stage = [
                (k, fields[name], Entries.of(fields[name]).count)
                for k, name in enumerate(names)
                if fields[name].window.end == end
            ]
            for rank, i in enumerate(path):
                for k, f, count in stage:
                    if f.axes == 2:
                        others = path[:rank]
                        rows += [
                            (k, 0, i, j) for j in (reversed(others) if pair_order == "nearest" else others)
                        ]
                    else:
                        rows += [(k, e, i, i) for e in range(count)]
        field, entry, site, other = torch.tensor(rows, dtype=torch.long).reshape(-1, 4).unbind(1)
        return cls(names, field, entry, site, other, len(path))

    def __len__(self) -> int:
        return len(self.field)

    def valid(self, mask: Tensor, fields: Mapping[str, Field]) -> Tensor:
        """Which slots exist in each sample, `(B, T)`: those of its sites where their field has values."""
        flat = mask.flatten(1)
        exist = flat[:, self.site] & flat[:, self.other]
        for name, f in fields.items():
            if f.axes == 1:
                own = self.slots(name)
                exist[:, own] &= f.valid(mask).flatten(1)[:, self.site[own]]
        return exist

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        return {name: (self.field == k).nonzero().squeeze(1) for k, name in enumerate(self.names)}

    def slots(self, name: str) -> Tensor:
        """The slots of one field, `(T_k,)`, in order."""
        return self._own[name]

    def read(self, name: str, field: Field, x: Tensor) -> Tensor:
        """Values of a field in the order of its slots, `(B, T_k)`."""
        own = self.slots(name)
        if field.axes == 2:
            return x[:, self.site[own], self.other[own]]
        entries = Entries.of(field)
        return entries.to_entries(x).flatten(1)[:, self.site[own] * entries.count + self.entry[own]]

    def write(self, name: str, field: Field, slots: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `read`: values of the field from `(B, T_k)`, zero on padding."""
        own = self.slots(name)
        b, n = len(slots), self.sites
        if field.axes == 2:
            x = slots.new_zeros(b, n, n)
            x[:, self.site[own], self.other[own]] = slots
            x[:, self.other[own], self.site[own]] = slots
            return field.project(x, mask)
        entries = Entries.of(field)
        flat = slots.new_zeros(b, n * entries.count)
        flat[:, self.site[own] * entries.count + self.entry[own]] = slots
        return field.project(entries.from_entries(flat, mask), mask)
