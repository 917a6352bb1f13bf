"""Single entries: the numbers of a value one by one, each with a likelihood of its own."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.densities import PLAIN, Density, Discrete, Gaussians, LogisticCells, Logistics, Sharpen
from molgen.core.fields.categorical import Categorical
from molgen.core.fields.circular import CircularField
from molgen.core.fields.continuous import Continuous
from molgen.core.fields.field import Field, own_shape
from molgen.core.rng import RandomSource
from molgen.core.waves import waves


class Entries(Capability[Field]):
    """What single entries of a value look like to a network, and their likelihood under its outputs.

    Attributes:
        count: entries per site (or pair).
        inputs: channels that `embed_entry` gives.
        outputs: outputs of a network that the likelihood of one entry is made from.
    """

    what = "likelihood of single entries"
    count: int
    inputs: int
    outputs: int

    @classmethod
    def _fix(cls) -> str:
        return (
            "choose a view whose values do not change when the object moves, or register an implementation "
            f"with {cls.__name__}.register"
        )

    def to_entries(self, x: Tensor) -> Tensor:
        """Values as entries, `(B, ..., count)`."""
        return x

    def from_entries(self, entries: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `to_entries` for entries `(B, sites * count)` of a field on sites."""
        return entries.reshape(*mask.shape, self.count)

    @abstractmethod
    def embed_entry(self, entries: Tensor) -> Tensor:
        """Entries `(...)` as network input of about unit scale, `(..., inputs)`."""

    @abstractmethod
    def likelihood(self, raw: Tensor) -> Density:
        """The density of entries `(...)`, each by itself, from outputs `(..., outputs)`."""

    def conditional(self, raw: Tensor) -> Density:
        """The density of entries given those before them; by default as of each by itself."""
        return self.likelihood(raw)

    def sample(self, density: Density, mask: Tensor, rng: RandomSource, how: Sharpen = PLAIN) -> Tensor:
        """Values drawn entry by entry from a density of `(B, ..., count)`."""
        own = own_shape(mask, self.count, 2, axes=self.field.axes)
        return self.field.project(self._value(density.draw(rng.uniform(mask, own), how)), mask)

    def point_estimate(self, density: Density, mask: Tensor) -> Tensor:
        """The value whose entries are the centres of a density of `(B, ..., count)`."""
        return self.field.project(self._value(density.centre()), mask)

    def _value(self, entries: Tensor) -> Tensor:
        return entries


@Entries.register(Continuous)
@final
class NumberEntries(Entries):
    """Numbers: mixtures of Gaussians, of logistics over levels, or of logistics over cells of levels."""

    field: Continuous
    inputs = 13

    def __init__(self, field: Continuous) -> None:
        super().__init__(field)
        self.count, self.outputs = field.channels, 3 * field.components

    def embed_entry(self, entries: Tensor) -> Tensor:
        unit = (entries - self.field.mean) / self.field.sd
        return torch.cat([unit[..., None], waves(unit, 6)], -1)

    def likelihood(self, raw: Tensor) -> Density:
        f = self.field
        if f.levels is None:
            return Gaussians(raw, f.mean, f.sd, floor=1e-3 * f.sd)
        return Logistics(raw, f.mean, f.sd, 0.25 / (f.levels - 1), f.levels)

    def conditional(self, raw: Tensor) -> Density:
        # Entries by themselves are in the unit of the data; given those before, single levels are sure.
        shares = self.field.shares
        return self.likelihood(raw) if shares is None else LogisticCells(raw, shares)


@Entries.register(CircularField)
@final
class CircularEntries(Entries):
    """Values on a circle: mixtures of wrapped Gaussians."""

    field: CircularField
    inputs = 8

    def __init__(self, field: CircularField) -> None:
        super().__init__(field)
        self.count, self.outputs = field.channels, 3 * field.components

    def embed_entry(self, entries: Tensor) -> Tensor:
        angles = self.field.turn * entries[..., None] * entries.new_tensor(self.field.orders)
        return torch.cat([angles.cos(), angles.sin()], -1)

    def likelihood(self, raw: Tensor) -> Gaussians:
        f = self.field
        return Gaussians(raw, f.centre, f.sd, floor=f.floor, period=f.period)


@Entries.register(Categorical)
@final
class ClassEntries(Entries):
    """Classes: a softmax."""

    field: Categorical
    count = 1

    def __init__(self, field: Categorical) -> None:
        super().__init__(field)
        self.inputs = self.outputs = field.classes

    def to_entries(self, x: Tensor) -> Tensor:
        return x[..., None]

    def from_entries(self, entries: Tensor, mask: Tensor) -> Tensor:
        return entries.reshape(mask.shape)

    def embed_entry(self, entries: Tensor) -> Tensor:
        return F.one_hot(entries.long(), self.field.classes).float()

    def likelihood(self, raw: Tensor) -> Discrete:
        return Discrete(raw)

    def _value(self, entries: Tensor) -> Tensor:
        return entries.squeeze(-1)
