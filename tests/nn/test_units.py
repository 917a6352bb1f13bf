"""Groups of units against the classes that they stand for."""

from __future__ import annotations

import itertools
import math

import torch

from molgen.core.rng import generator
from molgen.nn.units import Units

UNITS = Units([(2, 2), (1, 4), (2, 3)])


def states() -> torch.Tensor:
    """Every state of all groups."""
    kinds = [torch.eye(k)[:, 1:] for n, k in UNITS.groups for _ in range(n)]
    return torch.stack([torch.cat(rows) for rows in itertools.product(*kinds)])


def test_means_and_sums_are_those_of_all_states() -> None:
    every = states()
    assert every.shape == (2 * 2 * 4 * 3 * 3, UNITS.count)
    field = torch.randn(UNITS.count, generator=generator(0))
    log_p = every @ field
    assert torch.allclose(UNITS.log_sum(field).sum(), log_p.logsumexp(0), atol=1e-5)
    assert torch.allclose(UNITS.mean(field), log_p.softmax(0) @ every, atol=1e-6)


def test_draws_have_the_means_and_of_a_group_one_unit_at_most() -> None:
    n, field = 20_000, torch.randn(UNITS.count, generator=generator(1))
    u = torch.rand(n, UNITS.entries, generator=generator(2))
    s = UNITS.draw(field.expand(n, -1), u)
    assert set(s.unique().tolist()) == {0.0, 1.0} and UNITS.total(s).max() == 1
    assert (s.mean(0) - UNITS.mean(field)).abs().max() < 4 * 0.5 / math.sqrt(n)


def test_what_is_said_of_groups_is_said_of_their_units() -> None:
    spread = UNITS.spread(torch.arange(5.0))
    assert spread.tolist() == [0, 1, 2, 2, 2, 3, 3, 4, 4]
    assert UNITS.total(spread).tolist() == [0, 1, 6, 6, 8]
