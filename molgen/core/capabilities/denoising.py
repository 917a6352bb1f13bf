"""Denoising: a network's output as parameters of p(x0 | x_t), its loss, and the step back that it implies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.densities import pick
from molgen.core.fields.categorical import Categorical
from molgen.core.fields.circular import CircularField
from molgen.core.fields.continuous import Continuous
from molgen.core.fields.field import per_sample
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.simplex import Simplex
from molgen.core.rng import RandomSource

_CERTAIN = 100.0  # more than a network says against it, and far from overflow


class Denoising(Capability[Any]):
    """The parameters of p(x0 | x_t): a mean, logits, directions.

    Attributes:
        inputs: channels that `scale_input` gives.
        estimates: channels that `self_condition_input` gives.
        outputs: channels of the network that `precondition` reads.
    """

    what = "parameters of p(x0 | x_t)"
    inputs: int
    estimates: int
    outputs: int

    # ------------------------------------------------------------------ network input and output

    @abstractmethod
    def c_noise(self, t: Tensor) -> Tensor:
        """The noise level as the network sees it, `(B,)`, of order one."""

    @abstractmethod
    def scale_input(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """Noisy values as network input of about unit scale, `(B, ..., inputs)`."""

    @abstractmethod
    def self_condition_input(self, params: Tensor, mask: Tensor) -> Tensor:
        """Parameters as network input, `(B, ..., estimates)`."""

    @abstractmethod
    def precondition(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The network's output, preconditioned to the parameters of p(x0 | x_t)."""

    def guide(self, params: Tensor, base: Tensor, strength: float) -> Tensor:
        """Classifier-free guidance: moves from the unconditional `base` through the conditional."""
        return base + strength * (params - base)

    # ------------------------------------------------------------------ learning

    @abstractmethod
    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The denoising loss per sample, `(B,)`, zero where the field is not active."""

    @abstractmethod
    def vlb_term(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x0) || p(x_s | x_t)) in nats, `(B,)`; at `s = 0`, -log p(x0 | x_t)."""

    # ------------------------------------------------------------------ sampling

    @abstractmethod
    def step(
        self,
        x: Tensor,
        params: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        rng: RandomSource,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        """A draw of x_s given x_t and the parameters.

        Arguments:
            eta: share of fresh noise on real fields: 0 is the ODE, 1 ancestral sampling.
            scale: factor on that noise; below 1 trades diversity for quality.
        """

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        """Parameters with a multistep correction; jumps have none."""
        return params

    def correct(
        self, x: Tensor, y: Tensor, params: Tensor, ahead: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Heun's second half: replaces the step x -> y by one that uses `ahead`, predicted at y.

        A jump is taken once, so the default returns `y`.
        """
        return y


# ---------------------------------------------------------------------- reals


class RealDenoising(Denoising):
    """What all reals under Gaussian noise share: the step, and the bound that squared errors give."""

    field: GaussianField

    def c_noise(self, t: Tensor) -> Tensor:
        return (self.field.sigma(t) / self.field.sd).log() / 4

    def scale_input(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        scale = (f.schedule_sigma(t, x) ** 2 + f.sd**2).rsqrt()
        return f.project((x - f.mean) * scale, mask)

    def vlb_term(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        schedule = self.field.schedule
        sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
        error = squared_error(self.field, params, x0, mask)
        gain = 0.5 * (sigma_s.clamp_min(1e-12) ** -2 - sigma_t.clamp_min(1e-12) ** -2)
        kl = torch.where(sigma_s < sigma_t, gain * error, torch.zeros_like(error))
        last = (sigma_s == 0) & (sigma_t > 0)
        return torch.where(last, self._reconstruction(params, x0, sigma_t, mask), kl)

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        """-log N(x0; params, v) with v the variance of x0 given x_t for Gaussian data."""
        f = self.field
        variance = sigma**2 * f.sd**2 / (sigma**2 + f.sd**2)
        variance = variance.clamp_min(1e-24)
        square = squared_error(f, params, x0, mask) / variance
        return 0.5 * (square + f.dimension(mask) * (2 * math.pi * variance).log())

    def step(
        self,
        x: Tensor,
        params: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        rng: RandomSource,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        return self.field.reverse_step(x, self.field.x0_mean(params), t, s, mask, rng, eta, scale)

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params + per_sample(ratio, params) * (params - earlier)

    def correct(
        self, x: Tensor, y: Tensor, params: Tensor, ahead: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        # Heun's rule on dx/dsigma = (x - D) / sigma is an Euler step with D moved towards `ahead`.
        f = self.field
        sigma_t, sigma_s = f.schedule_sigma(t, x), f.schedule_sigma(s, x)
        first = f.x0_mean(params)
        moved = first + sigma_t / (2 * sigma_s.clamp_min(1e-12)) * f.logmap(f.x0_mean(ahead), first)
        z = moved + sigma_s / sigma_t.clamp_min(1e-12) * f.logmap(x, moved)
        changes = (sigma_s > 0) & (sigma_s < sigma_t)
        return f.project(torch.where(changes, z, y), mask)


class PreconditionedMean(RealDenoising, ABC):
    """A mean, with EDM's preconditioning.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022).
    """

    def __init__(self, field: GaussianField) -> None:
        super().__init__(field)
        self.inputs = self.estimates = self.outputs = field.channels

    def self_condition_input(self, params: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        return f.project((params - f.mean) / f.sd, mask)

    def precondition(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        sigma = f.schedule_sigma(t, x)
        total = sigma**2 + f.sd**2
        skip, out = f.sd**2 / total, sigma * f.sd * total.rsqrt()
        return f.project(f.mean + skip * (x - f.mean) + out * raw, mask)

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        sigma = f.sigma(t)
        weight = (sigma**2 + f.sd**2) / (sigma * f.sd) ** 2
        error = ((params - x0) ** 2 * f.valid(mask)).flatten(1).sum(1) / f.dimension(mask)
        return error * weight * f.window.active(t)


@Denoising.register(GaussianField)
@final
class MeanDenoising(PreconditionedMean):
    """A mean, as above."""


@Denoising.register(Continuous)
@final
class NumberDenoising(PreconditionedMean):
    """A mean; quantised numbers have the mass of their level instead of a density."""

    field: Continuous

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        if f.levels is None:
            return super()._reconstruction(params, x0, sigma, mask)
        # log-mass of the level: the Gaussian at all level centres, normalised.
        centres = torch.linspace(-1, 1, f.levels, dtype=x0.dtype, device=x0.device)
        variance = (sigma**2 * f.sd**2 / (sigma**2 + f.sd**2)).clamp_min(1e-12)
        logits = -((centres - params[..., None]) ** 2) / (2 * per_sample(variance, params)[..., None])
        log_mass = logits.gather(-1, f.level_of(x0)[..., None]).squeeze(-1) - logits.logsumexp(-1)
        return -(log_mass * f.valid(mask)).flatten(1).sum(1)


@Denoising.register(CircularField)
@final
class DirectionDenoising(RealDenoising):
    r"""A direction, preconditioned by that of the noisy value, which is exact for uniform data.

    The parameters are :math:`D \in R^2` per value, an estimate of :math:`E[e^{i \phi_0} | x_t]`, which for
    uniform data is :math:`e^{-s^2 / 2} e^{i \phi_t}`.
    """

    field: CircularField

    def __init__(self, field: CircularField) -> None:
        super().__init__(field)
        self.inputs = 2 * len(field.harmonics) * field.channels
        self.estimates = self.outputs = 2 * field.channels

    def scale_input(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        return torch.cat([f.direction(x, k) for k in f.harmonics], -1) * f.valid(mask)

    def self_condition_input(self, params: Tensor, mask: Tensor) -> Tensor:
        return params * self.field.valid(mask)

    def precondition(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        skip, out = self._shrink(f.schedule_sigma(t, x))
        return (skip * f.direction(x) + out * raw) * f.valid(mask)

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        _, out = self._shrink(f.sigma(t))
        error = ((params - f.direction(x0)) ** 2 * f.valid(mask)).flatten(1).sum(1)
        return error / f.dimension(mask) / out**2 * f.window.active(t)

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        return params  # directions are not extrapolated: Euler on the circle

    def _shrink(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        square = (self.field.turn * sigma) ** 2
        return (-square / 2).exp(), (-torch.expm1(-square)).sqrt()


@Denoising.register(Simplex)
@final
class LogitDenoising(RealDenoising):
    r"""Logits, preconditioned by Bayes' rule for entries that are independent with the data's frequencies.

    .. math:: \log p(x_0 = k | x_t) = \log \pi_k + 2 x_{t,k} / \sigma^2 + F_k + const

    so that little noise leaves no doubt.
    """

    field: Simplex

    def __init__(self, field: Simplex) -> None:
        super().__init__(field)
        self.inputs = self.estimates = self.outputs = field.channels

    def self_condition_input(self, params: Tensor, mask: Tensor) -> Tensor:
        return params.softmax(-1) * self.field.valid(mask)

    def precondition(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        evidence = 2 * x / self.field.sigma(t, x) ** 2
        # Only differences count, and those beyond certainty change nothing.
        evidence = (evidence - evidence.amax(-1, keepdim=True)).clamp_min(-_CERTAIN)
        return raw + evidence + self.field.log_frequencies.to(raw)

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        return cross_entropy(f, params, x0, mask) / f.count(mask) * f.window.active(t)

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        return cross_entropy(self.field, params, x0, mask) / self.field.axes


def squared_error(f: GaussianField, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
    """The squared distance of a predicted mean from the data, `(B,)`, each number once."""
    return (f.logmap(x0, f.x0_mean(params)) ** 2 * f.valid(mask)).flatten(1).sum(1) / f.axes


def cross_entropy(f: Simplex, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
    """-log p(x0 | params), twice for symmetric pairs, `(B,)`."""
    entropy = -(params.log_softmax(-1) * (x0 + 1) / 2).sum(-1, keepdim=True)
    return torch.where(f.valid(mask), entropy, torch.zeros_like(entropy)).flatten(1).sum(1)


# ---------------------------------------------------------------------- tokens


@Denoising.register(Categorical)
@final
class TokenDenoising(Denoising):
    """Logits over the classes of tokens that change by jumps."""

    field: Categorical

    def __init__(self, field: Categorical) -> None:
        super().__init__(field)
        self.inputs, self.estimates, self.outputs = field.states, field.classes, field.classes

    def c_noise(self, t: Tensor) -> Tensor:
        return 1 - self.field.schedule.alpha(t)

    def scale_input(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return F.one_hot(x.long(), self.inputs).float() * self.field.valid(mask)[..., None]

    def self_condition_input(self, params: Tensor, mask: Tensor) -> Tensor:
        return params.softmax(-1) * self.field.valid(mask)[..., None]

    def precondition(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        if f.noise != "mask":
            return raw
        # A token that is not masked is known; a finite certainty keeps guidance free of NaN.
        hidden = (x == f.classes)[..., None]
        known = 50.0 * F.one_hot(x.long().clamp_max(f.classes - 1), f.classes).to(raw.dtype)
        return torch.where(hidden, raw, known)

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        entropy = -params.log_softmax(-1).gather(-1, x0.long()[..., None]).squeeze(-1)
        counted = f.valid(mask)
        if f.noise == "mask":
            # Averaged over the hidden tokens instead of divided by their expected number, the same
            # bound has less variance (Hoogeboom et al., Autoregressive Diffusion Models, 2022).
            counted = counted & (x == f.classes)
        total = torch.where(counted, entropy, torch.zeros_like(entropy)).flatten(1).sum(1)
        return total / counted.flatten(1).sum(1).clamp_min(1) * f.window.active(t)

    def vlb_term(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        truth = F.one_hot(x0.long(), f.classes).to(params.dtype)
        q, p = f.posterior(truth, x, t, s), f.posterior(params.softmax(-1), x, t, s)
        kl = (q * (q.clamp_min(1e-12).log() - p.clamp_min(1e-12).log())).sum(-1)
        total = torch.where(f.valid(mask), kl, torch.zeros_like(kl)).flatten(1).sum(1) / f.axes
        changes = f.schedule.alpha(s) > f.schedule.alpha(t)
        return torch.where(changes, total, torch.zeros_like(changes, dtype=kl.dtype))

    def step(
        self,
        x: Tensor,
        params: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        rng: RandomSource,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        # A draw is the largest of logits plus Gumbel noise; noise of another scale is a temperature.
        f, x, p0 = self.field, x.long(), (params / max(scale, 1e-4)).softmax(-1)
        order, value = f.uniform(mask, rng), f.uniform(mask, rng)
        if f.noise == "mask":
            if f.order == "certain":
                # In grades, random within one: the order must not hang on the last digit.
                entropy = -torch.special.xlogy(p0, p0).sum(-1)
                order = order + (entropy.neg().exp() * 32).floor()
            y = torch.where(f.revealed(x, s, mask, order), pick(p0, value), x)
        else:
            y = pick(f.posterior(p0, x, t, s), value)
        changes = f.schedule.alpha(s) > f.schedule.alpha(t)
        return f.project(torch.where(per_sample(changes, y), y, x), mask)
