"""The transformer: a site stream with rotary positions; for strings and other sequences."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.layers import (
    ContextEmbedding,
    GatedMLP,
    Modulation,
    SiteInput,
    modulate,
    require_divisible,
    rotary,
    rotate,
    zeroed,
)
from molgen.nn.linear import Linear


class _Block(nn.Module):
    """Attention, then a gated MLP, both modulated by the context."""

    def __init__(self, context: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = Modulation(context, width, 6)
        self.inputs = Linear(width, 3 * width)
        self.output = zeroed(Linear(width, width))
        self.mlp = GatedMLP(width, hidden)

    def forward(
        self,
        h: Tensor,
        keep: Tensor | None,
        causal: bool,
        turn: tuple[Tensor, Tensor] | None,
        context: Tensor | None,
    ) -> Tensor:
        b, n, width = h.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(context)
        qkv = self.inputs(modulate(h, shift_a, scale_a)).reshape(b, n, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if turn is not None:
            q, k = rotate(q, *turn), rotate(k, *turn)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, is_causal=causal and keep is None)
        h = h + self.output(mixed.transpose(1, 2).reshape(b, n, width)) * (1 + gate_a)
        out: Tensor = h + self.mlp(modulate(h, shift_m, scale_m)) * (1 + gate_m)
        return out


@final
class Transformer(Trunk):
    """A transformer over a sequence of sites, modulated by the context (adaLN).

    Arguments:
        spec: streams in and out; sites only.
        width: channels on sites.
        depth: number of blocks.
        heads: attention heads; `width` must be an even multiple of them.
        rotary: rotary relative positions in the attention; if False, sines and cosines of the
            position are added to the input.
        causal: whether a site sees only sites up to itself.
        hidden: channels inside the gated MLP, 2 `width` if None.

    Raises:
        ConfigError: if the spec has pairs or points, or `heads` does not fit `width`.

    Source: after Peebles and Xie, Scalable Diffusion Models with Transformers (2023).

    Example:
        >>> import torch
        >>> trunk = Transformer(TrunkSpec(site=4, context=3), width=16, depth=1, heads=2)
        >>> trunk(Streams(torch.randn(2, 5, 4)), torch.ones(2, 5) > 0, torch.randn(2, 3)).site.shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        rotary: bool = True,
        causal: bool = False,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out:
            raise ConfigError("Transformer has a site stream only; use PairTransformer for pairs and points")
        require_divisible("width", width, "2 heads", 2 * heads)
        self.spec, self.width, self.pair_width = spec, width, 0
        self.rotary, self.causal, self.heads = rotary, causal, heads
        self.site_in = SiteInput(spec.site, width, ordered=not rotary)
        self.context_in = ContextEmbedding(spec.context, min(64, width))
        self.blocks = nn.ModuleList(
            _Block(self.context_in.width, width, heads, hidden or 2 * width) for _ in range(depth)
        )
        self.site_out = Modulation(self.context_in.width, width, 2)

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        h = self.site_in(streams.site, mask)
        turn = rotary(mask.shape[1], self.width // self.heads, h) if self.rotary else None
        keep = self._keep(mask)
        c = self.context_in(context)
        for block in self.blocks:
            h = block(h, keep, self.causal, turn, c)
        return Streams(modulate(h, *self.site_out(c)) * mask[..., None])

    def _keep(self, mask: Tensor) -> Tensor | None:
        """Which keys each query sees, or None where a plain (causal) attention will do."""
        if self.causal:
            # Padding stands after the real sites, so the causal order hides it already.
            return None
        # A sample without sites sees its own padding, or its softmax would be empty.
        return (mask | ~mask.any(1, keepdim=True))[:, None, None]
