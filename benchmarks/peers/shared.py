"""Parts of several comparisons: a step of training, networks of similar size, images."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from molgen.core.records import Records
from molgen.core.registry import get_modality


@final
class Step:
    """One step of training, the same for every loss: AdamW, clipping, and an average of weights.

    Arguments:
        network: what is trained.
        loss: draws its noise and returns the loss of one batch.
    """

    def __init__(self, network: nn.Module, loss: Callable[[], Tensor]) -> None:
        self.network, self.loss = network.train(), loss
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(new, 5e-4)


def size(network: nn.Module) -> int:
    """The number of trained parameters."""
    return sum(p.numel() for p in network.parameters())


def nearest(target: int, make: Callable[[int], nn.Module], widths: Sequence[int]) -> nn.Module:
    """The network whose size is nearest to `target`, over increasing widths.

    Example:
        >>> nearest(100, lambda width: nn.Linear(width, width, bias=False), range(1, 20)).weight.shape
        torch.Size([10, 10])
    """
    above = bisect_left(widths, target, key=lambda width: size(make(width)))
    around = [make(width) for width in widths[max(above - 1, 0) : above + 1]]
    return min(around, key=lambda network: abs(size(network) - target))


def digits(count: int) -> Records:
    """The first training images of MNIST."""
    found: Records = get_modality("image").datasets["mnist"].load("train")[:count]
    return found
