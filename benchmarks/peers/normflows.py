"""normflows: couplings of rational-quadratic splines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import normflows

from benchmarks.peers import splines
from benchmarks.peers.shared import nearest, size
from benchmarks.peers.timing import Contest


def contests() -> Iterator[Contest]:
    """log p, its gradient, and sampling."""
    flow: Any = nearest(size(splines.Splines()), _flow, range(16, 257, 8))
    yield from splines.contests(
        "CoupledRationalQuadraticSpline", flow, flow.log_prob, lambda count: flow.sample(count)[0]
    )


def _flow(hidden: int) -> Any:
    layers = [
        normflows.flows.CoupledRationalQuadraticSpline(
            splines.FEATURES,
            num_blocks=1,
            num_hidden_channels=hidden,
            num_bins=splines.BINS,
            tail_bound=splines.BOUND,
            reverse_mask=bool(layer % 2),
        )
        for layer in range(splines.LAYERS)
    ]
    return normflows.NormalizingFlow(normflows.distributions.DiagGaussian(splines.FEATURES), layers)
