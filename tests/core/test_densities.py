"""Densities of single entries: they integrate to one, and draws follow them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from molgen.core.densities import Density, Discrete, Gaussians, LogisticCells, Logistics, Sharpen
from molgen.core.fields.frequencies import probabilities
from molgen.core.rng import generator

RAW = torch.randn(12, generator=generator(3), dtype=torch.float64)


SHARES = torch.rand(17, generator=generator(4), dtype=torch.float64).square()
SHARES /= SHARES.sum()


def densities(n: int | None = None) -> dict[str, tuple[Density, Tensor, float]]:
    """Each, of n entries or of one, with a grid of values and the weight of a grid point in a sum."""
    raw = RAW if n is None else RAW.expand(n, -1)
    line = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    circle = torch.linspace(-math.pi, math.pi, 4001, dtype=torch.float64)[:-1]
    levels = torch.linspace(-1, 1, 17, dtype=torch.float64)
    return {
        "classes": (Discrete(raw), torch.arange(12), 1.0),
        "line": (Gaussians(raw, 0.3, 1.2, 0.01), line, 0.001),
        "circle": (Gaussians(raw, 0.0, 1.0, 0.01, period=2 * math.pi), circle, 2 * math.pi / 4000),
        "levels": (Logistics(raw, 0.0, 0.6, 0.01, 17), levels, 1.0),
        "cells": (LogisticCells(raw, SHARES), levels, 1.0),
    }


def expanded(name: str, n: int) -> Density:
    """The density for n entries."""
    return densities(n)[name][0]


@pytest.mark.parametrize("name", ["classes", "line", "circle", "levels", "cells"])
def test_a_density_integrates_to_one(name: str) -> None:
    _, grid, weight = densities()[name]
    p = expanded(name, len(grid)).log_prob(grid).exp()
    assert float(p.sum()) * weight == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", ["classes", "line", "circle", "levels", "cells"])
def test_draws_follow_the_density(name: str) -> None:
    """Kolmogorov-Smirnov against the summed density, at a level of about 1e-4."""
    _, grid, weight = densities()[name]
    n = 20_000
    draws = expanded(name, n).draw(torch.rand(n, 2, generator=generator(1), dtype=torch.float64))
    below = (expanded(name, len(grid)).log_prob(grid).exp() * weight).cumsum(0)
    index = torch.searchsorted(grid.double() + 1e-9, draws.double()).clamp_max(len(grid) - 1)
    empirical = torch.bincount(index, minlength=len(grid)).cumsum(0) / n
    assert (empirical - below).abs().max() < 2.2 / math.sqrt(n)


@pytest.mark.parametrize("name", ["line", "circle", "levels", "cells"])
def test_the_centre_halves_the_density(name: str) -> None:
    """The median, over levels the one nearest to it; on a circle the mean direction."""
    density, grid, weight = densities()[name]
    p = expanded(name, len(grid)).log_prob(grid).exp() * weight
    if name == "circle":
        centre = torch.atan2((p * grid.sin()).sum(), (p * grid.cos()).sum())
    else:
        centre = grid[int((p.cumsum(0) < 0.5).sum())]
    assert float(density.centre()) == pytest.approx(float(centre), abs=2e-3)


def test_the_centre_of_classes_is_the_commonest() -> None:
    assert int(Discrete(RAW).centre()) == int(RAW.argmax())


def test_sharpening_keeps_the_most_probable() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert Sharpen(top_k=2).logits(logits).softmax(-1).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert Sharpen(top_p=0.6).logits(logits).softmax(-1).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert Sharpen(top_p=0.01).logits(logits).softmax(-1).tolist() == pytest.approx([1, 0, 0, 0])
    cold = Sharpen(temperature=0.5).logits(logits).softmax(-1)
    squares = torch.tensor([0.25, 0.09, 0.0225, 0.0025])
    assert torch.allclose(cold, squares / squares.sum())


def test_mixtures_may_have_a_temperature_of_their_own() -> None:
    """Of equal weights and one spread s, draws at T are the place and T s times a normal number."""
    logits, both = torch.tensor([0.5, 0.3, 0.2]).log(), Sharpen(temperature=0.5, real_temperature=0.1)
    u = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    reals = Gaussians(torch.zeros(3).expand(500, -1), shift=2.0, scale=1.0, floor=0.0)
    assert torch.equal(Discrete(logits).draw(u, both), Discrete(logits).draw(u, Sharpen(temperature=0.5)))
    assert torch.equal(reals.draw(u, both), reals.draw(u, Sharpen(temperature=0.1)))
    expected = 2 + 0.1 * math.log(2) * torch.special.ndtri(u[:, 1])
    assert torch.allclose(reals.draw(u, both), expected, atol=1e-4)


def test_a_discretised_mixture_stays_finite_in_its_tails() -> None:
    density = Logistics(torch.tensor([0.0, 50.0, -30.0]), 0.0, 1.0, 1e-3, 256)
    x = torch.tensor(-1.0, requires_grad=True)
    value = density.log_prob(x)
    assert bool(torch.isfinite(value))
    assert value < -100


def test_one_logistic_over_cells_gives_the_shares() -> None:
    """If all components stand at 0 with the spread 1; and a level that no record has stays possible."""
    one = math.log(math.expm1(1 - 1e-3))
    spread = [torch.zeros(3), -torch.linspace(-1.5, 1.5, 3), torch.full((3,), one)]
    raw = torch.cat(spread).double().expand(17, -1)
    x = torch.linspace(-1, 1, 17, dtype=torch.float64)
    assert torch.allclose(LogisticCells(raw, SHARES).log_prob(x).exp(), SHARES, atol=1e-9)
    spiky = probabilities([1.0, *[0.0] * 255])
    rare = LogisticCells(torch.zeros(3), spiky).log_prob(torch.tensor(1 / 3))
    assert bool(torch.isfinite(rare))
