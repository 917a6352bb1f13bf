"""molgen's side of the comparisons of spline couplings: its bijection around a plain network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from benchmarks.peers.shared import size
from benchmarks.peers.timing import Contest
from molgen.core.linear import Linear
from molgen.models.flow.bijections import Coupling, FlowContext, Spline, alternating

FEATURES, LAYERS, BINS, HIDDEN, BOUND = 16, 4, 8, 64, 5.0
_COUNT = 2048


@final
class Dense(nn.Module):
    """A perceptron per layer, from the unchanged reals to the parameters of all."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.layers = nn.ModuleList(
            nn.Sequential(
                Linear(FEATURES, HIDDEN),
                nn.ReLU(),
                Linear(HIDDEN, HIDDEN),
                nn.ReLU(),
                Linear(HIDDEN, FEATURES * outputs),
            )
            for _ in range(LAYERS)
        )

    def forward(
        self,
        z: Mapping[str, Tensor],
        seen: Mapping[str, Tensor],
        layer: int,
        mask: Tensor,
        labels: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        raw = self.layers[layer](z["x"] * seen["x"])
        return {"x": raw.reshape(len(mask), 1, FEATURES, self.outputs)}


@final
class Splines(nn.Module):
    """A chain of spline couplings of standard normal variables."""

    def __init__(self) -> None:
        super().__init__()
        spline = Spline(BINS, BOUND)
        self.coupling = Coupling(Dense(spline.outputs), LAYERS, spline, alternating)

    def _sites(self, count: int) -> FlowContext:
        return FlowContext(torch.ones(count, 1, dtype=torch.bool), {"x": torch.ones(count, 1, 1)}, {})

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of rows, `(n,)`."""
        z, log_det = self.coupling({"x": x[:, None]}, self._sites(len(x)))
        white: Tensor = -0.5 * (z["x"] ** 2 + math.log(2 * math.pi))
        log_p: Tensor = log_det + white.flatten(1).sum(1)
        return log_p

    def sample(self, count: int) -> Tensor:
        """Rows, `(n, features)`."""
        z = torch.randn(count, 1, FEATURES)
        x: Tensor = self.coupling.inverse({"x": z}, self._sites(count))["x"][:, 0]
        return x


def contests(name: str, theirs: nn.Module, log_prob: Any, sample: Any) -> Iterator[Contest]:
    """log p, its gradient, and sampling, against a peer's flow.

    Arguments:
        name: the description of the peer's flow.
        theirs: the peer's network.
        log_prob, sample: the peer's functions of rows, and of a number of them.
    """
    ours = Splines()
    rows = torch.randn(_COUNT, FEATURES, generator=torch.Generator().manual_seed(0))
    inputs = f"{_COUNT} rows of {FEATURES} numbers, {LAYERS} couplings of {BINS} bins; {name}"
    sizes = (size(ours), size(theirs))
    runs = {
        "log p": (torch.no_grad()(ours.log_prob), torch.no_grad()(log_prob), (rows,)),
        "log p and its gradient": (_with_gradient(ours.log_prob), _with_gradient(log_prob), (rows,)),
        "sampling": (torch.no_grad()(ours.sample), torch.no_grad()(sample), (_COUNT,)),
    }
    for task, (mine, other, given) in runs.items():
        yield Contest(
            f"spline flow, {task}",
            inputs,
            partial(mine, *given),
            partial(other, *given),
            sizes,
            _COUNT,
            "rows",
        )


def _with_gradient(log_prob: Any) -> Any:
    def run(rows: Tensor) -> None:
        log_prob(rows).mean().backward()

    return run
