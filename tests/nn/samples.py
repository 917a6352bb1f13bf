"""Trunks, and streams that fit them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from molgen.core.trunk import Streams, Trunk, TrunkSpec


def randomised(trunk: Trunk, seed: int = 0, sd: float = 0.2) -> Trunk:
    """The trunk with random values instead of zero parameters, so that nothing hides behind them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in trunk.parameters():
            p.add_(
                bool((p == 0).all())
                * sd
                * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
            )
    return trunk


def streams(
    spec: TrunkSpec, batch: int = 3, n: int = 7, dtype: torch.dtype = torch.float64, seed: int = 1
) -> tuple[Streams, Tensor, Tensor | None]:
    """Random streams, a mask with padding in all samples but the last, a context."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    mask = torch.arange(n) < torch.arange(n - batch + 1, n + 1).clamp_min(1)[:, None]
    pair = draw(batch, n, n, spec.pair) if spec.pair else None
    if pair is not None:
        pair = pair + pair.transpose(1, 2)
    site = draw(batch, n, spec.site) if spec.site else None
    point = draw(batch, n, spec.point, 3) if spec.point else None
    return Streams(site, pair, point), mask, draw(batch, spec.context) if spec.context else None


def mapped(s: Streams, f: Callable[[Tensor, int], Tensor]) -> Streams:
    """Every stream through `f(stream, axes of sites)`."""
    return Streams(
        None if s.site is None else f(s.site, 1),
        None if s.pair is None else f(s.pair, 2),
        None if s.point is None else f(s.point, 1),
    )
