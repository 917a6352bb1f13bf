"""What every field has: its geometry, its noising process, and what data decide about it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from molgen.core.rng import RandomSource
from molgen.core.schedules import Window


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """A value per sample, broadcastable over that sample's entries."""
    return t.reshape(-1, *(1,) * (x.dim() - 1))


def own_shape(mask: Tensor, *channels: int, axes: int = 1) -> tuple[int, ...]:
    """The shape of one sample's draw: its own sites (or the whole grid), then channels."""
    sites = tuple(mask.shape[1:]) if mask.dim() > 2 else (-1,) * axes
    return (*sites, *channels)


class Field(ABC):
    """The geometry of one tensor and the noising process of its values.

    Whatever else a family asks of a field is a capability, see `molgen.core.capabilities`.

    Attributes:
        axes: 1 where values stand on sites; 2 where they stand on pairs of sites, twice each.
        stream: the trunk's stream that carries it: ``"site"``, ``"pair"`` or ``"point"``.
        shape: of the value of one site (or pair): `(C,)` reals, or `()` for one class.
        num_classes: classes that a value is one of; 0 where values are reals.
        window: the part of global time in which the field changes.
        weight: its share in a loss over several fields.
    """

    axes: int = 1
    stream: Literal["site", "pair", "point"] = "site"
    shape: tuple[int, ...]
    num_classes: int = 0
    window: Window
    weight: float

    # ------------------------------------------------------------------ geometry

    @abstractmethod
    def valid(self, mask: Tensor) -> Tensor:
        """Which entries are real, broadcastable over values; a field need not have some on every site."""

    @abstractmethod
    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """The nearest value that obeys the field's constraints; zero on padding."""

    def symmetrize(self, x: Tensor) -> Tensor:
        """One number for both places of a pair; `x` is `(B, ...)` or `(B, ..., C)`."""
        if self.axes == 1:
            return x
        upper = (x if x.dim() == 3 else x.movedim(-1, 1)).triu(1)
        both = upper + upper.transpose(-1, -2)
        return both if x.dim() == 3 else both.movedim(1, -1)

    # ------------------------------------------------------------------ what data decide, and how they look

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        """Arguments of the constructor that data decide (a scale, frequencies), as JSON.

        Arguments:
            values: unpadded arrays, one per sample, as a modality encodes them.
        """
        return {}

    def invariants(self, value: np.ndarray) -> np.ndarray:
        """The entries of one sample as reals that do not change when the object moves, `(m, C)`.

        They are what generic scores compare; for classes one-hot rows, for points distances.

        Arguments:
            value: one unpadded array.
        """
        return np.asarray(value, np.float64).reshape(-1, *self.shape)

    # ------------------------------------------------------------------ the noising process

    @abstractmethod
    def prior(self, mask: Tensor, rng: RandomSource) -> Tensor:
        """A draw at time 1."""

    @abstractmethod
    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: RandomSource) -> Tensor:
        """A draw of x_t given x_s, `s <= t`; with `s = 0` it corrupts data."""

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: RandomSource, scale: float = 1.0
    ) -> Tensor:
        """`diffuse` as a sampler goes back: as noisy as a step leaves a sample at time t.

        `scale` is the factor on fresh noise that the step takes.
        """
        return self.diffuse(x, s, t, mask, rng)

    @abstractmethod
    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        """KL(q(x_1 | x0) || prior) in nats, `(B,)`."""

    def max_steps(self, mask: Tensor) -> Tensor:
        """The number of sampling steps beyond which none would change anything, `(B,)`."""
        return torch.full((len(mask),), math.inf, device=mask.device)

    def log_ratio(self, t: Tensor, s: Tensor) -> Tensor:
        """Length of a step in half the log signal-to-noise ratio, `(B,)`; zero where nothing changes."""
        return torch.zeros_like(t)
