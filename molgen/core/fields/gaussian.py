"""What fields over reals share: additive Gaussian noise."""

from __future__ import annotations

import copy
from abc import ABC
from typing import Self

import torch
from torch import Tensor

from molgen.core.fields.field import Field, own_shape, per_sample
from molgen.core.rng import RandomSource
from molgen.core.schedules import GaussianSchedule, StraightSchedule


class GaussianField(Field, ABC):
    r"""Reals under Gaussian noise, :math:`x_t = x_0 + \sigma(t) \varepsilon`.

    A field over reals may have another geometry: `logmap`, `tangent` and `project` say which.

    Attributes:
        mean, sd: mean and standard deviation of one number in the data.
        schedule: the noise's standard deviation at each time.
    """

    mean: float
    sd: float
    schedule: GaussianSchedule | StraightSchedule

    # ------------------------------------------------------------------ geometry

    @property
    def channels(self) -> int:
        """Numbers per site (or pair)."""
        return self.shape[0]

    @property
    def unit(self) -> float:
        """The noise that blurs the data by half: at half the time of a linear path."""
        return self.sd

    def valid(self, mask: Tensor) -> Tensor:
        return mask[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * self.valid(mask)

    def logmap(self, x: Tensor, x0: Tensor) -> Tensor:
        """The shortest way from x0 to x, as a direction with a length."""
        return x - x0

    def tangent(self, v: Tensor, mask: Tensor) -> Tensor:
        """The part of a direction that the field's values can move along."""
        return self.project(v, mask)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """The inner product of two directions, `(B,)`, each number once."""
        return (a * b).flatten(1).sum(1) / self.axes

    def dimension(self, mask: Tensor) -> Tensor:
        """Degrees of freedom of each sample, at least one, `(B,)`; both places of a pair count."""
        return self.valid(mask).flatten(1).sum(1).clamp_min(1) * self.channels

    def x0_mean(self, params: Tensor) -> Tensor:
        """The value that parameters of p(x0 | .) stand for, through which gradients flow."""
        return params

    # ------------------------------------------------------------------ noise

    def standard_noise(self, mask: Tensor, rng: RandomSource) -> Tensor:
        """Standard normal noise in the field's geometry, `(B, ..., channels)`."""
        return self.tangent(rng.normal(mask, own_shape(mask, self.channels, axes=self.axes)), mask)

    def schedule_sigma(self, t: Tensor, like: Tensor) -> Tensor:
        """The noise's standard deviation, zero for data; broadcastable over `like`."""
        return per_sample(self.schedule.sigma(t), like)

    def sigma(self, t: Tensor, like: Tensor | None = None) -> Tensor:
        """The noise's standard deviation, not less than the schedule's least; `(B,)`, or to fit `like`."""
        sigma = self.schedule.sigma(t).clamp_min(self.schedule.low)
        return sigma if like is None else per_sample(sigma, like)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        r"""Data with given noise, :math:`x_0 + \sigma(t) \varepsilon`."""
        return self.project(x0 + self.schedule_sigma(t, x0) * eps, mask)

    def predict_eps(self, x: Tensor, x0: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The noise that leads from x0 to x at time t: `add_noise` inverted."""
        return self.project(self.logmap(x, x0) / self.sigma(t, x), mask)

    def linear(self) -> Self:
        """The field with the noise schedule of flow matching's linear paths."""
        field = copy.copy(self)
        field.schedule = StraightSchedule(self.unit, self.schedule.high, self.window)
        return field

    # ------------------------------------------------------------------ process

    def prior(self, mask: Tensor, rng: RandomSource) -> Tensor:
        return self.project(self.mean + self.schedule.high * self.standard_noise(mask, rng), mask)

    def tempered_prior(self, mask: Tensor, rng: RandomSource, temperature: float) -> Tensor:
        """A draw at time 1 whose distance from the mean is multiplied by a temperature."""
        return self.project(self.mean + temperature * (self.prior(mask, rng) - self.mean), mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        gap = (x0 - self.mean) * self.valid(mask)
        return 0.5 * (gap**2).flatten(1).sum(1) / self.schedule.high**2

    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: RandomSource) -> Tensor:
        added = (self.schedule_sigma(t, x) ** 2 - self.schedule_sigma(s, x) ** 2).clamp_min(0).sqrt()
        return self.project(x + added * self.standard_noise(mask, rng).to(x.dtype), mask)

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: RandomSource, scale: float = 1.0
    ) -> Tensor:
        return self.project(x + scale * self.logmap(self.diffuse(x, s, t, mask, rng), x), mask)

    def reverse_step(
        self,
        x: Tensor,
        x0: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        rng: RandomSource,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        """A draw of x_s given x_t and a mean of the data; every solver chooses the mean and takes this step.

        Arguments:
            eta: share of fresh noise: 0 is the ODE, 1 ancestral sampling.
            scale: factor on that noise.
        """
        sigma_t, sigma_s = self.schedule_sigma(t, x), self.schedule_sigma(s, x)
        safe = sigma_t.clamp_min(1e-12)
        up = eta * sigma_s * (1 - (sigma_s / safe) ** 2).clamp_min(0).sqrt()
        down = (sigma_s**2 - up**2).clamp_min(0).sqrt()
        y = x0 + down / safe * self.logmap(x, x0)
        if eta > 0:
            y = y + scale * up * self.standard_noise(mask, rng).to(x.dtype)
        return self.project(torch.where(sigma_s < sigma_t, y, x), mask)

    def log_ratio(self, t: Tensor, s: Tensor) -> Tensor:
        sigma_t, sigma_s = self.schedule.sigma(t), self.schedule.sigma(s)
        changes = (sigma_s > 0) & (sigma_s < sigma_t)
        ratio = (sigma_t / sigma_s.clamp_min(1e-12)).clamp_min(1e-12).log()
        return torch.where(changes, ratio, torch.zeros_like(ratio))
