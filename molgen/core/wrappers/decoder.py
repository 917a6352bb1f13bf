"""The decoder: a code to the densities of all entries of all fields, independent given the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from molgen.core.capabilities import Entries
from molgen.core.conditions import Condition
from molgen.core.fields import Field
from molgen.core.rng import RandomSource
from molgen.core.trunk import Streams, TrunkSpec
from molgen.core.wrappers.wrapper import MakeTrunk, Spread, TrunkWrapper


@final
class Decoder(TrunkWrapper):
    r"""A trunk that is told a code at every site and in its context, with heads for densities.

    Arguments:
        fields, make_trunk, conditions, width: as for `TrunkWrapper`.
        code: channels of the code.
        extent: the grid of all samples, on which each site gets its own view of the code; None where
            samples have sizes of their own.
        site: channels that the code has on each site.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        conditions: Sequence[Condition] = (),
        code: int = 32,
        extent: tuple[int, ...] | None = None,
        site: int = 16,
        width: int = 128,
    ) -> None:
        spec = TrunkSpec(site=site, context=width, pair_out=any(f.stream == "pair" for f in fields.values()))
        # The number of sites is known before any of them: sizes are drawn first.
        super().__init__(fields, make_trunk, spec, conditions, width, levels=1, code=code)
        self.spread = Spread(code, site, extent)
        # Silent heads would hand no gradient to the code in the first steps, and it would be given up.
        self.entries = Entries.each(fields)
        outputs = {name: e.count * e.outputs for name, e in self.entries.items()}
        self.add_heads(outputs, silent=False)

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward`, see `Exportable`."""
        return {**self.coded(mask, rng), "mask": mask, **self.null_labels(mask)}

    def forward(
        self, code: Tensor, mask: Tensor, labels: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Outputs for the densities per field, `(B, ..., count, outputs)`, from `(B, code)`."""
        size = (1 + mask.flatten(1).sum(1)).to(self.dtype).log() / 4
        context = self.embed(size[:, None], labels, code, count=mask.shape[0])
        out = self.trunk(Streams(site=self.spread(code, mask)), mask, context)
        raw = {k: self.read_out(out, k) for k in self.fields}
        return {k: raw[k].reshape(*raw[k].shape[:-1], e.count, e.outputs) for k, e in self.entries.items()}


def log_likelihood(
    fields: Mapping[str, Field], raw: Mapping[str, Tensor], values: Mapping[str, Tensor], mask: Tensor
) -> dict[str, Tensor]:
    """log p(values | raw) per field in nats, `(B,)`, each symmetric pair once."""
    out = {}
    for name, f in fields.items():
        own = Entries.of(f)
        log_p = own.likelihood(raw[name]).log_prob(own.to_entries(values[name]))
        valid = f.valid(mask)
        valid = valid if valid.dim() == log_p.dim() else valid[..., None]
        total = torch.where(valid, log_p, torch.zeros_like(log_p)).flatten(1).sum(1)
        out[name] = total / f.axes
    return out
