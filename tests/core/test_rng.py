"""Injected randomness: times of a batch, sources apart from each other."""

from __future__ import annotations

import torch

from molgen.core.rng import BatchRandom, SampleRandom, generator, stratified


def test_times_are_evenly_spread_and_uniform_at_every_place_of_a_batch() -> None:
    mask = torch.ones(4, 2, dtype=torch.bool)
    drawn = torch.stack([stratified(mask, BatchRandom(generator(0, i))) for i in range(4000)])
    assert ((drawn >= 0) & (drawn < 1)).all()
    gaps = drawn.sort(1).values.diff(dim=1)
    assert torch.allclose(gaps, torch.full_like(gaps, 0.25), atol=1e-6)
    # Mean and variance of uniform numbers, each place by itself.
    assert (drawn.mean(0) - 0.5).abs().max() < 4 * (1 / 12 / 4000) ** 0.5
    assert (drawn.var(0) * 12 - 1).abs().max() < 0.06


def test_a_source_apart_does_not_depend_on_what_was_drawn() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    for make in (lambda: SampleRandom(0, [0, 1]), lambda: BatchRandom(generator(0))):
        fresh, used = make(), make()
        own = used.normal(mask, (-1,))
        assert torch.equal(fresh.spawn(1).normal(mask, (-1,)), used.spawn(1).normal(mask, (-1,)))
        numbers = [own, *(fresh.spawn(key).normal(mask, (-1,)) for key in (0, 1))]
        numbers.append(fresh.spawn(0).spawn(1).normal(mask, (-1,)))
        assert len({tuple(x.flatten().tolist()) for x in numbers}) == len(numbers)
