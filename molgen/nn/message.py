"""Message passing on PyTorch Geometric, for graphs and molecules."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import MessagePassing

from molgen.core.linear import Linear
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.edges import Edges, PairUpdate
from molgen.nn.geometry import Invariants, PairInput, centred, distances
from molgen.nn.layers import (
    ContextEmbedding,
    GatedMLP,
    Modulation,
    SiteInput,
    modulate,
    require_points,
    zeroed,
)
from molgen.nn.pairs import unpack


@final
class _Convolution(MessagePassing):  # type: ignore[misc]
    r"""Gated messages between sites, and vectors :math:`\sum_j w(m_{ij}) (x_i - x_j) / (1 + d_{ij})`.

    Messages :math:`m_{ij} = \mathrm{silu}(A h_i + B h_j + C e_{ij})`.
    """

    def __init__(self, width: int, edge_width: int, points: int, vectors: int) -> None:
        super().__init__(aggr="add")
        self.points, self.vectors = points, vectors
        self.ends = Linear(width, 2 * width)
        self.edge = Linear(edge_width, width)
        self.gate = Linear(width, 1)
        self.weight = Linear(width, points * vectors) if points else None
        self.output = zeroed(Linear(width, width))

    def forward(
        self, h: Tensor, e: Tensor, gap: Tensor | None, edges: Edges
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Updates of sites `(M, width)`, messages `(E, width)` and vectors `(M, 3, V)` or None."""
        receive, send = self.ends(h).chunk(2, -1)
        # PyG's rows are (from, to); the flow is from j to i.
        index = edges.index.flip(0)
        m = self.edge_updater(index, receive=receive, send=send, e=self.edge(e))
        total = self.propagate(index, m=m, gap=gap, size=(h.shape[0], h.shape[0])) * edges.scale
        update, vectors = total[:, : h.shape[1]], None
        if gap is not None:
            vectors = total[:, h.shape[1] :].reshape(h.shape[0], 3, self.vectors)
        return self.output(update), m, vectors

    def edge_update(self, receive_i: Tensor, send_j: Tensor, e: Tensor) -> Tensor:
        return F.silu(receive_i + send_j + e)

    def message(self, m: Tensor, gap: Tensor | None) -> Tensor:
        parts = [m * self.gate(m).sigmoid()]
        if gap is not None and self.weight is not None:
            # (E, 3, S) @ (E, S, V): one vector per channel, summed over point sets.
            w = self.weight(m).reshape(m.shape[0], self.points, self.vectors)
            parts.append((gap @ w).flatten(1))
        return torch.cat(parts, -1)


@final
class _Block(nn.Module):
    """A convolution with geometry, a gated MLP, and an update of the edges."""

    def __init__(
        self, spec: TrunkSpec, context: int, width: int, pair_width: int, vectors: int, last: bool
    ) -> None:
        super().__init__()
        self.modulation = Modulation(context, width, 6)
        self.convolution = _Convolution(width, pair_width, spec.point, vectors)
        self.geometry = Invariants(vectors, vectors, width) if spec.point else None
        self.mlp = GatedMLP(width, 2 * width)
        self.edges = None if last else zeroed(Linear(width, pair_width))

    def forward(
        self, h: Tensor, e: Tensor, gap: Tensor | None, edges: Edges, context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        b, n, width = h.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(context)
        flat = modulate(h, shift_a, scale_a).flatten(0, 1)
        update, m, vectors = self.convolution(flat, e, gap, edges)
        unit = None
        if self.geometry is not None and vectors is not None:
            features, unit = self.geometry(vectors)
            update = update + features
        h = h + update.reshape(b, n, width) * (1 + gate_a)
        h = h + self.mlp(modulate(h, shift_m, scale_m)) * (1 + gate_m)
        return h, e if self.edges is None else e + self.edges(m), unit


@final
class MessageTrunk(Trunk):
    """Message passing over edges between sites, with SO(3)-equivariant vectors where there are points.

    Edges join all real sites, or those nearer than `cutoff` in the first point set. Each carries the
    pair stream, distances and sequence separation, and is updated by its messages. Displacements rotate
    with the input; mirror images are distinguished.

    Arguments:
        spec: streams in and out.
        width: channels on sites.
        pair_width: channels on edges and pairs.
        depth: number of blocks.
        ordered: whether sites form a sequence; if not, permuting sites permutes the output.
        vectors: vector channels per site (used with points only).
        max_distance: relative positions are clipped here (used if `ordered`).
        cutoff: longest edge in units of the point stream, None for all pairs.
        basis: Gaussians per distance.

    Raises:
        ConfigError: if displacements are requested without points.

    Source: after Gilmer et al. (2017); Schutt et al., PaiNN (2021). Built on PyTorch Geometric.

    Example:
        >>> trunk = MessageTrunk(TrunkSpec(site=4, pair=2, pair_out=True), width=16, depth=1)
        >>> out = trunk(Streams(torch.randn(2, 5, 4), torch.zeros(2, 5, 5, 2)), torch.ones(2, 5) > 0, None)
        >>> out.site.shape, out.pair.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 5, 5, 32]))
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        width: int = 128,
        pair_width: int = 32,
        depth: int = 4,
        ordered: bool = True,
        vectors: int = 8,
        max_distance: int = 32,
        cutoff: float | None = None,
        basis: int = 32,
    ) -> None:
        super().__init__()
        require_points(spec.point, spec.point_out)
        self.spec, self.width, self.pair_width = spec, width, pair_width
        self.ordered, self.cutoff, self.vectors = ordered, cutoff, vectors
        self.site_in = SiteInput(spec.site, width, ordered)
        self.pair_in = PairInput(spec, pair_width, basis, max_distance if ordered else None)
        self.context_in = ContextEmbedding(spec.context, min(64, width))
        self.blocks = nn.ModuleList(
            _Block(spec, self.context_in.width, width, pair_width, vectors, last=i == depth - 1)
            for i in range(depth)
        )
        self.site_out = Modulation(self.context_in.width, width, 2)
        self.pair_out = PairUpdate(width, pair_width) if spec.pair_out else None
        self.point_out = zeroed(Linear(width, 3 * vectors)) if spec.point_out else None

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        b, n = mask.shape
        dtype = self.site_in.start.dtype
        real = mask[..., None].to(dtype)
        h = self.site_in(streams.site, mask)
        x = distance = near = None
        if streams.point is not None and self.spec.point:
            x = centred(streams.point, real)
            distance = distances(x)
            if self.cutoff is not None:
                near = unpack(distance[..., :1]).squeeze(-1) < self.cutoff
        z = self.pair_in(streams, distance, n).expand(b, -1, -1, -1)
        edges = Edges.of(mask, near, dtype)
        e, gap = edges.take(z), None
        if x is not None and distance is not None:
            flat = x.reshape(b * n, -1, 3)
            gap = flat.index_select(0, edges.index[0]) - flat.index_select(0, edges.index[1])
            gap = (gap / (1 + edges.take(distance))[..., None]).transpose(1, 2)
        c = self.context_in(context)
        vectors = None
        for block in self.blocks:
            h, e, vectors = block(h, e, gap, edges, c)
        h = modulate(h, *self.site_out(c)) * real
        pair = None if self.pair_out is None else unpack(self.pair_out(z, h))
        if pair is not None:
            pair = pair * real[:, :, None] * real[:, None]
        point = None
        if self.point_out is not None and vectors is not None:
            v = vectors.reshape(b, n, 3, -1)
            p, q, r = v.chunk(3, -1)
            v = torch.cat([p, q, torch.linalg.cross(p, r, dim=2)], -1)
            point = (v @ self.point_out(h)[..., None]).squeeze(-1) * real
        return Streams(h, pair, point)
