"""A network of fully connected layers over all cells of a grid; for small grids and many training steps."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.core.wrappers import SILU_GAIN, preserving
from molgen.nn.layers import ContextEmbedding, Modulation, modulate, zeroed


@final
class _Block(nn.Module):
    """A layer with a skip; the context shifts and scales its input."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.modulation = Modulation(context, width, 2)
        self.up = preserving(Linear(width, width))
        self.down = zeroed(Linear(width, width))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        out: Tensor = x + self.down(F.silu(self.up(modulate(x, *self.modulation(context, 0)))))
        return out


@final
class MLP(Trunk):
    r"""A multilayer perceptron over a grid of one size, modulated by the context.

    Each cell is projected to a few numbers, which are concatenated and projected to one vector. The vector
    passes through residual layers, and the features of each cell are read from it. On small images a training
    step takes a fraction of the time of convolutions, but the network has no prior on neighbouring cells. If
    the features are to be pooled, the vector is the only cell of the coarsest grid.

    Arguments:
        spec: streams in and out; sites only.
        extent: the grid, `(H, W)`.
        width: channels of the vector.
        depth: number of residual blocks of two layers.
        told: numbers of each cell in the vector.
        out: channels of the output on each cell.

    Raises:
        ConfigError: if the spec has pairs or points, or for a grid of another size.

    Source: after Burda et al., Importance Weighted Autoencoders (2016), with residual layers.

    Example:
        >>> trunk = MLP(TrunkSpec(site=1), extent=(7, 5), width=8, depth=1, out=4)
        >>> trunk(Streams(torch.randn(2, 7, 5, 1)), torch.ones(2, 7, 5) > 0, None).site.shape
        torch.Size([2, 7, 5, 4])
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        extent: tuple[int, ...],
        width: int = 512,
        depth: int = 2,
        told: int = 1,
        out: int = 4,
    ) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out:
            raise ConfigError("MLP has a site stream only; use PairTransformer for pairs and points")
        self.spec, self.extent, self.pair_width = spec, tuple(extent), 0
        cells = math.prod(extent)
        self.context_in = ContextEmbedding(spec.context, 64)
        context = self.context_in.width
        self.tell = preserving(Linear(spec.site, told)) if spec.site > told else None
        self.start = nn.Parameter(torch.randn(width))
        told = min(told, spec.site)
        self.stem = preserving(Linear(cells * told, width)) if told else None
        self.blocks = nn.ModuleList(_Block(width, context) for _ in range(depth))
        self.modulation = Modulation(context, width, 2)
        self.width = width if spec.pooled else out
        self.output = None if spec.pooled else preserving(Linear(width, cells * out), SILU_GAIN)

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        if tuple(mask.shape[1:]) != self.extent:
            raise ConfigError(
                f"a grid of {tuple(mask.shape[1:])} cells for an MLP of {self.extent}; "
                "use trunk='unet', which takes grids of any size"
            )
        c = self.context_in(context)
        x = self.start.expand(mask.shape[0], -1)
        if self.stem is not None and streams.site is not None:
            site = streams.site * mask[..., None]
            x = x + self.stem((site if self.tell is None else self.tell(site)).flatten(1))
        for block in self.blocks:
            x = block(x, c)
        x = F.silu(modulate(x, *self.modulation(c, 0)))
        if self.output is None:
            return Streams(x[:, None, None])
        return Streams(self.output(x).reshape(*mask.shape, self.width))
