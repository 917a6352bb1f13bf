"""Values on the circle: wrapped Gaussian noise, and a direction as the prediction."""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from molgen.core.densities import Gaussians
from molgen.core.fields.field import own_shape
from molgen.core.fields.gaussian import GaussianField
from molgen.core.noise import Noise
from molgen.core.schedules import GaussianSchedule, Window


@final
class Angles(GaussianField):
    r"""Angles in :math:`(-\pi, \pi]`: wrapped Gaussian noise, a direction as the prediction.

    The parameters are :math:`D \in R^2` per angle, an estimate of
    :math:`E[e^{i x_0} | x_t]`, preconditioned by :math:`e^{-\sigma^2/2} e^{i x_t}`, which is exact for
    uniform data; its argument is the mean angle and its length the concentration. The step's
    divergence uses the nearest lift of each angle, so it is a bound up to wrapped tails.

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
        self.channels = self.entries = self.cells = channels
        self.density_outputs = 3 * components
        self.inputs = self.estimates = self.outputs = 2 * channels
        self.mean, self.sd = 0.0, math.pi / math.sqrt(3)
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, window=self.window)

    def readings(self, value: np.ndarray) -> np.ndarray:
        x = super().readings(value)
        return np.concatenate([np.cos(x), np.sin(x)], 1)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.atan2(x.sin(), x.cos()) * self.valid(mask)

    def white(self, mask: Tensor, noise: Noise) -> Tensor:
        # Noise lives on the line and is wrapped once it is added.
        return noise.normal(mask, own_shape(mask, self.channels)) * self.valid(mask)

    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        turn = noise.uniform(mask, own_shape(mask, self.channels))
        return self.project((2 * turn - 1) * math.pi, mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        # A wrapped Gaussian has density (1 + 2 sum_k e^{-k^2 sigma^2 / 2} cos k(x - x0)) / 2 pi.
        per_angle = math.exp(-(self.schedule.high**2))
        return self._dimension(mask) * per_angle

    def point(self, params: Tensor) -> Tensor:
        return torch.atan2(params[..., self.channels :], params[..., : self.channels])

    @staticmethod
    def _vector(x: Tensor) -> Tensor:
        return torch.cat([x.cos(), x.sin()], -1)

    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return self._vector(x) * self.valid(mask)

    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        return params * self.valid(mask)

    def _shrink(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return (-(sigma**2) / 2).exp(), (-torch.expm1(-(sigma**2))).sqrt()

    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        skip, out = self._shrink(self._sigma(t, x))
        return (skip * self._vector(x) + out * raw) * self.valid(mask)

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        _, out = self._shrink(self.schedule.sigma(t).clamp_min(self.schedule.low))
        error = ((params - self._vector(x0)) ** 2 * self.valid(mask)).flatten(1).sum(1)
        return error / self._dimension(mask) / out**2 * self.window.active(t)

    @staticmethod
    def _wrap(x: Tensor) -> Tensor:
        return torch.atan2(x.sin(), x.cos())

    def offset(self, x: Tensor, x0: Tensor) -> Tensor:
        return self._wrap(x - x0)

    def tangent(self, v: Tensor, mask: Tensor) -> Tensor:
        return v * self.valid(mask)

    def log_prior(self, x: Tensor, mask: Tensor) -> Tensor:
        return -self._dimension(mask) * math.log(2 * math.pi)

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)  # any direction is as likely as any other

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params  # directions are not extrapolated: Euler on the circle

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return ((a - b) ** 2 * self.valid(mask)).flatten(1).sum(1) / self._dimension(mask)

    # -- densities and cells

    entry_inputs = 8

    def observe(self, entries: Tensor) -> Tensor:
        turns = entries[..., None] * torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=entries.dtype)
        return torch.cat([turns.cos(), turns.sin()], -1)

    def density(self, raw: Tensor) -> Gaussians:
        return Gaussians(raw, 0.0, self.sd, floor=0.01, period=2 * math.pi)

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # The circle cut open at pi: what a flow puts beyond the cut is lost, so this is a bound.
        return x / self.sd * self.valid(mask), mask * (-self.channels * math.log(self.sd))

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        return self.project(z * self.sd, mask)
