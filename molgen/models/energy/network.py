"""The network of a neural energy, and the Langevin dynamics that follow its slope."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from molgen.core.capabilities import Langevin
from molgen.core.derivatives import differentiable
from molgen.core.fields import GaussianField
from molgen.core.fields.field import per_sample
from molgen.core.rng import RandomSource, SampleRandom
from molgen.core.solvers import State
from molgen.core.wrappers import Encoder, MakeTrunk


@final
class Energy(nn.Module):
    r"""An energy of relaxed values x at time t.

    .. math:: E(x, t) = \sum_f E_f(x_f, t) - \frac{s_f}{\sigma_f(t)} N_\theta(x, t)_f

    over the fields f that resolve at time t; :math:`E_f` is that of data whose entries are independent
    (`Langevin.potential`). Preconditioned so, the slope of N has about unit scale at every noise.

    The persistent chains travel from noise to data with a time of their own; they are part of the state,
    so that a resumed run goes on with them.
    """

    def __init__(
        self,
        fields: Mapping[str, GaussianField],
        make_trunk: MakeTrunk,
        conditions: Sequence[Any],
        width: int,
        chains: Tensor,
    ) -> None:
        super().__init__()
        self.critic = Encoder(
            fields, make_trunk, conditions, outputs=len(fields), extensive=True, width=width
        )
        self.fields = fields
        rng = SampleRandom(0, range(len(chains)))
        self.chains: Tensor
        self.times: Tensor
        self.register_buffer("chains", chains)
        self.register_buffer("times", torch.arange(1, len(chains) + 1) / max(len(chains), 1))
        for name, f in fields.items():
            self.register_buffer(f"chain_{name}", f.prior(chains, rng))

    def forward(self, x: State, t: Tensor, mask: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """E `(B,)`."""
        found = self.critic(x, mask, labels, t)
        parts, langevin = [], self.langevin
        for i, (k, f) in enumerate(self.fields.items()):
            own = langevin[k].potential(x[k], t, mask) - found[:, i] * f.sd / f.sigma(t)
            parts.append(torch.where(f.window.active(t), own, torch.zeros_like(own)))
        return torch.stack(parts).sum(0)

    fixed_size = False

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward`, see `Exportable`."""
        x = {name: f.prior(mask, rng) for name, f in self.fields.items()}
        return {
            "x": x,
            "t": rng.uniform(mask, ()),
            "mask": mask,
            "labels": {},
            **self.critic.null_labels(mask),
        }

    @property
    def langevin(self) -> dict[str, Langevin]:
        """The steps of chains over the reals of each field."""
        return Langevin.each(self.fields)

    @property
    def walkers(self) -> dict[str, Langevin]:
        """The steps of chains whose classes jump where little noise is left."""
        return {k: own.jumping() for k, own in self.langevin.items()}

    def slope(self, x: State, t: Tensor, mask: Tensor, labels: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """E and its gradient in the geometry of each field."""
        with differentiable() as training:
            leaves = {k: v.detach().requires_grad_() for k, v in x.items()}
            energy = self(leaves, t, mask, labels)
            grads = torch.autograd.grad(energy.sum(), list(leaves.values()), create_graph=training)
        found = {
            k: own.project_grad(g, mask) for (k, own), g in zip(self.langevin.items(), grads, strict=True)
        }
        return energy if training else energy.detach(), found

    def denoise(self, x: State, t: Tensor, mask: Tensor, labels: Mapping[str, Tensor]) -> State:
        r"""Tweedie's formula: the mean of the data given x, :math:`x - \sigma^2 \nabla E`."""
        _, slope = self.slope(x, t, mask, labels)
        return {k: f.project(x[k] - f.sigma(t, x[k]) ** 2 * slope[k], mask) for k, f in self.fields.items()}

    def noise_to_data_ratio(self, t: Tensor) -> Tensor:
        """Noise relative to the data's spread, least over the fields that resolve, `(B,)`."""
        shares = [
            torch.where(f.window.active(t), f.sigma(t) / f.sd, torch.full_like(t, math.inf))
            for f in self.fields.values()
        ]
        return torch.stack(shares).amin(0).clamp_max(1.0)


@torch.no_grad()
def langevin(
    net: Energy,
    fields: Mapping[str, Langevin],
    x: State,
    t: Tensor,
    mask: Tensor,
    labels: Mapping[str, Tensor],
    rng: RandomSource,
    step: float = 0.3,
    heat: float = 1.0,
    adjusted: bool | Tensor = True,
) -> State:
    r"""A step of Langevin dynamics at time t: every field proposes a move down the slope of the energy,

    .. math:: q(y | x) \propto e^{-|y - x + \frac{h^2}{2} \nabla E(x)|^2 / 2 h^2},

    over its reals, or over its classes where it walks on them, and Metropolis accepts all of them together
    with probability :math:`\min(1, e^{E(x) - E(y)} q(x | y) / q(y | x))`, so that :math:`e^{-E}` is kept
    exactly; at a temperature T, :math:`E / T^2` stands for E.

    Arguments:
        fields: `Energy.langevin`, or `walkers`, as the values are.
        step: h in strides of the fields; of reals, in standard deviations of the noise.
        heat: T.
        adjusted: which samples Metropolis judges, all or `(B,)`; others move in any case.

    Source: Roberts and Tweedie, Exponential Convergence of Langevin Distributions (1996); Grathwohl et al.,
    Oops I Took A Gradient (2021) and Zhang et al., A Langevin-like Sampler for Discrete Distributions (2022).
    """
    judged = torch.as_tensor(adjusted, device=mask.device).expand(len(mask))

    def slopes(x: State) -> tuple[Tensor, State]:
        energy, slope = net.slope(x, t, mask, labels)
        return energy / heat**2, {k: v / heat**2 for k, v in slope.items()}

    energy, slope = slopes(x)
    h = {k: heat * step * f.langevin_step(t) * f.field.window.active(t) for k, f in fields.items()}
    y = {k: f.propose(x[k], slope[k], h[k], t, mask, rng) for k, f in fields.items()}
    if not judged.any():
        return y
    ahead, back = slopes(y)
    gain = energy - ahead
    for k, f in fields.items():
        gain = gain + f.log_proposal(x[k], y[k], back[k], h[k], t, mask)
        gain = gain - f.log_proposal(y[k], x[k], slope[k], h[k], t, mask)
    accept = (rng.uniform(mask, ()).clamp_min(1e-12).log() < gain) | ~judged
    return {k: torch.where(per_sample(accept, x[k]), y[k], x[k]) for k in x}
