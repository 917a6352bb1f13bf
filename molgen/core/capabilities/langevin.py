"""Langevin dynamics: Markov chains that follow the slope of an energy of noisy values."""

from __future__ import annotations

from abc import ABC
from typing import Self, final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.densities import pick
from molgen.core.fields.circular import CircularField
from molgen.core.fields.field import own_shape, per_sample
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.simplex import Simplex
from molgen.core.rng import RandomSource

_STILL = 1e-6  # the length of a step that is none
_GROUND = 0.6  # noise under which chains jump between vertices, which are 2.8 apart
_LEAP = 3.2  # so that a step of 0.3 tries about one jump a molecule


class Langevin(Capability[GaussianField], ABC):
    """Steps down the slope of an energy E(x, t) of values under Gaussian noise."""

    what = "energy of noisy reals"

    # ------------------------------------------------------------------ energies

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """-log p(x_t) of data whose entries are independent, but for a constant, `(B,)`."""
        f = self.field
        gap = f.tangent(x - f.mean, mask)
        return 0.5 * f.inner(gap, gap) / (f.sigma(t) ** 2 + f.sd**2)

    def project_grad(self, gradient: Tensor, mask: Tensor) -> Tensor:
        """The gradient in the field's geometry from derivatives by the numbers of its tensor."""
        return self.field.tangent(gradient, mask)

    def denoising_loss(self, x0: Tensor, truth: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The loss of a predicted mean of the data, `(B,)`, of unit weight where the network is asked."""
        f = self.field
        sigma = f.sigma(t)
        weight = (sigma**2 + f.sd**2) / (sigma * f.sd) ** 2
        error = f.logmap(x0, truth) * f.valid(mask)
        return f.inner(error, error) * f.axes / f.dimension(mask) * weight * f.window.active(t)

    # ------------------------------------------------------------------ chains

    def jumping(self) -> Self:
        """The same for chains whose classes jump between vertices once little noise is left."""
        return self

    def jumps(self, t: Tensor) -> Tensor:
        """Whether values are vertices at this time, which change by jumps alone, `(B,)`."""
        return torch.zeros_like(t, dtype=torch.bool)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """Data with given noise, as a chain holds them."""
        return self.field.add_noise(x0, eps, t, mask)

    def reverse_step(
        self, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: RandomSource, scale: float = 1.0
    ) -> Tensor:
        """An ancestral step of a chain from t to s, given the mean of the data."""
        return self.field.reverse_step(x, x0, t, s, mask, rng, 1.0, scale)

    def langevin_step(self, t: Tensor) -> Tensor:
        """The unit of the length of a Langevin step, `(B,)`."""
        return self.field.sigma(t)

    def propose(
        self, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor, rng: RandomSource
    ) -> Tensor:
        r"""A move of length h down the slope of an energy: a draw of

        .. math:: q(y | x) \propto e^{-|y - x + \frac{h^2}{2} \nabla E(x)|^2 / 2 h^2}

        over the values that a chain has at this time: Langevin's step on reals. Where h is zero, nothing
        moves.
        """
        f, h = self.field, per_sample(h, x)
        return f.project(x - h**2 / 2 * slope + h * f.standard_noise(mask, rng), mask)

    def log_proposal(self, y: Tensor, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """log q(y | x) of `propose` but for a constant of h, `(B,)`."""
        h = per_sample(h.clamp_min(_STILL), x)
        eps = self.field.logmap(y, x) / h + h / 2 * slope
        return -self.field.inner(eps, eps) / 2


@Langevin.register(GaussianField)
@final
class RealLangevin(Langevin):
    """On reals, all as above."""


@Langevin.register(CircularField)
@final
class CircularLangevin(Langevin):
    """On a circle, where independent values are uniform whatever the noise."""

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)


@Langevin.register(Simplex)
@final
class VertexLangevin(Langevin):
    """On noisy one-hot vectors; a chain may jump between vertices where little noise is left.

    Source: Zhang et al., A Langevin-like Sampler for Discrete Distributions (2022).
    """

    field: Simplex
    ground: float = 0.0
    """The noise below which values are vertices; none by default."""

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        # A mixture of K Gaussians at the one-hot vectors, on each site by itself.
        f = self.field
        variance = f.sigma(t, x) ** 2
        corners = (2 * x / variance + f.log_frequencies.to(x)).logsumexp(-1, keepdim=True)
        own = ((0.5 * x**2 + x) / variance).sum(-1, keepdim=True) - corners
        total = torch.where(f.valid(mask), own, torch.zeros_like(own)).flatten(1).sum(1)
        return total / f.axes

    def project_grad(self, gradient: Tensor, mask: Tensor) -> Tensor:
        if self.field.axes == 2:  # each number stands in the tensor twice
            gradient = gradient + gradient.transpose(1, 2)
        return self.field.tangent(gradient, mask)

    def jumping(self) -> Self:
        chain = type(self)(self.field)
        chain.ground = _GROUND
        return chain

    def jumps(self, t: Tensor) -> Tensor:
        return self.field.sigma(t) < self.ground

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return self._either(t, x0, super().add_noise(x0, eps, t, mask))

    def reverse_step(
        self, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: RandomSource, scale: float = 1.0
    ) -> Tensor:
        y = super().reverse_step(x, x0, t, s, mask, rng, scale)
        # Vertices stay where they are; reals that come to the ground go to the likeliest vertex.
        return self._either(t, x, self._either(s, self.vertex(x0.argmax(-1), mask), y))

    def langevin_step(self, t: Tensor) -> Tensor:
        # Vertices are as far apart whatever the noise; a step as short as it would freeze the chain.
        return torch.where(self.jumps(t), torch.full_like(t, _LEAP), self.field.sigma(t))

    def propose(
        self, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor, rng: RandomSource
    ) -> Tensor:
        y = super().propose(x, slope, h, t, mask, rng)
        if not self.ground:
            return y
        f = self.field
        u = f.project(rng.uniform(mask, own_shape(mask, 1, axes=f.axes)), mask).squeeze(-1)
        jump = pick(self._log_jumps(x, slope, h).exp(), u)
        return self._either(t, self.vertex(jump, mask), y)

    def log_proposal(self, y: Tensor, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        jumps = (self._log_jumps(x, slope, h) * (y + 1) / 2 * f.valid(mask)).flatten(1).sum(1)
        return self._either(t, jumps / f.axes, super().log_proposal(y, x, slope, h, t, mask))

    def _log_jumps(self, x: Tensor, slope: Tensor, h: Tensor) -> Tensor:
        """log q of every class of every entry; all jump at once."""
        # Two vertices differ by 2 in two numbers, so that |y - x|^2 is 8.
        apart = 4 / per_sample(h.clamp_min(_STILL), x) ** 2
        return (apart * (x + 1) / 2 - slope).log_softmax(-1)

    def vertex(self, classes: Tensor, mask: Tensor) -> Tensor:
        """The values that stand for classes."""
        return self.field.project(2 * F.one_hot(classes, self.field.channels).float() - 1, mask)

    def _either(self, t: Tensor, vertices: Tensor, reals: Tensor) -> Tensor:
        return torch.where(per_sample(self.jumps(t), reals), vertices, reals)
