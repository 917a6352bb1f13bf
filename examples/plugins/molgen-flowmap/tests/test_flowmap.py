"""Flow maps: what every family promises, the identity of the loss, the exact map of a Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, final

import numpy as np
import pytest
import torch
from molgen_flowmap import FlowMapModel
from torch import Tensor

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Continuous, Field
from molgen.core.modality import Modality
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.core.solvers import State
from molgen.testing import Check, model_checks
from molgen.testing.toys import TOYS

MEAN, SD = 0.3, 0.8


@pytest.mark.parametrize("check", model_checks(FlowMapModel), ids=str)
def test_conformance(check: Check) -> None:
    check()


@final
class Number(Modality):
    """One real number."""

    name = "toy_number"

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"x": Continuous(1, **self.learned("x"))}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, float):
            raise DataError(f"a {type(record).__name__}, expected a float", fix="remove it")
        return {"x": np.full((1, 1), record, np.float32)}

    def decode(self, sample: Sample, view: str) -> float:
        return float(sample["x"][0, 0])


def column(value: Tensor) -> Tensor:
    return value[:, None, None]


def carried(model: FlowMapModel, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The exact flow of N(m, c^2): deviations shrink as the spread of x_t does."""
    schedule, c = model.fields["x"].schedule, model.fields["x"].sd
    spread = ((schedule.sigma(s) ** 2 + c**2) / (schedule.sigma(t) ** 2 + c**2)).sqrt()
    return model.fields["x"].mean + column(spread) * (x - model.fields["x"].mean)


def aimed(model: FlowMapModel, x: Tensor, t: Tensor, d: Tensor) -> Tensor:
    """The exact aim: the point towards which a straight step from t ends on the flow; at d = 0 the mean."""
    f = model.fields["x"]
    ratio = column(f.schedule.sigma(t - d) / f.schedule.sigma(t))
    chord = (carried(model, x, t, t - d) - ratio * x) / (1 - ratio).clamp_min(1e-9)
    mean = f.mean + column(f.sd**2 / (f.sd**2 + f.schedule.sigma(t) ** 2)) * (x - f.mean)
    return torch.where(column(d) > 0, chord, mean)


def unfitted() -> FlowMapModel:
    return FlowMapModel(Number(scales={"x": {"mean": MEAN, "sd": SD}}))


def test_the_exact_aim_satisfies_the_identity() -> None:
    """Two halves of a step end where the step does, so the target of the exact aim is the exact aim."""
    model, n = unfitted(), 96
    mask = torch.ones(n, 1, dtype=torch.bool)
    d = torch.tensor([1.0, 0.5, 0.25, 0.125]).repeat(n // 4).double()
    t = d * (1 + (torch.arange(n) % (1 / d)))
    rng = BatchRandom(generator(0))
    x = MEAN + column((SD**2 + model.fields["x"].schedule.sigma(t) ** 2).sqrt()) * rng.normal(mask, (-1, 1))

    def aim(values: State, time: Tensor, length: Tensor) -> State:
        return {"x": aimed(model, values["x"], time, length)}

    found = model.chord(aim, {"x": x}, t, d, mask, rng)["x"]
    assert torch.allclose(found, aimed(model, x, t, d), atol=1e-5)


def test_the_finest_steps_are_learned_from_none_at_all() -> None:
    """Two Euler steps: near the exact aim, by an error of the second order in the length."""
    mask, rng, errors = torch.ones(50, 1, dtype=torch.bool), BatchRandom(generator(0)), []
    white = rng.normal(mask, (-1, 1)).double()
    for finest in (16, 32, 64):
        model = FlowMapModel(Number(scales={"x": {"mean": MEAN, "sd": SD}}), finest=finest)
        t, d = torch.full((50,), 0.5).double(), torch.full((50,), 1 / finest).double()
        x = MEAN + white

        def aim(values: State, time: Tensor, length: Tensor, model: FlowMapModel = model) -> State:
            assert (length == 0).all()
            return {"x": aimed(model, values["x"], time, length)}

        found = model.chord(aim, {"x": x}, t, d, mask, rng)["x"]
        errors.append(float((found - aimed(model, x, t, d)).abs().max()))
    assert errors[0] < 0.05
    # The aim is divided by the length of the step: of its error one order is left.
    assert all(1.7 < a / b < 2.5 for a, b in zip(errors[:-1], errors[1:], strict=True))


@pytest.mark.parametrize("toy", TOYS)
def test_the_aim_of_a_long_step_lies_among_the_data(toy: type[Modality]) -> None:
    """On every geometry: if all halves are aimed at one value, so is the whole; classes stay shares."""
    records = next(iter(toy().datasets.values())).load("train")
    model = FlowMapModel(toy().fit_to(records))
    batch = model.encode(records[:8])
    x0, rng = model.relaxed(batch), BatchRandom(generator(0))
    t, d = torch.full((8,), 0.75), torch.full((8,), 0.5)
    x = {
        k: f.add_noise(x0[k], f.standard_noise(batch.mask, rng), t, batch.mask)
        for k, f in model.fields.items()
    }
    same = model.chord(lambda *_: x0, x, t, d, batch.mask, rng)
    assert all(torch.allclose(same[k], x0[k], atol=1e-5) for k in x0)


def test_times_are_those_of_the_algorithm() -> None:
    model, mask = FlowMapModel(Number(), finest=8, shortcuts=0.5), torch.ones(4000, 1, dtype=torch.bool)
    t, d = model._times(mask, BatchRandom(generator(0)))
    assert (d > 0).sum() == 2000
    lengths, counts = d[d > 0].unique(return_counts=True)
    assert lengths.tolist() == [1 / 8, 1 / 4, 1 / 2, 1]
    assert (counts > 400).all()
    steps = t[d > 0] / d[d > 0]
    assert torch.equal(steps, steps.round())
    assert (t >= d).all()
    assert (t <= 1).all()


@cache
def trained() -> FlowMapModel:
    draw = np.random.default_rng(0)
    numbers = [float(x) for x in draw.normal(MEAN, SD, 2000)]
    small = {"width": 32, "depth": 1, "heads": 2}
    model = FlowMapModel(Number(), finest=8, shortcuts=0.5, width=32, trunk_options=small)
    return model.fit(numbers, max_steps=300, batch_size=128, lr=5e-3, seed=0)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_trained_map_is_the_exact_one(steps: int) -> None:
    """From the same noise it ends within a tenth of the spread of where the exact flow does."""
    model, mask = trained(), torch.ones(500, 1, dtype=torch.bool)
    with torch.no_grad():
        found = model.generate(mask, {}, SampleRandom(1, range(500)), steps=steps)["x"]
    start = model.fields["x"].prior(mask, SampleRandom(1, range(500)))
    exact = carried(model, start, torch.ones(500), torch.zeros(500))
    assert ((found - exact) ** 2).mean().sqrt() < 0.1 * SD
    assert found.mean().item() == pytest.approx(MEAN, abs=0.1)
    assert found.std().item() == pytest.approx(SD, abs=0.1)


def test_one_step_ends_where_many_do() -> None:
    one, many = (np.array(trained().sample(300, seed=2, steps=n)) for n in (1, 8))
    assert np.sqrt(np.mean((one - many) ** 2)) < 0.1 * SD
    assert np.array_equal(one, trained().sample(300, seed=2, steps=1))


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="finest is 12, expected a power of two"):
        FlowMapModel("smiles", finest=12)
    with pytest.raises(ConfigError, match="shortcuts is 1"):
        FlowMapModel("smiles", shortcuts=1)
    with pytest.raises(ConfigError, match="steps is 0"):
        FlowMapModel("smiles", steps=0)
