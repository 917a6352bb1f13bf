"""Likelihoods by the change of variables along the path from data to noise."""

from __future__ import annotations

import math
from abc import ABC
from typing import final

import torch
from torch import Tensor

from molgen.core.capabilities.capability import Capability
from molgen.core.fields.circular import CircularField
from molgen.core.fields.continuous import Continuous
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.simplex import Simplex


class PathLikelihood(Capability[GaussianField], ABC):
    """The densities at both ends of the path from data to noise.

    Attributes:
        exact: whether values are reals as they stand, not reals that stand for classes or levels.
        sigma_min: the noise at which a density of reals begins: so little that a value can still be read off.
    """

    what = "density along the path to noise"
    exact: bool = True

    @property
    def sigma_min(self) -> float:
        return self.field.schedule.low

    @property
    def sigma_max(self) -> float:
        """The noise at time 1."""
        return self.field.schedule.high

    def time(self, sigma: float) -> float:
        """The time at which the noise has this standard deviation."""
        window = self.field.window
        return window.start + (window.end - window.start) * self.field.schedule.local(sigma)

    def log_sigma(self, t: float) -> float:
        """The logarithm of the noise at a time, not below that of `sigma_min`."""
        sigma = float(self.field.schedule.sigma(torch.tensor(t, dtype=torch.float64)))
        return math.log(max(sigma, self.sigma_min))

    def log_normal(self, gap: Tensor, sigma: float, mask: Tensor) -> Tensor:
        """The log-density of Gaussian noise, `(B,)`."""
        f = self.field
        count = f.dimension(mask) / f.axes
        return -0.5 * f.inner(gap, gap) / sigma**2 - count * (math.log(sigma) + 0.5 * math.log(2 * math.pi))

    def log_prior(self, x: Tensor, mask: Tensor) -> Tensor:
        """The log-density of `Field.prior`, `(B,)`."""
        return self.log_normal(self.field.tangent(x - self.field.mean, mask), self.sigma_max, mask)


@PathLikelihood.register(GaussianField)
@final
class RealLikelihood(PathLikelihood):
    """On reals, all as above."""


@PathLikelihood.register(Continuous)
@final
class LevelLikelihood(PathLikelihood):
    """On numbers, which may be quantised."""

    def __init__(self, field: Continuous) -> None:
        super().__init__(field)
        self.levels, self.exact = field.levels, field.levels is None

    @property
    def sigma_min(self) -> float:
        # A quarter of the distance of two levels.
        return 0.5 / (self.levels - 1) if self.levels else super().sigma_min


@PathLikelihood.register(CircularField)
@final
class CircularLikelihood(PathLikelihood):
    """On a circle, whose prior is uniform."""

    field: CircularField

    def log_prior(self, x: Tensor, mask: Tensor) -> Tensor:
        return -self.field.dimension(mask) * math.log(self.field.period)


@PathLikelihood.register(Simplex)
@final
class ClassLikelihood(PathLikelihood):
    """On vectors that stand for classes."""

    exact = False

    @property
    def sigma_min(self) -> float:
        return 0.3  # a ninth of the distance of two vertices
