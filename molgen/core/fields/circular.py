"""What fields on a circle share: wrapped Gaussian noise, and a direction as the prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from molgen.core.fields.field import own_shape
from molgen.core.fields.gaussian import GaussianField
from molgen.core.noise import Noise


class CircularField(GaussianField):
    r"""Values modulo a period, under Gaussian noise that wraps around.

    With the angle :math:`\phi = 2 \pi x / p` of a value of period p, noise of standard deviation
    :math:`\sigma` in x, or :math:`s = 2 \pi \sigma / p` in angle, has the density

    .. math:: \frac{1}{p} \left(1 + 2 \sum_{k \ge 1} e^{-k^2 s^2 / 2} \cos k \phi\right)

    which forgets :math:`x_0` as :math:`\sigma` grows: the prior is uniform. The parameters are
    :math:`D \in R^2` per value, an estimate of :math:`E[e^{i \phi_0} | x_t]`, preconditioned by
    :math:`e^{-s^2 / 2} e^{i \phi_t}`, which is exact for uniform data; its argument is the mean angle and its
    length the concentration. A field says besides how values are projected, subtracted and cut open.

    Source: Jing et al., Torsional Diffusion for Molecular Conformer Generation (2022).
    """

    period: ClassVar[float] = 2 * math.pi
    harmonics: ClassVar[Sequence[int]] = (1,)
    """Those of noisy values that a network is told."""
    orders: ClassVar[Sequence[float]] = (1.0, 2.0, 3.0, 6.0)
    """Harmonics that tell what was written before."""

    @property
    def turn(self) -> float:
        """Radians that a unit of the values stands for."""
        return 2 * math.pi / self.period

    # -- geometry

    def tangent(self, v: Tensor, mask: Tensor) -> Tensor:
        return v * self.valid(mask)

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return ((a - b) ** 2 * self.valid(mask)).flatten(1).sum(1) / self._dimension(mask)

    def _vector(self, x: Tensor, harmonic: int = 1) -> Tensor:
        angle = harmonic * self.turn * x
        return torch.cat([angle.cos(), angle.sin()], -1)

    def _shrink(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        square = (self.turn * sigma) ** 2
        return (-square / 2).exp(), (-torch.expm1(-square)).sqrt()

    # -- process

    def white(self, mask: Tensor, noise: Noise) -> Tensor:
        # Noise lives on the line and is wrapped once it is added.
        return noise.normal(mask, own_shape(mask, self.channels)) * self.valid(mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        # Half the squared first coefficient of the series, twice: all others are far smaller.
        return self._dimension(mask) * math.exp(-((self.turn * self.schedule.high) ** 2))

    def log_prior(self, x: Tensor, mask: Tensor) -> Tensor:
        return -self._dimension(mask) * math.log(self.period)

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)  # any direction is as likely as any other

    # -- network

    def point(self, params: Tensor) -> Tensor:
        cosine, sine = params.chunk(2, -1)
        return torch.atan2(sine, cosine) / self.turn

    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([self._vector(x, k) for k in self.harmonics], -1) * self.valid(mask)

    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        return params * self.valid(mask)

    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        skip, out = self._shrink(self._sigma(t, x))
        return (skip * self._vector(x) + out * raw) * self.valid(mask)

    # -- learning

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        _, out = self._shrink(self.schedule.sigma(t).clamp_min(self.schedule.low))
        error = ((params - self._vector(x0)) ** 2 * self.valid(mask)).flatten(1).sum(1)
        return error / self._dimension(mask) / out**2 * self.window.active(t)

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params  # directions are not extrapolated: Euler on the circle

    # -- densities

    entry_inputs = 8

    def observe(self, entries: Tensor) -> Tensor:
        angles = self.turn * entries[..., None] * entries.new_tensor(self.orders)
        return torch.cat([angles.cos(), angles.sin()], -1)
