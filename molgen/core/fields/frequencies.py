"""Numbers that a field has learned from data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_RARE = 1e-3
"""What all values together get beyond their frequency, so that an unseen one is possible too."""


def probabilities(frequencies: Sequence[float] | Tensor) -> Tensor:
    """Positive probabilities that sum to one, in float64."""
    p = torch.as_tensor(frequencies, dtype=torch.float64)
    return (1 - _RARE) * p / p.sum() + _RARE / len(p)


def six_digits(number: float) -> float:
    """Six digits, which are exact enough for what a header records, and easy to read."""
    return float(f"{float(number):.6g}")
