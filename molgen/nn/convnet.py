"""A small residual network of convolutions at one resolution; for couplings of images."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.layers import ContextEmbedding, Modulation, zeroed


@final
class _Block(nn.Module):
    """A 3 x 3 and a 1 x 1 convolution with a skip; the context shifts and scales between them."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = Modulation(context, width, 2)
        self.mix = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        shift, scale = (v.reshape(v.shape[0], -1, 1, 1) for v in self.modulation(context, 1))
        h = torch.addcmul(shift, self.spread(F.silu(x)), 1 + scale)
        out: Tensor = x + self.mix(F.silu(h))
        return out


@final
class ConvNet(Trunk):
    """Residual blocks of convolutions on a grid of any size, modulated by the context.

    No block has a normalisation, and all work at the grid's own resolution, so that an evaluation is
    cheap; a flow evaluates one for each of its layers. Two input channels hold the coordinates of each cell.

    Arguments:
        spec: streams in and out; sites only, on a grid `(B, H, W, C)`.
        width: channels.
        depth: number of residual blocks.

    Raises:
        ConfigError: if the spec has pairs or points.

    Source: after Kingma and Dhariwal, Glow (2018).

    Example:
        >>> trunk = ConvNet(TrunkSpec(site=1), width=8, depth=1)
        >>> trunk(Streams(torch.randn(2, 7, 5, 1)), torch.ones(2, 7, 5) > 0, None).site.shape
        torch.Size([2, 7, 5, 8])
    """

    def __init__(self, spec: TrunkSpec, *, width: int = 48, depth: int = 1) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out:
            raise ConfigError("ConvNet has a site stream only; use PairTransformer for pairs and points")
        self.spec, self.width, self.pair_width = spec, width, 0
        self.context_in = ContextEmbedding(spec.context, 64)
        context = self.context_in.width
        self.stem = nn.Conv2d(spec.site + 2, width, 3, padding=1)
        self.modulation = Modulation(context, width, 2)
        self.blocks = nn.ModuleList(_Block(width, context) for _ in range(depth))

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        c = self.context_in(context)
        shift, scale = (v.reshape(v.shape[0], -1, 1, 1) for v in self.modulation(c, 1))
        x = torch.addcmul(shift, self.stem(self._grid(streams.site, mask)), 1 + scale)
        for block in self.blocks:
            x = block(x, c)
        return Streams(F.silu(x).permute(0, 2, 3, 1))

    def _grid(self, site: Tensor | None, mask: Tensor) -> Tensor:
        """The site stream with coordinates, `(B, C + 2, H, W)`."""
        like = self.stem.weight
        axes = [torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in mask.shape[1:]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).expand(mask.shape[0], -1, -1, -1)
        x = grid if site is None else torch.cat([site, grid], -1)
        return x.permute(0, 3, 1, 2)
