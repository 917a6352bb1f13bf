"""The gated PixelCNN: masked convolutions over a grid that is generated pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear
from molgen.core.trunk import CausalTrunk, Streams, TrunkSpec
from molgen.nn.layers import ContextEmbedding, zeroed

_REACH = 2  # columns to the left in a horizontal convolution, besides its own


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


@final
class _Layer(nn.Module):
    """One gated layer of the vertical and the horizontal stack."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(width, 2 * width, (2, 3))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, 1 + _REACH))
        self.down = nn.Conv2d(2 * width, 2 * width, 1)
        self.output = zeroed(nn.Conv2d(width, width, 1))
        self.told = Linear(context, 4 * width) if context else None

    def context(self, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """The contribution of the context to both stacks, `(B, 2 width, 1, 1)` each."""
        if self.told is None or c is None:
            zero = self.output.weight.new_zeros(1, 1, 1, 1)
            return zero, zero
        v, h = self.told(c)[..., None, None].chunk(2, 1)
        return v, h

    def rows(self, v: Tensor, told: Tensor) -> Tensor:
        """The vertical stack before its gate, from rows and one row above them."""
        out: Tensor = self.vertical(F.pad(v, (1, 1))) + told
        return out

    def columns(self, h: Tensor, above: Tensor, told: Tensor) -> Tensor:
        """The horizontal stack from columns and `_REACH` to their left, with the rows above."""
        gated = _gate(self.horizontal(h) + above + told)
        out: Tensor = h[..., _REACH:] + self.output(gated)
        return out


@final
@dataclass
class Memory:
    """The state of an image that is being generated.

    Arguments:
        vertical: the input of every layer's vertical stack over the whole grid, a row of zeros on top.
        horizontal: the input of every layer's horizontal stack over the current row, zeros first.
        above: the contribution of the rows above to every layer in this row.
        told: the contribution of the context to every layer.
        site: the channels of the current row.
        now: the next pixel.
    """

    vertical: list[Tensor]
    horizontal: list[Tensor]
    above: list[Tensor]
    told: list[tuple[Tensor, Tensor]]
    site: list[Tensor] = field(default_factory=list)
    now: int = 0


@final
class PixelCNN(CausalTrunk):
    r"""A stack of masked convolutions: the vertical one covers all rows above, the horizontal one the left.

    .. math:: v \leftarrow \tanh(W v)_1 \odot \sigma(W v)_2, \qquad
              h \leftarrow h + U [\tanh(W h + D v_{above})_1 \odot \sigma(W h + D v_{above})_2]

    Pixels are a sequence in raster order; the channels of each encode the previous pixel, so that a pixel may
    use its own position.

    Arguments:
        spec: a causal site stream.
        extent: rows and columns of the grid; the sequence has one site per pixel.
        width: channels.
        depth: number of layers; each extends the receptive field by a row and some columns.

    Raises:
        ConfigError: if the spec has pairs or points or is not causal.

    Source: van den Oord et al., Conditional Image Generation with PixelCNN Decoders (2016).

    Example:
        >>> trunk = PixelCNN(TrunkSpec(site=3, causal=True), extent=(4, 5), width=8, depth=2)
        >>> trunk(Streams(torch.randn(2, 20, 3)), torch.ones(2, 20) > 0, None).site.shape
        torch.Size([2, 20, 16])
    """

    def __init__(self, spec: TrunkSpec, *, extent: tuple[int, int], width: int = 32, depth: int = 8) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out or not spec.causal:
            raise ConfigError(
                "PixelCNN writes a site stream in order; use another trunk for pairs and points"
            )
        self.spec, self.extent, self.width, self.pair_width = spec, extent, 2 * width, 0
        self.context_in = ContextEmbedding(spec.context, 64)
        self.stem = nn.Conv2d(spec.site, width, 1)
        self.layers = nn.ModuleList(_Layer(width, self.context_in.width) for _ in range(depth))
        self.read = nn.Conv2d(width, 2 * width, 1)

    @property
    def _stack(self) -> list[_Layer]:
        return [cast(_Layer, layer) for layer in self.layers]

    def _told(self, context: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        c = self.context_in(context)
        return [layer.context(c) for layer in self._stack]

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        site = streams.site
        if site is None or site.shape[1] != math.prod(self.extent):
            raise ConfigError(f"PixelCNN expects {math.prod(self.extent)} pixels with one number each")
        grid = site.reshape(site.shape[0], *self.extent, -1).permute(0, 3, 1, 2)
        v = h = self.stem(grid.contiguous(memory_format=torch.channels_last))
        for layer, (told_v, told_h) in zip(self._stack, self._told(context), strict=True):
            raw = layer.rows(F.pad(v, (0, 0, 1, 0)), told_v)
            above = layer.down(F.pad(raw, (0, 0, 1, 0))[:, :, :-1])
            h = layer.columns(F.pad(h, (_REACH, 0)), above, told_h)
            v = _gate(raw)
        return Streams(F.silu(self.read(h)).flatten(2).transpose(1, 2) * mask[..., None])

    def begin(self, mask: Tensor, context: Tensor | None) -> Memory:
        b, (height, width) = len(mask), self.extent
        like, count = self.stem.weight, self.stem.out_channels
        depth = len(self.layers)
        return Memory(
            [like.new_zeros(b, count, height + 1, width) for _ in range(depth)],
            [like.new_zeros(b, count, 1, width + _REACH) for _ in range(depth)],
            [layer.down(like.new_zeros(b, 2 * count, 1, width)) for layer in self._stack],
            self._told(context),
        )

    def extend(self, site: Tensor, memory: Memory) -> Tensor:
        row, column = divmod(memory.now, self.extent[1])
        if column == 0 and row > 0:
            self._close(row - 1, memory)
        h = x = self.stem(site[:, :, None, None])
        memory.site.append(x)
        for k, layer in enumerate(self._stack):
            held = memory.horizontal[k]
            held[..., column + _REACH] = h[..., 0]
            window = held[..., column : column + _REACH + 1]
            above = memory.above[k][..., column : column + 1]
            h = layer.columns(window, above, memory.told[k][1])
        memory.now += 1
        return F.silu(self.read(h))[:, :, 0, 0]

    def _close(self, row: int, memory: Memory) -> None:
        """Runs the vertical stack over a row that is complete, and clears the horizontal one."""
        v = torch.cat(memory.site, 3)
        memory.site.clear()
        for k, layer in enumerate(self._stack):
            held = memory.vertical[k]
            held[:, :, row + 1] = v[:, :, 0]
            raw = layer.rows(held[:, :, row : row + 2], memory.told[k][0])
            memory.above[k] = layer.down(raw)
            memory.horizontal[k].zero_()
            v = _gate(raw)
