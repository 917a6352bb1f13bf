"""Diffusion against closed forms: guidance between Gaussians, and the density of training times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from molgen import DiffusionModel
from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising
from molgen.core.conditions import Scalar
from molgen.core.fields import Continuous
from molgen.core.rng import BatchRandom, generator
from molgen.testing.toys import Curves
from tests.models.test_flow import Toy

DRAWS = 20_000
PLAIN, LABELLED = (0.3, 0.5), (1.2, 0.9)  # mean and standard deviation without a label and with it


class TwoGaussians(nn.Module):
    """The exact denoiser of one Gaussian without a label, and of another one with it."""

    def __init__(self, plain: tuple[float, float], labelled: tuple[float, float]) -> None:
        super().__init__()
        self.plain, self.labelled = plain, labelled
        self.field = Continuous(1)

    def forward(
        self,
        x: Mapping[str, Tensor],
        t: Tensor,
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        previous: Any = None,
    ) -> dict[str, Tensor]:
        given = any(bool(torch.isfinite(value).all()) for value in (labels or {}).values())
        mean, sd = self.labelled if given else self.plain
        variance = self.field.schedule.sigma(t)[:, None, None] ** 2
        return {"x": mean + sd**2 / (sd**2 + variance) * (x["x"] - mean)}


def drawn(
    guidance: float, plain: tuple[float, float], labelled: tuple[float, float], **options: Any
) -> Tensor:
    model = DiffusionModel(Curves(), **options)
    model.network = TwoGaussians(plain, labelled)
    mask, rng = torch.ones(DRAWS, 1, dtype=torch.bool), BatchRandom(generator(0))
    labels = {"height": torch.ones(DRAWS)}
    return model.generate(mask, labels, rng, steps=100, solver="heun", guidance=guidance)["x"].flatten()


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_guidance_multiplies_gaussians(guidance: float, remembers: bool) -> None:
    r"""The score :math:`(1 - w) \nabla \log p + w \nabla \log p'` of two Gaussians is that of a third.

    Where both have the standard deviation s, so has the third; its mean is m + w (m' - m).
    """
    (mean, sd), (labelled, _) = PLAIN, LABELLED
    x = drawn(guidance, (mean, sd), (labelled, sd), self_condition=remembers)
    centre = mean + guidance * (labelled - mean)
    assert x.mean().item() == pytest.approx(centre, abs=0.05)
    assert x.std().item() == pytest.approx(sd, rel=0.02)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5, 2.0])
def test_guidance_between_gaussians_of_two_widths(guidance: float) -> None:
    r"""The guided flow of N(m, s^2) and N(m, s'^2) is linear: from the largest noise down, x - m is

    .. math:: (x_1 - m) (s / \sqrt{\sigma^2 + s^2})^{1 - w} (s' / \sqrt{\sigma^2 + s'^2})^w
    """
    (mean, sd), (_, wide) = PLAIN, LABELLED
    x = drawn(guidance, (mean, sd), (mean, wide))
    high = Continuous(1).schedule.high
    ratio = (sd / math.hypot(sd, high)) ** (1 - guidance) * (wide / math.hypot(wide, high)) ** guidance
    assert x.std().item() == pytest.approx(high * ratio, rel=0.02)
    assert x.mean().item() == pytest.approx(mean, abs=0.03)


def test_guidance_of_one_follows_the_label_and_of_zero_ignores_it() -> None:
    unlabelled = DiffusionModel(Curves())
    unlabelled.network = TwoGaussians(PLAIN, LABELLED)
    mask, rng = torch.ones(DRAWS, 1, dtype=torch.bool), BatchRandom(generator(0))
    without = unlabelled.generate(mask, {}, rng, steps=100, solver="heun", guidance=3.0)["x"].flatten()
    assert torch.allclose(drawn(0.0, PLAIN, LABELLED), without, atol=1e-5)
    followed = drawn(1.0, PLAIN, LABELLED)
    assert torch.allclose(followed, drawn(1.0, LABELLED, LABELLED), atol=1e-5)
    assert followed.mean().item() == pytest.approx(LABELLED[0], abs=0.03)
    assert followed.std().item() == pytest.approx(LABELLED[1], rel=0.02)


# ---------------------------------------------------------------------- training times


class Recorder(nn.Module):
    """A network that keeps the times and values that it is trained on."""

    def forward(self, x: Mapping[str, Tensor], t: Tensor, *rest: Any) -> dict[str, Tensor]:
        self.x, self.t = x["x"], t
        return dict(x)


def trained_on(count: int, key: int, **options: Any) -> Recorder:
    model, network = DiffusionModel(Curves(), **options), Recorder()
    mask = torch.ones(count, 1, dtype=torch.bool)
    batch = Batch({"x": torch.zeros(count, 1, 1)}, mask, {})
    model.losses(network, batch, BatchRandom(generator(key)))
    return network


@pytest.mark.parametrize("density", [None, (1.0, 1.0), (1.0, 2.5), (3.0, 1.0), (2.0, 5.0), (0.7, 0.9)])
def test_training_times_follow_kumaraswamys_density(density: tuple[float, float] | None) -> None:
    r"""Kolmogorov's distance of the times to :math:`1 - (1 - t^a)^b`; stratified, it is at most 1 / n."""
    count = 4000
    times = trained_on(count, 1, time_density=density).t.double().sort().values
    a, b = density or (1.0, 1.0)
    cdf = 1 - (1 - times**a) ** b
    places = torch.arange(count, dtype=torch.float64)
    distance = torch.maximum((cdf - places / count).abs(), (cdf - (places + 1) / count).abs()).max()
    assert distance.item() < 1.1 / count
    assert (times > 0).all() and (times <= 1).all()


def test_training_times_of_few_samples_are_spread_and_begin_anywhere() -> None:
    """In each of n equal parts of the distribution is one time, and each sample sees all times."""
    batches = torch.stack([trained_on(4, key, time_density=(2.0, 5.0)).t for key in range(400)]).double()
    u = 1 - (1 - batches**2) ** 5
    gaps = torch.cat([u.sort(1).values.diff(dim=1), 1 - (u.amax(1) - u.amin(1))[:, None]], 1)
    assert (gaps - 0.25).abs().max() < 1e-3
    for sample in u.T:
        ordered = sample.sort().values
        assert (ordered - torch.linspace(0, 1, 400)).abs().max() < 0.1  # the 0.999 quantile is 0.097


def test_the_noise_of_a_training_sample_belongs_to_its_time() -> None:
    network = trained_on(DRAWS, 2)
    sigma = Continuous(1).schedule.sigma(network.t)
    white = network.x.flatten() / sigma
    for part in white[network.t.argsort()].chunk(4):
        assert part.std().item() == pytest.approx(1.0, rel=0.05)


# ---------------------------------------------------------------------- labels and previous estimates


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_labels_are_withheld_from_a_share_of_samples_each_by_itself(share: float) -> None:
    model, seen = DiffusionModel(Curves(), label_dropout=share), []
    model.conditions = (Scalar("height"), Scalar("width"))

    class Labelled(nn.Module):
        def forward(self, x: Mapping[str, Tensor], t: Tensor, mask: Tensor, labels: Any, *rest: Any) -> Any:
            seen.append(labels)
            return dict(x)

    labels = {name: torch.arange(DRAWS).float() for name in ("height", "width")}
    mask = torch.ones(DRAWS, 1, dtype=torch.bool)
    model.losses(Labelled(), Batch({"x": torch.zeros(DRAWS, 1, 1)}, mask, labels), BatchRandom(generator(0)))
    gone = [torch.isnan(seen[0][name]) for name in labels]
    error = 5 * math.sqrt(share * (1 - share) / DRAWS)
    for drop in gone:
        assert drop.float().mean().item() == pytest.approx(share, abs=error)
    assert (gone[0] & gone[1]).float().mean().item() == pytest.approx(share**2, abs=2 * error)
    for name, drop in zip(labels, gone, strict=True):
        assert torch.equal(seen[0][name][~drop], labels[name][~drop])


class Remembering(nn.Module):
    """A network that keeps the previous estimates that it is given, and what it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []
        self.said: list[Any] = []

    def forward(
        self, x: Mapping[str, Tensor], t: Tensor, mask: Tensor, labels: Any = None, previous: Any = None
    ) -> dict[str, Tensor]:
        self.given.append(previous)
        self.said.append(dict(x))
        said: dict[str, Tensor] = self.said[-1]
        return said


def test_half_of_the_training_steps_have_a_previous_estimate() -> None:
    model, network = DiffusionModel(Curves(), self_condition=True), Remembering()
    mask = torch.ones(2, 1, dtype=torch.bool)
    batch, steps = Batch({"x": torch.zeros(2, 1, 1)}, mask, {}), 1000
    shown = 0
    for key in range(steps):
        network.given, network.said = [], []
        model.losses(network, batch, BatchRandom(generator(key)))
        if network.given[-1] is not None:
            shown += 1
            assert network.given[0] is None and network.given[1] is network.said[0]
    assert shown / steps == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(steps))


def test_sampling_gives_the_network_its_last_estimate() -> None:
    for remembers in (True, False):
        model = DiffusionModel(Curves(), self_condition=remembers)
        model.network = network = Remembering()
        mask = torch.ones(2, 1, dtype=torch.bool)
        model.generate(mask, {}, BatchRandom(generator(0)), steps=4, solver="ancestral")
        assert network.given[0] is None and len(network.given) == 4
        for given, said in zip(network.given[1:], network.said, strict=False):
            assert given is (said if remembers else None)


# ---------------------------------------------------------------------- likelihood


class Exact(nn.Module):
    """The exact denoiser of N(mean, sd^2), which keeps the times that it is asked at."""

    def __init__(self, field: Continuous) -> None:
        super().__init__()
        self.field, self.times = field, list[Tensor]()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Mapping[str, Tensor], t: Tensor, mask: Tensor, *rest: Any) -> dict[str, Tensor]:
        self.times.append(t)
        return {"x": Denoising.of(self.field).precondition(torch.zeros_like(x["x"]), x["x"], t, mask)}


@pytest.mark.parametrize("draws", [1, 4])
def test_the_bound_is_the_sum_of_its_terms_whatever_is_drawn(draws: int) -> None:
    r"""The exact denoiser of N(m, s^2) data errs by :math:`\sigma^2 s^2 / (\sigma^2 + s^2)`, which gives all.

    There is little noise at time 1, so that the term of the prior counts as well.
    """
    field, n, steps = Continuous(1, mean=0.3, sd=0.5, noise=(0.02, 1.5)), DRAWS, 20
    model = DiffusionModel(Toy(field, 1))
    model.network = network = Exact(field)
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    sigma = field.schedule.sigma(grid)
    error = sigma**2 * 0.25 / (sigma**2 + 0.25)
    total = 0.5 * 0.25 / field.schedule.high**2
    total += 0.5 + 0.5 * math.log(2 * math.pi * error[1].item())
    total += (0.5 * (sigma[1:-1] ** -2 - sigma[2:] ** -2) * error[2:]).sum().item()
    mask = torch.ones(n, 1, dtype=torch.bool)
    x0 = 0.3 + 0.5 * torch.randn(n, 1, 1, generator=generator(1))
    rng = BatchRandom(generator(2))
    got = model.log_density(Batch({"x": x0}, mask, {}), rng, steps=steps, draws=draws)
    assert -got.mean().item() == pytest.approx(total, abs=5 * got.std().item() / math.sqrt(n))
    assert len(network.times) == 1 + draws
    for k, t in enumerate(network.times[1:]):  # each draw has a stratum of its own
        assert t.min() >= grid[2 + int(k * 19 / draws)].item() - 1e-6
        assert t.max() <= grid[2 + min(int((k + 1) * 19 / draws), 18)].item() + 1e-6
