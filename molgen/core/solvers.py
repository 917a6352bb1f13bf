"""Samplers: from noise to data through the parameters that a denoiser predicts.

A solver integrates all fields of a sample together. Real fields follow the probability-flow ODE
:math:`dx / d\\sigma = (x - D) / \\sigma` or the reverse SDE; categorical fields take their own jumps
in every solver, so orders of convergence are claims about real fields only.

Each solver is a function `solver(reverse, x, times)` of a `ReverseProcess` (the denoiser, the fields and the
injected noise), the values at the first time, and decreasing times in [0, 1], where 0 is data, of all samples
`(steps + 1,)` or of each `(steps + 1, B)`; it returns the values at the last time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from molgen.core.capabilities import Denoising
from molgen.core.errors import ConfigError
from molgen.core.fields import Field
from molgen.core.rng import RandomSource

State = dict[str, Tensor]
Denoise = Callable[[State, Tensor], State]


@final
@dataclass(frozen=True)
class ReverseProcess:
    """The reverse process of all fields of a batch.

    Arguments:
        denoise: parameters of p(x0 | x_t) per field, from values and times `(B,)`.
        fields: the fields.
        mask: real sites.
        noise: the source of randomness; ODE solvers use it for jumps only.
        scale: factor on fresh noise of SDE solvers and restarts; below 1 trades diversity for quality.
    """

    denoise: Denoise
    fields: Mapping[str, Field]
    mask: Tensor
    noise: RandomSource
    scale: float = 1.0

    def steps(self, times: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive times as `(B,)` tensors."""
        return pairwise(time.expand(len(self.mask)) for time in times)

    def step(self, x: State, params: State, t: Tensor, s: Tensor, eta: float = 0.0) -> State:
        """Every field from t to s under given parameters; `eta` is the share of fresh noise."""
        return {
            k: d.step(x[k], params[k], t, s, self.mask, self.noise, eta, self.scale)
            for k, d in Denoising.each(self.fields).items()
        }

    def renoise(self, x: State, s: Tensor, t: Tensor, scale: float = 1.0) -> State:
        """Every field from s back into the noise of a later time t."""
        return {k: f.renoise(x[k], s, t, self.mask, self.noise, scale) for k, f in self.fields.items()}

    def heun_step(self, x: State, t: Tensor, s: Tensor) -> State:
        """An Euler step, corrected by the parameters at its end."""
        params = self.denoise(x, t)
        y = self.step(x, params, t, s)
        if not (s > 0).any():  # at zero noise the Euler step is exact
            return y
        ahead = self.denoise(y, s)
        return {
            k: d.correct(x[k], y[k], params[k], ahead[k], t, s, self.mask)
            for k, d in Denoising.each(self.fields).items()
        }


Solver = Callable[[ReverseProcess, State, Tensor], State]


def euler(reverse: ReverseProcess, x: State, times: Tensor) -> State:
    """Euler's method on the probability-flow ODE, which is DDIM; order 1.

    Source: Song et al., Denoising Diffusion Implicit Models (2021).
    """
    for t, s in reverse.steps(times):
        x = reverse.step(x, reverse.denoise(x, t), t, s)
    return x


def heun(reverse: ReverseProcess, x: State, times: Tensor) -> State:
    """Heun's method on the probability-flow ODE; order 2, two evaluations a step.

    Source: Karras et al. (2022), algorithm 1.
    """
    for t, s in reverse.steps(times):
        x = reverse.heun_step(x, t, s)
    return x


def dpm_2m(reverse: ReverseProcess, x: State, times: Tensor) -> State:
    r"""DPM-Solver++(2M): a multistep method in log-SNR; order 2, one evaluation a step.

    The step uses :math:`D + \frac{h}{2 h_{last}} (D - D_{last})`, with h the step in log-sigma.

    Source: Lu et al., DPM-Solver++ (2022), algorithm 2.
    """
    earlier: State = {}
    lengths: dict[str, Tensor] = {}
    for t, s in reverse.steps(times):
        params = reverse.denoise(x, t)
        moved = dict(params)
        for k, f in reverse.fields.items():
            h, last = f.log_ratio(t, s), lengths.get(k)
            if last is not None:
                ratio = torch.where(last > 0, h / (2 * last).clamp_min(1e-12), torch.zeros_like(h))
                moved[k] = Denoising.of(f).extrapolate(params[k], earlier[k], ratio)
            lengths[k] = h
        x = reverse.step(x, moved, t, s)
        earlier = params
    return x


def ancestral(reverse: ReverseProcess, x: State, times: Tensor) -> State:
    """Ancestral sampling, the reverse SDE step by step: q(x_s | x_t, x0) at the predicted x0.

    Source: Ho et al., Denoising Diffusion Probabilistic Models (2020), algorithm 2.
    """
    for t, s in reverse.steps(times):
        x = reverse.step(x, reverse.denoise(x, t), t, s, eta=1.0)
    return x


def churn(reverse: ReverseProcess, x: State, times: Tensor) -> State:
    """Heun's method after a small step back into noise, which forgets earlier errors.

    Every step goes back by half its own length: real fields gain noise, jumps are redrawn.

    Source: Karras et al. (2022), algorithm 2.
    """
    for t, s in reverse.steps(times):
        back = (t + 0.5 * reverse.scale * (t - s)).clamp_max(1.0)
        x = reverse.heun_step(reverse.renoise(x, t, back), back, s)
    return x


def sample_with_restarts(
    solver: Solver,
    begin: Callable[[RandomSource], ReverseProcess],
    x: State,
    times: Sequence[Tensor],
    rng: RandomSource,
) -> State:
    """Leg after leg, each from the noise that it begins with; see `restart_times`.

    Every leg has a source of randomness of its own, since how many numbers a sample has drawn before
    depends on how long it waited for others.

    Arguments:
        solver: what integrates a leg.
        begin: a reverse process for one leg, whose denoiser remembers no estimate of the leg before.
        x: values at the first time.
        times: of each leg.
        rng: the source of randomness.
    """
    x = solver(begin(rng), x, times[0])
    for number, (before, leg) in enumerate(pairwise(times)):
        reverse = begin(rng.spawn(number))
        x = solver(reverse, reverse.renoise(x, before[-1], leg[0], reverse.scale), leg)
    return x


def validate_steps(steps: int) -> int:
    """The number of steps; `ConfigError` unless it is 1 to 1000."""
    if not 1 <= steps <= 1000:
        raise ConfigError(f"steps is {steps}, expected 1 to 1000")
    return steps


def time_grid(steps: int, fields: Mapping[str, Field], mask: Tensor) -> Tensor:
    """Even times from 1 to 0, `(steps + 1, B)`; a sample that needs fewer steps than that takes fewer.

    Where every field is resolved by a limited number of jumps, as masked tokens are, short samples get
    there first and wait at time 0.
    """
    return restart_times(steps, fields, mask)[0]


def restart_times(
    steps: int, fields: Mapping[str, Field], mask: Tensor, restarts: int = 0, restart_from: float = 0.3
) -> list[Tensor]:
    """The times of `time_grid`, and then again those of the end of each field's window.

    A restart adds noise to what has been drawn and draws it anew, which forgets earlier errors: the
    context of a late step is nearly complete, and it was scarce when most entries were first drawn.

    Arguments:
        steps: of the first leg; all legs take steps of the same length.
        fields: the fields.
        mask: real sites.
        restarts: how often the end of each window is drawn again, at least 0.
        restart_from: where a restart begins, in the window's own time, in (0, 1].

    Returns: the times of each leg `(its steps + 1, B)`; all samples begin a leg together.

    Source: Xu et al., Restart Sampling for Improving Generative Processes (2023); Wang et al., Remasking
    Discrete Diffusion Models with Inference-Time Scaling (2025), for masks.

    Example:
        >>> from molgen.core.fields import Continuous
        >>> legs = restart_times(4, {"x": Continuous(1)}, torch.ones(1, 1) > 0, 1, 0.5)
        >>> [leg[:, 0].tolist() for leg in legs]
        [[1.0, 0.75, 0.5, 0.25, 0.0], [0.5, 0.25, 0.0]]
    """
    if not isinstance(restarts, int) or restarts < 0 or not 0 < restart_from <= 1:
        raise ConfigError(
            f"restarts={restarts}, restart_from={restart_from}: expected a whole number, at least 0, and a "
            "time in (0, 1]"
        )
    useful = torch.stack([f.max_steps(mask) for f in fields.values()]).sum(0)
    count = useful.clamp(1, steps)
    windows = sorted({(f.window.start, f.window.end) for f in fields.values()}, reverse=True)
    first, out = torch.zeros_like(count), []
    for start, end in windows:
        last = ((1 - start) * count - 1e-4).ceil()
        for _ in range(restarts):
            out.append(_times(first, last, count))
            first = (last - (restart_from * (end - start) * count).ceil()).clamp_min(0)
    return [*out, _times(first, count, count)]


def _times(first: Tensor, last: Tensor, count: Tensor) -> Tensor:
    """Times from step `first` to step `last` of `count` even ones; who is there earlier waits."""
    k = torch.arange(int((last - first).max()) + 1, device=count.device)[:, None]
    return (1 - torch.minimum(first + k, last) / count).clamp_min(0)


SOLVERS: Mapping[str, Solver] = {
    "euler": euler,
    "heun": heun,
    "dpm_2m": dpm_2m,
    "ancestral": ancestral,
    "churn": churn,
}
