"""Annealing of Boltzmann machines against sums over all states."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from molgen.core.annealing import Bounds, Partition
from molgen.core.fields import Categorical
from molgen.core.rng import BatchRandom, generator
from molgen.nn.annealer import Annealer
from molgen.nn.boltzmann import DeepBoltzmann, Visible


def machine(hidden: tuple[int, ...]) -> tuple[DeepBoltzmann, Tensor]:
    """Sites with a class of three and a class of two each; of three sites a sample has two."""
    fields = {"a": Categorical(3), "b": Categorical(2)}
    visible = Visible(fields, torch.ones(1, 3, dtype=torch.bool))
    real = visible.real(torch.tensor([[True, True, False]]))
    net, source = DeepBoltzmann(visible, hidden, real), generator(7)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.8 * torch.randn(p.shape, generator=source))
        net.counts.copy_(torch.randint(1, 9, net.counts.shape, generator=source))
        net.seen.copy_(
            visible.units.total(net.counts) + torch.randint(1, 9, net.seen.shape, generator=source)
        )
    return net, real[0]


def states(net: DeepBoltzmann, real: Tensor) -> list[Tensor]:
    """All states of all layers."""
    groups, kinds = [], net.visible.units.groups
    for (n, k), on in zip(kinds, real.split([n for n, _ in kinds]), strict=True):
        assert len(on) == n
        groups += [torch.eye(k)[:, 1:] if own else torch.zeros(1, k - 1) for own in on]
    groups += [torch.tensor([[0.0], [1.0]])] * sum(net.sizes[1:])
    whole = torch.stack([torch.cat(rows) for rows in itertools.product(*groups)])
    return list(whole.split(net.sizes, 1))


@pytest.mark.parametrize("hidden", [(3,), (3, 2), (2, 2, 2), (2, 1, 2, 2)])
def test_weights_are_ratios_of_sums_over_the_even_layers(hidden: tuple[int, ...]) -> None:
    net, real = machine(hidden)
    with torch.no_grad():
        every = states(net, real)
        log_p = -net.energy(every, real[None]).double()
        odd = torch.cat(every[1::2], 1)
        distinct, which = odd.unique(dim=0, return_inverse=True)
        summed = torch.stack([log_p[which == i].logsumexp(0) for i in range(len(distinct))])
    annealer, rng = Annealer(net, real), BatchRandom(generator(0))
    start: list[Tensor] = [torch.zeros(len(distinct), n) for n in net.sizes]
    start[1::2] = list(distinct.split(net.sizes[1::2], 1))
    even = annealer.base - odd.shape[1] * math.log(2)  # log p* of any odd layers at 0
    for betas in ([0.0, 1.0], [1.0, 0.0]):
        log_w = annealer.run(start, betas, rng)[1]
        expected = (summed - even) * (betas[1] - betas[0])
        assert torch.allclose(log_w, expected, atol=2e-5)


def test_sweeps_keep_the_law() -> None:
    """Chains that begin at exact samples stay so: classes, pairs of layers, and units of the top."""
    net, real = machine((2, 2, 2))
    every = states(net, real)
    with torch.no_grad():
        p = (-net.energy(every, real[None])).softmax(0)
    n = 20_000
    picked = torch.multinomial(p, n, True, generator=generator(1))
    annealer = Annealer(net, real)
    end, log_w = annealer.run([s[picked] for s in every], [1.0] * 4, BatchRandom(generator(2)))
    assert (log_w == 0).all()
    # The annealer has no units for entries that are not there.
    exact = [every[0][:, net.visible.units.spread(real).bool()], *every[1:]]
    for got, own in zip(end, exact, strict=True):
        assert (got.mean(0) - p @ own).abs().max() < 4 * 0.5 / math.sqrt(n)
    pairs = torch.einsum("n,ni,nj->ij", p, exact[0], exact[1])
    assert (end[0].t() @ end[1] / n - pairs).abs().max() < 4 * 0.5 / math.sqrt(n)


def test_one_end_errs_downwards_and_the_other_upwards() -> None:
    """In expectation, from exact samples, and with steps so few that both do."""
    net, real = machine((3, 2))
    every, n = states(net, real), 4000
    with torch.no_grad():
        log_p = -net.energy(every, real[None]).double()
    exact = float(log_p.logsumexp(0))
    picked = torch.multinomial(log_p.softmax(0), n, True, generator=generator(1))
    annealer, rng = Annealer(net, real), BatchRandom(generator(2))
    up = annealer.run(annealer.start(n, rng), [0.0, 0.5, 1.0], rng)[1]
    down = annealer.run([s[picked] for s in every], [1.0, 0.5, 0.0], rng)[1]
    error = [4 * float(w.std()) / math.sqrt(n) for w in (up, down)]
    assert annealer.base + float(up.mean()) + error[0] < exact < annealer.base - float(down.mean()) - error[1]
    bounds = Bounds(Partition.of(up, annealer.base), Partition.of(down, -annealer.base).inverse())
    assert bounds.agree and abs(bounds.gap) < 0.2
    for found in bounds:
        assert found.low < exact < found.high


def test_chains_that_hang_together_count_once() -> None:
    log_w = torch.randn(20, generator=generator(0))
    alone = Partition.of(log_w)
    together = Partition.of(log_w.repeat(4), clusters=torch.arange(20).repeat(4))
    assert together == pytest.approx(alone)
    w = log_w.double().exp()
    error = float(w.std() / w.mean()) / math.sqrt(20)
    assert alone.high - alone.value == pytest.approx(math.log1p(3 * error))
    assert Partition.of(log_w.repeat(4)).high < alone.high
