"""The noising process of Gaussian fields against closed forms: schedules, priors, divergences, energies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.distributions import Categorical as Classes
from torch.distributions import Independent, MixtureSameFamily, Normal, kl_divergence

from molgen.core.capabilities import (
    Consistency,
    Denoising,
    Embedding,
    Langevin,
    PathLikelihood,
    Transport,
)
from molgen.core.capabilities.langevin import VertexLangevin
from molgen.core.fields import Angles, Continuous, Positions, Simplex
from molgen.core.fields.gaussian import GaussianField
from molgen.core.rng import BatchRandom, generator
from molgen.core.schedules import GaussianSchedule, JumpSchedule, StraightSchedule, Window
from tests.core.test_field_theory import DRAWS, FIELDS, SITES, SPACES, ends, noise, one, projector

MASK = torch.tensor([[True, True, True], [True, True, False]])


# ---------------------------------------------------------------------- schedules


@pytest.mark.parametrize(("low", "high", "rho"), [(0.002, 80.0, 7.0), (0.2, 10.0, 4.0)])
def test_noise_levels_are_those_of_edm(low: float, high: float, rho: float) -> None:
    schedule = GaussianSchedule(low, high, rho)
    t = torch.linspace(0.1, 1, 10, dtype=torch.float64)
    exact = (low ** (1 / rho) + t * (high ** (1 / rho) - low ** (1 / rho))) ** rho
    assert torch.allclose(schedule.sigma(t), exact)
    assert [schedule.local(s) for s in exact.tolist()] == pytest.approx(t.tolist())
    assert schedule.local(2 * high) == 1.0 and schedule.local(low / 2) == 0.0


def test_exponents_of_the_noise_levels() -> None:
    """Seven as published for reals, four for relaxed classes, whose doubt is all between 0.2 and 10."""
    t = torch.tensor(0.5)
    for field, low, high, rho in (
        (Continuous(1, sd=1.0, noise=(0.01, 50.0)), 0.01, 50.0, 7),
        (Positions(sd=1.0, noise=(0.01, 50.0)), 0.01, 50.0, 7),
        (Angles(1, noise=(0.01, 4.0)), 0.01, 4.0, 7),
        (Simplex(3), 0.2, 10.0, 4),
    ):
        exact = (0.5 * (low ** (1 / rho) + high ** (1 / rho))) ** rho
        assert field.schedule.sigma(t).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("scale", "high"), [(1.0, 9.0), (0.3, 48.0)])
def test_straight_paths_are_the_noising_process_in_other_coordinates(scale: float, high: float) -> None:
    """z = (1 - u) x0 + u s eps is (1 - u) x_t: the ratio of noise to data; the path ends at `high`."""
    schedule = StraightSchedule(scale, high)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    u = t * high / (high + scale)
    sigma = schedule.sigma(t)
    assert torch.allclose(sigma * (1 - u), scale * u)
    assert sigma[-1].item() == pytest.approx(high)
    assert [schedule.local(s) for s in sigma.tolist()] == pytest.approx(t.tolist())


def test_relaxed_fields_have_paths_in_their_own_unit() -> None:
    """Half way (but for the path's cut end) the noise is one unit: of reals their standard deviation."""
    for field, unit in ((Continuous(1, sd=0.7), 0.7), (Positions(sd=1.4), 1.4), (Simplex(5), 8**0.5 / 2)):
        straight = Embedding.of(field).continuous("linear")
        high = field.schedule.high
        middle = torch.tensor(0.5 * (high + unit) / high)
        assert straight.schedule.sigma(middle).item() == pytest.approx(unit, rel=1e-5)
        assert straight.schedule.sigma(torch.tensor(1.0)).item() == pytest.approx(high, rel=1e-5)


def test_a_token_is_kept_with_probability_one_less_time() -> None:
    t = torch.linspace(0, 1, 5)
    assert torch.allclose(JumpSchedule().alpha(t), 1 - t)
    window = JumpSchedule(Window(0.5, 1.0)).alpha(torch.tensor([0.3, 0.6, 1.0]))
    assert torch.allclose(window, torch.tensor([1.0, 0.8, 0.0]))


# ---------------------------------------------------------------------- priors and noise


@pytest.mark.parametrize("name", [n for n in FIELDS if n != "angles"])
@pytest.mark.parametrize("heat", [None, 0.5])
def test_the_prior_is_a_gaussian_around_the_mean_of_the_data(name: str, heat: float | None) -> None:
    field, mask = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool)
    x = field.prior(mask, noise()) if heat is None else field.tempered_prior(mask, noise(), heat)
    centre = field.project(torch.full_like(x[:1], field.mean), mask[:1])
    std = field.schedule.high * (heat or 1.0)
    gaps = ((x - centre) / std).flatten(1).double()
    assert gaps.mean(0).abs().max() < 5 / math.sqrt(DRAWS)
    assert (gaps.T @ gaps / DRAWS - projector(field)).abs().max() < 5 * math.sqrt(2 / DRAWS)


def test_a_temperature_draws_the_prior_towards_the_mean() -> None:
    field, mask = Continuous(1, mean=40.0, sd=1.0), torch.ones(DRAWS, 1, dtype=torch.bool)
    x = field.tempered_prior(mask, noise(), 0.1)
    assert x.mean().item() == pytest.approx(40.0, abs=5 * 16 / math.sqrt(DRAWS))
    assert field.tempered_prior(mask, noise(), 0.0).unique().tolist() == [40.0]


def test_angles_begin_uniform_on_the_circle() -> None:
    x = Angles(1).prior(torch.ones(DRAWS, 1, dtype=torch.bool), noise()).flatten().numpy()
    assert stats.kstest(x, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3
    assert float(x.std()) == pytest.approx(Angles(1).sd, rel=0.02)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_noise_that_is_added_again_has_the_difference_of_variances(name: str, scale: float) -> None:
    field, mask = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool)
    x = one(field, mask, 1)
    s, t = (torch.full((DRAWS,), time) for time in (0.3, 0.35))
    at_s, at_t = field.schedule.sigma(s)[0].item(), field.schedule.sigma(t)[0].item()
    std = scale * math.sqrt(at_t**2 - at_s**2)
    y = field.renoise(x, s, t, mask, noise(2), scale)
    gaps = (y - x).flatten(1).double() / std
    assert gaps.mean(0).abs().max() < 5 / math.sqrt(DRAWS)
    assert (gaps.T @ gaps / DRAWS - projector(field)).abs().max() < 5 * math.sqrt(2 / DRAWS)


@pytest.mark.parametrize("name", FIELDS)
def test_noise_is_found_again(name: str) -> None:
    field, t = FIELDS[name], torch.tensor([0.2, 0.4])
    x0, white = one(field, MASK, 1), field.standard_noise(MASK, noise(3))
    x = field.add_noise(x0, white, t, MASK)
    assert torch.allclose(field.predict_eps(x, x0, t, MASK), white, atol=1e-4)


# ---------------------------------------------------------------------- what a network reads and says


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_what_a_network_reads_and_should_say_has_unit_variance(name: str, time: float) -> None:
    """EDM's preconditioning for Gaussian data: c_in, c_out and c_skip follow from unit variances alone."""
    field, mask = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool)
    x0 = field.project(field.mean + field.sd * field.standard_noise(mask, noise(1)), mask)
    t = torch.full((DRAWS,), time)
    x = field.diffuse(x0, 0 * t, t, mask, noise(2))
    tolerance = 5 * math.sqrt(2 / DRAWS)
    white = field.standard_noise(mask, noise(4))
    denoising = Denoising.of(field)
    base = denoising.precondition(torch.zeros_like(x), x, t, mask)
    out = ((denoising.precondition(white, x, t, mask) - base) / white).flatten().median()
    said = (x0 - base) / out
    read, known = denoising.scale_input(x, t, mask), denoising.self_condition_input(x0, mask)
    for numbers in (said, read, known):
        flat = numbers.flatten(1).double()
        assert flat.mean(0).abs().max() < tolerance
        assert (flat.T @ flat / DRAWS - projector(field)).abs().max() < tolerance
    assert (said * read).mean().abs() < tolerance
    sigma = field.schedule.sigma(t)[0].item()
    assert denoising.c_noise(t)[0].item() == pytest.approx(math.log(sigma / field.sd) / 4, abs=1e-5)


def test_what_a_network_should_say_of_uniform_angles_has_unit_variance() -> None:
    field, mask = Angles(1), torch.ones(DRAWS, 1, dtype=torch.bool)
    x0 = field.prior(mask, noise(1))
    for time in (0.1, 0.4, 0.7):
        t = torch.full((DRAWS,), time)
        x = field.diffuse(x0, 0 * t, t, mask, noise(2))
        zero, ones = torch.zeros(DRAWS, 1, 2), torch.ones(DRAWS, 1, 2)
        base = Denoising.of(field).precondition(zero, x, t, mask)
        out = (Denoising.of(field).precondition(ones, x, t, mask) - base).mean().item()
        said = (torch.cat([x0.cos(), x0.sin()], -1) - base) / out
        assert said.square().sum(-1).mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_numbers_of_relaxed_classes_have_the_mean_and_deviation_of_one_hot_vectors(classes: int) -> None:
    vectors = 2 * np.eye(classes) - 1
    field = Simplex(classes)
    assert (field.mean, field.sd) == pytest.approx((vectors.mean(), vectors.std()))


# ---------------------------------------------------------------------- divergences


def posterior(field: GaussianField, x: Tensor, x0: Tensor, t: float, s: float) -> Normal:
    at_t, at_s = (field.schedule.sigma(torch.tensor(time)).item() for time in (t, s))
    between = at_t**2 - at_s**2
    precision = 1 / at_s**2 + 1 / between
    return Normal((x0 / at_s**2 + x / between) / precision, torch.tensor(precision**-0.5))


@pytest.mark.parametrize("name", FIELDS)
def test_the_divergence_of_a_step_is_that_of_two_posteriors(name: str) -> None:
    field = FIELDS[name]
    x0, x = 0.1 * one(field, MASK, 1), 0.1 * one(field, MASK, 2)
    x0, x = field.project(x0, MASK), field.project(x, MASK)
    params, guess = ends(field, MASK)
    guess = field.project(guess, MASK)
    params = guess if name in SPACES else params
    t, s = (torch.full((2,), time) for time in (0.4, 0.3))
    each = kl_divergence(posterior(field, x, x0, 0.4, 0.3), posterior(field, x, guess, 0.4, 0.3))
    exact = (each * field.valid(MASK)).flatten(1).sum(1) / field.axes
    assert torch.allclose(Denoising.of(field).vlb_term(params, x0, x, t, s, MASK), exact, rtol=1e-3)
    assert (Denoising.of(field).vlb_term(params, x0, x, t, t, MASK) == 0).all()


@pytest.mark.parametrize("name", SPACES)
def test_the_last_step_has_the_density_of_data_given_noise(name: str) -> None:
    field = FIELDS[name]
    x0, params = one(field, MASK, 1), one(field, MASK, 2)
    x0, params = field.project(x0, MASK), field.project(params, MASK)
    t = torch.full((2,), 0.3)
    sigma = field.schedule.sigma(t)[0].item()
    std = sigma * field.sd / math.hypot(sigma, field.sd)
    free = field.channels * torch.tensor([3.0, 2.0] if name != "positions" else [2.0, 1.0])
    square = ((x0 - params) ** 2 * field.valid(MASK)).flatten(1).sum(1)
    exact = 0.5 * square / std**2 + free * (math.log(std) + 0.5 * math.log(2 * math.pi))
    assert torch.allclose(Denoising.of(field).vlb_term(params, x0, x0, t, 0 * t, MASK), exact, rtol=1e-4)


def test_the_last_step_of_levels_has_the_mass_of_a_gaussian_at_each() -> None:
    field, mask = Continuous(1, levels=5, sd=0.6), torch.ones(5, 1, dtype=torch.bool)
    levels = torch.linspace(-1, 1, 5)
    t = torch.full((5,), 0.45)
    sigma = field.schedule.sigma(t)[0].item()
    std = sigma * field.sd / math.hypot(sigma, field.sd)
    params = torch.full((5, 1, 1), 0.2)
    x0 = levels[:, None, None]
    mass = (-Denoising.of(field).vlb_term(params, x0, x0, t, 0 * t, mask)).exp()
    density = Normal(0.2, std).log_prob(levels).exp()
    assert torch.allclose(mass, density / density.sum(), atol=1e-5)


@pytest.mark.parametrize("name", [n for n in FIELDS if n != "angles"])
def test_the_divergence_of_the_prior_is_that_of_two_gaussians(name: str) -> None:
    field = FIELDS[name]
    x0, high = field.project(3 * one(field, MASK, 1).double(), MASK), field.schedule.high
    each = kl_divergence(Normal(x0, high), Normal(torch.full_like(x0, field.mean), high))
    exact = (each * field.valid(MASK)).flatten(1).sum(1)
    if not name.startswith("simplex"):  # which bound it: pairs stand there twice
        assert torch.allclose(field.prior_kl(x0, MASK), exact, rtol=1e-4)
    assert (field.prior_kl(x0, MASK) >= exact / 2 - 1e-9).all()


def test_the_divergence_of_wrapped_noise_from_uniform_angles() -> None:
    for high in (1.5, 2.0, 2.5):
        field = Angles(1, noise=(0.01, high))
        phi = np.linspace(-math.pi, math.pi, 20_001)[:-1]
        density = sum(stats.norm(0, high).pdf(phi + 2 * math.pi * k) for k in range(-5, 6))
        exact = float((density * np.log(density * 2 * math.pi)).mean() * 2 * math.pi)
        got = field.prior_kl(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)).item()
        assert got == pytest.approx(exact, rel=0.15)


# ---------------------------------------------------------------------- energies


@pytest.mark.parametrize("name", [n for n in FIELDS if n != "angles"])
@pytest.mark.parametrize("time", [0.3, 0.6])
def test_the_slope_of_the_potential_leads_to_the_mean_of_the_data(name: str, time: float) -> None:
    r"""Tweedie's formula: :math:`x - \sigma^2 \nabla U(x)` is the denoiser of data of independent entries."""
    field, t = FIELDS[name], torch.full((2,), time)
    x = field.add_noise(one(field, MASK, 1), field.standard_noise(MASK, noise(2)), t, MASK).requires_grad_()
    (gradient,) = torch.autograd.grad(Langevin.of(field).potential(x, t, MASK).sum(), x)
    x = x.detach()
    got = field.project(x - field.sigma(t, x) ** 2 * Langevin.of(field).project_grad(gradient, MASK), MASK)
    params = Denoising.of(field).precondition(torch.zeros_like(x), x, t, MASK)
    exact = field.project(field.x0_mean(params), MASK)
    assert torch.allclose(got, exact, atol=1e-3)


def test_the_potential_is_the_density_of_noisy_data() -> None:
    t, mask = torch.full((2,), 0.5), torch.ones(2, 1, dtype=torch.bool)
    x = torch.randn(2, 1, 3, generator=generator(0))
    reals, classes = Continuous(3, mean=0.3, sd=0.7), Simplex(3, frequencies=[0.5, 0.3, 0.2])
    sigma = reals.schedule.sigma(t)[0].item()
    log_p = Normal(0.3, math.hypot(0.7, sigma)).log_prob(x).sum((1, 2))
    assert torch.allclose(Langevin.of(reals).potential(x, t, mask).diff(), -log_p.diff(), atol=1e-5)
    vertices = 2 * torch.eye(3) - 1
    sigma = classes.schedule.sigma(t)[0].item()
    mixture = MixtureSameFamily(
        Classes(torch.tensor([0.5, 0.3, 0.2])), Independent(Normal(vertices, sigma), 1)
    )
    log_p = mixture.log_prob(x[:, 0])
    assert torch.allclose(Langevin.of(classes).potential(x, t, mask).diff(), -log_p.diff(), atol=1e-4)
    pairs = Simplex(3, pairs=True, frequencies=[0.5, 0.3, 0.2])
    wide, both = torch.zeros(2, 2, 2, 3), torch.ones(2, 2, dtype=torch.bool)
    wide[:, 0, 1] = wide[:, 1, 0] = x[:, 0]
    assert torch.allclose(Langevin.of(pairs).potential(wide, t, both).diff(), -log_p.diff(), atol=1e-4)


@pytest.mark.parametrize("name", [n for n in FIELDS if n != "angles"])
def test_a_langevin_move_has_the_moments_and_the_density_of_a_gaussian(name: str) -> None:
    field, mask, h = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool), 0.4
    x, slope = one(field, mask, 1), one(field, mask, 2)
    t, lengths = torch.full((DRAWS,), 0.5), torch.full((DRAWS,), h)
    chain = Langevin.of(field)
    y = chain.propose(x, slope, lengths, t, mask, noise(3))
    gaps = ((y - (x - h**2 / 2 * slope)) / h).flatten(1).double()
    assert gaps.mean(0).abs().max() < 5 / math.sqrt(DRAWS)
    assert (gaps.T @ gaps / DRAWS - projector(field)).abs().max() < 5 * math.sqrt(2 / DRAWS)
    got = chain.log_proposal(y, x, slope, lengths, t, mask)
    exact = -(gaps**2).sum(1) / 2 / field.axes
    assert torch.allclose(got.double(), exact, atol=1e-2)


@pytest.mark.parametrize("pairs", [False, True])
def test_jumps_between_vertices_follow_the_same_gaussian(pairs: bool) -> None:
    r"""q(y) is proportional to :math:`e^{-|y - x + h^2 \nabla E / 2|^2 / 2 h^2}` over the vertices y."""
    field, h, n = Simplex(3, pairs=pairs), 2.5, DRAWS
    chain = Langevin.of(field).jumping()
    assert isinstance(chain, VertexLangevin)
    sites = 2 if pairs else 1
    mask, t = torch.ones(n, sites, dtype=torch.bool), torch.full((n,), 0.05)
    assert chain.jumps(t).all()
    slope = torch.tensor([0.4, -0.3, 0.9])
    slopes = field.project(slope.expand(n, *(sites,) * (2 if pairs else 1), 3), mask)
    vertices, lengths = 2 * torch.eye(3) - 1, torch.full((n,), h)
    gaps = vertices - vertices[0] + h**2 / 2 * slope
    exact = (-(gaps**2).sum(-1) / (2 * h**2)).softmax(0)
    start = torch.zeros(slopes.shape[:-1], dtype=torch.long)
    x = chain.vertex(start, mask)
    log_q = [
        chain.log_proposal(chain.vertex(start + k, mask), x, slopes, lengths, t, mask)[0] for k in range(3)
    ]
    assert torch.allclose(torch.stack(log_q).exp(), exact, atol=1e-5)
    y = chain.propose(x, slopes, lengths, t, mask, noise(1))
    drawn = (y[:, 0, 1] if pairs else y[:, 0]).argmax(-1)
    shares = torch.bincount(drawn, minlength=3) / n
    assert (shares - exact).abs().max() < 4 * math.sqrt(0.25 / n)


# ---------------------------------------------------------------------- densities and distances


@pytest.mark.parametrize("name", [n for n in FIELDS if n != "angles"])
def test_the_density_of_noise_counts_each_free_number_once(name: str) -> None:
    field, sigma = FIELDS[name], 1.7
    x = sigma * field.standard_noise(MASK, noise(5))
    sites = torch.tensor([3.0, 2.0])
    numbers = {"positions": 3 * (sites - 1), "simplex pairs": 3 * sites * (sites - 1) / 2}
    free = numbers.get(name, field.channels * sites)
    square = x.flatten(1).square().sum(1) / field.axes
    exact = -0.5 * square / sigma**2 - free * math.log(sigma * math.sqrt(2 * math.pi))
    path = PathLikelihood.of(field)
    assert torch.allclose(path.log_normal(x, sigma, MASK), exact, rtol=1e-4)
    if name != "positions":
        centre = field.project(torch.full_like(x, field.mean), MASK)
        high = field.schedule.high
        assert torch.allclose(path.log_prior(x + centre, MASK), path.log_normal(x, high, MASK), rtol=1e-4)


def test_the_density_of_uniform_angles() -> None:
    got = PathLikelihood.of(Angles(2)).log_prior(torch.zeros(2, 3, 2), MASK)
    assert torch.allclose(got, -torch.tensor([6.0, 4.0]) * math.log(2 * math.pi))


@pytest.mark.parametrize("name", SPACES + ["simplex pairs"])
def test_costs_of_pairings_are_squared_distances_in_deviations(name: str) -> None:
    field, mask = FIELDS[name], torch.ones(4, SITES, dtype=torch.bool)
    x0 = field.project(field.mean + field.sd * field.standard_noise(mask, noise(1)), mask)
    white = field.standard_noise(mask, noise(2))
    unit = (x0 - field.mean) / field.sd
    exact = (unit[:, None] - white[None]).flatten(2).square().sum(-1) / field.axes
    assert torch.allclose(Transport.of(field).ot_cost(x0, white), exact, rtol=1e-3)


def test_positions_are_turned_by_the_best_proper_rotation() -> None:
    field, mask = Positions(), torch.ones(8, 5, dtype=torch.bool)
    x0, white = field.standard_noise(mask, noise(1)), field.standard_noise(mask, noise(2))
    turned = Transport.of(field).align(white, x0, mask)
    for a, b, c in zip(white.numpy(), x0.numpy(), turned.numpy(), strict=True):
        best, _ = Rotation.align_vectors(b, a)
        assert np.allclose(best.apply(a), c, atol=1e-4)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("time", [0.2, 0.5, 0.9])
def test_a_typical_error_of_consistency_counts_as_one(name: str, time: float) -> None:
    r""":math:`w (\sqrt{d + c^2} - c)` with c = 0.03; d and w are such that :math:`w \sqrt{d}` is one."""
    field, mask, t = FIELDS[name], torch.ones(1, SITES, dtype=torch.bool), torch.tensor([time])
    sigma = field.schedule.sigma(t).item()
    white = field.standard_noise(mask, BatchRandom(generator(7)))
    white = white * (projector(field).trace().item() / white.square().sum()).sqrt()
    typical = sigma * field.sd / math.hypot(sigma, field.sd)
    weight = math.hypot(sigma, field.sd) / sigma
    a = field.project(torch.zeros_like(white), mask)
    got = Consistency.of(field).pseudo_huber(a, a + typical * white, t, mask).item()
    assert got == pytest.approx(math.hypot(1, weight * 0.03) - weight * 0.03, rel=1e-4)
