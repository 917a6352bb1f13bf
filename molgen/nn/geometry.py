"""Features of coordinates: of pairs, and invariants and displacements of vectors."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from molgen.core.linear import Linear
from molgen.core.trunk import Streams, TrunkSpec
from molgen.nn.layers import RadialBasis, length_of
from molgen.nn.pairs import pack, partners


def centred(point: Tensor, real: Tensor) -> Tensor:
    """Point sets `(B, N, S, 3)` about each set's centre, `(B, N, 3 S)`; zero on padding.

    Arguments:
        point: coordinates.
        real: 1 on real sites and 0 on padding, `(B, N, 1)`.
    """
    x = point.flatten(2) * real
    return (x - x.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)) * real


def distances(x: Tensor) -> Tensor:
    """Distances of packed pairs in every point set, `(B, N, 3 S)` to `(B, N, K, S)`."""
    gap = x[:, :, None] - partners(x)
    return length_of(gap.reshape(*gap.shape[:-1], -1, 3))


def along(x: Tensor, real: Tensor, reach: int) -> Tensor:
    """Vectors from the `reach` sites before and after each site, `(B, N, 3 S)` to `(B, N, 3, 2 reach S)`.

    Zero beyond the ends of the sequence. They give the network bonds, angles and handedness of a chain from
    the start; otherwise attention must first learn to select neighbours.
    """
    n, vectors = x.shape[1], []
    i = torch.arange(n, device=x.device)[:, None]
    for k in (step for near in range(1, reach + 1) for step in (-near, near)):
        there = real.roll(-k, 1) * ((i + k >= 0) & (i + k < n)) * real
        vectors.append(((x - x.roll(-k, 1)) * there).reshape(*x.shape[:2], -1, 3))
    return torch.cat(vectors, 2).transpose(2, 3)


@final
class PairInput(nn.Module):
    """Pair features of the input, packed: channels, distances in every point set, order.

    Arguments:
        spec: streams in.
        pair_width: channels out.
        basis: Gaussians per distance.
        farthest: sequence separations are clipped here; None where sites have no order.
    """

    def __init__(self, spec: TrunkSpec, pair_width: int, basis: int, farthest: int | None) -> None:
        super().__init__()
        self.given = Linear(spec.pair, pair_width, bias=False) if spec.pair else None
        self.basis = RadialBasis(basis)
        self.distance = Linear(spec.point * basis, pair_width, bias=False) if spec.point else None
        # One row per separation; without order, one for a site and itself and one for all others.
        rows = 2 if farthest is None else farthest + 1
        self.order = nn.Parameter(0.5 * torch.randn(rows, pair_width))

    def forward(self, streams: Streams, distance: Tensor | None, n: int) -> Tensor:
        """`(B or 1, N, K, pair_width)` from the streams and the packed distances `(B, N, K, S)`."""
        i = torch.arange(n, device=self.order.device)[:, None]
        k = torch.arange(n // 2 + 1, device=self.order.device)
        gap = (i - (i + k) % n).abs()
        z = self.order[gap.clamp_max(self.order.shape[0] - 1)][None]
        if self.given is not None and streams.pair is not None:
            z = z + self.given(pack(streams.pair))
        if self.distance is not None and distance is not None:
            z = z + self.distance(self.basis(distance).flatten(-2))
        return z


@final
class Invariants(nn.Module):
    r"""Invariants of vectors at a site: lengths, dot products, signed volumes :math:`p \cdot (q \times r)`.

    The vectors p, q, r are learned mixtures of the given ones, with lengths squeezed below one. Volumes
    change sign under reflection, which distinguishes mirror images.

    Arguments:
        inputs: vectors given per site.
        vectors: vectors in each of p, q, r.
        width: channels out.

    Example:
        >>> features, unit = Invariants(4, 2, 8)(torch.randn(3, 5, 3, 4))
        >>> features.shape, unit.shape
        (torch.Size([3, 5, 8]), torch.Size([3, 5, 3, 6]))
    """

    def __init__(self, inputs: int, vectors: int, width: int) -> None:
        super().__init__()
        self.vectors = vectors
        self.mix = nn.Parameter(torch.randn(inputs, 3 * vectors) * inputs**-0.5)
        self.output = Linear(3 * vectors, width, bias=False)

    def forward(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(..., width)` and vectors `(..., 3, 3 V)` from `(..., 3, inputs)`."""
        v = v @ self.mix
        size = (v.square().sum(-2) + 1e-12).sqrt()
        unit = v / (1 + size)[..., None, :]
        p, q, r = unit.chunk(3, -1)
        volume = (p * torch.linalg.cross(q, r, dim=-2)).sum(-2)
        features = torch.cat([size[..., : self.vectors], (p * q).sum(-2), 4 * volume], -1)
        return self.output(features), unit
