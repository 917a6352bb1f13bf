"""The U-Net: convolutions over a grid at several resolutions; for images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.layers import ContextEmbedding, Modulation, require_divisible, zeroed


@final
class _Residual(nn.Module):
    """Two 3 x 3 convolutions with a skip; the context shifts and scales between them."""

    def __init__(self, inputs: int, width: int, context: int, groups: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, inputs)
        self.conv_in = nn.Conv2d(inputs, width, 3, padding=1)
        self.norm_out = nn.GroupNorm(groups, width)
        self.modulation = Modulation(context, width, 2)
        self.conv_out = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else None

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        shift, scale = (v.reshape(v.shape[0], -1, 1, 1) for v in self.modulation(context, 1))
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(F.silu(torch.addcmul(shift, self.norm_out(h), 1 + scale)))
        out: Tensor = h + (x if self.skip is None else self.skip(x))
        return out


@final
class _Attention(nn.Module):
    """Self-attention between the cells of a grid."""

    def __init__(self, width: int, groups: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads if width % heads == 0 else 1
        self.norm = nn.GroupNorm(groups, width)
        self.inputs = Linear(width, 3 * width)
        self.output = zeroed(Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(b, height * width, c)
        q, k, v = self.inputs(h).reshape(b, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, height, width, c)
        out: Tensor = x + self.output(h).permute(0, 3, 1, 2)
        return out


@final
class _Level(nn.Module):
    """A residual block, optionally with attention."""

    def __init__(self, inputs: int, width: int, context: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.residual = _Residual(inputs, width, context, groups)
        self.attention = _Attention(width, groups) if attention else None

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = self.residual(x, context)
        return x if self.attention is None else self.attention(x)


@final
class UNet(Trunk):
    """A U-Net over a grid of any size, modulated by the context.

    Grids are padded to a multiple of the coarsest stride with zeros and cropped at the end. Two more
    input channels hold the coordinates of each cell, since images are not translation-invariant. The
    finest resolution works on patches of cells, which saves most of the time and costs little. If the
    features are to be pooled, the upward path is left out.

    Arguments:
        spec: streams in and out; sites only, on a grid `(B, H, W, C)`.
        width: channels at the finest resolution.
        patch: cells per side of a patch; 1 works on single cells.
        out: channels of the output on each cell.
        multipliers: channels over `width`, one entry per resolution, each half the one before.
        blocks: residual blocks per resolution, on the way down; one more on the way up.
        attention: whether each resolution has self-attention.
        groups: groups of the normalisation; must divide every number of channels.

    Raises:
        ConfigError: if the spec has pairs or points, or the options do not fit together.

    Source: Ronneberger et al. (2015); Ho et al., Denoising Diffusion Probabilistic Models (2020).

    Example:
        >>> trunk = UNet(TrunkSpec(site=1), width=8, multipliers=(1, 2), attention=(False, True))
        >>> trunk(Streams(torch.randn(2, 7, 5, 1)), torch.ones(2, 7, 5) > 0, None).site.shape
        torch.Size([2, 7, 5, 16])
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        width: int = 64,
        patch: int = 2,
        out: int = 16,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        attention: Sequence[bool] = (False, True),
        groups: int = 8,
    ) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out:
            raise ConfigError("UNet has a site stream only; use PairTransformer for pairs and points")
        if not multipliers or len(attention) != len(multipliers):
            raise ConfigError(
                f"attention has {len(attention)} entries for {len(multipliers)} multipliers; "
                "give one per resolution"
            )
        require_divisible("width", width, "groups", groups)
        self.spec, self.pair_width, self.patch = spec, 0, patch
        self.stride = patch * 2 ** (len(multipliers) - 1)
        self.context_in = ContextEmbedding(spec.context, 64)
        context = self.context_in.width
        self.stem = nn.Conv2d((spec.site + 2) * patch**2, width, 3, padding=1)
        widths = [width * m for m in multipliers]
        kept, now = [width], width
        self.down = nn.ModuleList()
        for i, (w, a) in enumerate(zip(widths, attention, strict=True)):
            for _ in range(blocks):
                self.down.append(_Level(now, w, context, groups, a))
                now = w
                kept.append(w)
            if i < len(widths) - 1:
                self.down.append(nn.Conv2d(w, w, 3, stride=2, padding=1))
                kept.append(w)
        self.middle = _Level(now, now, context, groups, False)
        self.up = nn.ModuleList()
        if spec.pooled:
            self.width, self.norm = now, nn.GroupNorm(groups, now)
            return
        self.width = out
        for i, (w, a) in reversed(list(enumerate(zip(widths, attention, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(_Level(now + kept.pop(), w, context, groups, a))
                now = w
            if i > 0:
                self.up.append(nn.Conv2d(w, w, 3, padding=1))
        self.norm = nn.GroupNorm(groups, now)
        self.output = nn.Conv2d(now, out * patch**2, 1)

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        height, width = mask.shape[1:]
        x = self._grid(streams.site, mask)
        c = self.context_in(context)
        x = self.stem(x)
        kept = [x]
        for layer in self.down:
            x = layer(x, c) if isinstance(layer, _Level) else layer(x)
            kept.append(x)
        x = self.middle(x, c)
        if self.spec.pooled:
            return Streams(F.silu(self.norm(x)).permute(0, 2, 3, 1))
        for layer in self.up:
            if isinstance(layer, _Level):
                x = layer(torch.cat([x, kept.pop()], 1), c)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = F.pixel_shuffle(self.output(F.silu(self.norm(x))), self.patch)
        return Streams(x.permute(0, 2, 3, 1)[:, :height, :width])

    def _grid(self, site: Tensor | None, mask: Tensor) -> Tensor:
        """Patches of the site stream with coordinates, padded, `(B, (C + 2) patch^2, H', W')`."""
        b, height, width = mask.shape
        like = self.stem.weight
        rows = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)
        columns = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).expand(b, -1, -1, -1)
        x = grid if site is None else torch.cat([site, grid], -1)
        tall, wide = (self.stride * math.ceil(s / self.stride) for s in (height, width))
        x = F.pad(x, (0, 0, 0, wide - width, 0, tall - height))
        return F.pixel_unshuffle(x.permute(0, 3, 1, 2), self.patch).contiguous(
            memory_format=torch.channels_last
        )
