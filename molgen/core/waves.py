"""Numbers as sines and cosines, the form in which networks take them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def waves(x: Tensor, count: int = 16) -> Tensor:
    r"""Sines, then cosines, of numbers of order one at `count` geometric frequencies, `(..., 2 count)`.

    .. math:: \sin(\pi 2^{f} x), \cos(\pi 2^{f} x), \quad f = -1 ... 5

    Example:
        >>> waves(torch.zeros(3), 2).tolist()[0]
        [0.0, 0.0, 1.0, 1.0]
    """
    frequencies = math.pi * torch.logspace(-1, 5, count, base=2, device=x.device, dtype=x.dtype)
    angles = x[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
