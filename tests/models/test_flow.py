"""The continuous flow against closed forms: densities of Gaussians, small discrete laws, pairing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from molgen import ConfigError, FlowModel
from molgen.core.batch import Batch, Sample
from molgen.core.capabilities import Embedding, PathLikelihood, Transport
from molgen.core.fields import Angles, Categorical, Continuous, Field, Positions
from molgen.core.modality import Modality, View
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.models.flow.continuous import ContinuousFlow, _slope, paired
from tests.models.cells import fitted, records, tiny


class Toy(Modality):
    """One field on sites, for networks that are known in closed form."""

    name = "toy"

    def __init__(self, field: Field, sites: int = 2) -> None:
        self.sites = sites
        self._views = {"x": View("x", {"x": field}, ordered=True)}

    @property
    def views(self) -> Mapping[str, View]:
        return self._views

    def encode(self, record: Any, view: str) -> Sample:
        return {"x": np.asarray(record)}

    def decode(self, sample: Sample, view: str) -> Any:
        return sample["x"]

    def fit_to(self, records: Sequence[Any]) -> Self:
        return self

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        return [self.sites] * len(indices)

    def log_size(self, n: int) -> float:
        return 0.0

    def config(self) -> dict[str, Any]:
        return {}

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        raise AssertionError("the network is given")


class Known(nn.Module):
    """A denoiser given by a function of values and of the noise's standard deviation."""

    def __init__(self, model: ContinuousFlow, law: Any) -> None:
        super().__init__()
        self.field, self.law = model.fields["x"], law
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Mapping[str, Tensor], t: Tensor, mask: Tensor, *rest: Any) -> dict[str, Tensor]:
        sigma = self.field.schedule.sigma(t).reshape(-1, 1, 1)
        return {"x": self.law(x["x"], sigma)}


def gaussian(mean: float, sd: float) -> tuple[ContinuousFlow, Any]:
    model = FlowModel(Toy(Continuous(2, mean=mean, sd=sd)))
    model.network = Known(model, lambda x, sigma: mean + sd**2 / (sd**2 + sigma**2) * (x - mean))
    return model, torch.distributions.Normal(mean, sd)


def test_the_density_of_a_gaussian_is_exact() -> None:
    model, law = gaussian(0.3, 0.7)
    assert model.likelihood == "exact"
    points = 0.3 + 0.7 * torch.randn(6, 2, 2, generator=generator(3))
    batch = Batch({"x": points}, torch.ones(6, 2, dtype=torch.bool))
    errors = []
    for steps in (100, 200, 400):
        got = model.log_density(batch, BatchRandom(generator(0)), steps=steps, exact=True)
        errors.append(float((got - law.log_prob(points).flatten(1).sum(1)).abs().max()))
    assert errors[-1] < 0.01
    # Heun's method is of second order, down to what float32 leaves.
    assert errors[0] > 3 * errors[1] > 6 * errors[2]


def test_probes_estimate_the_divergence_without_bias() -> None:
    model, _ = gaussian(0.0, 0.5)
    field, mask = model.fields, torch.ones(4000, 2, dtype=torch.bool)
    x, t = {"x": torch.randn(4000, 2, 2, generator=generator(1))}, torch.full((4000,), 0.5)
    rng = BatchRandom(generator(2))
    _, whole = _slope(model.trained, field, x, t, mask, {}, rng, 1, exact=True)
    _, guess = _slope(model.trained, field, x, t, mask, {}, rng, 1, exact=False)
    error = guess["x"].std() / 4000**0.5
    assert (guess["x"].mean() - whole["x"].mean()).abs() < 4 * error


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_have_the_moments_of_the_data(temperature: float) -> None:
    """The flow of a Gaussian is linear, so that its spread follows that of the noise."""
    model, _ = gaussian(0.3, 0.7)
    mask = torch.ones(20_000, 2, dtype=torch.bool)
    rng = BatchRandom(generator(0))
    x = model.generate(mask, {}, rng, steps=50, solver="heun", temperature=temperature)["x"]
    assert x.mean().item() == pytest.approx(0.3, abs=0.01)
    assert x.std().item() == pytest.approx(0.7 * temperature, rel=0.01)


def test_discrete_values_get_a_bound_that_is_nearly_tight() -> None:
    """Two correlated letters of three: the exact posterior mean under Gaussian noise is the network."""
    p = torch.tensor([[0.30, 0.05, 0.02], [0.03, 0.25, 0.02], [0.08, 0.05, 0.20]])
    model = FlowModel(Toy(Categorical(3)))
    assert model.likelihood == "lower bound"
    words = torch.tensor(list(product(range(3), repeat=2)))
    corners = Embedding.of(model.view.fields["x"]).embed(words, torch.ones(9, 2, dtype=torch.bool))

    def law(x: Tensor, sigma: Tensor) -> Tensor:
        gap = ((x[:, None] - corners) ** 2).sum((2, 3))
        share = (p.flatten().log() - gap / (2 * sigma.reshape(-1, 1) ** 2)).softmax(1)
        marginal = torch.einsum("bw,wnk->bnk", share, (corners + 1) / 2)
        return marginal.clamp_min(1e-30).log()

    model.network = Known(model, law)
    repeated = words.repeat(40, 1)
    batch = Batch({"x": repeated}, torch.ones(len(repeated), 2, dtype=torch.bool))
    bound = model.log_density(batch, BatchRandom(generator(0)), steps=100, exact=True).reshape(40, 9).mean(0)
    exact = p.flatten().log()
    assert (bound < exact + 0.05).all()
    assert (bound - exact).abs().max() < 0.15
    assert float((bound.exp()).sum()) < 1.05


def test_noise_is_paired_with_data_of_its_size_at_less_cost() -> None:
    fields = {
        "x": Embedding.of(Continuous(2)).continuous("linear"),
        "p": Embedding.of(Positions()).continuous("linear"),
    }
    mask = torch.arange(4)[None] < torch.tensor([4, 4, 4, 3, 3, 2])[:, None]
    rng = BatchRandom(generator(0))
    x0 = {k: f.standard_noise(mask, rng) for k, f in fields.items()}
    white = {k: f.standard_noise(mask, rng) for k, f in fields.items()}
    dealt = paired(fields, x0, white, mask)

    def cost(w: Mapping[str, Tensor]) -> float:
        return float(sum(Transport.of(f).ot_cost(x0[k], w[k]).diagonal().sum() for k, f in fields.items()))

    assert cost(dealt) < cost(white)
    for k, f in fields.items():
        assert torch.equal(dealt[k] * f.valid(mask), dealt[k])
    rows = {tuple(r.flatten().tolist()) for r in white["x"]}
    assert {tuple(r.flatten().tolist()) for r in dealt["x"]} == rows
    # Positions keep their distances and their hand.
    before = {round(float(torch.linalg.det(r[:3])), 3) for r in white["p"][:3]}
    assert {round(float(torch.linalg.det(r[:3])), 3) for r in dealt["p"][:3]} == before


def test_a_turned_object_lies_as_near_as_a_rotation_can_bring_it() -> None:
    field, mask = Positions(), torch.ones(3, 5, dtype=torch.bool)
    x = field.standard_noise(mask, BatchRandom(generator(0)))
    turn = torch.linalg.qr(torch.randn(3, 3, 3, generator=generator(1)))[0]
    turn = turn * torch.linalg.det(turn).sign()[:, None, None]
    assert torch.allclose(Transport.of(field).align(x @ turn, x, mask), x, atol=1e-5)


@pytest.mark.parametrize(
    "field",
    [
        Continuous(2),
        Continuous(1, levels=5),
        Positions(),
        Angles(2),
        Categorical(4),
        Categorical(3, pairs=True),
    ],
)
def test_the_density_of_noise_is_normalised(field: Field) -> None:
    """log N at white noise has the mean of the Gaussian's entropy in as many dimensions as values have."""
    relaxed = Embedding.of(field).continuous("linear")
    mask = torch.ones(4000, 3, dtype=torch.bool)
    white = relaxed.standard_noise(mask, BatchRandom(generator(0)))
    count = {"Positions": 6, "Continuous": 3 * relaxed.channels, "Angles": 6}.get(
        type(field).__name__, 3 * relaxed.channels
    )
    entropy = 0.5 * count * (1 + math.log(2 * math.pi))
    assert PathLikelihood.of(relaxed).log_normal(white, 1.0, mask).mean().item() == pytest.approx(
        -entropy, abs=0.1
    )
    path = PathLikelihood.of(relaxed)
    assert path.time(math.exp(path.log_sigma(0.5))) == pytest.approx(0.5, abs=1e-6)


def test_the_density_does_not_turn_with_the_object() -> None:
    model = fitted("protein", "flow")
    batch = model.encode(records("protein")[:2])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator(1)))[0]
    turn = turn * torch.linalg.det(turn).sign()
    name = next(iter(batch.values))
    turned = batch.replace(values={name: batch.values[name] @ turn})
    both = []
    for b, spin in ((batch, torch.eye(3)), (turned, turn)):
        fields, t = model.fields, torch.full((2,), 0.3)
        x = {name: b.values[name]}

        class Spun(BatchRandom):
            """The same noise, turned like the object."""

            def normal(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
                return super().normal(mask, own) @ spin  # noqa: B023

        both.append(_slope(model.trained, fields, x, t, b.mask, {}, Spun(generator(0)), 1, False)[1][name])
    assert torch.allclose(*both, rtol=1e-3)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="solver"):
        FlowModel("smiles", solver="ancestral")
    model = fitted("smiles", "flow")
    with pytest.raises(ConfigError, match="steps"):
        model.generate(torch.ones(1, 3) > 0, {}, SampleRandom(0, [0]), steps=0)
    with pytest.raises(ConfigError, match="solver"):
        model.generate(torch.ones(1, 3) > 0, {}, SampleRandom(0, [0]), solver="churn")


@pytest.mark.parametrize("family", ["flow", "consistency"])
def test_a_model_that_conditions_on_itself_is_shown_what_it_said_last(family: str) -> None:
    model = tiny("smiles", family, self_condition=True).fit(records("smiles"), max_steps=2, seed=0)
    shown: list[object] = []
    said: list[object] = []

    def spy(module: nn.Module, given: tuple[object, ...], out: object) -> None:
        shown.append(given[4])
        said.append(out)

    model.trained.register_forward_hook(spy)
    model.sample(2, seed=0, steps=4)
    assert shown[0] is None
    assert len(said) == 4
    assert all(a is b for a, b in zip(shown[1:], said, strict=False))
