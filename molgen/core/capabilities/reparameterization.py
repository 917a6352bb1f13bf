"""Draws of p(x0 | .) through which gradients flow."""

from __future__ import annotations

from abc import ABC
from typing import final

from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.fields.field import own_shape
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.simplex import Simplex
from molgen.core.rng import RandomSource


class Reparameterization(Capability[GaussianField], ABC):
    """Draws that are differentiable functions of the parameters."""

    what = "differentiable draw"

    def rsample(self, params: Tensor, mask: Tensor, rng: RandomSource) -> Tensor:
        """A draw of p(x0 | params); reals are taken at their mean."""
        return self.field.project(self.field.x0_mean(params), mask)


@Reparameterization.register(GaussianField)
@final
class RealReparameterization(Reparameterization):
    """On reals, as above."""


@Reparameterization.register(Simplex)
@final
class GumbelReparameterization(Reparameterization):
    """On classes: hard forwards, soft backwards.

    Source: Jang et al., Categorical Reparameterization with Gumbel-Softmax (2017).
    """

    def rsample(self, params: Tensor, mask: Tensor, rng: RandomSource) -> Tensor:
        f = self.field
        u = rng.uniform(mask, own_shape(mask, f.channels, axes=f.axes))
        gumbel = f.project(-(-u.clamp(1e-6, 1 - 1e-6).log()).log(), mask)
        soft = (params + gumbel).softmax(-1)
        hard = F.one_hot(soft.argmax(-1), f.channels).to(soft)
        return f.project(2 * (hard - soft.detach() + soft) - 1, mask)
