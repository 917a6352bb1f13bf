"""Reals of full dimension for values of any kind: a density of them bounds the probability of values.

Discrete values with known frequencies get cells of standard normal reals, each as probable as its value. A
normal z in the cell of x has the density :math:`N(z) / p(x)` there, so that

.. math:: \\log p(x) \\ge E_z[\\log p_z(z) + \\log p(x) - \\log N(z)]

is an equality where the reals are normal: a flow that is still the identity has the marginal distribution of
the data, and learns only what is not in it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.fields.categorical import Categorical
from molgen.core.fields.circular import CircularField
from molgen.core.fields.continuous import Continuous
from molgen.core.fields.field import Field, own_shape
from molgen.core.rng import RandomSource


class Dequantization(Capability[Field]):
    r"""Reals `z` whose density bounds the probability of values.

    .. math:: \log p(x) \ge E_u[\log p_z(z) + v]

    with equality where the values are reals already, and for values of known frequencies where the reals are
    standard normal. They have about zero mean and unit variance.

    Attributes:
        dim: reals per site (or pair).
        lossless: whether the bound is an equality: values are such reals already.
        discrete: whether a value has a cell of reals, in which u is the place.

    Source: Theis et al., A Note on the Evaluation of Generative Models (2016); Hoogeboom et al., Argmax
    Flows (2021).
    """

    what = "reals of full dimension"
    dim: int
    lossless: bool = False
    discrete: bool = False

    @abstractmethod
    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Reals, and the logarithm of the volume of their cells.

        Arguments:
            x: values.
            u: `(B, ..., dim)`, uniform in (0, 1).
            mask: real sites.

        Returns: z `(B, ..., dim)` and v `(B, ...)` per site (or pair), both zero on padding.
        """

    @abstractmethod
    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        """The value whose cell holds `z`; `quantize(dequantize(x, u)) == x`."""

    def uniform(self, mask: Tensor, rng: RandomSource) -> Tensor:
        """Uniform numbers u, the same on both places of a pair."""
        return self.field.symmetrize(rng.uniform(mask, self.shape(mask)))

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """The shape of one sample's reals, see `RandomSource`."""
        return own_shape(mask, self.dim, axes=self.field.axes)

    def weight(self, mask: Tensor) -> Tensor:
        """The share of each place in a sum over reals: 1, on both places of a pair 1/2; `(B, ..., 1)`."""
        valid: Tensor = self.field.valid(mask)
        axes = 1 + (mask.dim() - 1) * self.field.axes
        valid = valid[..., None] if valid.dim() == axes else valid
        return valid.to(torch.get_default_dtype()) / self.field.axes


@Dequantization.register(Continuous)
@final
class NumberDequantization(Dequantization):
    """Numbers in units of the data; levels with uniform noise, or in cells of their frequencies."""

    field: Continuous

    def __init__(self, field: Continuous) -> None:
        super().__init__(field)
        self.dim = field.channels
        self.lossless = field.levels is None
        self.discrete = not self.lossless

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        f = self.field
        if f.shares is not None:
            # In float64, since the rarest cells are narrow.
            level, shares = f.level_of(x), f.shares.to(x.device)
            share = shares[level]
            below = (shares.cumsum(0) - shares)[level] + u * share
            z = torch.special.ndtri(below.clamp(1e-6, 1 - 1e-6)).to(x)
            valid = f.valid(mask)
            return z * valid, valid[..., 0] * (share.log().to(z) - log_normal(z)).sum(-1)
        cell = 2 / (f.levels - 1) if f.levels else 0.0
        z = (x + (u - 0.5) * cell - f.mean) / f.sd * f.valid(mask)
        total = f.channels * ((math.log(cell) if cell else 0.0) - math.log(f.sd))
        return z, f.valid(mask)[..., 0] * total

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        if f.levels is None:
            return f.project(z * f.sd + f.mean, mask)
        cell = 2 / (f.levels - 1)
        if f.shares is None:
            level = ((z * f.sd + f.mean + 1) / cell).round().clamp(0, f.levels - 1)
        else:
            upper = f.shares.to(z.device).cumsum(0)[:-1]
            level = torch.searchsorted(upper, torch.special.ndtr(z.double()), right=True).to(z)
        return f.project(level * cell - 1, mask)


@Dequantization.register(CircularField)
@final
class CircularDequantization(Dequantization):
    """Values on a circle that is cut open: what a flow puts beyond the cut is lost, so this is a bound."""

    field: CircularField

    def __init__(self, field: CircularField) -> None:
        super().__init__(field)
        self.dim = field.channels

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        f, valid = self.field, self.field.valid(mask)
        return (x - f.centre) / f.sd * valid, valid[..., 0] * (-f.channels * math.log(f.sd))

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        return self.field.project(z * self.field.sd + self.field.centre, mask)


@Dequantization.register(Categorical)
@final
class ClassDequantization(Dequantization):
    """Classes as a race: the class is that of K exponential variables that comes first."""

    field: Categorical
    discrete = True

    def __init__(self, field: Categorical) -> None:
        super().__init__(field)
        self.dim = field.classes

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # Of K exponential variables E_k with rates p_k, the first is k with probability p_k. Given that
        # it is the one of the class, all are -log u of the class, the others another one later.
        p = self.field.probabilities.to(x.device)
        own = F.one_hot(x.long(), self.dim).bool()
        late = -u.clamp(1e-6, 1 - 1e-6).double().log()
        first = torch.where(own, late, torch.zeros_like(late)).sum(-1, keepdim=True)
        times = p * first + torch.where(own, torch.zeros_like(late), late)  # in units of each one's mean
        z = torch.special.ndtri(times.neg().exp()).to(u)
        valid = self.field.valid(mask)
        return z * valid[..., None], (p[x.long()].log().to(z) - log_normal(z).sum(-1)) * valid

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        times = -torch.special.log_ndtr(z.double()) / self.field.probabilities.to(z.device)
        return self.field.project(times.argmin(-1), mask)


def log_normal(z: Tensor) -> Tensor:
    """The logarithm of the standard normal density of each number."""
    return -z.square() / 2 - math.log(2 * math.pi) / 2
