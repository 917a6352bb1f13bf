"""The denoiser's context: labels and noise levels reach the trunk at full size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from molgen.core.conditions import Label
from molgen.core.fields import Continuous
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.core.wrappers import Denoiser


class Kept(Trunk):
    """Keeps the context that it is given."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self.spec, self.width, self.pair_width = spec, 1, 0
        self.context: Tensor | None = None

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        self.context = context
        assert streams.site is not None
        return Streams(streams.site)


def contexts(t: Tensor, digits: Tensor) -> Tensor:
    torch.manual_seed(0)
    denoiser = Denoiser({"x": Continuous(1)}, Kept, [Label("digit", 10)])
    n = len(t)
    denoiser({"x": torch.zeros(n, 1, 1)}, t, torch.ones(n, 1) > 0, {"digit": digits})
    assert isinstance(denoiser.trunk, Kept)
    assert denoiser.trunk.context is not None
    return denoiser.trunk.context


@pytest.mark.parametrize("what", ["label", "level"])
def test_the_context_is_of_unit_size_and_changes_as_much(what: str) -> None:
    along = torch.linspace(0, 1, 11)
    half = torch.full((11,), 0.5)
    none = torch.full((11,), -1.0)
    c = contexts(half, torch.arange(-1.0, 10)) if what == "label" else contexts(along, none)
    assert 0.5 < c.square().mean().sqrt() < 2
    assert c.std(0).mean() > 0.25
