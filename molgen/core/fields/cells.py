"""Cells: regions of standard normal reals, one for each value of a discrete field and as probable as it.

A normal z that is told which cell it lies in has the density :math:`N(z) / p(x)` there, so that

.. math:: \\log p(x) \\ge E_z[\\log p_z(z) + \\log p(x) - \\log N(z)]

is an equality where the reals are normal: a flow that is still the identity has the marginal
distribution of the data, and learns only what is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_RARE = 1e-3
"""What all values together get beyond their frequency, so that an unseen one has a cell too."""


def probabilities(frequencies: Sequence[float] | Tensor) -> Tensor:
    """Positive shares that sum to one, in float64."""
    p = torch.as_tensor(frequencies, dtype=torch.float64)
    return (1 - _RARE) * p / p.sum() + _RARE / len(p)


def log_normal(z: Tensor) -> Tensor:
    """The logarithm of the standard normal density of each number."""
    return -z.square() / 2 - math.log(2 * math.pi) / 2
