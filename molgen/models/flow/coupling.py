"""Spline couplings: monotone splines whose knots the modality's trunk says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, final

from torch import Tensor, nn

from molgen.core.errors import ConfigError
from molgen.core.fields import Field
from molgen.core.modality import Modality
from molgen.core.noise import Noise
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
from molgen.models.flow.invertible import Invertible


@final
class CouplingFlow(Invertible):
    """Rational-quadratic spline couplings with linear tails, and invertible mixings of channels.

    In each layer one half of the reals goes through splines that the trunk says from the other half:
    halves of the channels, then halves of the sites (and of the pairs, each once). On grids, blocks of
    2 x 2 sites become channels, whose halves are the colours of a checkerboard; after the layers of one
    resolution half of the channels is done, and the other half goes on at the next. One trunk serves all
    layers of a resolution.

    Arguments:
        modality, view, trunk, trunk_options: see `GenerativeModel`.
        kind: ``"coupling"``.
        layers: number of couplings, on a grid at each resolution.
        bins: bins of a spline, 2 to 100.
        bound: splines are the identity beyond so many standard deviations.
        scales: resolutions of a grid at most.
        dequantization: where in its cell a discrete value lies: ``"uniform"``, or learned with the rest,
            ``"variational"``.
        temperature: factor on the spread of the noise that samples are made from.
        label_dropout: share of training samples whose label is withheld.
        width: channels of the context vector.

    Errors: `ConfigError` for an option out of its range; `UnsupportedError` if no view suits.

    Source: Durkan et al., Neural Spline Flows (2019); Kingma and Dhariwal, Glow (2018); Dinh et al.,
    Density Estimation using Real NVP (2017).
    """

    def __init__(
        self,
        modality: str | Modality,
        *,
        kind: Literal["coupling"] = "coupling",
        view: str | None = None,
        trunk: str | None = None,
        trunk_options: Mapping[str, Any] | None = None,
        layers: int = 4,
        bins: int = 8,
        bound: float = 5.0,
        scales: int = 2,
        dequantization: Literal["uniform", "variational"] = "uniform",
        temperature: float = 1.0,
        label_dropout: float = 0.1,
        width: int = 128,
    ) -> None:
        if dequantization not in (known := ("uniform", "variational")):
            raise ConfigError.unknown("dequantization", dequantization, known)
        if not 0 < bound < math.inf:
            raise ConfigError(f"bound is {bound}, expected a positive number")
        if not 2 <= bins <= 100:
            raise ConfigError(f"bins is {bins}, expected 2 to 100")
        super().__init__(
            modality,
            view,
            trunk,
            trunk_options,
            kind=kind,
            layers=layers,
            bins=bins,
            bound=bound,
            scales=scales,
            dequantization=dequantization,
            temperature=temperature,
            label_dropout=label_dropout,
            width=width,
        )
        if dequantization == "variational" and not self._discrete:
            raise ConfigError(
                f"dequantization={dequantization!r}: view {self._view!r} of {self.modality.name!r} has no "
                "discrete values; leave it out"
            )

    def log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)

    def white(self, mask: Tensor, own: tuple[int, ...], noise: Noise) -> Tensor:
        return noise.normal(mask, own)

    def build(self) -> nn.Module:
        channels = {k: d.dim for k, d in self._dequantization.items()}
        extent = self.modality.extent or ()
        flow = self._resolution(channels, extent, self.hyper["scales"])
        if self.hyper["dequantization"] == "uniform":
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
        count = self.hyper["layers"]
        bound = self.hyper["bound"]
        conditioner, spline = self._conditioner(self.view.fields, channels, count, bound)
        mixings = [Mixing(channels) for _ in range(count)]
        return Coupling(conditioner, count, spline, halving, mixings)

    def _conditioner(
        self, fields: Mapping[str, Field], channels: Mapping[str, int], layers: int, bound: float
    ) -> tuple[Conditioner, Spline]:
        spline = Spline(self.hyper["bins"], bound)
        said, width = spline.outputs, self.hyper["width"]
        return Conditioner(fields, self.make_trunk, self.conditions, channels, layers, said, width), spline


def _divisible(extent: tuple[int, ...]) -> bool:
    return len(extent) == 2 and all(n % 2 == 0 and n >= 4 for n in extent)


_WITHIN = 2
"""Layers of the flow that says where in their cells discrete values lie."""
