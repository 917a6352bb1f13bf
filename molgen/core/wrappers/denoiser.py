"""The denoiser: values under noise to the parameters of p(x0 | x_t)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from molgen.core.capabilities import Denoising
from molgen.core.conditions import Condition
from molgen.core.fields import Field
from molgen.core.rng import RandomSource
from molgen.core.solvers import Denoise, State
from molgen.core.trunk import Streams, TrunkSpec
from molgen.core.wrappers.wrapper import MakeTrunk, Spread, TrunkWrapper, channels, gather

_VIEW = 16
"""Channels that a code has on each site."""


@final
class Denoiser(TrunkWrapper):
    r"""A trunk with heads that predict the parameters of p(x0 | x_t) of every field.

    Arguments:
        fields, make_trunk, conditions, width: as for `TrunkWrapper`.
        self_condition: whether it also takes its previous estimate of x0 (Chen et al., Analog Bits,
            2023).
        code: channels of a vector for the whole sample that it is told besides, at each site and in its
            context; 0 for none.
        extent: the grid of all samples, see `Spread`.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        conditions: Sequence[Condition] = (),
        self_condition: bool = False,
        width: int = 128,
        code: int = 0,
        extent: tuple[int, ...] | None = None,
    ) -> None:
        denoising = Denoising.each(fields)
        wide = channels(fields, {k: d.inputs + self_condition * d.estimates for k, d in denoising.items()})
        points = sum(f.stream == "point" for f in fields.values())
        spec = TrunkSpec(
            site=wide["site"] + (_VIEW if code else 0),
            pair=wide["pair"],
            point=points * (1 + self_condition),
            context=width,
            pair_out=any(f.stream == "pair" for f in fields.values()),
            point_out=points > 0,
        )
        super().__init__(fields, make_trunk, spec, conditions, width, levels=len(fields), code=code)
        self.spread = Spread(code, _VIEW, extent) if code else None
        self.self_condition, self.denoising = self_condition, denoising
        self.add_heads({name: d.outputs for name, d in denoising.items()})

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward` but the previous estimate, see `Exportable`."""
        x = {name: f.prior(mask, rng) for name, f in self.fields.items()}
        t = rng.uniform(mask, ())
        return {"x": x, "t": t, "mask": mask, **self.null_labels(mask), **self.coded(mask, rng)}

    def forward(
        self,
        x: Mapping[str, Tensor],
        t: Tensor,
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        previous: Mapping[str, Tensor] | None = None,
        code: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The parameters of p(x0 | x_t) per field.

        Arguments:
            x: values at time `t`, per field.
            t: times `(B,)`.
            mask: real sites.
            labels: conditions `(B,)` by name; absent ones count as not given.
            previous: the estimate of an earlier step, for self-conditioning.
            code: `(B, code)`, where the network has one.
        """
        levels = torch.stack([d.c_noise(t) for d in self.denoising.values()], 1)
        context = self.embed(levels, labels, code, count=mask.shape[0])
        streams = self._streams(x, t, mask, previous)
        if self.spread is not None and code is not None:
            views = self.spread(code, mask)
            site = views if streams.site is None else torch.cat([streams.site, views], -1)
            streams = replace(streams, site=site)
        out = self.trunk(streams, mask, context)
        return {k: d.precondition(self.read_out(out, k), x[k], t, mask) for k, d in self.denoising.items()}

    def _streams(
        self,
        x: Mapping[str, Tensor],
        t: Tensor,
        mask: Tensor,
        previous: Mapping[str, Tensor] | None,
    ) -> Streams:
        parts: dict[str, list[Tensor]] = {}
        for name, d in self.denoising.items():
            features = d.scale_input(x[name], t, mask)
            parts[name] = [features]
            if self.self_condition and previous is None:
                parts[name].append(features.new_zeros(*features.shape[:-1], d.estimates))
            elif self.self_condition and previous is not None:
                parts[name].append(d.self_condition_input(previous[name], mask))
        return gather(self.fields, parts, self.dtype)


# ---------------------------------------------------------------------- self-conditioning


def self_condition_estimate(
    network: nn.Module,
    x: State,
    t: Tensor,
    mask: Tensor,
    labels: Mapping[str, Tensor],
    rng: RandomSource,
) -> State | None:
    """What a step of training is shown as the previous estimate: in half of them one, without gradients.

    Source: Chen et al., Analog Bits (2023), algorithm 1.
    """
    if rng.uniform(mask, ())[0] >= 0.5:
        return None
    with torch.no_grad():
        params: State = network(x, t, mask, labels)
    return params


def with_self_conditioning(
    network: nn.Module, mask: Tensor, labels: Mapping[str, Tensor], conditioned: bool
) -> Denoise:
    """The network as a function of (x, t) that reads its previous estimate, if it is conditioned on it.

    Source: Chen et al., Analog Bits (2023), algorithm 2.
    """
    last: State | None = None

    def denoise(x: State, t: Tensor) -> State:
        nonlocal last
        params: State = network(x, t, mask, labels, last if conditioned else None)
        last = params
        return params

    return denoise
