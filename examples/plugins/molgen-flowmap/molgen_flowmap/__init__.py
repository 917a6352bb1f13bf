"""FlowMapModel: one network that follows the flow from noise to data in steps of any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising, Embedding, Transport
from molgen.core.errors import ConfigError
from molgen.core.fields import GaussianField
from molgen.core.fields.field import per_sample
from molgen.core.rng import RandomSource, stratified
from molgen.core.solvers import State
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.waves import waves
from molgen.core.wrappers import Denoiser
from molgen.models.base import GenerativeModel
from molgen.models.options import Options, option

_CODE = 32  # numbers that tell the network how long a step is

Aim = Callable[[State, Tensor, Tensor], State]
"""Where steps of length d from x_t are aimed, `aim(x, t, d)`: per field a value of clean data."""


@final
@dataclass(frozen=True, kw_only=True)
class FlowMapOptions(Options):
    """Options of `FlowMapModel`."""

    finest: int = option(64, "number of the shortest steps that are learned, a power of two", ge=1)
    shortcuts: float = option(0.25, "share of a batch that learns long steps", ge=0, lt=1)
    steps: int = option(4, "number of sampling steps", ge=1, le=1000)
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    width: int = option(128, "channels of the context vector", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.finest & (self.finest - 1):
            raise ConfigError(f"finest is {self.finest}, expected a power of two")


@final
class FlowMapModel(GenerativeModel):
    r"""A shortcut model over any mixture of fields, classes as noisy one-hot vectors.

    The flow of straight paths :math:`x_t = x_0 + \sigma_t \varepsilon` has the velocity
    :math:`(x_t - D(x_t, t)) / \sigma_t` per unit of noise, where D is the mean of the data given x_t. A step
    from t to s = t - d, along the chord of the flow, is aimed at

    .. math:: X(x_t, t, d) = \frac{\sigma_s}{1 - \sigma_s / \sigma_t}
              \int_s^t D(x_\tau, \tau) \frac{d\sigma_\tau}{\sigma_\tau^2},
              \quad x_s = X + \frac{\sigma_s}{\sigma_t} (x_t - X)

    a mean of D along the way, with weights that sum to one. So the aim lies where means of data lie: for
    classes it is a distribution. At d = 0 it is D itself, learned from data as in flow matching; a step
    of length d is learned from two of half the length,

    .. math:: X(x_t, t, d) = (1 - w) X(x_t, t, \tfrac d2) + w X(x_m, m, \tfrac d2),
              \quad w = \frac{1 - \sigma_s / \sigma_m}{1 - \sigma_s / \sigma_t}, \quad m = t - \tfrac d2

    by the field's own loss: squared error on reals, cross-entropy on classes.

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`.
        {options}

    Errors: `UnsupportedError` if the modality has no view that is denoisable.

    Source: Frans et al., One Step Diffusion via Shortcut Models (2025), with velocities written as aims;
    Boffi et al., Flow Map Matching (2025).

    Example:
        >>> model = FlowMapModel("smiles", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0, steps=1))
        3
    """

    family: ClassVar[str] = "flowmap"
    needs: ClassVar[Mapping[str, bool]] = {"denoisable": True}
    continuous = (Denoising, Transport)
    options_type: ClassVar[type[Options]] = FlowMapOptions
    options: FlowMapOptions

    @property
    def fields(self) -> dict[str, GaussianField]:
        """The fields over reals, under the noise of straight paths."""
        return {name: e.continuous("linear") for name, e in Embedding.each(self.view.fields).items()}

    def build(self) -> nn.Module:
        return Denoiser(self.fields, self.make_trunk, self.conditions, width=self.options.width, code=_CODE)

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        fields, mask = self.fields, batch.mask
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        t, d = self._times(mask, rng)
        x0 = self.relaxed(batch)
        eps = {k: Transport.of(f).align(f.standard_noise(mask, rng), x0[k], mask) for k, f in fields.items()}
        x = {k: f.add_noise(x0[k], eps[k], t, mask) for k, f in fields.items()}
        target = dict(x0)
        long = d > 0
        if bool(long.any()):
            with torch.no_grad():
                some = {k: v[long] for k, v in labels.items()}
                aim = self._aim(network, mask[long], some)
                far = self.chord(aim, {k: v[long] for k, v in x.items()}, t[long], d[long], mask[long], rng)
                for k in fields:
                    target[k] = target[k].index_put((long,), far[k])
        params = network(x, t, mask, labels, code=waves(d))
        terms = {}
        for k, f in fields.items():
            # A long step may begin before the field does, with the noise that the field begins with.
            begun = torch.where(long & (t - d < f.window.end), t.clamp_max(f.window.end), t)
            terms[k] = f.weight * Denoising.of(f).loss(params[k], target[k], x[k], begun, mask).mean()
        return terms

    def _times(self, mask: Tensor, rng: RandomSource) -> tuple[Tensor, Tensor]:
        """Times t and lengths d of steps, `(B,)`: any time and no length, or multiples of a power of 1/2."""
        t = stratified(mask, rng).clamp_min(1e-3)
        order, u, v = (rng.uniform(mask, ()) for _ in range(3))
        length = 0.5 ** (u * self.options.finest.bit_length()).floor()
        start = length * (1 + (v / length).floor())
        long = order.argsort().argsort() < round(self.options.shortcuts * len(mask))
        return torch.where(long, start, t), torch.where(long, length, torch.zeros_like(t))

    def _aim(self, network: nn.Module, mask: Tensor, labels: Mapping[str, Tensor]) -> Aim:
        def aim(x: State, t: Tensor, d: Tensor) -> State:
            params = network(x, t, mask, labels, code=waves(d))
            return {k: f.project(f.x0_mean(params[k]), mask) for k, f in self.fields.items()}

        return aim

    def chord(self, aim: Aim, x: State, t: Tensor, d: Tensor, mask: Tensor, rng: RandomSource) -> State:
        """Where a step of length d is aimed if it shall end where two of half the length do.

        Arguments:
            aim: of the steps of half the length; of no length at all where that is too fine to be learned.
            x: values at the times t.
            t, d: times and lengths, `(B,)`, `0 < d <= t`.
            mask: real sites.
            rng: not used, since the flow has none.
        """
        m, s = t - d / 2, t - d
        half = torch.where(d * self.options.finest > 1, d / 2, torch.zeros_like(d))
        first = aim(x, t, half)
        middle = {k: f.reverse_step(x[k], first[k], t, m, mask, rng) for k, f in self.fields.items()}
        second = aim(middle, m, half)
        out = {}
        for k, f in self.fields.items():
            at_t, at_m, at_s = (f.schedule.sigma(time) for time in (t, m, s))
            # Where the noise stays as it is, a half does not move; if both do not, any aim will do.
            share = (1 - _ratio(at_s, at_m)) / (1 - _ratio(at_s, at_t)).clamp_min(1e-6)
            out[k] = f.project(first[k] + per_sample(share, first[k]) * f.logmap(second[k], first[k]), mask)
        return out

    # ------------------------------------------------------------------ sampling

    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], rng: RandomSource, *, steps: int | None = None
    ) -> State:
        """From noise to data in steps of one length.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            steps: evaluations of the network, 1 or more.

        Source: Frans et al. (2025), algorithm 2.
        """
        steps = self.resolved(steps=steps).steps
        aim, x = (
            self._aim(self.trained, mask, labels),
            {k: f.prior(mask, rng) for k, f in self.fields.items()},
        )
        d = torch.full((len(mask),), 1 / steps, device=mask.device)
        for i in range(steps):
            t, s = 1 - i * d, (1 - (i + 1) * d).clamp_min(0) if i + 1 < steps else torch.zeros_like(d)
            end = aim(x, t, d)
            x = {k: f.reverse_step(x[k], end[k], t, s, mask, rng) for k, f in self.fields.items()}
        return {k: e.round(x[k], mask) for k, e in Embedding.each(self.view.fields).items()}


def _ratio(less: Tensor, more: Tensor) -> Tensor:
    """`less / more`, one where there is nothing to divide."""
    return torch.where(more > 0, less / more.clamp_min(1e-12), torch.ones_like(more))
