"""Losses of the denoising families, term by term, with networks that are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen import ConsistencyModel, DiffusionModel, EnergyModel, FlowModel
from molgen.core.batch import Batch
from molgen.core.capabilities import Embedding
from molgen.core.fields import Categorical, Continuous, Field, GaussianField
from molgen.core.rng import BatchRandom, generator
from molgen.core.step import TrainingStep
from molgen.models.base import GenerativeModel
from molgen.models.energy.network import Energy, langevin
from tests.models.test_energy import Known as KnownEnergy
from tests.models.test_energy import independent
from tests.models.test_flow import Toy

COUNT, SITES = 64, 2
MASK = torch.ones(COUNT, SITES, dtype=torch.bool)


class Recorder(nn.Module):
    """A denoiser that shrinks values by a constant factor, and keeps what it was given."""

    def __init__(self, factor: float = 0.7) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Mapping[str, Tensor], t: Tensor, mask: Tensor, *rest: Any) -> dict[str, Tensor]:
        ((name, value),) = x.items()
        self.calls.append((value, t))
        return {name: self.factor * value}


def batch_of(field: Field) -> Batch:
    if isinstance(field, Categorical):
        x = torch.randint(field.classes, (COUNT, SITES), generator=generator(0))
    else:
        x = 0.3 + 0.8 * torch.randn(COUNT, SITES, 1, generator=generator(0))
    return Batch({"x": x}, MASK, {})


# ---------------------------------------------------------------------- weights of fields

MAKERS: dict[str, Any] = {
    "diffusion": DiffusionModel,
    "flow": FlowModel,
    "consistency": ConsistencyModel,
    "energy": EnergyModel,
}


def weighted(family: str, weight: float) -> tuple[float, GenerativeModel]:
    field = Continuous(1, sd=0.8, weight=weight)
    if family == "energy":
        model, network, _ = independent(field, 1)
        network.eval()
    else:
        model, network = MAKERS[family](Toy(field, SITES)), Recorder()
    losses = model.losses(network, batch_of(field), BatchRandom(generator(1)))
    return losses["x"].item(), model


@pytest.mark.parametrize("family", MAKERS)
def test_the_weight_of_a_field_multiplies_its_loss(family: str) -> None:
    one, other = weighted(family, 1.0)[0], weighted(family, 0.35)[0]
    assert one > 0
    assert other == pytest.approx(0.35 * one, rel=1e-5)


@pytest.mark.parametrize("family", ["diffusion", "flow"])
def test_a_denoising_loss_is_the_mean_of_weighted_errors(family: str) -> None:
    """EDM's weight of the squared error a number, averaged over numbers, samples and times."""
    field = Continuous(1, sd=0.8)
    model, network = MAKERS[family](Toy(field, SITES)), Recorder()
    batch = batch_of(field)
    got = model.losses(network, batch, BatchRandom(generator(1)))["x"].item()
    (x, t) = network.calls[-1]
    assert isinstance(field, GaussianField)
    schedule = (Embedding.of(field).continuous("linear") if family == "flow" else field).schedule
    sigma = schedule.sigma(t).clamp_min(schedule.low)
    error = (0.7 * x - batch.values["x"]).square().mean((1, 2))
    exact = (error * (1 / sigma**2 + 1 / 0.8**2)).mean().item()
    assert got == pytest.approx(exact, rel=1e-4)


def test_training_times_of_a_flow_are_uniform() -> None:
    network = Recorder()
    FlowModel(Toy(Continuous(1), SITES)).losses(network, batch_of(Continuous(1)), BatchRandom(generator(1)))
    gaps = network.calls[-1][1].sort().values.diff()
    assert (gaps - 1 / COUNT).abs().max() < 1e-2


# ---------------------------------------------------------------------- consistency


@pytest.mark.parametrize(("progress", "delta"), [(0.0, 1.0), (0.5, 0.5), (0.9, 0.25)])
def test_the_consistency_loss_is_the_discrepancy_per_distance(progress: float, delta: float) -> None:
    """The gap of the two ends, weighted and robust, over the relative distance of the two times."""
    field = Continuous(1, sd=0.8, weight=0.6)
    model, network = ConsistencyModel(Toy(field, SITES), stages=2, pretraining=0.4), Recorder()
    step = TrainingStep(progress)
    loss = model.losses(network, batch_of(field), BatchRandom(generator(1)), step)["x"]
    (x, t), (y, r) = network.calls
    assert torch.allclose(r, (1 - delta) * t, atol=1e-6)
    sigma = field.schedule.sigma(t).clamp_min(field.schedule.low)
    square = (0.7 * x - 0.7 * y).square().mean((1, 2)) / 0.8**2
    gap = (square + 0.03**2).sqrt() - 0.03
    exact = 0.6 * (gap * (1 + (0.8 / sigma) ** 2).sqrt()).mean().item() / delta
    assert loss.item() == pytest.approx(exact, rel=1e-4)
    # Only the end of the later time is moved.
    (gradient,) = torch.autograd.grad(loss, network.factor)
    factor = torch.tensor(0.7, requires_grad=True)
    again = ((factor * x - 0.7 * y).square().mean((1, 2)) / 0.8**2 + 0.03**2).sqrt() - 0.03
    total = 0.6 * (again * (1 + (0.8 / sigma) ** 2).sqrt()).mean() / delta
    (expected,) = torch.autograd.grad(total, factor)
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("anchor", [0.0, 0.3, 2.0])
def test_classes_are_anchored_by_their_cross_entropy(anchor: float) -> None:
    field = Categorical(3)
    batch = batch_of(field)
    terms = []
    for weight in (0.0, anchor):
        model, network = ConsistencyModel(Toy(field, SITES), anchor=weight), Recorder()
        terms.append(model.losses(network, batch, BatchRandom(generator(1)))["x"].item())
    logits = 0.7 * network.calls[0][0]
    entropy = F.cross_entropy(logits.flatten(0, 1), batch.values["x"].flatten()).item()
    assert terms[1] - terms[0] == pytest.approx(anchor * entropy, abs=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_consistency_samples_at_even_times(steps: int) -> None:
    model = ConsistencyModel(Toy(Continuous(1), SITES))
    model.network = network = Recorder()
    model.generate(MASK, {}, BatchRandom(generator(0)), steps=steps)
    times = [float(t[0]) for _, t in network.calls]
    assert times == pytest.approx([1 - i / steps for i in range(steps)])
    for x, t in network.calls[1:]:  # as much noise as belongs to the time
        sigma = Continuous(1).schedule.sigma(t)[0].item()
        assert x.std().item() > 0.7 * sigma


# ---------------------------------------------------------------------- energies


class Constant(nn.Module):
    """A critic that gives the same number for every field."""

    def forward(self, x: Any, mask: Tensor, *rest: Any) -> Tensor:
        return torch.full((len(mask), len(x)), 3.0)


def test_a_network_enters_the_energy_by_its_size_over_the_noise() -> None:
    r""":math:`E = U - s N / \sigma`, of fields that resolve at the time alone."""
    field = Continuous(1, sd=0.7)
    _, net, _ = independent(field, 4)
    x = {"x": torch.randn(4, 1, 1, generator=generator(0))}
    mask, t = torch.ones(4, 1, dtype=torch.bool), torch.tensor([0.1, 0.4, 0.7, 1.0])
    silent = net(x, t, mask, {})
    net.critic = Constant()  # type: ignore[assignment]
    sigma = field.schedule.sigma(t)
    assert torch.allclose(silent - net(x, t, mask, {}), 3 * 0.7 / sigma, rtol=1e-3)
    _, late, _ = independent(Continuous(1, window=(0.5, 1.0)), 4)
    late.critic = Constant()  # type: ignore[assignment]
    found = late(x, t, mask, {})
    assert (found[:2] == 0).all() and (found[2:] != 0).all()


def test_the_ratio_of_noise_to_data_is_at_most_one() -> None:
    field = Continuous(1, sd=0.7)
    _, net, _ = independent(field, 1)
    t = torch.linspace(0.05, 1, 9)
    exact = (field.schedule.sigma(t) / 0.7).clamp_max(1.0)
    assert torch.allclose(net.noise_to_data_ratio(t), exact, rtol=1e-4)
    assert exact.min() < 0.1


class Linear(KnownEnergy):
    """An energy of constant slope, which keeps what it is asked for."""

    def __init__(self, field: Field, chains: int) -> None:
        super().__init__({"x": field}, lambda x: x["x"].flatten(1).sum(1))
        self.slope_ = nn.Parameter(torch.tensor(2.0))
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.register_buffer("chains", torch.ones(chains, SITES, dtype=torch.bool))
        self.register_buffer("times", torch.full((chains,), 0.6))
        self.register_buffer("chain_x", 5 + torch.randn(chains, SITES, 1, generator=generator(2)))

    def forward(self, x: Any, t: Tensor, mask: Tensor, labels: Any) -> Tensor:
        self.asked.append((x["x"].detach(), t))
        return self.slope_ * self.law(x)


@pytest.mark.parametrize("weight", [0.01, 0.5])
def test_the_contrast_is_the_energy_of_data_less_that_of_chains(weight: float) -> None:
    """Weighted by the noise relative to data, at the times of the chains after their step."""
    field = Continuous(1, sd=0.7)
    model = EnergyModel(Toy(field, SITES), cd_weight=weight, warmup=0.5, chains=COUNT, steps=10)
    net = Linear(field, COUNT).train()
    batch = Batch({"x": torch.full((COUNT, SITES, 1), -9.0)}, MASK, {})
    assert "contrast" not in model.losses(net, batch, BatchRandom(generator(1)), TrainingStep(0.4))
    net.asked.clear()
    term = model.losses(net, batch, BatchRandom(generator(1)), TrainingStep(0.6))["contrast"]
    s = net.times[0].item()
    assert s == pytest.approx(0.5)
    # The chains stand where they have gone, in an order of their own.
    last = net.chain_x.flatten().sort().values
    moved = [torch.equal(x.flatten().sort().values, last) for x, _ in net.asked[-2:]]
    assert sorted(moved) == [False, True]
    (data, at_data), (chains, at_chains) = net.asked[-2:] if moved[1] else net.asked[-2:][::-1]
    assert (at_data == s).all() and (at_chains == s).all()
    sigma = field.schedule.sigma(torch.tensor(s)).item()
    assert (data + 9).std().item() == pytest.approx(sigma, rel=0.2)
    gap = 2.0 * (data.sum((1, 2)) - chains.sum((1, 2))).mean().item()
    assert term.item() == pytest.approx(weight * min(1.0, sigma / 0.7) * gap, rel=1e-4)
    (gradient,) = torch.autograd.grad(term, net.slope_)
    assert gradient.item() == pytest.approx(term.item() / 2.0, rel=1e-4)


@pytest.mark.parametrize("heat", [1.0, 0.6, 1.4])
@pytest.mark.parametrize("time", [0.3, 0.6])
def test_an_unadjusted_langevin_step_at_a_temperature(heat: float, time: float) -> None:
    r"""With :math:`h = T \cdot step \cdot \sigma`, x moves by :math:`-h^2 \nabla E / 2 T^2` and noise h."""
    n, step = 20_000, 0.5
    field = Continuous(1, mean=0.4, sd=0.7)
    _, net, mask = independent(field, n)
    t = torch.full((n,), time)
    sigma = field.schedule.sigma(t)[0].item()
    h, variance = heat * step * sigma, sigma**2 + 0.7**2
    x = {"x": torch.full((n, 1, 1), 0.4 + 20 * h)}
    rng = BatchRandom(generator(1))
    y = langevin(net, net.langevin, x, t, mask, {}, rng, step=step, heat=heat, adjusted=False)["x"]
    exact = 0.4 + 20 * h * (1 - h**2 / (2 * heat**2 * variance))
    assert y.mean().item() == pytest.approx(exact, abs=5 * h / math.sqrt(n))
    assert y.std().item() == pytest.approx(h, rel=0.03)


@pytest.mark.parametrize("heat", [1.0, 0.5])
def test_annealed_chains_follow_the_energy_over_the_squared_temperature(heat: float) -> None:
    n = 4000
    model, net, mask = independent(Continuous(1, mean=0.4, sd=0.7), n)
    assert isinstance(net, Energy)
    x = model.generate(mask, {}, BatchRandom(generator(0)), steps=200, corrector_steps=2, temperature=heat)[
        "x"
    ]
    assert x.mean().item() == pytest.approx(0.4, abs=0.05)
    assert x.std().item() == pytest.approx(0.7 * heat, rel=0.05)


def test_annealed_chains_forget_where_they_began() -> None:
    """Each step down draws all the noise that it may: end and start share s / sqrt(s^2 + sigma^2) at most."""
    n = 4000
    model, net, mask = independent(Continuous(1, mean=0.4, sd=0.7), n)
    start = net.fields["x"].prior(mask, BatchRandom(generator(0))).flatten()
    x = model.generate(mask, {}, BatchRandom(generator(0)), steps=200, corrector_steps=0)["x"].flatten()
    assert abs(torch.corrcoef(torch.stack([start, x]))[0, 1].item()) < 0.07
    assert x.std().item() == pytest.approx(0.7, rel=0.05)
