"""Angles: torsions, in radians."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from molgen.core.fields.circular import CircularField
from molgen.core.fields.field import own_shape
from molgen.core.rng import RandomSource
from molgen.core.schedules import GaussianSchedule, Window


@final
class Angles(CircularField):
    r"""Angles in :math:`(-\pi, \pi]`: wrapped Gaussian noise, a direction as the prediction.

    See `CircularField`. The step's divergence uses the nearest lift of each angle, so it is a bound up to
    wrapped tails.

    Arguments:
        channels: angles per site.
        noise: smallest and largest noise in radians; 4 rad is uniform to 1e-3.
        window, weight, components: as for `Continuous`.

    Example:
        >>> field, mask = Angles(1), torch.ones(1, 1, dtype=torch.bool)
        >>> round(field.project(torch.full((1, 1, 1), 3.5), mask).item(), 4)
        -2.7832
    """

    def __init__(
        self,
        channels: int,
        *,
        noise: tuple[float, float] = (0.01, 4.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
        components: int = 8,
    ) -> None:
        self.shape, self.components = (channels,), components
        self.mean, self.sd = 0.0, math.pi / math.sqrt(3)
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, window=self.window)

    def invariants(self, value: np.ndarray) -> np.ndarray:
        x = super().invariants(value)
        return np.concatenate([np.cos(x), np.sin(x)], 1)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.logmap(x, torch.zeros_like(x)) * self.valid(mask)

    def logmap(self, x: Tensor, x0: Tensor) -> Tensor:
        gap = x - x0
        return torch.atan2(gap.sin(), gap.cos())

    def prior(self, mask: Tensor, rng: RandomSource) -> Tensor:
        turn = rng.uniform(mask, own_shape(mask, self.channels))
        return self.project((2 * turn - 1) * math.pi, mask)
