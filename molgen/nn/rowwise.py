"""A transformer over the rows of a grid, and gated convolutions within the current row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear
from molgen.core.trunk import CausalTrunk, Streams, TrunkSpec
from molgen.nn.layers import zeroed
from molgen.nn.transformer import Transformer

_REACH = 2  # columns to the left in a layer, besides its own
_WINDOW = (4, 7)  # rows above, and columns of them, in the window of a pixel
_CODE = 8  # size of the code of a pixel for the rows below


@final
class _Layer(nn.Module):
    """A gated convolution along a row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(width, 2 * width, (1, 1 + _REACH))
        self.output = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, h: Tensor) -> Tensor:
        """Columns from columns and `_REACH` to their left."""
        out: Tensor = h[..., _REACH:] + self.output(F.glu(self.look(h), 1))
        return out


@final
@dataclass
class Memory:
    """The state of a grid that is being generated.

    Arguments:
        rows: the memory of the transformer over rows.
        window: the codes of the rows above, `(B, code, rows above, columns)`, padded with zeros.
        told: the contribution of the rows above to each pixel of the current row, `(B, width, 1, columns)`.
        row: the input of every layer over that row, zeros first.
        site: the channels of that row so far.
        now: the next pixel.
    """

    rows: Any
    window: Tensor
    told: Tensor
    row: list[Tensor]
    site: list[Tensor] = field(default_factory=list)
    now: int = 0


@final
class RowTransformer(CausalTrunk):
    r"""A causal transformer over rows, with causal convolutions over the pixels of each row.

    .. math:: h = W x + U \, \mathrm{T}(r_{<i})_j + V * x_{above}, \qquad
              h \leftarrow h + O [(A * h) \odot \sigma(B * h)]

    A row is one token, so that distant context is cheap: 28 tokens for a digit instead of 784. Near context
    comes from a window over the rows above and from convolutions along the row. Pixels are a sequence in
    raster order; the channels of each encode the previous pixel, so that a pixel may use its own position.

    Arguments:
        spec: a causal site stream.
        extent: rows and columns of the grid; the sequence has one site per pixel.
        width: channels of a pixel.
        depth: number of convolutions along the row.
        row_width, row_depth, heads: channels, blocks and heads of the transformer over rows.

    Raises:
        ConfigError: if the spec has pairs or points or is not causal.

    Source: the decoders over rows and within a row of Ho et al., Axial Attention in Multidimensional
    Transformers (2019); the gates of Dauphin et al., Language Modeling with Gated Convolutional Networks
    (2017).

    Example:
        >>> trunk = RowTransformer(TrunkSpec(site=3, causal=True), extent=(4, 5), width=8, row_width=16)
        >>> trunk(Streams(torch.randn(2, 20, 3)), torch.ones(2, 20) > 0, None).site.shape
        torch.Size([2, 20, 16])
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        extent: tuple[int, int],
        width: int = 32,
        depth: int = 4,
        row_width: int = 128,
        row_depth: int = 3,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out or not spec.causal:
            raise ConfigError("RowTransformer writes a site stream in order; use another trunk for the rest")
        self.spec, self.extent, self.width, self.pair_width = spec, extent, 2 * width, 0
        columns = extent[1]
        self.stem = Linear(spec.site, width)
        self.code = Linear(width, _CODE)
        self.rows = Transformer(
            TrunkSpec(site=columns * _CODE, context=spec.context, causal=True),
            width=row_width,
            depth=row_depth,
            heads=heads,
        )
        self.spread = Linear(row_width, columns * width)
        self.window = nn.Conv2d(_CODE, 2 * width, _WINDOW)
        self.above = nn.Conv2d(2 * width, width, 1)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))
        self.read = nn.Conv2d(width, 2 * width, 1)

    def _codes(self, x: Tensor) -> Tensor:
        out: Tensor = F.silu(self.code(x))
        return out

    def _told(self, row: Tensor, window: Tensor) -> Tensor:
        """The contribution of the rows above to the pixels of rows, `(B, width, rows, columns)`.

        Arguments:
            row: the transformer's features of rows, `(B, rows, row_width)`.
            window: codes of the rows above them, from `_WINDOW` above the first on, padded at the sides.
        """
        far: Tensor = self.spread(row).unflatten(-1, (self.extent[1], -1)).permute(0, 3, 1, 2)
        near: Tensor = self.above(F.silu(self.window(window)))
        return far + near

    @staticmethod
    def _padded(codes: Tensor, above: int) -> Tensor:
        """Codes `(B, rows, columns, code)` as channels first, with zeros above and at the sides."""
        side = _WINDOW[1] // 2
        return F.pad(codes.permute(0, 3, 1, 2), (side, side, above, 0))

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        site = streams.site
        if site is None or site.shape[1] != math.prod(self.extent):
            raise ConfigError(f"RowTransformer expects {math.prod(self.extent)} pixels with one number each")
        x = self.stem(site).unflatten(1, self.extent)
        earlier = F.pad(self._codes(x), (0, 0, 0, 0, 1, -1))  # at every row, the one above it
        real = torch.ones(earlier.shape[:2], dtype=torch.bool, device=site.device)
        row = self.rows(Streams(earlier.flatten(2)), real, context).site
        assert row is not None
        h = x.permute(0, 3, 1, 2) + self._told(row, self._padded(earlier, _WINDOW[0] - 1))
        for layer in self.layers:
            h = layer(F.pad(h, (_REACH, 0)))
        return Streams(F.silu(self.read(h)).flatten(2).transpose(1, 2) * mask[..., None])

    def begin(self, mask: Tensor, context: Tensor | None) -> Memory:
        b, (height, columns) = len(mask), self.extent
        like = self.stem.weight
        real = torch.ones(b, height, dtype=torch.bool, device=mask.device)
        return Memory(
            self.rows.begin(real, context),
            self._padded(like.new_zeros(b, _WINDOW[0], columns, _CODE), 0),
            like.new_zeros(b, self.stem.out_features, 1, columns),
            [like.new_zeros(b, self.stem.out_features, 1, columns + _REACH) for _ in self.layers],
        )

    def extend(self, site: Tensor, memory: Memory) -> Tensor:
        column = memory.now % self.extent[1]
        if column == 0:
            self._open(memory, len(site))
        x = self.stem(site)
        memory.site.append(x)
        h = x[:, :, None, None] + memory.told[..., column : column + 1]
        for layer, held in zip(self.layers, memory.row, strict=True):
            held[..., column + _REACH] = h[..., 0]
            h = cast(_Layer, layer)(held[..., column : column + _REACH + 1])
        memory.now += 1
        return F.silu(self.read(h))[:, :, 0, 0]

    def _open(self, memory: Memory, b: int) -> None:
        """Adds the complete row to the context of the next one."""
        columns = self.extent[1]
        if memory.site:
            codes = self._codes(torch.stack(memory.site, 1))
        else:
            codes = self.stem.weight.new_zeros(b, columns, _CODE)
        memory.site.clear()
        memory.window = torch.cat([memory.window[:, :, 1:], self._padded(codes[:, None], 0)], 2)
        row = self.rows.extend(codes.flatten(1), memory.rows)
        memory.told = self._told(row[:, None], memory.window)
        for held in memory.row:
            held.zero_()
