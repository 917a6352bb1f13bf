"""What a trunk should know of bonds besides their orders: how many of them lie between two atoms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from molgen.core.trunk import Streams, Trunk, TrunkSpec

REACH = 4
"""Topological distances 2 to `REACH` become channels; torsions join atoms 3 bonds apart, rings more."""


@final
class TopologicalTrunk(Trunk):
    r"""A trunk whose pair stream also says whether atoms are 2, 3, ... bonds apart.

    With adjacency A, atoms are k bonds apart where :math:`A^k > 0` and no lower power is. Angles and
    torsions are distances between such atoms, so geometry is learned sooner with these channels.

    Arguments:
        spec: streams in and out.
        make: builds the trunk for the widened spec.
        bonded: pair channels that mark a bond.

    Example:
        >>> path = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).float()
        >>> topological_distances(path[None])[0, 0, 2].tolist()
        [1.0, 0.0, 0.0]
    """

    def __init__(self, spec: TrunkSpec, make: Callable[[TrunkSpec], Trunk], bonded: slice) -> None:
        super().__init__()
        self.inner, self.bonded = make(replace(spec, pair=spec.pair + REACH - 1)), bonded
        self.width, self.pair_width = self.inner.width, self.inner.pair_width

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        pair = streams.pair
        if pair is not None:
            # One-hot classes as they stand; of noisy reals, those that are nearer to a bond than to none.
            bonds = pair[..., self.bonded].amax(-1) > 0.5
            apart = topological_distances(bonds.to(pair.dtype))
            streams = replace(streams, pair=torch.cat([pair, apart], -1))
        out: Streams = self.inner(streams, mask, context)
        return out


def topological_distances(adjacency: Tensor) -> Tensor:
    """One-hot distances 2 to `REACH` along bonds, `(B, N, N)` to `(B, N, N, REACH - 1)`."""
    near = adjacency + torch.eye(adjacency.shape[1], device=adjacency.device)
    walked, seen, rings = near, near > 0, []
    for _ in range(REACH - 1):
        walked = (walked @ near).clamp_max(1)
        rings.append(((walked > 0) & ~seen).to(adjacency.dtype))
        seen = seen | (walked > 0)
    return torch.stack(rings, -1)
