"""The pair transformer: sites, symmetric pairs and points of one sample; for graphs, molecules, proteins."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from molgen.core.linear import Linear
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.geometry import Invariants, PairInput, along, centred, distances
from molgen.nn.layers import (
    ContextEmbedding,
    GatedMLP,
    Modulation,
    SiteInput,
    modulate,
    require_divisible,
    require_points,
    softmax,
    zeroed,
)
from molgen.nn.pairs import partners, unpack, unpack_first


@final
class _Attention(nn.Module):
    """Attention between sites with a bias from pairs; also gives each head's weighted mean of points."""

    def __init__(self, width: int, pair_width: int, heads: int, farthest: int | None) -> None:
        super().__init__()
        self.heads, self.farthest = heads, farthest
        self.inputs = Linear(width, 3 * width)
        self.bias = Linear(pair_width, heads, bias=False)
        # The only use of the sign of j - i, so that pairs stay symmetric.
        self.order = nn.Parameter(torch.zeros(heads, 2 * farthest + 1)) if farthest is not None else None
        self.output = zeroed(Linear(width, width))

    def forward(
        self, h: Tensor, z: Tensor, blocked: Tensor, x: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        b, n, width = h.shape
        q, k, v = self.inputs(h).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = unpack_first(self.bias(z))
        if self.order is not None and self.farthest is not None:
            i = torch.arange(n, device=h.device)
            gap = (i[None] - i[:, None]).clamp(-self.farthest, self.farthest) + self.farthest
            bias = bias + (self.order[:, gap] + blocked)
        else:
            bias = bias + blocked
        scores = torch.baddbmm(
            bias.flatten(0, 1),
            q.flatten(0, 1),
            k.flatten(0, 1).transpose(1, 2),
            alpha=(width // self.heads) ** -0.5,
        )
        share = softmax(scores)
        out = (share @ v.flatten(0, 1)).reshape(b, self.heads, n, -1).transpose(1, 2).reshape(b, n, width)
        centres = None if x is None else share.reshape(b, self.heads * n, n) @ x
        return self.output(out), centres


@final
class _Block(nn.Module):
    """Attention and geometry, gated MLP, then an update of pairs from their sites."""

    def __init__(
        self,
        spec: TrunkSpec,
        context: int,
        width: int,
        pair_width: int,
        heads: int,
        vectors: int,
        hidden: int,
        farthest: int | None,
        neighbours: int,
        last: bool,
    ) -> None:
        super().__init__()
        self.modulation = Modulation(context, width, 6)
        self.pair_norm = nn.LayerNorm(pair_width)
        self.attention = _Attention(width, pair_width, heads, farthest)
        given = (heads + 2 * neighbours) * spec.point
        self.geometry = Invariants(given, vectors, width) if spec.point else None
        self.mlp = GatedMLP(width, hidden)
        self.sites = self.up = self.down = None
        if not last:
            self.sites = Linear(width, pair_width)
            nn.init.ones_(self.sites.bias)
            self.up = Linear(pair_width, pair_width)
            self.down = zeroed(Linear(pair_width, pair_width))

    def forward(
        self,
        h: Tensor,
        z: Tensor,
        blocked: Tensor,
        x: Tensor | None,
        chain: Tensor | None,
        context: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(context)
        normed = self.pair_norm(z)
        update, centres = self.attention(modulate(h, shift_a, scale_a), normed, blocked, x)
        vectors = None
        if self.geometry is not None and centres is not None and x is not None:
            b, n, _ = x.shape
            v = (x[:, None] - centres.reshape(b, -1, n, x.shape[-1])).reshape(b, -1, n, x.shape[-1] // 3, 3)
            v = v.permute(0, 2, 4, 1, 3).flatten(3)
            features, vectors = self.geometry(v if chain is None else torch.cat([v, chain], -1))
            update = update + features
        h = h + update * (1 + gate_a)
        h = h + self.mlp(modulate(h, shift_m, scale_m)) * (1 + gate_m)
        if self.sites is not None and self.up is not None and self.down is not None:
            # (1 + a_i) (1 + a_j) holds the sum and the product of both sites' features.
            s = self.sites(nn.functional.layer_norm(h, h.shape[-1:]))
            z = z + self.down(nn.functional.silu(self.up(normed + s[:, :, None] * partners(s))))
        return h, z, vectors


@final
class _Displacement(nn.Module):
    r"""A vector per site: :math:`\sum_c g_{ic} (\sum_j w_{ijc} (x_i - x_j) + p_{ic} + p_{ic} \times q_{ic})`.

    Pair weights are symmetric, read from the pairs and damped by :math:`1 / (1 + d_{ij})`; the gates g
    come from the sites and start at zero.
    """

    def __init__(self, width: int, pair_width: int, points: int, vectors: int, channels: int) -> None:
        super().__init__()
        self.points, self.channels, self.vectors = points, channels, vectors
        self.weights = Linear(pair_width, points * channels)
        self.gates = zeroed(Linear(width, channels + 2 * vectors))

    def forward(self, h: Tensor, z: Tensor, x: Tensor, near: Tensor, vectors: Tensor, real: Tensor) -> Tensor:
        b, n, columns, _ = z.shape
        near = near * (real[:, :, None] * partners(real))
        w = self.weights(z).reshape(b, n, columns, self.points, -1) * near[..., None]
        full = unpack_first(w.flatten(3)).reshape(b, self.points, self.channels * n, n)
        ones = x.new_ones(b, self.points, n, 1)
        sums = full @ torch.cat([x.reshape(b, n, self.points, 3).transpose(1, 2), ones], -1)
        sums = sums.reshape(b, self.points, self.channels, n, 4)
        here = x.reshape(b, n, self.points, 3).permute(0, 2, 1, 3)[:, :, None]
        pulls = (sums[..., 3:] * here - sums[..., :3]).sum(1).permute(0, 2, 3, 1)
        p, q, _ = vectors.chunk(3, -1)
        terms = torch.cat([pulls, p, torch.linalg.cross(p, q, dim=2)], -1)
        out: Tensor = (terms @ self.gates(h)[..., None]).squeeze(-1) * real
        return out


@final
class PairTransformer(Trunk):
    r"""A transformer over sites with a stream of symmetric pairs and SO(3)-equivariant geometry.

    Sites attend to each other with a bias from pairs, :math:`a_{ij} = \mathrm{softmax}_j (q_i \cdot k_j
    + b(z_{ij}))`; pairs are updated with the product of their sites; coordinates enter as distances, and as
    vectors :math:`x_i - \sum_j a_{ij} x_j` whose lengths, dot products and signed volumes return to
    the sites. Displacements rotate with the input and are invariant to translation; mirror images
    are distinguished. Pairs are stored once (`molgen.nn.pairs`), so their symmetry is exact.

    Arguments:
        spec: streams in and out.
        width: channels on sites.
        pair_width: channels on pairs.
        depth: number of blocks.
        heads: attention heads; must divide `width`.
        ordered: whether sites form a sequence; if not, permuting sites permutes the output.
        vectors: vector channels per site (used with points only).
        max_distance: relative positions are clipped here (used if `ordered`).
        hidden: channels inside the gated MLP, 2 `width` if None.
        basis: Gaussians per distance; points should have about unit variance per coordinate.
        neighbours: sites before and after each one whose vectors are given besides those of attention
            (used with points and `ordered` only).

    Raises:
        ConfigError: if `heads` does not divide `width`, or displacements are requested without points.

    Source: after Jumper et al. (2021), Vignac et al., MiDi (2023), Geffner et al., Proteina (2025).

    Example:
        >>> trunk = PairTransformer(TrunkSpec(site=4, point=1, point_out=True), width=16, depth=1)
        >>> streams = Streams(torch.randn(2, 5, 4), None, torch.randn(2, 5, 1, 3))
        >>> out = trunk(streams, torch.ones(2, 5) > 0, None)
        >>> out.site.shape, out.point.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 5, 3]))
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        width: int = 128,
        pair_width: int = 32,
        depth: int = 6,
        heads: int = 8,
        ordered: bool = True,
        vectors: int = 8,
        max_distance: int = 32,
        hidden: int | None = None,
        basis: int = 32,
        neighbours: int = 0,
    ) -> None:
        super().__init__()
        require_divisible("width", width, "heads", heads)
        require_points(spec.point, spec.point_out)
        self.spec, self.width, self.pair_width, self.ordered = spec, width, pair_width, ordered
        self.neighbours = neighbours if ordered and spec.point else 0
        farthest = max_distance if ordered else None
        self.site_in = SiteInput(spec.site, width, ordered)
        self.pair_in = PairInput(spec, pair_width, basis, farthest)
        self.context_in = ContextEmbedding(spec.context, min(64, width))
        self.blocks = nn.ModuleList(
            _Block(
                spec,
                self.context_in.width,
                width,
                pair_width,
                heads,
                vectors,
                hidden or 2 * width,
                farthest,
                self.neighbours,
                last=i == depth - 1 and not (spec.pair_out or spec.point_out),
            )
            for i in range(depth)
        )
        self.site_out = Modulation(self.context_in.width, width, 2)
        self.pair_out = nn.LayerNorm(pair_width) if spec.pair_out or spec.point_out else None
        self.point_out = _Displacement(width, pair_width, spec.point, vectors, 8) if spec.point_out else None

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        b, n = mask.shape
        dtype = self.site_in.start.dtype
        real = mask[..., None].to(dtype)
        h = self.site_in(streams.site, mask)
        x = distance = chain = None
        if streams.point is not None and self.spec.point:
            x = centred(streams.point, real)
            distance = distances(x)
            chain = along(x, real, self.neighbours) if self.neighbours else None
        z = self.pair_in(streams, distance, n).expand(b, -1, -1, -1)
        blocked = (1 - real).reshape(b, 1, 1, n) * -1e9
        c = self.context_in(context)
        vectors = None
        for block in self.blocks:
            h, z, vectors = block(h, z, blocked, x, chain, c)
        h = modulate(h, *self.site_out(c))
        pair = point = None
        if self.pair_out is not None:
            z = self.pair_out(z)
        if self.spec.pair_out:
            pair = unpack(z * (real[:, :, None] * partners(real)))
        if self.point_out is not None and x is not None and distance is not None and vectors is not None:
            near = 1 / (1 + distance) / real.sum(1)[:, :, None, None].clamp_min(1)
            point = self.point_out(h, z, x, near, vectors, real)
        return Streams(h * real, pair, point)
