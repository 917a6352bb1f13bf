"""Real fields: additive Gaussian noise on a line, in space, and on the circle."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.densities import Density, Gaussians, LogisticCells, Logistics
from molgen.core.errors import ConfigError
from molgen.core.fields.cells import log_normal, probabilities
from molgen.core.fields.field import Field, own_shape, per_sample
from molgen.core.noise import Noise
from molgen.core.schedules import GaussianSchedule, StraightSchedule, Window
from molgen.core.waves import waves

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
STILL = 1e-6  # the length of a step that is none


class GaussianField(Field):
    """What every real field shares: additive Gaussian noise and EDM's preconditioning.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """

    channels: int
    mean: float
    sd: float
    schedule: GaussianSchedule | StraightSchedule

    def valid(self, mask: Tensor) -> Tensor:
        return mask[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * self.valid(mask)

    def white(self, mask: Tensor, noise: Noise) -> Tensor:
        """Standard normal noise in the field's geometry, `(B, ..., channels)`."""
        return self.project(noise.normal(mask, own_shape(mask, self.channels)), mask)

    def perturb(self, x0: Tensor, white: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        r"""Data with given noise, :math:`x_0 + \sigma(t) \varepsilon`."""
        return self.project(x0 + self._sigma(t, x0) * white, mask)

    def whitened(self, x: Tensor, x0: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The noise that leads from x0 to x at time t: `perturb` inverted."""
        return self.project(self.offset(x, x0) / self.noise(t, x), mask)

    def point(self, params: Tensor) -> Tensor:
        """The value that the parameters stand for, through which gradients flow."""
        return params

    def rsample(self, params: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        """A draw of p(x0 | params) through which gradients flow; reals are taken at their mean."""
        return self.project(self.point(params), mask)

    def anchor(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        """A likelihood term that keeps a distance between parameters from collapsing; none on reals."""
        return torch.zeros(len(mask), device=mask.device)

    def discrepancy(self, a: Tensor, b: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        r"""A robust distance between clean ends predicted at time t and before, `(B,)`.

        .. math:: \sqrt{\lambda(t)} (\sqrt{d + c^2} - c)

        so that an error of the size that noise of level t leaves counts as one; zero where the field is
        data already.

        Source: Song and Dhariwal, Improved Techniques for Training Consistency Models (2024).
        """
        sigma = self.schedule.sigma(t).clamp_min(self.schedule.low)
        weight = (1 + (self.sd / sigma) ** 2).sqrt()
        c = 0.03
        gap = (self.distance(a, b, mask) + c**2).sqrt() - c
        return weight * gap * (t > self.window.start)

    def straightened(self) -> Self:
        """The field with the noise schedule of flow matching's straight paths."""
        field = copy.copy(self)
        field.schedule = StraightSchedule(self.unit, self.schedule.high, self.window)
        return field

    @property
    def unit(self) -> float:
        """The noise that blurs the data by half: at half the time of a straight path."""
        return self.sd

    def _sigma(self, t: Tensor, x: Tensor) -> Tensor:
        return per_sample(self.schedule.sigma(t), x)

    # -- process

    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        return self.project(self.mean + self.schedule.high * self.white(mask, noise), mask)

    def tempered(self, mask: Tensor, noise: Noise, temperature: float) -> Tensor:
        """A draw at time 1 whose spread is multiplied by a temperature."""
        return self.project(self.mean + temperature * (self.prior(mask, noise) - self.mean), mask)

    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        added = (self._sigma(t, x) ** 2 - self._sigma(s, x) ** 2).clamp_min(0).sqrt()
        return self.project(x + added * self.white(mask, noise).to(x.dtype), mask)

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise, scale: float = 1.0
    ) -> Tensor:
        return self.project(x + scale * self.offset(self.diffuse(x, s, t, mask, noise), x), mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        offset = (x0 - self.mean) * self.valid(mask)
        return 0.5 * (offset**2).flatten(1).sum(1) / self.schedule.high**2

    # -- network

    def level(self, t: Tensor) -> Tensor:
        sigma = self.schedule.sigma(t).clamp_min(self.schedule.low)
        return (sigma / self.sd).log() / 4

    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        scale = (self._sigma(t, x) ** 2 + self.sd**2).rsqrt()
        return self.project((x - self.mean) * scale, mask)

    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        return self.project((params - self.mean) / self.sd, mask)

    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        sigma = self._sigma(t, x)
        total = sigma**2 + self.sd**2
        skip, out = self.sd**2 / total, sigma * self.sd * total.rsqrt()
        return self.project(self.mean + skip * (x - self.mean) + out * raw, mask)

    # -- learning

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        sigma = self.schedule.sigma(t).clamp_min(self.schedule.low)
        weight = (sigma**2 + self.sd**2) / (sigma * self.sd) ** 2
        error = ((params - x0) ** 2 * self.valid(mask)).flatten(1).sum(1) / self._dimension(mask)
        return error * weight * self.window.active(t)

    def _dimension(self, mask: Tensor) -> Tensor:
        """Degrees of freedom of each sample, `(B,)`."""
        return self.valid(mask).flatten(1).sum(1).clamp_min(1) * self.channels

    def step_kl(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        error = self._squared(params, x0, mask)
        gain = 0.5 * (sigma_s.clamp_min(1e-12) ** -2 - sigma_t.clamp_min(1e-12) ** -2)
        kl = torch.where(sigma_s < sigma_t, gain * error, torch.zeros_like(error))
        last = (sigma_s == 0) & (sigma_t > 0)
        return torch.where(last, self._reconstruction(params, x0, sigma_t, mask), kl)

    def _squared(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return (self.offset(x0, self.point(params)) ** 2 * self.valid(mask)).flatten(1).sum(1)

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        """-log N(x0; params, v) with v the variance of x0 given x_t for Gaussian data."""
        variance = sigma**2 * self.sd**2 / (sigma**2 + self.sd**2)
        variance = variance.clamp_min(1e-24)
        square = self._squared(params, x0, mask) / variance
        return 0.5 * (square + self._dimension(mask) * (2 * math.pi * variance).log())

    # -- sampling: every solver chooses an effective x0 and then takes this one step

    def step(
        self,
        x: Tensor,
        params: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        noise: Noise,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        return self.moved(x, self.point(params), t, s, mask, noise, eta, scale)

    def moved(
        self,
        x: Tensor,
        x0: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        noise: Noise,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        """`step` towards a given mean of the data instead of parameters."""
        sigma_t, sigma_s = self._sigma(t, x), self._sigma(s, x)
        safe = sigma_t.clamp_min(1e-12)
        up = eta * sigma_s * (1 - (sigma_s / safe) ** 2).clamp_min(0).sqrt()
        down = (sigma_s**2 - up**2).clamp_min(0).sqrt()
        y = x0 + down / safe * self.offset(x, x0)
        if eta > 0:
            y = y + scale * up * self.white(mask, noise).to(x.dtype)
        return self.project(torch.where(sigma_s < sigma_t, y, x), mask)

    def offset(self, x: Tensor, x0: Tensor) -> Tensor:
        """The way from x0 to x."""
        return x - x0

    # -- energies

    def noise(self, t: Tensor, like: Tensor | None = None) -> Tensor:
        """The noise's standard deviation, not less than the schedule's least; `(B,)`, or to fit `like`."""
        sigma = self.schedule.sigma(t).clamp_min(self.schedule.low)
        return sigma if like is None else per_sample(sigma, like)

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """-log p(x_t) of data whose entries are independent, but for a constant, `(B,)`."""
        gap = self.tangent(x - self.mean, mask)
        return 0.5 * self.inner(gap, gap) / (self.noise(t) ** 2 + self.sd**2)

    def covector(self, gradient: Tensor, mask: Tensor) -> Tensor:
        """The gradient in the field's geometry from derivatives by the numbers of its tensor."""
        return self.tangent(gradient, mask)

    def misfit(self, x0: Tensor, truth: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The denoising loss of a mean of the data, `(B,)`, of unit weight where the network is asked."""
        sigma = self.noise(t)
        weight = (sigma**2 + self.sd**2) / (sigma * self.sd) ** 2
        error = self.offset(x0, truth) * self.valid(mask)
        return self.inner(error, error) * self._axes / self._dimension(mask) * weight * self.window.active(t)

    def grounded(self) -> Self:
        """The field as Markov chains walk on it: classes are vertices once little noise is left."""
        return self

    def walks(self, t: Tensor) -> Tensor:
        """Whether values are vertices at this time, to be changed by jumps alone, `(B,)`."""
        return torch.zeros_like(t, dtype=torch.bool)

    def stride(self, t: Tensor) -> Tensor:
        """The unit of the length of a step that follows the slope of an energy, `(B,)`."""
        return self.noise(t)

    def propose(self, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        r"""A move of length h down the slope of an energy: a draw of

        .. math:: q(y | x) \propto e^{-|y - x + \frac{h^2}{2} \nabla E(x)|^2 / 2 h^2}

        over the values that the field has at this time, as `log_proposal` tells: Langevin's step on reals.
        Where h is zero, nothing moves.
        """
        h = per_sample(h, x)
        return self.project(x - h**2 / 2 * slope + h * self.white(mask, noise), mask)

    def log_proposal(self, y: Tensor, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """log q(y | x) of `propose` but for a constant of h, `(B,)`."""
        h = per_sample(h.clamp_min(STILL), x)
        white = self.offset(y, x) / h + h / 2 * slope
        return -self.inner(white, white) / 2

    # -- the flow from data to noise, and its density

    exact: bool = True
    """Whether values are reals as they stand, not reals that stand for classes or levels."""

    @property
    def bottom(self) -> float:
        """The noise at which a density of reals begins: so little that a value can still be told."""
        return self.schedule.low

    def time(self, sigma: float) -> float:
        """The time at which the noise has this standard deviation."""
        return self.window.start + (self.window.end - self.window.start) * self.schedule.local(sigma)

    def log_level(self, t: float) -> float:
        """The logarithm of the noise at a time, not below that of `bottom`."""
        return math.log(max(float(self.schedule.sigma(torch.tensor(t, dtype=torch.float64))), self.bottom))

    def tangent(self, v: Tensor, mask: Tensor) -> Tensor:
        """The part of a direction that the field's values can move along."""
        return self.project(v, mask)

    _axes: int = 1
    """How often each number stands in the tensor of values."""

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product of two directions, `(B,)`."""
        return (a * b).flatten(1).sum(1) / self._axes

    def log_normal(self, offset: Tensor, sigma: float, mask: Tensor) -> Tensor:
        """The log-density of Gaussian noise, `(B,)`."""
        count = self._dimension(mask) / self._axes
        return -0.5 * self.inner(offset, offset) / sigma**2 - count * (math.log(sigma) + _HALF_LOG_2PI)

    def log_prior(self, x: Tensor, mask: Tensor) -> Tensor:
        """The log-density of `prior`, `(B,)`."""
        return self.log_normal(self.tangent(x - self.mean, mask), self.schedule.high, mask)

    def costs(self, x0: Tensor, white: Tensor) -> Tensor:
        """Squared distances between each object and each noise, in standard deviations, `(B, B)`."""
        return torch.cdist(((x0 - self.mean) / self.sd).flatten(1), white.flatten(1)) ** 2 / self._axes

    def turned(self, white: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        """The noise moved onto its object by a motion that makes no other object of it."""
        return white

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params + per_sample(ratio, params) * (params - earlier)

    def correct(
        self, x: Tensor, y: Tensor, params: Tensor, ahead: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        # Heun's rule on dx/dsigma = (x - D) / sigma is an Euler step with D moved towards `ahead`.
        sigma_t, sigma_s = self._sigma(t, x), self._sigma(s, x)
        first = self.point(params)
        moved = first + sigma_t / (2 * sigma_s.clamp_min(1e-12)) * self.offset(self.point(ahead), first)
        z = moved + sigma_s / sigma_t.clamp_min(1e-12) * self.offset(x, moved)
        changes = (sigma_s > 0) & (sigma_s < sigma_t)
        return self.project(torch.where(changes, z, y), mask)

    def log_ratio(self, t: Tensor, s: Tensor) -> Tensor:
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        changes = (sigma_s > 0) & (sigma_s < sigma_t)
        ratio = (sigma_t / sigma_s.clamp_min(1e-12)).clamp_min(1e-12).log()
        return torch.where(changes, ratio, torch.zeros_like(ratio))

    # -- relaxation

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return self._squared(a, b, mask) / self._dimension(mask) / self.sd**2

    def relaxed(self, straight: bool = False) -> GaussianField:
        return self.straightened() if straight else self

    def relax(self, x: Tensor, mask: Tensor) -> Tensor:
        return x

    def harden(self, reals: Tensor, mask: Tensor) -> Tensor:
        return self.project(reals, mask)


@final
class Continuous(GaussianField):
    r"""Real vectors on sites: pixels, or any channels on a line or a grid.

    Corrupted by :math:`x_t = x_0 + \sigma(t) \varepsilon`, denoised by
    :math:`D = c_{skip} x_t + c_{out} F(c_{in} x_t)` with loss :math:`\lambda(\sigma) |D - x_0|^2`.

    Arguments:
        channels: numbers per site.
        levels: number of equidistant levels in [-1, 1] if the data are quantised; likelihoods are
            then of the discrete value.
        shares: frequency of each level in the data, or None if unknown.
        mean, sd: mean and standard deviation of the data.
        noise: smallest and largest noise in units of `sd`.
        window: the part of global time in which the field changes.
        weight: share in a loss over several fields.
        components: of the mixture that `density` makes of one entry.
        whole: one vector for the whole sample, say the cell of a crystal; it stands on the first site, and
            zeros on all others, which are no values.

    Example:
        >>> field, mask = Continuous(2), torch.ones(1, 3, dtype=torch.bool)
        >>> one = torch.ones(1)
        >>> field.predict(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), one, mask).abs().sum().item()
        0.0
        >>> Continuous(2, whole=True).project(torch.ones(1, 3, 2), mask).tolist()
        [[[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]]
    """

    def __init__(
        self,
        channels: int,
        *,
        levels: int | None = None,
        shares: Sequence[float] | None = None,
        mean: float = 0.0,
        sd: float = 0.5,
        noise: tuple[float, float] = (0.004, 160.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
        components: int = 8,
        whole: bool = False,
    ) -> None:
        self.whole = whole
        self.channels = self.inputs = self.estimates = self.outputs = channels
        self.entries, self.cells, self.density_outputs = channels, channels, 3 * components
        if shares is not None and len(shares) != levels:
            raise ConfigError(f"shares has {len(shares)} entries, expected one for each of {levels} levels")
        self.levels, self.mean, self.sd = levels, mean, sd
        self.shares = None if shares is None else probabilities(shares)
        self.exact = self.tight = levels is None
        self.discrete = not self.tight
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(noise[0] * sd, noise[1] * sd, window=self.window)

    def valid(self, mask: Tensor) -> Tensor:
        if not self.whole:
            return super().valid(mask)
        first = torch.zeros_like(mask.flatten(1))
        first[:, :1] = mask.flatten(1)[:, :1]
        return first.reshape(mask.shape)[..., None]

    def readings(self, value: np.ndarray) -> np.ndarray:
        return super().readings(value)[: 1 if self.whole else None]

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        flat = np.concatenate([self.readings(v).ravel() for v in values])
        found: dict[str, Any] = {"mean": _short(flat.mean()), "sd": _short(flat.std()) or 1.0}
        if self.levels is not None:
            level = np.rint((flat + 1) / 2 * (self.levels - 1)).astype(np.int64).clip(0, self.levels - 1)
            shares = np.bincount(level, minlength=self.levels) / len(level)
            found["shares"] = [_short(share) for share in shares]
        return found

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        if self.levels is None:
            return super()._reconstruction(params, x0, sigma, mask)
        # log-mass of the level: the Gaussian at all level centres, normalised.
        centres = torch.linspace(-1, 1, self.levels, dtype=x0.dtype, device=x0.device)
        variance = (sigma**2 * self.sd**2 / (sigma**2 + self.sd**2)).clamp_min(1e-12)
        logits = -((centres - params[..., None]) ** 2) / (2 * per_sample(variance, params)[..., None])
        log_mass = logits.gather(-1, self._level(x0)[..., None]).squeeze(-1) - logits.logsumexp(-1)
        return -(log_mass * self.valid(mask)).flatten(1).sum(1)

    @property
    def bottom(self) -> float:
        # A quarter of the distance of two levels.
        return 0.5 / (self.levels - 1) if self.levels else super().bottom

    entry_inputs = 13

    def observe(self, entries: Tensor) -> Tensor:
        unit = (entries - self.mean) / self.sd
        return torch.cat([unit[..., None], waves(unit, 6)], -1)

    def density(self, raw: Tensor) -> Density:
        if self.levels is None:
            return Gaussians(raw, self.mean, self.sd, floor=1e-3 * self.sd)
        return Logistics(raw, self.mean, self.sd, 0.25 / (self.levels - 1), self.levels)

    def conditional(self, raw: Tensor) -> Density:
        # Entries by themselves are judged in the unit of the data; given those before, levels can be told.
        return self.density(raw) if self.shares is None else LogisticCells(raw, self.shares)

    def _level(self, x: Tensor) -> Tensor:
        assert self.levels is not None
        return ((x + 1) / 2 * (self.levels - 1)).round().long().clamp(0, self.levels - 1)

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.shares is not None:
            # In float64, since the rarest cells are narrow.
            level, shares = self._level(x), self.shares.to(x.device)
            share = shares[level]
            below = (shares.cumsum(0) - shares)[level] + u * share
            z = torch.special.ndtri(below.clamp(1e-6, 1 - 1e-6)).to(x)
            valid = self.valid(mask)
            return z * valid, valid[..., 0] * (share.log().to(z) - log_normal(z)).sum(-1)
        cell = 2 / (self.levels - 1) if self.levels else 0.0
        z = (x + (u - 0.5) * cell - self.mean) / self.sd * self.valid(mask)
        total = self.channels * ((math.log(cell) if cell else 0.0) - math.log(self.sd))
        return z, self.valid(mask)[..., 0] * total

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        if self.levels is None:
            return self.project(z * self.sd + self.mean, mask)
        cell = 2 / (self.levels - 1)
        if self.shares is None:
            level = ((z * self.sd + self.mean + 1) / cell).round().clamp(0, self.levels - 1)
        else:
            upper = self.shares.to(z.device).cumsum(0)[:-1]
            level = torch.searchsorted(upper, torch.special.ndtr(z.double()), right=True).to(z)
        return self.project(level * cell - 1, mask)


@final
class Positions(GaussianField):
    r"""Coordinates in space up to translation: every value has its centre of mass at zero.

    The density lives in the :math:`3 (N - 1)` dimensions of centred configurations; `project` is the
    one place that removes translation.

    Arguments:
        sd: standard deviation of one centred coordinate in the data, in the data's unit.
        noise: smallest and largest noise in units of `sd`.
        window, weight: as for `Continuous`.

    Source: Hoogeboom et al., Equivariant Diffusion for Molecule Generation in 3D (2022).

    Example:
        >>> mask = torch.tensor([[True, True, False]])
        >>> x = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0], [9.0, 9, 9]]])
        >>> Positions().project(x, mask)[0, :, 0].tolist()
        [-1.0, 1.0, 0.0]
    """

    stream: Literal["site", "pair", "point"] = "point"

    def __init__(
        self,
        *,
        sd: float = 1.0,
        noise: tuple[float, float] = (0.002, 10.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        self.channels = self.inputs = self.estimates = self.outputs = 3
        self.mean, self.sd = 0.0, sd
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(noise[0] * sd, noise[1] * sd, window=self.window)

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        flat = np.concatenate([np.asarray(v, np.float64) - v.mean(0) for v in values])
        return {"sd": _short(flat.std()) or 1.0}

    def readings(self, value: np.ndarray) -> np.ndarray:
        x = np.asarray(value, np.float64)
        first, second = np.triu_indices(len(x), 1)
        distances: np.ndarray = np.linalg.norm(x[first] - x[second], axis=-1)[:, None]
        return distances

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        real = self.valid(mask)
        centre = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
        return (x - centre) * real

    def _dimension(self, mask: Tensor) -> Tensor:
        return (mask.sum(1) - 1).clamp_min(1) * self.channels

    def turned(self, white: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        # Kabsch's rotation: the best proper one, so that mirror images stay apart.
        u, _, v = torch.linalg.svd(white.transpose(1, 2) @ x0)
        sign = torch.linalg.det(u @ v).sign()
        fix = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], 1)
        turned: Tensor = white @ (u * fix[:, None] @ v)
        return turned


def _short(number: float) -> float:
    """Six digits: what a header records reads well and says enough."""
    return float(f"{float(number):.6g}")
