"""What all roles share: the trunk, the context vector, heads on sites and pairs."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from molgen.core.conditions import Condition
from molgen.core.fields import Field
from molgen.core.rng import RandomSource
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.core.waves import waves

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


@final
class LevelEmbedding(nn.Module):
    """Numbers of order one as sines and cosines, `(B, levels)` to `(B, width)`, of unit variance."""

    def __init__(self, levels: int, width: int, count: int = 16) -> None:
        super().__init__()
        self.count = count
        self.mix = preserving(nn.Linear(2 * count * levels, width), math.sqrt(2))

    def forward(self, levels: Tensor) -> Tensor:
        sines, cosines = waves(levels, self.count).chunk(2, -1)
        out: Tensor = self.mix(torch.cat([sines.flatten(1), cosines.flatten(1)], 1))
        return out


class TrunkWrapper(nn.Module, ABC):
    r"""A trunk that is told the context: levels of noise, labels, and a code.

    Arguments:
        fields: the fields by name.
        make_trunk: builds the trunk for a `TrunkSpec`.
        spec: the streams in and out; its context is set here.
        conditions: the labels it can be conditioned on.
        width: channels of the context vector.
        levels: numbers of order one that the context holds, e.g. a noise level per field.
        code: channels of a vector that the context holds.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        spec: TrunkSpec,
        conditions: Sequence[Condition] = (),
        width: int = 128,
        levels: int = 0,
        code: int = 0,
    ) -> None:
        super().__init__()
        self.fields, self.conditions = fields, tuple(conditions)
        self.context_width = width
        self.trunk = make_trunk(spec)
        self.embed_level = LevelEmbedding(levels, width) if levels else None
        flags = sum(c.width for c in self.conditions)
        # Of the features of a label one is on, so each column is as large as the level's embedding.
        self.embed_label = preserving(nn.Linear(flags, width), math.sqrt(flags)) if flags else None
        self.embed_code = preserving(nn.Linear(code, width)) if code else None
        self.context = nn.Sequential(nn.SiLU(), preserving(nn.Linear(width, width), SILU_GAIN), nn.SiLU())

    fixed_size = False  # see `Exportable`

    def null_labels(self, mask: Tensor) -> dict[str, Any]:
        """The labels of an example, none of them given; nothing where the network knows no labels."""
        labels = {c.name: torch.full((len(mask),), c.missing(), device=mask.device) for c in self.conditions}
        return {"labels": labels} if labels else {}

    def coded(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """The code of an example; nothing where the network has none."""
        return {} if self.embed_code is None else {"code": rng.normal(mask, (self.embed_code.in_features,))}

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return next(self.context.parameters()).dtype

    def embed(
        self,
        levels: Tensor | None = None,
        labels: Mapping[str, Tensor] | None = None,
        code: Tensor | None = None,
        count: int = 1,
    ) -> Tensor:
        """The context vector `(B, width)`; labels that are absent count as not given."""
        parts = []
        like = next(self.context.parameters())
        if self.embed_level is not None and levels is not None:
            parts.append(self.embed_level(levels.to(self.dtype)))
        if self.embed_label is not None:
            features = []
            for c in self.conditions:
                value = (labels or {}).get(c.name)
                if value is None:
                    value = torch.full((count,), c.missing(), device=like.device)
                features.append(c.features(value.to(like.device)))
            parts.append(self.embed_label(torch.cat(features, 1).to(self.dtype)))
        if self.embed_code is not None and code is not None:
            parts.append(self.embed_code(code.to(self.dtype)))
        if not parts:
            parts.append(like.new_zeros(count, self.context_width))
        out: Tensor = self.context(torch.stack(parts).sum(0))
        return out

    def add_heads(self, outputs: Mapping[str, int], silent: bool = True) -> None:
        """A linear layer per field from features of sites or pairs; if `silent`, zero at the start."""
        # Keys are prefixed: a field may be named like an attribute of a module.
        self.heads = nn.ModuleDict()
        for name, f in self.fields.items():
            if f.stream == "point":
                continue
            head = nn.Linear(self.trunk.width if f.stream == "site" else self.trunk.pair_width, outputs[name])
            preserving(head, 0.0 if silent else 1.0)
            self.heads[f"field_{name}"] = head

    def read_out(self, out: Streams, name: str) -> Tensor:
        """The raw outputs of one field: displacements, or the head on its stream."""
        stream = self.fields[name].stream
        if stream == "point":
            assert out.point is not None
            return out.point
        raw: Tensor
        if stream == "pair":
            raw = self.heads[f"field_{name}"](out.pair)
            return (raw + raw.transpose(1, 2)) / 2
        raw = self.heads[f"field_{name}"](out.site)
        return raw


@final
class Spread(nn.Module):
    """A code `(B, code)` told at every site: alike at each, or by a view of its own at each of a grid.

    Arguments:
        code: channels of the code.
        site: channels that it has on each site.
        extent: the grid of all samples; None where samples have sizes of their own.
    """

    def __init__(self, code: int, site: int, extent: tuple[int, ...] | None) -> None:
        super().__init__()
        self.site, self.extent = site, extent
        self.views = nn.Linear(code, site * math.prod(extent or (1,)))

    def forward(self, code: Tensor, mask: Tensor) -> Tensor:
        """`(B, *extent, site)`, zero on padding."""
        views = self.views(code.to(self.views.weight.dtype))
        shape = self.extent or (1,) * (mask.dim() - 1)
        wide = views.reshape(mask.shape[0], *shape, self.site).expand(*mask.shape, self.site)
        out: Tensor = wide * mask[..., None]
        return out


def channels(fields: Mapping[str, Field], widths: Mapping[str, int]) -> dict[str, int]:
    """Channels of the site and pair streams if each field brings its width."""
    total = {"site": 0, "pair": 0}
    for name, f in fields.items():
        if f.stream != "point":
            total[f.stream] += widths[name]
    return total


def gather(fields: Mapping[str, Field], parts: Mapping[str, Sequence[Tensor]], dtype: torch.dtype) -> Streams:
    """Streams from the features of each field, concatenated per stream; point sets are stacked."""
    streams: dict[str, list[Tensor]] = {"site": [], "pair": [], "point": []}
    for name, f in fields.items():
        streams[f.stream].extend(parts[name])
    return Streams(
        site=torch.cat(streams["site"], -1).to(dtype) if streams["site"] else None,
        pair=torch.cat(streams["pair"], -1).to(dtype) if streams["pair"] else None,
        point=torch.stack(streams["point"], 2).to(dtype) if streams["point"] else None,
    )
