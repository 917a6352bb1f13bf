"""Consistency losses: distances between two predictions of one clean value."""

from __future__ import annotations

from abc import ABC
from typing import final

import torch
from torch import Tensor

from molgen.core.capabilities.capability import Capability
from molgen.core.capabilities.denoising import cross_entropy, squared_error
from molgen.core.fields.circular import CircularField
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.simplex import Simplex


class Consistency(Capability[GaussianField], ABC):
    """How far two predictions of one clean value lie apart."""

    what = "distance between predictions"

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        """A squared distance between two parameters of p(x0 | .) per degree of freedom, `(B,)`."""
        f = self.field
        return squared_error(f, a, b, mask) / f.dimension(mask) / f.sd**2

    def pseudo_huber(self, a: Tensor, b: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        r"""A robust distance between clean ends predicted at time t and before, `(B,)`.

        .. math:: \sqrt{\lambda(t)} (\sqrt{d + c^2} - c)

        so that an error of the size that noise of level t leaves counts as one; zero where the field is
        data already.

        Source: Song and Dhariwal, Improved Techniques for Training Consistency Models (2024).
        """
        f = self.field
        weight = (1 + (f.sd / f.sigma(t)) ** 2).sqrt()
        c = 0.03
        gap = (self.distance(a, b, mask) + c**2).sqrt() - c
        return weight * gap * (t > f.window.start)

    def cross_entropy_term(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        """A likelihood term that keeps a distance between parameters from collapsing; none on reals."""
        return torch.zeros(len(mask), device=mask.device)


@Consistency.register(GaussianField)
@final
class RealConsistency(Consistency):
    """On reals, all as above."""


@Consistency.register(CircularField)
@final
class CircularConsistency(Consistency):
    """On a circle, where predictions are directions."""

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        return ((a - b) ** 2 * f.valid(mask)).flatten(1).sum(1) / f.dimension(mask)


@Consistency.register(Simplex)
@final
class ClassConsistency(Consistency):
    """On classes, where predictions are logits."""

    field: Simplex

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        gap = ((a.softmax(-1) - b.softmax(-1)) ** 2 * f.valid(mask)).flatten(1).sum(1)
        return gap / f.count(mask)

    def cross_entropy_term(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return cross_entropy(self.field, params, x0, mask) / self.field.count(mask)
