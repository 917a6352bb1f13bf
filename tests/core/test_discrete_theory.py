"""Classes, samplers, conditions and sizes against closed forms and counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical as Classes
from torch.distributions import kl_divergence
from torch.nn import functional as F

from molgen.core.capabilities import Consistency, Denoising, Embedding
from molgen.core.conditions import Label, Scalar
from molgen.core.densities import Gaussians
from molgen.core.fields import Angles, Categorical, Continuous, Positions, Simplex
from molgen.core.rng import BatchRandom, generator
from molgen.core.sizes import Sizes
from molgen.core.solvers import SOLVERS, ReverseProcess, State, restart_times, sample_with_restarts
from molgen.core.wrappers.decoder import log_likelihood
from molgen.metrics.anomaly import typicality

MASK = torch.tensor([[True, True, True], [True, True, False]])
DRAWS = 20_000


def noise(key: int = 0) -> BatchRandom:
    return BatchRandom(generator(key))


def symmetric(x: Tensor) -> Tensor:
    upper = x.movedim((1, 2), (-2, -1)).triu(1)
    return (upper + upper.transpose(-1, -2)).movedim((-2, -1), (1, 2))


def example(field: Categorical) -> tuple[Tensor, Tensor]:
    """Classes and logits of two samples."""
    pairs = field.axes == 2
    shape = (2, 3, 3) if pairs else (2, 3)
    x0 = torch.randint(field.classes, shape, generator=generator(1))
    logits = torch.randn(*shape, field.classes, generator=generator(2))
    return field.project(symmetric(x0) if pairs else x0, MASK), symmetric(logits) if pairs else logits


def own(field: Categorical, i: int) -> list[tuple[int, ...]]:
    """The places of the free entries of a sample."""
    n = int(MASK[i].sum())
    if field.axes == 1:
        return [(i, a) for a in range(n)]
    return [(i, a, b) for a in range(n) for b in range(a + 1, n)]


# ---------------------------------------------------------------------- classes under noise


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["mask", "marginal"])
def test_the_divergence_of_a_jump_is_summed_over_states_and_entries(pairs: bool, kind: str) -> None:
    """KL(q || p) of each free entry, where q knows x0 and p its distribution; Bayes' rule by enumeration."""
    field = Categorical(3, pairs=pairs, noise=kind, marginal=[0.5, 0.3, 0.2])  # type: ignore[arg-type]
    x0, logits = example(field)
    t, s = torch.full((2,), 0.7), torch.full((2,), 0.4)
    x = field.diffuse(x0, 0 * t, t, MASK, noise(3))
    got = Denoising.of(field).vlb_term(logits, x0, x, t, s, MASK)
    eye, at_t, at_s = torch.eye(field.states), 0.3, 0.6
    back = at_t / at_s * eye + (1 - at_t / at_s) * field.redraw  # q(x_t | x_s) by rows x_s
    to_s, to_t = (a * eye + (1 - a) * field.redraw for a in (at_s, at_t))
    for i in range(2):
        total = 0.0
        for place in own(field, i):
            now = int(x[place])
            # p(x_s | x_t) mixes the posteriors of every x0 that x_t leaves possible.
            share = logits[place].softmax(-1) * (to_t[:3, now] > 0)
            known = [to_s[k] * back[:, now] / to_t[k, now].clamp_min(1e-12) for k in range(3)]
            mixed = sum(p * q for p, q in zip(share, known, strict=True))
            q, p = Classes(known[int(x0[place])]), Classes(mixed)
            total += float(kl_divergence(q, p))
        assert got[i].item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("kind", ["mask", "marginal"])
def test_the_loss_of_classes_is_the_mean_entropy_of_what_is_hidden(pairs: bool, kind: str) -> None:
    field = Categorical(3, pairs=pairs, noise=kind)  # type: ignore[arg-type]
    x0, logits = example(field)
    t = torch.full((2,), 0.5)
    x = field.diffuse(x0, 0 * t, t, MASK, noise(5))
    x[own(field, 0)[0]] = field.states - 1  # at least one is hidden
    x = symmetric(x) if pairs else x
    got = Denoising.of(field).loss(logits, x0, x, t, MASK)
    for i in range(2):
        places = [p for p in own(field, i) if kind == "marginal" or x[p] == 3]
        each = [float(F.cross_entropy(logits[p], x0[p])) for p in places]
        assert got[i].item() == pytest.approx(np.mean(each) if each else 0.0, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_temperature_sharpens_drawn_classes(scale: float) -> None:
    field, p = Categorical(3), torch.tensor([0.5, 0.3, 0.2])
    mask, t = torch.ones(DRAWS, 1, dtype=torch.bool), torch.ones(DRAWS)
    x = torch.full((DRAWS, 1), 3)
    logits = p.log().expand(DRAWS, 1, 3)
    drawn = Denoising.of(field).step(x, logits, t, 0 * t, mask, noise(1), scale=scale)
    shares = torch.bincount(drawn.flatten(), minlength=3) / DRAWS
    exact = p ** (1 / scale) / (p ** (1 / scale)).sum()
    assert (shares - exact).abs().max() < 4 * math.sqrt(0.25 / DRAWS)


@pytest.mark.parametrize("time", [0.25, 0.5, 0.9])
def test_tokens_are_hidden_again_as_many_as_the_time_says(time: float) -> None:
    field, mask = Categorical(3), torch.ones(2, 20, dtype=torch.bool)
    x, zero = torch.zeros(2, 20, dtype=torch.long), torch.zeros(2)
    y = field.renoise(x, zero, torch.full((2,), time), mask, noise(1))
    assert (y == 3).sum(1).tolist() == [round(20 * time)] * 2


def test_a_shown_token_is_known_whatever_the_network_says() -> None:
    field, t = Categorical(3), torch.full((1,), 0.5)
    x, raw = torch.tensor([[0, 3, 2]]), 5 * torch.randn(1, 3, 3, generator=generator(0))
    p = Denoising.of(field).precondition(raw, x, t, MASK[:1]).softmax(-1)
    assert p[0, 0, 0] > 1 - 1e-6 and p[0, 2, 2] > 1 - 1e-6
    assert torch.allclose(p[0, 1], raw[0, 1].softmax(-1))


@pytest.mark.parametrize("pairs", [False, True])
def test_distances_are_means_over_entries(pairs: bool) -> None:
    hard, soft = Categorical(3, pairs=pairs), Simplex(3, pairs=pairs)
    _, a = example(hard)
    b = a.roll(1, -1)
    each = (a.softmax(-1) - b.softmax(-1)).square().sum(-1)
    exact = torch.stack([torch.stack([each[p] for p in own(hard, i)]).mean() for i in range(2)])
    for field in (soft, Embedding.of(hard).continuous()):
        assert torch.allclose(Consistency.of(field).distance(a, b, MASK), exact, atol=1e-6)
    angles = Angles(2)
    a, b = torch.randn(2, 2, 3, 4, generator=generator(3)).unbind(0)
    gap = (a - b).square() * MASK[..., None]
    exact = gap.sum((1, 2)) / (2 * MASK.sum(1))
    assert torch.allclose(Consistency.of(angles).distance(a, b, MASK), exact)


@pytest.mark.parametrize("pairs", [False, True])
def test_relaxed_and_decoded_classes_are_counted_once(pairs: bool) -> None:
    """The last term of a bound, and a decoder's log-likelihood, have each free entry once."""
    hard, soft = Categorical(3, pairs=pairs), Simplex(3, pairs=pairs)
    x0, logits = example(hard)
    each = F.cross_entropy(logits.movedim(-1, 1), x0, reduction="none")
    exact = torch.stack([torch.stack([each[p] for p in own(hard, i)]).sum() for i in range(2)])
    one_hot, t = Embedding.of(hard).embed(x0, MASK), torch.full((2,), 0.3)
    last = Denoising.of(soft).vlb_term(logits, one_hot, one_hot, t, 0 * t, MASK)
    assert torch.allclose(last, exact, atol=1e-5)
    raw = {"x": logits[..., None, :]}  # one entry on every site or pair
    assert torch.allclose(log_likelihood({"x": hard}, raw, {"x": x0}, MASK)["x"], -exact, atol=1e-5)


def test_positions_learn_the_deviation_of_centred_data() -> None:
    values = [np.random.default_rng(i).normal(size=(6, 3)) * 2 + 50 for i in range(400)]
    # Centred, a coordinate of n points has the variance s^2 (1 - 1 / n).
    assert Positions().learn(values)["sd"] == pytest.approx(2 * math.sqrt(5 / 6), rel=0.03)


# ---------------------------------------------------------------------- samplers


def test_churn_goes_back_by_half_a_step_before_each() -> None:
    field, mask, asked = Continuous(1, sd=1.0), torch.ones(DRAWS, 1, dtype=torch.bool), []

    def denoise(x: State, t: Tensor) -> State:
        asked.append((float(t[0]), float(x["x"].std())))
        return {"x": torch.zeros_like(x["x"])}

    times = torch.tensor([0.6, 0.5, 0.0])
    start = {"x": field.schedule.sigma(times[0]) * field.standard_noise(mask, noise(1))}
    SOLVERS["churn"](ReverseProcess(denoise, {"x": field}, mask, noise(2)), start, times)
    assert [t for t, _ in asked] == pytest.approx([0.65, 0.5, 0.75])
    for t, std in asked:  # data are zero: what is there is noise, as much as belongs to the time
        assert std == pytest.approx(field.schedule.sigma(torch.tensor(t)).item(), rel=0.03)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_the_scale_of_noise_reaches_restarts(scale: float) -> None:
    field, mask = Continuous(1, sd=1.0), torch.ones(DRAWS, 1, dtype=torch.bool)
    seen: list[tuple[float, float]] = []

    def denoise(x: State, t: Tensor) -> State:
        seen.append((float(t[0]), float(x["x"].std())))
        return {"x": torch.zeros_like(x["x"])}

    first, again = restart_times(4, {"x": field}, mask, restarts=1, restart_from=0.5)
    sample_with_restarts(
        SOLVERS["euler"],
        lambda source: ReverseProcess(denoise, {"x": field}, mask, source, scale),
        {"x": field.prior(mask, noise(1))},
        [first, again],
        noise(2),
    )
    t, std = seen[len(first) - 1]
    assert t == pytest.approx(0.5)
    assert std == pytest.approx(scale * field.schedule.sigma(torch.tensor(0.5)).item(), rel=0.03, abs=1e-4)


# ---------------------------------------------------------------------- conditions, sizes, densities


def test_a_scalar_is_read_in_standard_units_beside_a_flag() -> None:
    scalar = Scalar("height", mean=2.0, sd=0.5, frequencies=2)
    got = scalar.features(torch.tensor([3.0, 2.0, math.nan]))
    z = torch.tensor([2.0, 0.0])
    waves = z[:, None] * math.pi / 4 * torch.tensor([1.0, 2.0])
    exact = torch.cat([z[:, None], waves.sin(), waves.cos(), torch.zeros(2, 1)], 1)
    assert torch.allclose(got[:2], exact, atol=1e-6)
    assert got[2].tolist() == [0.0] * 5 + [1.0]
    label = Label("digit", 3).features(torch.tensor([0.0, 2.0, -1.0]))
    assert label.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_conditions_and_sizes_are_drawn_as_often_as_the_data_have_them() -> None:
    u = (torch.arange(1000) + 0.5) / 1000
    scalar = Scalar("height").seen(torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert np.unique([scalar.draw(float(x)) for x in u], return_counts=True)[1].tolist() == [250] * 4
    label = Label("side", 3).seen(torch.tensor([0.0] * 2 + [1.0] * 5 + [2.0] * 3))
    assert np.unique([label.draw(float(x)) for x in u], return_counts=True)[1].tolist() == [200, 500, 300]
    sizes = Sizes({3: 10, 5: 60, 9: 30})
    counts = np.unique(sizes.draw(0, range(4000)), return_counts=True)[1]
    assert stats.chisquare(counts, [400, 2400, 1200]).pvalue > 1e-3
    assert [math.exp(sizes.log(n)) for n in (3, 5, 9)] == pytest.approx([0.1, 0.6, 0.3])


def test_a_wrapped_density_counts_what_goes_round_the_circle() -> None:
    raw = torch.tensor([0.0, 0.0, 0.7])  # one component, wide enough to reach round
    density = Gaussians(raw.expand(400, 3), shift=3.0, scale=1.0, floor=0.0, period=2 * math.pi)
    x = torch.linspace(-math.pi, math.pi, 401)[:-1]
    std = math.log1p(math.exp(0.7))
    exact = sum(stats.norm(3.0, std).pdf(x.numpy() + 2 * math.pi * k) for k in range(-2, 3))
    assert np.allclose(density.log_prob(x).exp().numpy(), exact, atol=1e-4)


def test_what_is_typical_is_the_mean_of_the_data() -> None:
    assert typicality([0.0], [0.0, 0.0, 9.0]).tolist() == [3.0]
