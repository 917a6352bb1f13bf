"""zuko: a neural spline flow of couplings."""

from __future__ import annotations

from collections.abc import Iterator

from zuko.flows import NSF

from benchmarks.peers import splines
from benchmarks.peers.timing import Contest


def contests() -> Iterator[Contest]:
    """log p, its gradient, and sampling; two passes make the peer's layers couplings."""
    hidden = (splines.HIDDEN, splines.HIDDEN)
    flow = NSF(
        splines.FEATURES, transforms=splines.LAYERS, bins=splines.BINS, hidden_features=hidden, passes=2
    )
    yield from splines.contests(
        "NSF with passes=2",
        flow,
        lambda rows: flow().log_prob(rows),
        lambda count: flow().sample((count,)),
    )
