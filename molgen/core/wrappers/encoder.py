"""The encoder and critic: values of all fields to a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.capabilities import Denoising
from molgen.core.conditions import Condition
from molgen.core.fields import Field
from molgen.core.rng import RandomSource
from molgen.core.trunk import TrunkSpec
from molgen.core.wrappers.wrapper import SILU_GAIN, MakeTrunk, TrunkWrapper, channels, gather, preserving

_GATE_GAIN = 2.0
"""What a half-open gate takes from the size of its value."""


@final
class Encoder(TrunkWrapper):
    r"""A trunk whose features are pooled over sites and pairs to a vector; with one output, a critic.

    Features of sites are gated before their mean is taken, so that a few can decide, and go through a
    hidden layer; values are continuous values, through which gradients flow.

    Arguments:
        fields: the continuous fields by name.
        make_trunk, conditions, width: as for `TrunkWrapper`.
        outputs: channels of the vector.
        extensive: sum over sites instead of their mean, as an energy is.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        conditions: Sequence[Condition] = (),
        outputs: int = 1,
        extensive: bool = False,
        width: int = 128,
    ) -> None:
        denoising = Denoising.each(fields)
        wide = channels(fields, {k: d.inputs for k, d in denoising.items()})
        pairs = any(f.stream == "pair" for f in fields.values())
        spec = TrunkSpec(
            site=wide["site"],
            pair=wide["pair"],
            point=sum(f.stream == "point" for f in fields.values()),
            context=width,
            pair_out=pairs,
            pooled=True,
        )
        super().__init__(fields, make_trunk, spec, conditions, width, levels=1)
        self.pairs, self.extensive = pairs, extensive
        size = self.trunk.width
        # A code that hardly differs between samples would be given up before a decoder listens to it.
        self.gate_site = preserving(nn.Linear(size, 2 * width), _GATE_GAIN)
        self.gate_pair = (
            preserving(nn.Linear(self.trunk.pair_width, 2 * width), _GATE_GAIN) if pairs else None
        )
        self.output = nn.Sequential(
            preserving(nn.Linear(width, width)), nn.SiLU(), preserving(nn.Linear(width, outputs), SILU_GAIN)
        )
        self.denoising = denoising

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward` for values without noise, see `Exportable`."""
        x = {name: f.prior(mask, rng) for name, f in self.fields.items()}
        return {"x": x, "mask": mask, **self.null_labels(mask)}

    def forward(
        self,
        x: Mapping[str, Tensor],
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        t: Tensor | None = None,
    ) -> Tensor:
        """`(B, outputs)` from continuous values; `t` `(B,)` tells their noise level, by default none."""
        time = torch.zeros(mask.shape[0], device=mask.device) if t is None else t
        parts = {k: [d.scale_input(x[k], time, mask)] for k, d in self.denoising.items()}
        context = self.embed(time[:, None], labels, count=mask.shape[0])
        out = self.trunk(gather(self.fields, parts, self.dtype), mask, context)
        assert out.site is not None
        pooled = self._pool(self.gate_site(out.site), _coarser(mask, out.site.shape[1:-1]))
        if self.gate_pair is not None and out.pair is not None:
            off = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
            pooled = pooled + self._pool(
                self.gate_pair(out.pair), mask[:, :, None] & mask[:, None, :] & off, mask.sum(1)
            )
        result: Tensor = self.output(pooled)
        return result

    def _pool(self, features: Tensor, valid: Tensor, count: Tensor | None = None) -> Tensor:
        gate, value = features.chunk(2, -1)
        total = (gate.sigmoid() * value * valid[..., None]).flatten(1, -2).sum(1)
        if self.extensive:
            return total
        sites = valid.flatten(1).sum(1) if count is None else count
        return total / sites.clamp_min(1)[:, None]


def _coarser(mask: Tensor, extent: Sequence[int]) -> Tensor:
    """The cells of a coarser grid that hold real sites."""
    if mask.shape[1:] == tuple(extent):
        return mask
    return F.adaptive_max_pool2d(mask[:, None].float(), tuple(extent))[:, 0] > 0
