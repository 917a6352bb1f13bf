"""The conditioner of couplings: half of the reals to what the other half is transformed by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from molgen.core.conditions import Condition
from molgen.core.fields import Field
from molgen.core.linear import Linear
from molgen.core.trunk import TrunkSpec
from molgen.core.wrappers.wrapper import MakeTrunk, TrunkWrapper, gather, preserving


@final
class Conditioner(TrunkWrapper):
    """One trunk for all layers, told in its context which layer asks, with heads for each layer.

    Arguments:
        fields, make_trunk, conditions, width: as for `TrunkWrapper`.
        channels: reals per site (or pair) of each field.
        layers: number of layers.
        outputs: numbers that one real is transformed by.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        conditions: Sequence[Condition],
        channels: Mapping[str, int],
        layers: int,
        outputs: int,
        width: int = 128,
    ) -> None:
        wide = {"site": 0, "pair": 0}
        for name, f in fields.items():
            wide["pair" if f.axes == 2 else "site"] += channels[name] + 1
        pairs = wide["pair"] > 0
        spec = TrunkSpec(site=wide["site"], pair=wide["pair"], context=width, pair_out=pairs, calls=layers)
        super().__init__(fields, make_trunk, spec, conditions, width, levels=2)
        self.layers, self.channels, self.outputs = layers, dict(channels), outputs
        self.heads = nn.ModuleDict()
        for name, f in fields.items():
            size = self.trunk.width if f.axes == 1 else self.trunk.pair_width
            for layer in range(layers):
                # Silent at the start: every layer begins as the identity.
                head = preserving(Linear(size, channels[name] * outputs), 0.0)
                self.heads[f"layer_{layer}_field_{name}"] = head

    def forward(
        self,
        z: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        layer: int,
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Raw parameters of every real, `(B, ..., channels, outputs)`; symmetric on pairs.

        Arguments:
            z: reals `(B, ..., channels)` per field.
            seen: which of them the network may look at, `(B, ..., channels)`.
            layer: the layer that asks.
            mask: real sites.
            labels: conditions `(B,)` by name.
        """
        # Beside the reals, the share of a site's channels that is seen, since a hidden real looks like zero.
        parts = {k: [z[k] * seen[k], seen[k].to(z[k]).mean(-1, keepdim=True)] for k in z}
        size = (1 + mask.flatten(1).sum(1)).to(self.dtype).log() / 4
        levels = torch.stack([torch.full_like(size, layer / self.layers), size], 1)
        context = self.embed(levels, labels, count=mask.shape[0])
        out = self.trunk(gather(self.fields, parts, self.dtype), mask, context)
        raw = {}
        for k, f in self.fields.items():
            head = self.heads[f"layer_{layer}_field_{k}"]
            values = head(out.pair if f.axes == 2 else out.site)
            if f.axes == 2:
                values = (values + values.transpose(1, 2)) / 2
            raw[k] = values.reshape(*values.shape[:-1], self.channels[k], self.outputs)
        return raw
