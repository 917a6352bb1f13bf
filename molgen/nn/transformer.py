"""The transformer: a site stream with rotary positions; for strings and other sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear
from molgen.core.trunk import CausalTrunk, Streams, TrunkSpec
from molgen.nn.layers import (
    ContextEmbedding,
    GatedMLP,
    Modulation,
    SiteInput,
    modulate,
    require_divisible,
    rotary,
    rotate,
    softmax,
    zeroed,
)


@final
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
        modulation: tuple[Tensor, ...],
        past: tuple[Tensor, Tensor] | None = None,
        now: int = 0,
    ) -> Tensor:
        """Features `(B, N, width)`; with `past`, keys and values of sites before `now`, of one more site."""
        b, n, width = h.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
        qkv = self.inputs(modulate(h, shift_a, scale_a)).reshape(b, n, 3, self.heads, -1)
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k = qkv[:2] if turn is None else rotate(qkv[:2], *turn)
        v = qkv[2]
        if past is None:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keep, is_causal=causal and keep is None)
        else:
            past[0][:, :, now], past[1][:, :, now] = k[:, :, 0], v[:, :, 0]
            mixed = _look_back(q, past[0][:, :, : now + 1], past[1][:, :, : now + 1], keep)
        h = torch.addcmul(h, self.output(mixed.transpose(1, 2).reshape(b, n, width)), 1 + gate_a)
        return torch.addcmul(h, self.mlp(modulate(h, shift_m, scale_m)), 1 + gate_m)


_SHORT = 16
"""Keys up to which products with one query are faster number by number than as matrices."""


def _look_back(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
    """Attention of one query `(B, heads, 1, C)` to keys and values `(B, heads, N, C)`."""
    if k.shape[2] > _SHORT:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    score = (q * k).sum(-1) / math.sqrt(q.shape[-1])
    if keep is not None:
        score = score.masked_fill(~keep[:, :, 0], -math.inf)
    return (softmax(score)[..., None] * v).sum(2, keepdim=True)


@final
@dataclass
class Memory:
    """The state of a causal transformer over the sites generated so far.

    Arguments:
        mask: real sites of the whole sequence, `(B, N)`.
        modulations: of every block and of the output, by the context.
        past: keys and values of every block, `(B, heads, N, C)`.
        turn: the rotary angles of the whole sequence.
        holes: whether padding stands before real sites.
        now: the next site.
    """

    mask: Tensor
    modulations: list[tuple[Tensor, ...]]
    past: list[tuple[Tensor, Tensor]]
    turn: tuple[Tensor, Tensor] | None
    holes: bool
    now: int = 0


@final
class Transformer(CausalTrunk):
    """A transformer over a sequence of sites, causal if the spec says so, modulated by the context (adaLN).

    Arguments:
        spec: streams in and out; sites only.
        width: channels on sites.
        depth: number of blocks.
        heads: attention heads; `width` must be an even multiple of them.
        rotary: rotary relative positions in the attention, besides the positions in the input.
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

    shares: ClassVar[bool] = True

    def __init__(
        self,
        spec: TrunkSpec,
        *,
        width: int = 192,
        depth: int = 6,
        heads: int = 6,
        rotary: bool = True,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if spec.pair or spec.point or spec.pair_out or spec.point_out:
            raise ConfigError("Transformer has a site stream only; use PairTransformer for pairs and points")
        require_divisible("width", width, "2 heads", 2 * heads)
        self.spec, self.width, self.pair_width = spec, width, 0
        self.rotary, self.causal, self.heads = rotary, spec.causal, heads
        self.site_in = SiteInput(spec.site, width, ordered=not spec.causal)
        self.context_in = ContextEmbedding(spec.context, min(64, width))
        self.blocks = nn.ModuleList(
            _Block(self.context_in.width, width, heads, hidden or 2 * width) for _ in range(depth)
        )
        self.site_out = Modulation(self.context_in.width, width, 2)

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        h = self.site_in(streams.site, mask)
        turn = self._turn(mask, h)
        keep = self._keep(mask)
        *modulations, last = self._modulations(context)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            h = block(h, keep, self.causal, turn, modulation)
        return Streams(modulate(h, *last) * mask[..., None])

    def _modulations(self, context: Tensor | None) -> list[tuple[Tensor, ...]]:
        """The modulations of every block and of the output by the context."""
        c = self.context_in(context)
        return [cast(_Block, block).modulation(c) for block in self.blocks] + [self.site_out(c)]

    def begin(self, mask: Tensor, context: Tensor | None) -> Memory:
        if not (self.causal and self.rotary):
            raise ConfigError("a transformer that writes site by site must be causal and rotary")
        b, n = mask.shape
        like = self.site_in.start
        empty = like.new_zeros(2, len(self.blocks), b, self.heads, n, self.width // self.heads)
        past = list(zip(empty[0], empty[1], strict=True))
        return Memory(mask, self._modulations(context), past, self._turn(mask, like), _holes(mask))

    def extend(self, site: Tensor, memory: Memory) -> Tensor:
        now, holes = memory.now, memory.holes
        h = self.site_in(site[:, None], memory.mask[:, now : now + 1])
        turn = memory.turn
        if turn is not None:
            turn = (turn[0][..., now : now + 1, :], turn[1][..., now : now + 1, :])
        keep = None
        if holes:
            keep = memory.mask[:, : now + 1].clone()
            keep[:, now] = True  # padding attends to itself, or its softmax would be empty
            keep = keep[:, None, None]
        *modulations, last = memory.modulations
        for block, modulation, past in zip(self.blocks, modulations, memory.past, strict=True):
            h = block(h, keep, False, turn, modulation, past, now)
        memory.now += 1
        return modulate(h, *last)[:, 0]

    def pick(self, memory: Memory, index: Tensor) -> Memory:
        def copied(held: Tensor) -> Tensor:
            out = held.new_zeros(len(index), *held.shape[1:])
            out[:, :, : memory.now] = held[:, :, : memory.now][index]
            return out

        def picked(x: Tensor) -> Tensor:
            return x if len(x) == 1 else x[index]  # a single one is broadcast

        turn = memory.turn
        if turn is not None and turn[0].dim() > 2:
            turn = (picked(turn[0]), picked(turn[1]))
        modulations = [tuple(picked(part) for part in parts) for parts in memory.modulations]
        past = [(copied(k), copied(v)) for k, v in memory.past]
        return Memory(memory.mask[index], modulations, past, turn, memory.holes, memory.now)

    def _turn(self, mask: Tensor, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary angles; padding before a real site does not count as a position."""
        if not self.rotary:
            return None
        cos, sin = rotary(mask.shape[1], self.width // self.heads, like)
        if not self.causal or not _holes(mask):
            return cos, sin
        place = (mask.cumsum(1) - 1).clamp_min(0)
        return cos[place][:, None], sin[place][:, None]

    def _keep(self, mask: Tensor) -> Tensor | None:
        """The keys of each query, or None if a plain (causal) attention is enough."""
        if self.causal and not _holes(mask):
            # Padding follows the real sites, so the causal order excludes it.
            return None
        if self.causal:
            n = mask.shape[1]
            order = torch.ones(n, n, dtype=torch.bool, device=mask.device)
            itself = torch.eye(n, dtype=torch.bool, device=mask.device)
            return ((order.tril() & mask[:, None]) | itself)[:, None]
        # A sample without sites attends to its own padding, or its softmax would be empty.
        return (mask | ~mask.any(1, keepdim=True))[:, None, None]


def _holes(mask: Tensor) -> bool:
    """Whether padding stands before a real site in any sample; an exported program assumes so."""
    return torch.compiler.is_exporting() or bool((mask[:, 1:] & ~mask[:, :-1]).any())
