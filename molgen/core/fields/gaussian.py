"""Real fields: additive Gaussian noise on a line, in space, and on the circle."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor

from molgen.core.fields.field import Field, own_shape, per_sample
from molgen.core.noise import Noise
from molgen.core.schedules import GaussianSchedule, Window


class GaussianField(Field):
    """What every real field shares: additive Gaussian noise and EDM's preconditioning.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """

    channels: int
    mean: float
    sd: float
    schedule: GaussianSchedule

    def valid(self, mask: Tensor) -> Tensor:
        return mask[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * self.valid(mask)

    def _noise(self, mask: Tensor, noise: Noise, like: Tensor | None = None) -> Tensor:
        n = noise.normal(mask, own_shape(mask, self.channels))
        return self.project(n if like is None else n.to(like.dtype), mask)

    def _sigma(self, t: Tensor, x: Tensor) -> Tensor:
        return per_sample(self.schedule.sigma(t), x)

    # -- process

    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        return self.project(self.mean + self.schedule.high * self._noise(mask, noise), mask)

    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        added = (self._sigma(t, x) ** 2 - self._sigma(s, x) ** 2).clamp_min(0).sqrt()
        return self.project(x + added * self._noise(mask, noise, x), mask)

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
        return mask.flatten(1).sum(1).clamp_min(1) * self.channels

    def step_kl(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        error = self._squared(params, x0, mask)
        gain = 0.5 * (sigma_s.clamp_min(1e-12) ** -2 - sigma_t.clamp_min(1e-12) ** -2)
        kl = torch.where(sigma_s < sigma_t, gain * error, torch.zeros_like(error))
        last = (sigma_s == 0) & (sigma_t > 0)
        return torch.where(last, self._reconstruction(params, x0, sigma_t, mask), kl)

    def _squared(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return ((params - x0) ** 2 * self.valid(mask)).flatten(1).sum(1)

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
        sigma_t, sigma_s = self._sigma(t, x), self._sigma(s, x)
        safe = sigma_t.clamp_min(1e-12)
        up = eta * sigma_s * (1 - (sigma_s / safe) ** 2).clamp_min(0).sqrt()
        down = (sigma_s**2 - up**2).clamp_min(0).sqrt()
        y = params + down / safe * self._offset(x, params)
        if eta > 0:
            y = y + scale * up * self._noise(mask, noise, x)
        return self.project(torch.where(sigma_s < sigma_t, y, x), mask)

    def _offset(self, x: Tensor, params: Tensor) -> Tensor:
        return x - params

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params + per_sample(ratio, params) * (params - earlier)

    def correct(
        self, x: Tensor, y: Tensor, params: Tensor, ahead: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        # Heun's rule on dx/dsigma = (x - D) / sigma is an Euler step with D moved towards `ahead`.
        sigma_t, sigma_s = self._sigma(t, x), self._sigma(s, x)
        moved = params + sigma_t / (2 * sigma_s.clamp_min(1e-12)) * (ahead - params)
        z = moved + sigma_s / sigma_t.clamp_min(1e-12) * self._offset(x, moved)
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

    def relax(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.project((x - self.mean) / self.sd, mask)

    def harden(self, reals: Tensor, mask: Tensor) -> Tensor:
        return self.project(reals * self.sd + self.mean, mask)


@final
class Continuous(GaussianField):
    r"""Real vectors on sites: pixels, or any channels on a line or a grid.

    Corrupted by :math:`x_t = x_0 + \sigma(t) \varepsilon`, denoised by
    :math:`D = c_{skip} x_t + c_{out} F(c_{in} x_t)` with loss :math:`\lambda(\sigma) |D - x_0|^2`.

    Arguments:
        channels: numbers per site.
        levels: number of equidistant levels in [-1, 1] if the data are quantised; likelihoods are
            then of the discrete value.
        mean, sd: mean and standard deviation of the data.
        noise: smallest and largest noise in units of `sd`.
        window: the part of global time in which the field changes.
        weight: share in a loss over several fields.

    Example:
        >>> field, mask = Continuous(2), torch.ones(1, 3, dtype=torch.bool)
        >>> one = torch.ones(1)
        >>> field.predict(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2), one, mask).abs().sum().item()
        0.0
    """

    def __init__(
        self,
        channels: int,
        *,
        levels: int | None = None,
        mean: float = 0.0,
        sd: float = 0.5,
        noise: tuple[float, float] = (0.004, 160.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        self.channels = self.inputs = self.estimates = self.outputs = channels
        self.levels, self.mean, self.sd = levels, mean, sd
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(noise[0] * sd, noise[1] * sd, window=self.window)

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        if self.levels is None:
            return super()._reconstruction(params, x0, sigma, mask)
        # log-mass of the level: the Gaussian at all level centres, normalised.
        centres = torch.linspace(-1, 1, self.levels, dtype=x0.dtype, device=x0.device)
        variance = (sigma**2 * self.sd**2 / (sigma**2 + self.sd**2)).clamp_min(1e-12)
        logits = -((centres - params[..., None]) ** 2) / (2 * per_sample(variance, params)[..., None])
        index = ((x0 + 1) / 2 * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
        log_mass = logits.gather(-1, index[..., None]).squeeze(-1) - logits.logsumexp(-1)
        return -(log_mass * self.valid(mask)).flatten(1).sum(1)


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

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        real = self.valid(mask)
        centre = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
        return (x - centre) * real

    def _dimension(self, mask: Tensor) -> Tensor:
        return (mask.sum(1) - 1).clamp_min(1) * self.channels


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
        window, weight: as for `Continuous`.

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
    ) -> None:
        self.channels = channels
        self.inputs = self.estimates = self.outputs = 2 * channels
        self.mean, self.sd = 0.0, math.pi / math.sqrt(3)
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, window=self.window)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.atan2(x.sin(), x.cos()) * self.valid(mask)

    def _noise(self, mask: Tensor, noise: Noise, like: Tensor | None = None) -> Tensor:
        n = noise.normal(mask, own_shape(mask, self.channels)) * self.valid(mask)
        return n if like is None else n.to(like.dtype)

    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        turn = noise.uniform(mask, own_shape(mask, self.channels))
        return self.project((2 * turn - 1) * math.pi, mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        # A wrapped Gaussian has density (1 + 2 sum_k e^{-k^2 sigma^2 / 2} cos k(x - x0)) / 2 pi.
        per_angle = math.exp(-(self.schedule.high**2))
        return self._dimension(mask) * per_angle

    def mean_angle(self, params: Tensor) -> Tensor:
        """The angle of the direction, `(B, ..., C)`."""
        return torch.atan2(params[..., self.channels :], params[..., : self.channels])

    @staticmethod
    def _vector(x: Tensor) -> Tensor:
        return torch.cat([x.cos(), x.sin()], -1)

    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return self._vector(x) * self.valid(mask)

    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        return params * self.valid(mask)

    def _shrink(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        skip = (-(sigma**2) / 2).exp()
        return skip, (1 - skip**2).clamp_min(1e-8).sqrt()

    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        skip, out = self._shrink(self._sigma(t, x))
        return (skip * self._vector(x) + out * raw) * self.valid(mask)

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        _, out = self._shrink(self.schedule.sigma(t))
        error = ((params - self._vector(x0)) ** 2 * self.valid(mask)).flatten(1).sum(1)
        return error / self._dimension(mask) / out**2 * self.window.active(t)

    def _squared(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return (self._wrap(self.mean_angle(params) - x0) ** 2 * self.valid(mask)).flatten(1).sum(1)

    @staticmethod
    def _wrap(x: Tensor) -> Tensor:
        return torch.atan2(x.sin(), x.cos())

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
        return super().step(x, self.mean_angle(params), t, s, mask, noise, eta, scale)

    def _offset(self, x: Tensor, params: Tensor) -> Tensor:
        return self._wrap(x - params)

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params  # directions are not extrapolated: Euler on the circle

    def correct(
        self, x: Tensor, y: Tensor, params: Tensor, ahead: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        first = self.mean_angle(params)
        second = first + self._wrap(self.mean_angle(ahead) - first)
        return super().correct(x, y, first, second, t, s, mask)

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return ((a - b) ** 2 * self.valid(mask)).flatten(1).sum(1) / self._dimension(mask)

    def relax(self, x: Tensor, mask: Tensor) -> Tensor:
        return self._vector(x) * self.valid(mask)

    def harden(self, reals: Tensor, mask: Tensor) -> Tensor:
        return self.mean_angle(reals) * self.valid(mask)
