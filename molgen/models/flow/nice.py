"""NICE: additive couplings, a final scaling, and a logistic prior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from molgen.core.conditions import Condition
from molgen.core.errors import ConfigError
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource
from molgen.core.wrappers import Conditioner
from molgen.models.flow.bijections import Chain, Coupling, Scaling, Shift, alternating
from molgen.models.flow.invertible import BijectiveOptions, Invertible
from molgen.models.options import Options, option

_DEPTH = 5
"""Hidden layers of each coupling's network."""
_HIDDEN = 128
"""Units of each, if not told."""


@final
class Perceptrons(nn.Module):
    """A network on the whole vector of a sample for each layer, where all samples fill one grid.

    Arguments:
        shapes: of the reals of each field, `(*extent, C)`.
        conditions: labels that are read beside the vector.
        layers: number of networks.
        hidden: units of each of the five hidden layers.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        conditions: Sequence[Condition],
        layers: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.shapes, self.conditions = {k: tuple(v) for k, v in shapes.items()}, tuple(conditions)
        numbers = sum(math.prod(shape) for shape in self.shapes.values())
        widths = [numbers + sum(c.width for c in self.conditions), *[hidden] * _DEPTH]
        self.networks = nn.ModuleList()
        for _ in range(layers):
            parts: list[nn.Module] = []
            for i, o in pairwise(widths):
                inner = nn.Linear(i, o)
                nn.init.kaiming_normal_(inner.weight)
                parts += [inner, nn.ReLU()]
            last = nn.Linear(hidden, numbers)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.networks.append(nn.Sequential(*parts, last))

    def forward(
        self,
        z: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        layer: int,
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """A shift of every real, `(B, *extent, C, 1)`; arguments as of `Conditioner`."""
        columns = [(z[k] * seen[k]).flatten(1) for k in self.shapes]
        for c in self.conditions:
            value = (labels or {}).get(c.name)
            absent = torch.full((mask.shape[0],), c.missing(), device=mask.device)
            columns.append(c.features(absent if value is None else value).to(columns[0]))
        out = self.networks[layer](torch.cat(columns, 1))
        parts = out.split([math.prod(shape) for shape in self.shapes.values()], 1)
        named = zip(self.shapes.items(), parts, strict=True)
        return {k: part.reshape(-1, *shape, 1) for (k, shape), part in named}


@final
@dataclass(frozen=True, kw_only=True)
class NICEOptions(BijectiveOptions):
    """Options of `NICE`."""

    hidden: int = option(
        _HIDDEN, "units of each hidden layer where samples fill one grid; 1000 as published", ge=1
    )


@final
class NICE(Invertible, kind="nice"):
    r"""Additive couplings in which even and odd places take turns, then one factor for each real.

    .. math:: y_A = x_A, \quad y_B = x_B + m(x_A), \qquad \log p(z) = -\log(1 + e^z) - \log(1 + e^{-z})

    Where all samples fill one grid, m is a network with five hidden layers on the whole vector, and each
    place has its own factor, as published. Where samples have sizes of their own, m is the modality's
    trunk, and a factor belongs to a channel.

    Arguments:
        modality, view, trunk, trunk_options: see `GenerativeModel`.
        kind: ``"nice"``.
        {options}

    Errors: `ConfigError` for an option that has no use here; `UnsupportedError` if no view suits.

    Source: Dinh et al., NICE: Non-linear Independent Components Estimation (2014).
    """

    options_type: ClassVar[type[Options]] = NICEOptions
    options: NICEOptions

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        hidden = self.options.hidden
        if self.modality.extent is None and hidden != _HIDDEN:
            raise ConfigError(
                f"hidden={hidden}: samples of {self.modality.name!r} have sizes of their own, for which kind "
                "'nice' uses the trunk; give trunk_options"
            )
        if self.modality.extent is not None and (self.trunk is not None or self.trunk_options):
            raise ConfigError(
                f"trunk_options: samples of {self.modality.name!r} fill one grid, for which kind 'nice' "
                "uses no trunk; give hidden"
            )

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        return {"layers": 4}

    def log_prior(self, z: Tensor) -> Tensor:
        return nn.functional.logsigmoid(z) + nn.functional.logsigmoid(-z)

    def white(self, mask: Tensor, own: tuple[int, ...], rng: RandomSource) -> Tensor:
        return rng.uniform(mask, own).clamp(1e-6, 1 - 1e-6).logit()

    def build(self) -> nn.Module:
        extent, count, fields = self.modality.extent, self.options.layers, self.view.fields
        channels = {k: d.dim for k, d in self._dequantization.items()}
        shapes = {k: (*(extent or ()), c) for k, c in channels.items()}
        conditioner: nn.Module
        if extent is not None:
            conditioner = Perceptrons(shapes, self.conditions, count, self.options.hidden)
        else:
            width = self.options.width
            conditioner = Conditioner(fields, self.make_trunk, self.conditions, channels, count, 1, width)
        return Chain(Coupling(conditioner, count, Shift(), alternating), Scaling(shapes))
