"""The neural energy against closed forms: slopes, kept laws, log Z, samples, and the chains."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import molgen
from molgen import EnergyModel
from molgen.core.errors import ConfigError, MolgenWarning, UnsupportedError
from molgen.core.fields import Categorical, Continuous, GaussianField
from molgen.core.noise import BatchNoise, SampleNoise, generator
from molgen.models.energy.neural import Energy, langevin
from tests.models.cells import fitted, records, tiny
from tests.models.test_flow import Toy


class Silent(nn.Module):
    """A critic that says nothing, so that entries are independent."""

    def forward(self, x: Any, mask: Tensor, *rest: Any) -> Tensor:
        return sum((v.flatten(1).sum(1) for v in x.values()), torch.zeros(len(mask)))[:, None] * 0.0


def independent(field: Any, n: int) -> tuple[EnergyModel, Energy, Tensor]:
    """The energy of data whose entries are independent."""
    model = EnergyModel(Toy(field, sites=1), chains=2)
    net = Energy.__new__(Energy)
    nn.Module.__init__(net)
    net.fields, net.critic = {"x": field.relaxed()}, Silent()  # type: ignore[assignment]
    net.unused = nn.Parameter(torch.zeros(1))
    model.network = net
    return model, net, torch.ones(n, 1, dtype=torch.bool)


def test_langevin_keeps_a_gaussian() -> None:
    _, net, mask = independent(Continuous(1, mean=0.4, sd=0.7), 4000)
    field, noise = net.fields["x"], BatchNoise(generator(1))
    t = torch.full((4000,), 0.6)
    sd = math.sqrt(float(field.noise(t)[0]) ** 2 + 0.7**2)
    x = {"x": 0.4 + sd * torch.randn(4000, 1, 1, generator=generator(0))}
    for _ in range(30):
        x = langevin(net, x, t, mask, {}, noise, step=1.0, adjusted=True)
    assert stats.kstest(x["x"].flatten().numpy(), "norm", (0.4, sd)).pvalue > 0.01


@pytest.mark.parametrize("pairs", [False, True])
def test_the_slope_of_independent_classes_is_bayes_rule(pairs: bool) -> None:
    """x - sigma^2 grad E is the posterior mean that a denoiser without a network predicts."""
    field = Categorical(3, pairs=pairs, marginal=[0.5, 0.3, 0.2])
    _, net, _ = independent(field, 2)
    mask = torch.ones(2, 4, dtype=torch.bool)
    relaxed = cast(GaussianField, net.fields["x"])
    for time in (0.2, 0.5, 0.9):
        t = torch.full((2,), time)
        x = relaxed.project(2 * relaxed.white(mask, SampleNoise(0, [0, 1])), mask)
        expected = relaxed.project(relaxed.point(relaxed.predict(torch.zeros_like(x), x, t, mask)), mask)
        got = net.denoise({"x": x}, t, mask, {})["x"]
        assert torch.allclose(got, expected, atol=2e-4)


def test_log_z_of_a_gaussian() -> None:
    model, net, _ = independent(Continuous(2, sd=0.7), 1)
    t = torch.full((1,), 0.3)
    exact = math.log(2 * math.pi * (float(net.fields["x"].noise(t)[0]) ** 2 + 0.7**2))
    got = model.log_partition(level=0.3, chains=300, temperatures=500, step=1.2)
    assert abs(got.value - exact) < 0.05
    assert got.low < exact < got.high < got.low + 0.3


def test_annealed_chains_end_at_the_data() -> None:
    model, _, mask = independent(Continuous(1, mean=0.4, sd=0.7), 2000)
    x = model.generate(mask, {}, SampleNoise(0, range(2000)), steps=300)["x"].flatten()
    assert float(x.mean()) == pytest.approx(0.4, abs=0.05)
    assert float(x.std()) == pytest.approx(0.7, rel=0.04)


def test_the_energy_does_not_hang_on_padding() -> None:
    model = fitted("graph", "energy")
    net, batch = cast(Energy, model.trained), model.encode(records("graph")[:3])
    x = {k: f.relax(batch.values[k], batch.mask) for k, f in model.view.fields.items()}
    t = torch.full((3,), 0.5)
    small = model.encode(records("graph")[:1]).trimmed()
    y = {k: f.relax(small.values[k], small.mask) for k, f in model.view.fields.items()}
    alone = net(y, t[:1], small.mask, {})
    assert torch.allclose(net(x, t, batch.mask, {})[:1], alone, rtol=1e-4, atol=1e-3)


def test_chains_travel_from_noise_to_data_and_begin_anew() -> None:
    model = tiny("smiles", "energy", warmup=0.0, chains=8, steps=4)
    model.fit(records("smiles"), max_steps=1, batch_size=8, seed=0)
    net = cast(Energy, model.trained).train()
    model.progress = 1.0
    seen = [net.times.clone()]
    batch = model.encode(records("smiles")[:8])
    for i in range(6):
        terms = model.losses(net, batch, BatchNoise(generator(i)))
        assert torch.isfinite(terms["contrast"])
        seen.append(net.times.clone())
    for before, after in zip(seen, seen[1:], strict=False):
        born = after == 1
        assert torch.allclose(after[~born], before[~born] - 0.25, atol=1e-5)
        assert (before[born] <= 0.25 + 1e-5).all()
    # The contrast pushes the energy of data down and that of chains up.
    slope = torch.autograd.grad(terms["contrast"], [p for p in net.parameters()][-1], allow_unused=True)[0]
    assert slope is not None and torch.isfinite(slope).all()


def test_chains_that_part_from_the_data_are_warned_about() -> None:
    model = tiny("smiles", "energy", chains=4)
    model.fit(records("smiles"), max_steps=1, batch_size=8, seed=0)
    for gap in (1e5, math.nan):
        model.logged["gap"] = torch.tensor(gap)
        with pytest.warns(MolgenWarning, match="energy divergence"):
            model.fitted()


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
    near = model.sample_from([image], level=0.05, steps=2, corrections=0)[0]
    far = model.sample_from([image], level=1.0, steps=2, corrections=0)[0]
    gap = [abs(x.astype(float) - image.astype(float)).mean() for x in (near, far)]
    assert gap[0] < 0.2 * gap[1]


def test_the_kind_decides_the_class_and_is_kept_by_checkpoints(tmp_path: Any) -> None:
    machine = EnergyModel("smiles", kind="dbm", hidden=(6, 4), chains=4)
    machine.fit(records("smiles"), max_steps=3, batch_size=8, seed=0)
    machine.save(tmp_path / "dbm.safetensors")
    loaded = molgen.load(tmp_path / "dbm.safetensors")
    assert loaded.header() == machine.header()
    assert loaded.sample(3, seed=0, sweeps=3) == machine.sample(3, seed=0, sweeps=3)
