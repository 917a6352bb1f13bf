"""The neural energy against closed forms: slopes, kept laws, log Z, samples, and the chains."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

import molgen
from molgen import EnergyModel
from molgen.cli import parse_options
from molgen.core.capabilities import Denoising, Embedding
from molgen.core.errors import ConfigError, MolgenWarning, UnsupportedError
from molgen.core.fields import Categorical, Continuous, GaussianField
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.models.energy.boltzmann import BoltzmannMachine
from molgen.models.energy.network import Energy, langevin
from molgen.models.energy.neural import NeuralEnergy
from tests.models.cells import fitted, records, tiny
from tests.models.test_flow import Toy


class Silent(nn.Module):
    """A critic that says nothing, so that entries are independent."""

    def forward(self, x: Any, mask: Tensor, *rest: Any) -> Tensor:
        return sum((v.flatten(1).sum(1) for v in x.values()), torch.zeros(len(mask)))[:, None] * 0.0


def independent(field: Any, n: int) -> tuple[NeuralEnergy, Energy, Tensor]:
    """The energy of data whose entries are independent."""
    model = EnergyModel(Toy(field, sites=1), chains=2)
    net = Energy.__new__(Energy)
    nn.Module.__init__(net)
    net.fields, net.critic = {"x": Embedding.of(field).continuous()}, Silent()  # type: ignore[assignment]
    net.unused = nn.Parameter(torch.zeros(1))
    model.network = net
    return model, net, torch.ones(n, 1, dtype=torch.bool)


@pytest.mark.parametrize("heat", [1.0, 0.6])
def test_langevin_keeps_a_gaussian(heat: float) -> None:
    _, net, mask = independent(Continuous(1, mean=0.4, sd=0.7), 4000)
    field, rng = net.fields["x"], BatchRandom(generator(1))
    t = torch.full((4000,), 0.6)
    sd = heat * math.sqrt(float(field.sigma(t)[0]) ** 2 + 0.7**2)
    x = {"x": 0.4 + sd * torch.randn(4000, 1, 1, generator=generator(0))}
    for _ in range(30):
        x = langevin(net, net.langevin, x, t, mask, {}, rng, step=1.0, heat=heat)
    assert stats.kstest(x["x"].flatten().numpy(), "norm", (0.4, sd)).pvalue > 0.01


class Known(Energy):
    """An energy given by a function of the values."""

    def __init__(self, fields: dict[str, Any], law: Callable[[dict[str, Tensor]], Tensor]) -> None:
        nn.Module.__init__(self)
        self.fields, self.law = {k: Embedding.of(f).continuous() for k, f in fields.items()}, law

    def forward(self, x: Any, t: Tensor, mask: Tensor, labels: Any) -> Tensor:
        return self.law(x)


CLASSES, ENTRIES = 3, 6
LITTLE = 0.1  # a time at which chains walk on classes
UPPER = torch.triu_indices(4, 4, 1)
BONDS = torch.zeros(ENTRIES, ENTRIES)
for a, b in [(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)]:  # a lattice of 2 x 3 entries
    BONDS[a, b] = BONDS[b, a] = 0.7
TILT = torch.randn(ENTRIES, CLASSES, generator=generator(3)) / 2
STATES = torch.tensor(list(product(range(CLASSES), repeat=ENTRIES)))


def potts(classes: Tensor) -> Tensor:
    """The energy of one-hot vectors `(B, 6, 3)`: neighbours like to be alike."""
    return -(classes * TILT).sum((1, 2)) - torch.einsum("bik,ij,bjk->b", classes, BONDS, classes) / 2


def lattice(pairs: bool) -> tuple[Known, Categorical, Tensor]:
    """The six entries as sites, or as the pairs of four sites."""
    field = Categorical(CLASSES, pairs=pairs)

    def law(x: dict[str, Tensor]) -> Tensor:
        one_hot = (x["x"] + 1) / 2
        return potts(one_hot[:, UPPER[0], UPPER[1]] if pairs else one_hot)

    return Known({"x": field}, law), field, torch.ones(1, 4 if pairs else ENTRIES, dtype=torch.bool)


def placed(states: Tensor, pairs: bool) -> Tensor:
    """Six classes as values of a field."""
    if not pairs:
        return states
    x = torch.zeros(len(states), 4, 4, dtype=torch.long)
    x[:, UPPER[0], UPPER[1]] = states
    return x + x.transpose(1, 2)


def fits(states: Tensor, energies: Tensor) -> float:
    """The p-value of Pearson's test that indices of states are distributed by their energies."""
    expected = (-energies.double()).softmax(0).numpy() * len(states)
    seen = np.bincount(states.numpy(), minlength=len(expected))
    order = np.argsort(expected)
    bins = np.minimum(np.cumsum(expected[order]) // 20, expected.sum() // 20 - 1).astype(int)
    grouped = [np.bincount(bins, v[order]) for v in (seen, expected)]
    kept = grouped[1] > 0
    return float(stats.chisquare(grouped[0][kept], grouped[1][kept]).pvalue)


@pytest.mark.parametrize(("pairs", "heat"), [(False, 1.0), (True, 1.0), (False, 1.2)])
def test_classes_come_to_their_law_from_elsewhere(pairs: bool, heat: float) -> None:
    net, field, site = lattice(pairs)
    n = 4000
    mask, t, rng = site.expand(n, -1), torch.full((n,), LITTLE), BatchRandom(generator(1))
    x = {"x": Embedding.of(field).embed(placed(torch.full((n, ENTRIES), CLASSES - 1), pairs), mask)}
    for _ in range(50):
        x = langevin(net, net.walkers, x, t, mask, {}, rng, step=0.5, heat=heat)
    values = Embedding.of(field).round(x["x"], mask)
    assert (Embedding.of(field).embed(values, mask) == x["x"]).all()  # vertices, exactly
    flat = values[:, UPPER[0], UPPER[1]] if pairs else values
    index = (flat * CLASSES ** torch.arange(ENTRIES - 1, -1, -1)).sum(1)
    one_hot = F.one_hot(STATES, CLASSES).float()
    assert fits(index, potts(one_hot) / heat**2) > 0.01
    assert fits(index, -(one_hot * TILT).sum((1, 2)) / heat**2) < 1e-6  # the interactions are seen


@pytest.mark.parametrize("step", [0.3, 0.6])
def test_jumps_of_classes_are_in_detailed_balance(step: float) -> None:
    r""":math:`\pi(x) P(x \to y) = \pi(y) P(y \to x)` for all pairs of states, and chains do move by P."""
    tilt = torch.tensor([[0.3, -0.4, 0.0], [0.8, 0.1, -0.5]])

    def law(x: dict[str, Tensor]) -> Tensor:
        a, b = ((x["x"] + 1) / 2).unbind(1)
        return -(a * tilt[0] + b * tilt[1]).sum(1) - (a * b).sum(1) + a[:, 0] * b[:, 2]

    field = Categorical(3)
    net = Known({"x": field}, law)
    walker = net.walkers["x"]
    states = torch.tensor(list(product(range(3), repeat=2)))
    count = len(states)
    mask, t = torch.ones(count, 2, dtype=torch.bool), torch.full((count,), LITTLE)
    x = Embedding.of(field).embed(states, mask)
    with torch.no_grad():
        energy, slope = net.slope({"x": x}, t, mask, {})
    h = step * walker.langevin_step(t)
    q = torch.stack([walker.log_proposal(y.expand_as(x), x, slope["x"], h, t, mask) for y in x], 1).exp()
    assert torch.allclose(q.sum(1), torch.ones(count), atol=1e-5)
    pi = (-energy).softmax(0)
    move = q * (pi[None] * q.T / (pi[:, None] * q)).clamp_max(1)
    move = move + torch.diag(1 - move.sum(1))
    assert torch.allclose(pi[:, None] * move, (pi[:, None] * move).T, atol=1e-6)
    assert torch.allclose(pi @ move, pi, atol=1e-6)
    # The chain's own moves, 4000 from every state.
    many = 4000
    y = langevin(
        net,
        net.walkers,
        {"x": x.repeat_interleave(many, 0)},
        t.repeat_interleave(many),
        mask.repeat_interleave(many, 0),
        {},
        BatchRandom(generator(0)),
        step,
    )["x"].argmax(-1)
    arrived = (3 * y[:, 0] + y[:, 1]).reshape(count, many)
    for row, expected in zip(arrived, move, strict=True):
        assert fits(row, -expected.clamp_min(1e-12).log()) > 1e-3


def test_classes_and_reals_come_to_their_joint_law() -> None:
    """Classes with a Potts interaction, and a real on every site whose mean and spread tell its class."""
    means, sds = torch.tensor([-1.0, 0.2, 1.0]), torch.tensor([0.5, 0.8, 0.4])
    tilt = torch.tensor([[0.5, 0.0, -0.3], [0.0, 0.4, 0.2]])

    def law(x: dict[str, Tensor]) -> Tensor:
        one_hot, r = (x["kind"] + 1) / 2, x["real"]
        gauss = (r - means) ** 2 / (2 * sds**2) + sds.log()
        return ((gauss - tilt) * one_hot).sum((1, 2)) - (one_hot[:, 0] * one_hot[:, 1]).sum(1)

    fields = {"kind": Categorical(3), "real": Continuous(1, noise=(0.8, 160.0))}
    net, n = Known(fields, law), 4000
    mask, t, rng = torch.ones(n, 2, dtype=torch.bool), torch.full((n,), LITTLE), BatchRandom(generator(2))
    x = {
        "kind": Embedding.of(fields["kind"]).embed(torch.zeros(n, 2), mask),
        "real": torch.full((n, 2, 1), 2.0),
    }
    for _ in range(250):
        x = langevin(net, net.walkers, x, t, mask, {}, rng, step=0.5)
    kinds = x["kind"].argmax(-1)
    states = torch.tensor(list(product(range(3), repeat=2)))
    one_hot = F.one_hot(states, 3).float()
    energies = -(one_hot * tilt).sum((1, 2)) - (one_hot[:, 0] * one_hot[:, 1]).sum(1)
    assert fits(3 * kinds[:, 0] + kinds[:, 1], energies) > 0.01
    for k in range(3):
        own = x["real"].squeeze(-1)[:, 1][kinds[:, 1] == k]
        assert stats.kstest(own.numpy(), "norm", (float(means[k]), float(sds[k]))).pvalue > 0.01


@pytest.mark.parametrize("pairs", [False, True])
def test_jumps_leave_padding_alone_and_hang_on_the_seed(pairs: bool) -> None:
    field = Categorical(3, pairs=pairs)
    net = Known({"x": field}, lambda x: -0.1 * (x["x"].flatten(1).sum(1) + 2) ** 2)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
    ones = torch.ones(2, 4, 4) if pairs else torch.ones(2, 4)
    start = Embedding.of(field).embed(field.project(ones, mask), mask)

    def walk(seed: int, rows: slice = slice(None), sites: int = 4) -> Tensor:
        own = mask[rows, :sites]
        x = start[rows, :sites, :sites] if pairs else start[rows, :sites]
        rng, t = SampleRandom(seed, [4, 5][rows]), torch.full((len(own),), LITTLE)
        for _ in range(8):
            x = langevin(net, net.walkers, {"x": x}, t, own, {}, rng, step=1.0)["x"]
        return x

    both = walk(0)
    assert (both == walk(0)).all() and (both != start).any() and (both != walk(1)).any()
    assert (both == Embedding.of(field).embed(Embedding.of(field).round(both, mask), mask)).all()
    alone = walk(0, slice(1, 2), 3)[0]
    assert (alone == (both[1, :3, :3] if pairs else both[1, :3])).all()


def test_annealed_chains_of_classes_end_at_the_data() -> None:
    model, _, _ = independent(Categorical(3, marginal=[0.6, 0.3, 0.1]), 1)
    mask = torch.ones(3000, 1, dtype=torch.bool)
    x = model.generate(mask, {}, BatchRandom(generator(0)), steps=60)["x"].flatten()
    assert fits(x, -torch.tensor([0.6, 0.3, 0.1]).log()) > 0.01


@pytest.mark.parametrize("pairs", [False, True])
def test_the_slope_of_independent_classes_is_bayes_rule(pairs: bool) -> None:
    """x - sigma^2 grad E is the posterior mean that a denoiser without a network predicts."""
    field = Categorical(3, pairs=pairs, marginal=[0.5, 0.3, 0.2])
    _, net, _ = independent(field, 2)
    mask = torch.ones(2, 4, dtype=torch.bool)
    relaxed = cast(GaussianField, net.fields["x"])
    for time in (0.2, 0.5, 0.9):
        t = torch.full((2,), time)
        x = relaxed.project(2 * relaxed.standard_noise(mask, SampleRandom(0, [0, 1])), mask)
        expected = relaxed.project(
            relaxed.x0_mean(Denoising.of(relaxed).precondition(torch.zeros_like(x), x, t, mask)), mask
        )
        got = net.denoise({"x": x}, t, mask, {})["x"]
        assert torch.allclose(got, expected, atol=2e-4)


def test_log_z_of_a_gaussian() -> None:
    model, net, _ = independent(Continuous(2, sd=0.7), 1)
    t = torch.full((1,), 0.3)
    exact = math.log(2 * math.pi * (float(net.fields["x"].sigma(t)[0]) ** 2 + 0.7**2))
    got = model.log_partition(level=0.3, chains=300, temperatures=500, step=1.2)
    assert abs(got.value - exact) < 0.05
    assert got.low < exact < got.high < got.low + 0.3


def test_annealed_chains_end_at_the_data() -> None:
    model, _, mask = independent(Continuous(1, mean=0.4, sd=0.7), 2000)
    x = model.generate(mask, {}, BatchRandom(generator(0)), steps=300)["x"].flatten()
    assert float(x.mean()) == pytest.approx(0.4, abs=0.05)
    assert float(x.std()) == pytest.approx(0.7, rel=0.04)


def test_the_energy_does_not_hang_on_padding() -> None:
    model = fitted("graph", "energy")
    net, batch = cast(Energy, model.trained), model.encode(records("graph")[:3])
    x = {k: Embedding.of(f).embed(batch.values[k], batch.mask) for k, f in model.view.fields.items()}
    t = torch.full((3,), 0.5)
    small = model.encode(records("graph")[:1]).trimmed()
    y = {k: Embedding.of(f).embed(small.values[k], small.mask) for k, f in model.view.fields.items()}
    alone = net(y, t[:1], small.mask, {})
    assert torch.allclose(net(x, t, batch.mask, {})[:1], alone, rtol=1e-4, atol=1e-3)


def test_chains_travel_from_noise_to_data_and_begin_anew() -> None:
    model = tiny("smiles", "energy", warmup=0.0, chains=8, steps=4)
    model.fit(records("smiles"), max_steps=1, batch_size=8, seed=0)
    net = cast(Energy, model.trained).train()
    seen = [net.times.clone()]
    batch, walking = model.encode(records("smiles")[:8]), 0
    for i in range(6):
        terms = model.losses(net, batch, BatchRandom(generator(i)))
        assert torch.isfinite(terms["contrast"])
        seen.append(net.times.clone())
        for k, f in net.walkers.items():
            x, down = getattr(net, f"chain_{k}"), f.jumps(net.times)
            assert (f.vertex(x.argmax(-1), net.chains) == x)[down].all()
            walking += int(down.sum())
    for before, after in zip(seen, seen[1:], strict=False):
        born = after == 1
        assert torch.allclose(after[~born], before[~born] - 0.25, atol=1e-5)
        assert (before[born] <= 0.25 + 1e-5).all()
    assert walking  # some chains were strings, not reals
    # The contrast pushes the energy of data down and that of chains up.
    slope = torch.autograd.grad(terms["contrast"], [p for p in net.parameters()][-1], allow_unused=True)[0]
    assert slope is not None and torch.isfinite(slope).all()


def test_chains_that_part_from_the_data_are_warned_about() -> None:
    model = tiny("smiles", "energy", chains=4)
    model.fit(records("smiles"), max_steps=1, batch_size=8, seed=0)
    for gap in (1e5, math.nan):
        with pytest.warns(MolgenWarning, match="energy divergence"):
            model.on_fit_end({"gap": torch.tensor(gap)})


def test_the_average_of_weights_has_the_chains_of_the_last_step() -> None:
    model = tiny("smiles", "energy", warmup=0.0, chains=8, steps=4)
    model.fit(records("smiles"), max_steps=3, batch_size=8, seed=0)
    times = cast(Energy, model.trained).times
    # Eight chains began at eighths and go by quarters; an average of states would lie between.
    assert torch.allclose((8 * times).round(), 8 * times, atol=1e-5)


def test_what_has_no_joint_energy_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="one field after the other"):
        cast(EnergyModel, fitted("molecule", "energy")).log_partition(chains=2, temperatures=2)
    with pytest.raises(ConfigError, match="kind of energy"):
        EnergyModel("smiles", kind="boltzman")
    with pytest.raises(ConfigError, match="warmup"):
        EnergyModel("smiles", warmup=2.0)


def test_chains_from_a_record_with_little_noise_stay_near_it() -> None:
    model = cast(EnergyModel, fitted("image", "energy"))
    image = records("image")[0]
    near = model.sample_from([image], level=0.05, steps=2, corrector_steps=0)[0]
    far = model.sample_from([image], level=1.0, steps=2, corrector_steps=0)[0]
    gap = [abs(x.astype(float) - image.astype(float)).mean() for x in (near, far)]
    assert gap[0] < 0.2 * gap[1]


def test_the_kind_decides_the_class_and_is_kept_by_checkpoints(tmp_path: Any) -> None:
    machine = EnergyModel("smiles", kind="dbm", hidden=(6, 4), chains=4)
    assert type(machine) is BoltzmannMachine and isinstance(machine, EnergyModel)
    machine.fit(records("smiles"), max_steps=3, batch_size=8, seed=0)
    machine.save(tmp_path / "dbm.safetensors")
    loaded = molgen.load(tmp_path / "dbm.safetensors")
    assert type(loaded) is BoltzmannMachine and loaded.header() == machine.header()
    assert loaded.sample(3, seed=0, gibbs_steps=3) == machine.sample(3, seed=0, gibbs_steps=3)
    assert type(copy.deepcopy(loaded)) is BoltzmannMachine
    assert type(EnergyModel("smiles")) is type(NeuralEnergy("smiles", kind="neural")) is NeuralEnergy


def test_options_are_those_of_the_kind() -> None:
    assert {"warmup", "kind"} <= set(inspect.signature(NeuralEnergy).parameters)
    assert "warmup" not in inspect.signature(BoltzmannMachine).parameters
    assert set(EnergyModel.sampling_options()) == {"steps", "corrector_steps", "temperature", "gibbs_steps"}
    assert parse_options(["warmup=0.5"], EnergyModel) == {"warmup": 0.5}
    with pytest.raises(ConfigError, match="energy of kind 'dbm' 'warmup'"):
        EnergyModel("smiles", kind="dbm", warmup=0.5)
    with pytest.raises(ConfigError, match="kind of energy 'neural'"):
        BoltzmannMachine("smiles", kind="neural")  # type: ignore[arg-type]
