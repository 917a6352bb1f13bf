"""An equivariant trunk on e3nn: features are scalars, vectors and l = 2 tensors of SO(3)."""

from __future__ import annotations

from typing import final

import torch
from e3nn import o3
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear, linear
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.edges import Edges, PairUpdate
from molgen.nn.geometry import PairInput, centred, distances
from molgen.nn.layers import ContextEmbedding, GatedMLP, Modulation, SiteInput, modulate, zeroed
from molgen.nn.pairs import unpack


@final
class _Norm(nn.Module):
    """Divides the channels of each order l > 0 by their common root-mean-square length; drops scalars."""

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.slices = [(s, m.mul) for s, m in zip(irreps.slices(), irreps, strict=True) if m.ir.l > 0]

    def forward(self, f: Tensor) -> Tensor:
        parts = []
        for s, mul in self.slices:
            v = f[:, s]
            parts.append(v * (v.square().sum(-1, keepdim=True) / mul + 1e-4).rsqrt())
        return torch.cat(parts, -1)


@final
class _Coupling(nn.Module):
    r"""The Clebsch-Gordan part of the tensor products, which depends on the edges only.

    For each order of the features, the matrix :math:`M_{ik} = \sum_j C_{ijk} Y_j` with the columns of all
    paths to an output order side by side; a convolution then is one product per order.

    Arguments:
        irreps: features, one entry per order.
        harmonics: spherical harmonics Y of an edge.
    """

    def __init__(self, irreps: o3.Irreps, harmonics: o3.Irreps) -> None:
        super().__init__()
        self.outputs: list[list[o3.Irrep]] = []
        for n, a in enumerate(irreps):
            columns: list[Tensor] = []
            repeats: list[int] = []
            paths: list[o3.Irrep] = []
            for b, place in zip(harmonics, harmonics.slices(), strict=True):
                for ir in a.ir * b.ir:
                    if ir in irreps:
                        table = torch.zeros(a.ir.dim, harmonics.dim, ir.dim)
                        table[:, place] = o3.wigner_3j(a.ir.l, b.ir.l, ir.l) * ir.dim**0.5
                        columns.append(table)
                        repeats += [len(paths)] * ir.dim
                        paths.append(ir)
            self.outputs.append(paths)
            self.register_buffer(
                f"table{n}", torch.cat(columns, 2).transpose(1, 2).flatten(0, 1), persistent=False
            )
            self.register_buffer(
                f"repeat{n}", nn.functional.one_hot(torch.tensor(repeats)).float(), persistent=False
            )

    def forward(self, y: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per order the matrices `(E, dim, K)`, and the map `(K, P)` from columns to paths."""
        result = []
        for n in range(len(self.outputs)):
            repeat: Tensor = self.get_buffer(f"repeat{n}")
            matrix = linear(y, self.get_buffer(f"table{n}"))
            dim = matrix.shape[1] // repeat.shape[0]
            result.append((matrix.reshape(-1, dim, repeat.shape[0]), repeat))
        return result


@final
class _Convolution(nn.Module):
    """Tensor products of neighbours with spherical harmonics of the edge, weighted by the edge's features."""

    def __init__(self, irreps: o3.Irreps, coupling: _Coupling, edge_width: int, output: o3.Irreps) -> None:
        super().__init__()
        self.shapes = [(m.mul, m.ir.dim) for m in irreps]
        self.paths = [len(paths) for paths in coupling.outputs]
        self.dims = [[ir.dim for ir in paths] for paths in coupling.outputs]
        middle = [(m.mul, ir) for m, paths in zip(irreps, coupling.outputs, strict=True) for ir in paths]
        self.sizes = [m.mul * p for m, p in zip(irreps, self.paths, strict=True)]
        self.weights = nn.Sequential(
            Linear(edge_width, 64), nn.SiLU(), Linear(64, sum(self.sizes), bias=False)
        )
        self.output = o3.Linear(o3.Irreps(middle), output)

    def forward(self, f: Tensor, e: Tensor, coupling: list[tuple[Tensor, Tensor]], edges: Edges) -> Tensor:
        to, start = edges.index
        features = torch.split(f, [mul * dim for mul, dim in self.shapes], -1)
        weights = torch.split(self.weights(e), self.sizes, -1)
        total = []
        for (mul, dim), x, w, (matrix, repeat), dims in zip(
            self.shapes, features, weights, coupling, self.dims, strict=True
        ):
            x = x.index_select(0, start).reshape(-1, mul, dim)
            messages = (x @ matrix) * linear(w.reshape(-1, mul, repeat.shape[1]), repeat)
            summed = f.new_zeros(f.shape[0], mul * repeat.shape[0]).index_add(0, to, messages.flatten(1))
            by_path = torch.split(summed.reshape(f.shape[0], mul, -1), dims, -1)
            total += [part.flatten(1) for part in by_path]
        out: Tensor = self.output(torch.cat(total, -1) * edges.scale)
        return out


@final
class _Block(nn.Module):
    """A gated interaction: convolution, gates, a residual; then a gated MLP on the scalars."""

    def __init__(
        self, irreps: o3.Irreps, coupling: _Coupling, context: int, width: int, pair_width: int
    ) -> None:
        super().__init__()
        self.width = width
        higher = o3.Irreps([m for m in irreps if m.ir.l > 0])
        self.orders = [(m.mul, m.ir.dim) for m in higher]
        gates = sum(m.mul for m in higher)
        self.modulation = Modulation(context, width, 6)
        self.norm = _Norm(irreps)
        # Half of the scalars are sent along the edges, which takes most of the time.
        sent = o3.Irreps(f"{max(width // 2, 1)}x0e") + higher
        self.mix = o3.Linear(irreps, sent)
        self.convolution = _Convolution(sent, coupling, pair_width, o3.Irreps(f"{width + gates}x0e") + higher)
        self.output = zeroed(Linear(width, width))
        self.mlp = GatedMLP(width, 2 * width)

    def forward(
        self,
        h: Tensor,
        v: Tensor,
        e: Tensor,
        coupling: list[tuple[Tensor, Tensor]],
        edges: Edges,
        context: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Scalars `(B, N, width)` and higher orders `(B N, ...)`."""
        b, n, width = h.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(context)
        normed = modulate(h, shift_a, scale_a).flatten(0, 1)
        f = self.mix(torch.cat([normed, self.norm(torch.cat([normed, v], -1))], -1))
        f = self.convolution(f, e, coupling, edges)
        sizes = [width, sum(m for m, _ in self.orders), v.shape[1]]
        scalars, gates, higher = torch.split(f, sizes, -1)
        update = self.output(F.silu(scalars)).reshape(b, n, width)
        h = h + update * (1 + gate_a)
        h = h + self.mlp(modulate(h, shift_m, scale_m)) * (1 + gate_m)
        return h, v + self._gate(higher, gates.sigmoid())

    def _gate(self, v: Tensor, gates: Tensor) -> Tensor:
        parts, at = [], 0
        for (mul, dim), g in zip(
            self.orders, torch.split(gates, [m for m, _ in self.orders], -1), strict=True
        ):
            part = v[:, at : at + mul * dim].reshape(-1, mul, dim)
            parts.append((part * g[..., None]).flatten(1))
            at += mul * dim
        return torch.cat(parts, -1)


@final
class EquivariantTrunk(Trunk):
    """Gated tensor-product interactions of SO(3) over edges between sites, on e3nn.

    Every feature has even parity, so only rotations act as symmetries, and mirror images are distinguished
    (by displacements from two blocks on, by scalars from three: a volume is a product of three vectors).
    Edges join all real sites, or those nearer than `cutoff` in the first point set; their spherical
    harmonics are a learned average over point sets. Displacements are the vectors of the last block.

    Arguments:
        spec: streams in and out; needs points.
        width: channels on sites (scalars).
        pair_width: channels on edges and pairs.
        depth: number of blocks.
        vectors: channels of l = 1.
        tensors: channels of l = 2.
        ordered: whether sites form a sequence; if not, permuting sites permutes the output.
        max_distance: relative positions are clipped here (used if `ordered`).
        cutoff: longest edge in units of the point stream, None for all pairs.
        basis: Gaussians per distance.

    Raises:
        ConfigError: if the spec has no points.

    Source: Geiger and Smidt, e3nn (2022); Batzner et al., NequIP (2022).

    Example:
        >>> trunk = EquivariantTrunk(TrunkSpec(point=1, point_out=True), width=16, depth=1)
        >>> trunk(Streams(point=torch.randn(2, 5, 1, 3)), torch.ones(2, 5) > 0, None).point.shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        width: int = 64,
        pair_width: int = 32,
        depth: int = 4,
        vectors: int = 16,
        tensors: int = 8,
        ordered: bool = True,
        max_distance: int = 32,
        cutoff: float | None = None,
        basis: int = 32,
    ) -> None:
        super().__init__()
        if not spec.point:
            raise ConfigError(
                "EquivariantTrunk needs coordinates; use PairTransformer or MessageTrunk without"
            )
        self.spec, self.width, self.pair_width = spec, width, pair_width
        self.ordered, self.cutoff, self.higher = ordered, cutoff, 3 * vectors + 5 * tensors
        irreps = o3.Irreps(f"{width}x0e + {vectors}x1e + {tensors}x2e")
        harmonics = o3.Irreps("0e + 1e + 2e")
        self.harmonics = o3.SphericalHarmonics(harmonics, normalize=False, irreps_in="1e")
        self.coupling = _Coupling(irreps, harmonics)
        self.site_in = SiteInput(spec.site, width, ordered)
        self.pair_in = PairInput(spec, pair_width, basis, max_distance if ordered else None)
        self.sets = Linear(pair_width, spec.point) if spec.point > 1 else None
        self.context_in = ContextEmbedding(spec.context, min(64, width))
        self.edges = nn.ModuleList(PairUpdate(width, pair_width) for _ in range(depth))
        self.blocks = nn.ModuleList(
            _Block(irreps, self.coupling, self.context_in.width, width, pair_width) for _ in range(depth)
        )
        self.site_out = Modulation(self.context_in.width, width, 2)
        self.pair_out = PairUpdate(width, pair_width) if spec.pair_out else None
        self.vectors = vectors
        self.point_out = zeroed(Linear(width, vectors)) if spec.point_out else None

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        b, n = mask.shape
        dtype = self.site_in.start.dtype
        real = mask[..., None].to(dtype)
        h = self.site_in(streams.site, mask)
        point = h.new_zeros(b, n, self.spec.point, 3) if streams.point is None else streams.point
        x = centred(point, real)
        distance = distances(x)
        near = None
        if self.cutoff is not None:
            near = unpack(distance[..., :1]).squeeze(-1) < self.cutoff
        z = self.pair_in(streams, distance, n).expand(b, -1, -1, -1)
        edges = Edges.of(mask, near, dtype)
        coupling = self.coupling(self._harmonics(x, edges.take(z), edges))
        c = self.context_in(context)
        v = h.new_zeros(b * n, self.higher)
        for update, block in zip(self.edges, self.blocks, strict=True):
            z = update(z, h)
            h, v = block(h, v, edges.take(z), coupling, edges, c)
        h = modulate(h, *self.site_out(c)) * real
        pair = displacement = None
        if self.pair_out is not None:
            pair = unpack(self.pair_out(z, h)) * real[:, :, None] * real[:, None]
        if self.point_out is not None:
            w = self.point_out(h).reshape(b, n, self.vectors, 1)
            displacement = (v[:, : 3 * self.vectors].reshape(b, n, self.vectors, 3) * w).sum(2) * real
        return Streams(h, pair, displacement)

    def _harmonics(self, x: Tensor, e: Tensor, edges: Edges) -> Tensor:
        """Spherical harmonics of the edges, averaged over point sets, `(E, 9)`."""
        flat = x.reshape(-1, self.spec.point, 3)
        gap = flat.index_select(0, edges.index[0]) - flat.index_select(0, edges.index[1])
        # Nearly unit length, and smooth where two sites meet.
        values: Tensor = self.harmonics(gap * (gap.square().sum(-1, keepdim=True) + 1e-4).rsqrt())
        if self.sets is None:
            return values.squeeze(1)
        out: Tensor = (values * self.sets(e).softmax(-1)[..., None]).sum(1)
        return out
