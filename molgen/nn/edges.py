"""Sparse edges from dense, padded samples, for message passing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from molgen.core.linear import Linear
from molgen.nn.pairs import partners, unpack


@final
@dataclass(frozen=True)
class Edges:
    """Directed edges between different real sites of the same sample.

    Arguments:
        index: rows of the flattened sites `(B N, ...)`, target and source of each edge, `(2, E)`.
        place: rows of the flattened pairs `(B N N, ...)`, `(E,)`.
        scale: one over the root of the number of edges that reach each site, `(B N, 1)`.
    """

    index: Tensor
    place: Tensor
    scale: Tensor

    @classmethod
    def of(cls, mask: Tensor, near: Tensor | None, dtype: torch.dtype) -> Edges:
        """All edges, or those of pairs that are also `near`, `(B, N, N)`.

        Example:
            >>> Edges.of(torch.tensor([[True, True, False]]), None, torch.float32).index.tolist()
            [[0, 1], [1, 0]]
        """
        b, n = mask.shape
        wanted = mask[:, :, None] & mask[:, None] & ~torch.eye(n, dtype=torch.bool, device=mask.device)
        if near is not None:
            wanted = wanted & near
        place = wanted.flatten().nonzero().squeeze(1)
        to = place.div(n, rounding_mode="floor")
        index = torch.stack([to, to.div(n, rounding_mode="floor") * n + place % n])
        count = wanted.sum(2).reshape(b * n, 1).to(dtype)
        return cls(index, place, count.clamp_min(1).rsqrt())

    def take(self, pairs: Tensor) -> Tensor:
        """Values of symmetric, packed pairs `(B, N, K, C)` on the edges, `(E, C)`."""
        return unpack(pairs).flatten(0, 2).index_select(0, self.place)


@final
class PairUpdate(nn.Module):
    """New features of packed pairs from the old ones and the product of their sites' features.

    Arguments:
        width: channels on sites.
        pair_width: channels on pairs.
    """

    def __init__(self, width: int, pair_width: int) -> None:
        super().__init__()
        self.sites = Linear(width, pair_width)
        nn.init.ones_(self.sites.bias)
        self.mix = nn.Sequential(nn.LayerNorm(pair_width), Linear(pair_width, 2 * pair_width), nn.SiLU())
        self.output = Linear(2 * pair_width, pair_width)

    def forward(self, z: Tensor, h: Tensor) -> Tensor:
        """Pairs `(B, N, K, pair_width)` and sites `(B, N, width)` to pairs."""
        s = self.sites(nn.functional.layer_norm(h, h.shape[-1:]))
        out: Tensor = z + self.output(self.mix(z + s[:, :, None] * partners(s)))
        return out
