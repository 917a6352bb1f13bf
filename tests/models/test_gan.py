"""The adversarial game: modes, who moves whose weights, penalties, and what it says when it collapses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from molgen import GANModel
from molgen.core.batch import Batch, Sample
from molgen.core.errors import ConfigError, MolgenWarning, UnsupportedError
from molgen.core.fields import Continuous
from molgen.core.modality import Modality, View
from molgen.core.rng import BatchRandom, generator
from molgen.core.step import TrainingStep
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.models.gan import GeneratorAndCritic
from tests.models.cells import fitted, records

# A game of a few steps has not spread out yet.
pytestmark = pytest.mark.filterwarnings("ignore:mode collapse")


class Perceptron(Trunk):
    """Three hidden layers on every site."""

    def __init__(self, spec: TrunkSpec, width: int = 64) -> None:
        super().__init__()
        self.width, self.pair_width = width, 0
        self.told = nn.Linear(spec.context, width)
        self.first = nn.Linear(spec.site, width)
        self.rest = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, width)
        )

    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        assert streams.site is not None and context is not None
        return Streams(site=self.rest(self.first(streams.site) + self.told(context)[:, None]))


class Plane(Modality):
    """Points of the plane."""

    name = "plane"

    @property
    def views(self) -> Mapping[str, View]:
        return {"x": View("x", {"x": Continuous(2, sd=1.0)})}

    def encode(self, record: Any, view: str) -> Sample:
        return {"x": np.asarray(record, np.float32)[None]}

    def decode(self, sample: Sample, view: str) -> Any:
        return sample["x"][0]

    def fit_to(self, records: Any) -> Plane:
        return self

    def draw_sizes(self, seed: int, indices: Any, **fixed: Any) -> list[int]:
        return [1] * len(indices)

    def log_size(self, n: int) -> float:
        return 0.0

    def config(self) -> dict[str, Any]:
        return {}

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        return Perceptron(spec, **options)


def ring(n: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Points of eight narrow Gaussians on a circle, and their centres."""
    source = np.random.default_rng(0)
    angle = 2 * math.pi * np.arange(8) / 8
    centres = 1.4 * np.stack([np.cos(angle), np.sin(angle)], 1)
    points = centres[source.integers(8, size=n)] + 0.05 * source.normal(size=(n, 2))
    return list(points.astype(np.float32)), centres


def test_it_covers_all_eight_gaussians() -> None:
    points, centres = ring(4000)
    model = GANModel(Plane(), instance_noise=0.1, r1_gamma=0.02)
    model.fit(points, max_steps=600, batch_size=128, lr=3e-3, seed=0)
    drawn = np.stack(model.sample(800, seed=0))
    gap = np.linalg.norm(drawn[:, None] - centres[None], axis=-1)
    near = gap.min(1) < 0.35  # neighbours are 1.07 apart
    share = np.bincount(gap.argmin(1)[near], minlength=8) / len(drawn)
    assert near.mean() > 0.7
    assert share.min() > 0.04
    logged: dict[str, torch.Tensor] = {}
    rng = BatchRandom(generator(0))
    model.losses(model.trained, model.encode(points[:256]), rng, TrainingStep(1.0, logged.__setitem__))
    assert float(logged["diversity"]) > 0.8


def game() -> tuple[GANModel, GeneratorAndCritic, Batch]:
    points, _ = ring(16)
    model = GANModel(Plane(), r1_gamma=2.0, instance_noise=0.0)
    model.fit(points, points, max_steps=1, batch_size=16, seed=0)
    return model, cast(GeneratorAndCritic, model.trained), model.encode(points)


def test_each_player_moves_its_own_weights_only() -> None:
    model, gan, batch = game()
    terms = model.losses(gan, batch, BatchRandom(generator(0)))
    for mine, theirs, names in (
        (gan.critic, gan.generator, ("critic", "r1", "r2")),
        (gan.generator, gan.critic, ("generator",)),
    ):
        gan.zero_grad()
        torch.stack([terms[k] for k in names]).sum().backward(retain_graph=True)
        assert all(p.grad is None or not p.grad.any() for p in theirs.parameters())
        assert any(p.grad is not None and p.grad.any() for p in mine.parameters())


def test_the_penalty_of_a_linear_critic_is_known() -> None:
    """C(x) = w . x has gradient w everywhere: r1 = r2 = gamma / 2 |w|^2 for data of unit spread."""
    model, gan, batch = game()
    slope = torch.tensor([0.5, -2.0])

    class Linear(nn.Module):
        def forward(self, x: Mapping[str, Tensor], *rest: Any) -> Tensor:
            return (x["x"] * slope).sum((1, 2), keepdim=True)[:, :, 0]

    gan.critic = Linear()  # type: ignore[assignment]
    terms = model.losses(gan, batch, BatchRandom(generator(0)))
    for name in ("r1", "r2"):
        assert float(terms[name]) == pytest.approx(0.25 + 4.0)


@pytest.mark.parametrize("name", ["smiles", "graph"])
def test_gradients_reach_the_generator_through_classes(name: str) -> None:
    model = fitted(name, "gan")
    gan, batch = cast(GeneratorAndCritic, model.trained), model.encode(records(name)[:8]).trimmed()
    gan.zero_grad()
    model.losses(gan, batch, BatchRandom(generator(0)))["generator"].backward()
    heads = [p.grad for n, p in gan.generator.named_parameters() if "heads" in n]
    assert all(g is not None and torch.isfinite(g).all() and g.any() for g in heads)
    gan.zero_grad()


def test_noise_of_temperature_zero_is_one_sample() -> None:
    model = fitted("image", "gan")
    first, second = model.sample(2, temperature=0.0)
    assert (first == second).all()
    with pytest.raises(ConfigError, match="temperature is -1"):
        model.sample(1, temperature=-1.0)


def test_collapse_is_warned_about() -> None:
    points, _ = ring(16)
    model = GANModel(Plane())
    with pytest.warns(MolgenWarning, match="mode collapse"):
        model.on_fit_end({"diversity": torch.tensor(0.01)})
    with pytest.raises(ConfigError, match="r1_gamma"):
        GANModel(Plane(), r1_gamma=-1.0)


def test_a_generator_that_says_all_at_once_works_where_motions_change_nothing() -> None:
    assert [GANModel(name).view.name for name in ("molecule", "protein")] == ["internal", "internal"]
    with pytest.raises(UnsupportedError, match="invariant.*cartesian"):
        GANModel("protein", view="cartesian")
