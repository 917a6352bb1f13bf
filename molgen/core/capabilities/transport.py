"""Optimal transport between data and noise."""

from __future__ import annotations

from abc import ABC
from typing import final

import torch
from torch import Tensor

from molgen.core.capabilities.capability import Capability
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.positions import Positions


class Transport(Capability[GaussianField], ABC):
    """What it costs to carry noise to data, and motions that make it cheaper."""

    what = "distance between data and noise"

    def ot_cost(self, x0: Tensor, eps: Tensor) -> Tensor:
        """Squared distances between each object and each noise, in standard deviations, `(B, B)`."""
        f = self.field
        return torch.cdist(((x0 - f.mean) / f.sd).flatten(1), eps.flatten(1)) ** 2 / f.axes

    def align(self, eps: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        """The noise moved onto its object by a motion under which objects stay the same."""
        return eps


@Transport.register(GaussianField)
@final
class RealTransport(Transport):
    """On reals, all as above."""


@Transport.register(Positions)
@final
class PointTransport(Transport):
    """On coordinates, which may be rotated."""

    def align(self, eps: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return kabsch_align(eps, x0)


def kabsch_align(x: Tensor, y: Tensor) -> Tensor:
    """Centred points x turned onto y by the best proper rotation, so that mirror images stay apart.

    Arguments:
        x, y: `(B, N, 3)`, zero on padding.
    """
    u, _, v = torch.linalg.svd(x.transpose(1, 2) @ y)
    sign = torch.linalg.det(u @ v).sign()
    fix = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], 1)
    turned: Tensor = x @ (u * fix[:, None] @ v)
    return turned
