"""A field of molgen's kind, defined outside of it: fractional coordinates around the cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.densities import Gaussians
from molgen.core.fields import GaussianField
from molgen.core.fields.field import own_shape
from molgen.core.noise import Noise
from molgen.core.schedules import GaussianSchedule, Window

_TURN = 2 * math.pi


def wrapped(x: Any) -> Any:
    """Differences of fractional coordinates the short way around, in [-1/2, 1/2); arrays or tensors.

    Example:
        >>> wrapped(np.array([0.9, -0.6, 0.5])).round(3).tolist()
        [-0.1, 0.4, -0.5]
    """
    return (x + 0.5) % 1 % 1 - 0.5  # the first remainder of a tiny negative number rounds to one


@final
class Torus(GaussianField):
    r"""Fractional coordinates modulo one, as seen from the first site, under wrapped Gaussian noise.

    Translation acts on all sites alike, so differences to the first site are what is left of
    :math:`T^{3N}` without it: the density lives on the :math:`T^{3(N-1)}` of the other sites, and the first
    one, at the origin, has no value. Noise of standard deviation :math:`\sigma` has the density

    .. math:: \sum_k N(x + k; 0, \sigma^2) = 1 + 2 \sum_{k \ge 1} e^{-2 \pi^2 k^2 \sigma^2} \cos 2 \pi k x

    (a theta function), which forgets :math:`x_0` as :math:`\sigma` grows: the prior is uniform. The
    parameters are :math:`D \in R^2` per coordinate, an estimate of :math:`E[e^{2 \pi i x_0} | x_t]`,
    preconditioned by :math:`e^{-2 \pi^2 \sigma^2} e^{2 \pi i x_t}`, which is exact for uniform data.

    Arguments:
        channels: coordinates per site.
        cut: where the circle is cut open, so that values are in [cut, cut + 1): where data are fewest, since
            flows of plain reals cannot cross it.
        noise: smallest and largest noise, as fractions of the cell; 0.65 is uniform to 1e-3.
        window, weight, components: as for `molgen.core.fields.Continuous`.

    Source: Jing et al., Torsional Diffusion for Molecular Conformer Generation (2022); Jiao et al., Crystal
    Structure Prediction by Joint Equivariant Diffusion (2023).

    Example:
        >>> field, mask = Torus(1), torch.ones(1, 3, dtype=torch.bool)
        >>> field.project(torch.tensor([[[0.5], [0.75], [1.25]]]), mask)[0, :, 0].tolist()
        [0.0, -0.25, 0.25]
    """

    def __init__(
        self,
        channels: int = 3,
        *,
        cut: float = -0.5,
        noise: tuple[float, float] = (0.002, 0.65),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
        components: int = 8,
    ) -> None:
        self.channels = self.entries = self.cells = channels
        self.density_outputs = 3 * components
        self.inputs, self.estimates, self.outputs = 4 * channels, 2 * channels, 2 * channels
        self.cut, self.mean, self.sd = cut, 0.0, 12**-0.5
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, window=self.window)

    # -- geometry

    def valid(self, mask: Tensor) -> Tensor:
        others = mask.clone()
        others[:, :1] = False
        return others[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        lift = (x - self.cut) % 1 % 1 + self.cut
        # Next to the cut, rounding must not leave a value that the next projection would move.
        lift = torch.where(lift >= self.cut + 1, torch.full_like(lift, self.cut), lift)
        return torch.where(self.valid(mask), lift, torch.zeros_like(lift))

    def relative(self, places: np.ndarray) -> np.ndarray:
        """Coordinates `(n, channels)` as the field holds them: float32, seen from the first site."""
        seen = torch.from_numpy((places - places[:1]).astype(np.float32))[None]
        return self.project(seen, torch.ones(1, len(places), dtype=torch.bool))[0].numpy()

    def offset(self, x: Tensor, x0: Tensor) -> Tensor:
        gap: Tensor = wrapped(x - x0)
        return gap

    def tangent(self, v: Tensor, mask: Tensor) -> Tensor:
        return v * self.valid(mask)

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return ((a - b) ** 2 * self.valid(mask)).flatten(1).sum(1) / self._dimension(mask)

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        """The cut: the bin of 48 around the circle that is farthest from values."""
        flat = np.concatenate([v[1:].ravel() for v in values])
        counts = np.bincount((flat % 1 * 48).astype(int) % 48, minlength=48)
        near = [np.exp(-abs(k) / 2) * np.roll(counts, k) for k in range(-24, 24)]
        return {"cut": round((int(np.sum(near, 0).argmin()) + 0.5) / 48, 4) - 1}

    def readings(self, value: np.ndarray) -> np.ndarray:
        x = _TURN * np.asarray(value[1:], np.float64).reshape(-1, self.channels)
        return np.concatenate([np.cos(x), np.sin(x)], 1)

    # -- process

    def white(self, mask: Tensor, noise: Noise) -> Tensor:
        return noise.normal(mask, own_shape(mask, self.channels)) * self.valid(mask)

    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        return self.project(noise.uniform(mask, own_shape(mask, self.channels)), mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        # Half the squared first coefficient of the theta series, twice: all others are far smaller.
        return self._dimension(mask) * math.exp(-((_TURN * self.schedule.high) ** 2))

    def log_prior(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)  # uniform on a circumference of one

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)

    # -- network

    @staticmethod
    def _vector(x: Tensor, harmonic: int = 1) -> Tensor:
        turn = harmonic * _TURN * x
        return torch.cat([turn.cos(), turn.sin()], -1)

    @staticmethod
    def _shrink(sigma: Tensor) -> tuple[Tensor, Tensor]:
        square = (_TURN * sigma) ** 2
        return (-square / 2).exp(), (-torch.expm1(-square)).sqrt()

    def point(self, params: Tensor) -> Tensor:
        cosine, sine = params.chunk(2, -1)
        return torch.atan2(sine, cosine) / _TURN

    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([self._vector(x), self._vector(x, 2)], -1) * self.valid(mask)

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

    # -- densities and cells

    entry_inputs = 8

    def observe(self, entries: Tensor) -> Tensor:
        orders = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=entries.dtype, device=entries.device)
        turns = _TURN * entries[..., None] * orders
        return torch.cat([turns.cos(), turns.sin()], -1)

    def density(self, raw: Tensor) -> Gaussians:
        return Gaussians(raw, self.cut + 0.5, self.sd, floor=1e-3, period=1.0)

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # The circle cut open: what a flow puts beyond the cut is lost, so this is a bound.
        valid = self.valid(mask)
        return (x - self.cut - 0.5) / self.sd * valid, valid[..., 0] * (-self.channels * math.log(self.sd))

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        return self.project(z * self.sd + self.cut + 0.5, mask)
