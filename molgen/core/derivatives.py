"""Derivatives of derivatives: where a loss holds a gradient of the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def differentiable() -> Iterator[bool]:
    """Within, gradients with respect to inputs can be taken, and be derived once more.

    Inputs have gradients even where weights have none, as in validation and sampling; attention is computed
    in the open, since its fused kernels have a first derivative only. Gives whether the outer world
    trains, i.e. whether a gradient needs a graph of its own.

    Example:
        >>> x = torch.ones(1, requires_grad=True)
        >>> with torch.no_grad(), differentiable() as training:
        ...     (slope,) = torch.autograd.grad((x**3).sum(), x, create_graph=training)
        >>> float(slope), training
        (3.0, False)
    """
    training = torch.is_grad_enabled()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield training
