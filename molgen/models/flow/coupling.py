"""Spline couplings: monotone splines whose knots the modality's trunk says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from molgen.core.errors import ConfigError
from molgen.core.fields import Field
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource
from molgen.core.wrappers import Conditioner
from molgen.models.flow.bijections import (
    Bijection,
    Chain,
    Coarse,
    Coupling,
    Dequantized,
    Half,
    Mixing,
    Spline,
    beside,
    halving,
)
from molgen.models.flow.invertible import BijectiveOptions, Invertible
from molgen.models.options import Options, option


@final
@dataclass(frozen=True, kw_only=True)
class CouplingOptions(BijectiveOptions):
    """Options of `CouplingFlow`."""

    bins: int = option(8, "bins of a spline", ge=2, le=100)
    bound: float = option(5.0, "standard deviations beyond which splines are the identity", gt=0, lt=math.inf)
    scales: int = option(2, "largest number of resolutions of a grid", ge=1)
    dequantization: Literal["uniform", "variational"] = option(
        "uniform", "where in its cell a discrete value lies: anywhere, or learned with the rest"
    )


@final
class CouplingFlow(Invertible, kind="coupling"):
    """Rational-quadratic spline couplings with linear tails, and invertible mixings of channels.

    In each layer one half of the reals goes through splines that the trunk says from the other half:
    halves of the channels, then halves of the sites (and of the pairs, each once). On grids, blocks of
    2 x 2 sites become channels, whose halves are the colours of a checkerboard; after the layers of one
    resolution half of the channels is done, and the other half goes on at the next. One trunk serves all
    layers of a resolution.

    Arguments:
        modality, view, trunk, trunk_options: see `GenerativeModel`.
        kind: ``"coupling"``.
        {options}

    Errors: `ConfigError` for an option out of its range; `UnsupportedError` if no view suits.

    Source: Durkan et al., Neural Spline Flows (2019); Kingma and Dhariwal, Glow (2018); Dinh et al.,
    Density Estimation using Real NVP (2017).
    """

    options_type: ClassVar[type[Options]] = CouplingOptions
    options: CouplingOptions

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        if self.options.dequantization == "variational" and not self._discrete:
            raise ConfigError(
                f"dequantization='variational': view {self._view!r} of {self.modality.name!r} has no "
                "discrete values; leave it out"
            )

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        return {"layers": 4}

    def log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)

    def white(self, mask: Tensor, own: tuple[int, ...], rng: RandomSource) -> Tensor:
        return rng.normal(mask, own)

    def build(self) -> nn.Module:
        channels = {k: d.dim for k, d in self._dequantization.items()}
        extent = self.modality.extent or ()
        flow = self._resolution(channels, extent, self.options.scales)
        if self.options.dequantization == "uniform":
            return flow
        coarse = _divisible(extent)
        beside_each = {k: 2 * self._dequantization[k].dim * (4 if coarse else 1) for k in self._discrete}
        conditioner, spline = self._conditioner(self._discrete, beside_each, _WITHIN, bound=1.0)
        return Dequantized(flow, Coupling(conditioner, _WITHIN, spline, beside), coarse)

    @property
    def _discrete(self) -> Mapping[str, Field]:
        return {k: f for k, f in self.view.fields.items() if self._dequantization[k].discrete}

    def _resolution(self, channels: Mapping[str, int], extent: tuple[int, ...], scales: int) -> Bijection:
        """The layers of one resolution and, on half of their channels, of the coarser ones."""
        if not (scales and _divisible(extent)):
            return self._layers(channels)
        coarse = {k: 4 * c for k, c in channels.items()}
        smaller = (extent[0] // 2, extent[1] // 2)
        layers = self._layers(coarse)
        if scales > 1 and _divisible(smaller):
            rest = self._resolution({k: c // 2 for k, c in coarse.items()}, smaller, scales - 1)
            return Coarse(Chain(layers, Half(rest)))
        return Coarse(layers)

    def _layers(self, channels: Mapping[str, int]) -> Bijection:
        count = self.options.layers
        bound = self.options.bound
        conditioner, spline = self._conditioner(self.view.fields, channels, count, bound)
        mixings = [Mixing(channels) for _ in range(count)]
        return Coupling(conditioner, count, spline, halving, mixings)

    def _conditioner(
        self, fields: Mapping[str, Field], channels: Mapping[str, int], layers: int, bound: float
    ) -> tuple[Conditioner, Spline]:
        spline = Spline(self.options.bins, bound)
        said, width = spline.outputs, self.options.width
        return Conditioner(fields, self.make_trunk, self.conditions, channels, layers, said, width), spline


def _divisible(extent: tuple[int, ...]) -> bool:
    return len(extent) == 2 and all(n % 2 == 0 and n >= 4 for n in extent)


_WITHIN = 2
"""Layers of the flow that says where in their cells discrete values lie."""
