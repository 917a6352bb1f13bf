"""Samplers: from noise to data through the parameters that a denoiser predicts.

A solver integrates all fields of a sample together. Real fields follow the probability-flow ODE
:math:`dx / d\\sigma = (x - D) / \\sigma` or the reverse SDE; categorical fields take their own jumps
in every solver, so orders of convergence are claims about real fields only.

Each solver is a function of a `denoise(x, t)` that gives the parameters of p(x0 | x_t) per field, of
the decreasing times, and of injected noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from molgen.core.fields import Field
from molgen.core.noise import Noise

State = dict[str, Tensor]
Denoise = Callable[[State, Tensor], State]
Fields = Mapping[str, Field]


class Solver(Protocol):
    """The signature of every solver.

    Arguments:
        denoise: parameters of p(x0 | x_t) per field, from values and times `(B,)`.
        fields: the fields.
        x: values at the first time.
        times: decreasing times, `(steps + 1,)`, in [0, 1]; 0 is data.
        mask: real sites.
        noise: the source of randomness; ODE solvers use it for jumps only.
        scale: factor on fresh noise of SDE solvers.

    Returns: values at the last time.
    """

    def __call__(
        self,
        denoise: Denoise,
        fields: Fields,
        x: State,
        times: Tensor,
        mask: Tensor,
        noise: Noise,
        scale: float = 1.0,
    ) -> State: ...


def euler(
    denoise: Denoise,
    fields: Fields,
    x: State,
    times: Tensor,
    mask: Tensor,
    noise: Noise,
    scale: float = 1.0,
) -> State:
    """Euler's method on the probability-flow ODE, which is DDIM; order 1.

    Source: Song et al., Denoising Diffusion Implicit Models (2021).
    """
    for t, s in _steps(times, mask):
        params = denoise(x, t)
        x = {k: f.step(x[k], params[k], t, s, mask, noise) for k, f in fields.items()}
    return x


def heun(
    denoise: Denoise,
    fields: Fields,
    x: State,
    times: Tensor,
    mask: Tensor,
    noise: Noise,
    scale: float = 1.0,
) -> State:
    """Heun's method on the probability-flow ODE; order 2, two evaluations a step.

    Source: Karras et al. (2022), algorithm 1.
    """
    for t, s in _steps(times, mask):
        x = _heun_step(denoise, fields, x, t, s, mask, noise)
    return x


def dpm_2m(
    denoise: Denoise,
    fields: Fields,
    x: State,
    times: Tensor,
    mask: Tensor,
    noise: Noise,
    scale: float = 1.0,
) -> State:
    r"""DPM-Solver++(2M): a multistep method in log-SNR; order 2, one evaluation a step.

    The step uses :math:`D + \frac{h}{2 h_{last}} (D - D_{last})`, with h the step in log-sigma.

    Source: Lu et al., DPM-Solver++ (2022), algorithm 2.
    """
    earlier: State | None = None
    lengths: dict[str, Tensor] = {}
    for t, s in _steps(times, mask):
        params = denoise(x, t)
        moved = params
        for k, f in fields.items():
            h = f.log_ratio(t, s)
            if earlier is not None:
                last = lengths[k]
                ratio = torch.where(last > 0, h / (2 * last).clamp_min(1e-12), torch.zeros_like(h))
                moved = {**moved, k: f.extrapolate(params[k], earlier[k], ratio)}
            lengths[k] = h
        x = {k: f.step(x[k], moved[k], t, s, mask, noise) for k, f in fields.items()}
        earlier = params
    return x


def ancestral(
    denoise: Denoise,
    fields: Fields,
    x: State,
    times: Tensor,
    mask: Tensor,
    noise: Noise,
    scale: float = 1.0,
) -> State:
    """Ancestral sampling, the reverse SDE step by step: q(x_s | x_t, x0) at the predicted x0.

    Source: Ho et al., Denoising Diffusion Probabilistic Models (2020), algorithm 2.
    """
    for t, s in _steps(times, mask):
        params = denoise(x, t)
        x = {k: f.step(x[k], params[k], t, s, mask, noise, eta=1.0, scale=scale) for k, f in fields.items()}
    return x


def churn(
    denoise: Denoise,
    fields: Fields,
    x: State,
    times: Tensor,
    mask: Tensor,
    noise: Noise,
    scale: float = 1.0,
) -> State:
    """Heun's method after a small step back into noise, which forgets earlier errors.

    Every step goes back by half its own length: real fields gain noise, jumps are redrawn.

    Source: Karras et al. (2022), algorithm 2.
    """
    for t, s in _steps(times, mask):
        back = (t + 0.5 * scale * (t - s)).clamp_max(1.0)
        x = {k: f.diffuse(x[k], t, back, mask, noise) for k, f in fields.items()}
        x = _heun_step(denoise, fields, x, back, s, mask, noise)
    return x


SOLVERS: Mapping[str, Solver] = {
    "euler": euler,
    "heun": heun,
    "dpm_2m": dpm_2m,
    "ancestral": ancestral,
    "churn": churn,
}


def _heun_step(
    denoise: Denoise, fields: Fields, x: State, t: Tensor, s: Tensor, mask: Tensor, noise: Noise
) -> State:
    params = denoise(x, t)
    y = {k: f.step(x[k], params[k], t, s, mask, noise) for k, f in fields.items()}
    if not (s > 0).any():  # at zero noise the Euler step is exact
        return y
    ahead = denoise(y, s)
    return {k: f.correct(x[k], y[k], params[k], ahead[k], t, s, mask) for k, f in fields.items()}


def _steps(times: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Consecutive times as `(B,)` tensors."""
    batch = [time.expand(len(mask)) for time in times]
    return list(pairwise(batch))
