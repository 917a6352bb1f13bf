"""Roles: what a trunk becomes once heads are added, here the denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from molgen.core.conditions import Condition
from molgen.core.fields import Field
from molgen.core.trunk import Streams, Trunk, TrunkSpec

MakeTrunk = Callable[[TrunkSpec], Trunk]


def preserving(layer: nn.Linear, gain: float = 1.0) -> nn.Linear:
    """The same layer, drawn so that inputs of unit variance come out `gain` as large, without bias.

    The usual initialisation shrinks its input by half or more. A label that goes through four layers
    before it reaches the first feature would arrive too faint to be learned from for thousands of steps.

    Source: Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models (2024).
    """
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_features))
    nn.init.zeros_(layer.bias)
    return layer


SILU_GAIN = 1 / 0.596
"""What `silu` takes from the size of a standard normal input."""


class LevelEmbedding(nn.Module):
    """Noise levels of every field as sines and cosines, `(B, fields)` to `(B, width)`, of unit variance."""

    frequencies: Tensor

    def __init__(self, levels: int, width: int, count: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * torch.logspace(-1, 5, count, base=2), persistent=False)
        self.mix = preserving(nn.Linear(2 * count * levels, width), math.sqrt(2))

    def forward(self, levels: Tensor) -> Tensor:
        waves = (levels[..., None] * self.frequencies).flatten(1)
        out: Tensor = self.mix(torch.cat([waves.sin(), waves.cos()], 1))
        return out


class Denoiser(nn.Module):
    r"""A trunk with heads that predict the parameters of p(x0 | x_t) of every field.

    Arguments:
        fields: the fields by name.
        make_trunk: builds the trunk for a `TrunkSpec`.
        conditions: the labels it can be conditioned on.
        self_condition: whether it also takes its previous estimate of x0 (Chen et al., Analog Bits,
            2023).
        width: channels of the context vector.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        conditions: Sequence[Condition] = (),
        self_condition: bool = False,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.fields, self.conditions, self.self_condition = fields, tuple(conditions), self_condition
        copies = 1 + self_condition
        channels = {"site": 0, "pair": 0}
        for f in fields.values():
            if f.stream != "point":
                channels[f.stream] += f.inputs + self_condition * f.estimates
        points = [f for f in fields.values() if f.stream == "point"]
        spec = TrunkSpec(
            site=channels["site"],
            pair=channels["pair"],
            point=len(points) * copies,
            context=width,
            pair_out=any(f.stream == "pair" for f in fields.values()),
            point_out=bool(points),
        )
        self.trunk = make_trunk(spec)
        self.embed_level = LevelEmbedding(len(fields), width)
        flags = sum(c.width for c in self.conditions)
        # Of the features of a label one is on, so each column is as large as the level's embedding.
        self.embed_label = preserving(nn.Linear(flags, width), math.sqrt(flags)) if flags else None
        self.context = nn.Sequential(nn.SiLU(), preserving(nn.Linear(width, width), SILU_GAIN), nn.SiLU())
        # Keys are prefixed: a field may be named like an attribute of a module.
        self.heads = nn.ModuleDict()
        for name, f in fields.items():
            if f.stream == "point":
                continue
            head = nn.Linear(self.trunk.width if f.stream == "site" else self.trunk.pair_width, f.outputs)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            self.heads[f"field_{name}"] = head

    def forward(
        self,
        x: Mapping[str, Tensor],
        t: Tensor,
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        previous: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The parameters of p(x0 | x_t) per field.

        Arguments:
            x: values at time `t`, per field.
            t: times `(B,)`.
            mask: real sites.
            labels: conditions `(B,)` by name; absent ones count as not given.
            previous: the estimate of an earlier step, for self-conditioning.
        """
        streams = self._streams(x, t, mask, previous)
        out = self.trunk(streams, mask, self._context(t, labels or {}))
        params = {}
        for name, f in self.fields.items():
            if f.stream == "point":
                raw = out.point
            elif f.stream == "pair":
                raw = self.heads[f"field_{name}"](out.pair)
                raw = (raw + raw.transpose(1, 2)) / 2
            else:
                raw = self.heads[f"field_{name}"](out.site)
            params[name] = f.predict(raw, x[name], t, mask)
        return params

    def _context(self, t: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        dtype = self.embed_level.mix.weight.dtype  # the network runs in its own
        h = self.embed_level(torch.stack([f.level(t) for f in self.fields.values()], 1).to(dtype))
        if self.embed_label is not None:
            absent = {c.name: t.new_full(t.shape, c.missing()) for c in self.conditions}
            known = {**absent, **{k: v.to(t) for k, v in labels.items() if k in absent}}
            features = torch.cat([c.features(known[c.name]) for c in self.conditions], 1)
            h = h + self.embed_label(features.to(dtype))
        out: Tensor = self.context(h)
        return out

    def _streams(
        self,
        x: Mapping[str, Tensor],
        t: Tensor,
        mask: Tensor,
        previous: Mapping[str, Tensor] | None,
    ) -> Streams:
        parts: dict[str, list[Tensor]] = {"site": [], "pair": [], "point": []}
        for name, f in self.fields.items():
            features = f.features(x[name], t, mask)
            parts[f.stream].append(features)
            if self.self_condition and previous is None:
                parts[f.stream].append(features.new_zeros(*features.shape[:-1], f.estimates))
            elif self.self_condition and previous is not None:
                parts[f.stream].append(f.estimate(previous[name], mask))
        dtype = self.embed_level.mix.weight.dtype
        return Streams(
            site=torch.cat(parts["site"], -1).to(dtype) if parts["site"] else None,
            pair=torch.cat(parts["pair"], -1).to(dtype) if parts["pair"] else None,
            point=torch.stack(parts["point"], 2).to(dtype) if parts["point"] else None,
        )
