"""The field of periodic coordinates against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from molgen_crystal import Torus, wrapped

from molgen.core.capabilities import Consistency, Denoising, Dequantization, Entries, PathLikelihood
from molgen.core.rng import BatchRandom, SampleRandom, generator

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
PAIR = torch.ones(1, 2, dtype=torch.bool)


def theta(x: np.ndarray, sigma: float) -> np.ndarray:
    """The wrapped normal density as a sum over frequencies."""
    k = np.arange(1, 60)[:, None]
    return 1 + 2 * (np.exp(-2 * (math.pi * k * sigma) ** 2) * np.cos(2 * math.pi * k * x)).sum(0)


def images(x: np.ndarray, sigma: float) -> np.ndarray:
    """The same as a sum over images."""
    k = np.arange(-20, 21)[:, None]
    return (np.exp(-0.5 * ((x + k) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))).sum(0)


def many(field: Torus, x0: float, t: float, count: int = 40_000) -> np.ndarray:
    """Noisy values of one coordinate."""
    mask = PAIR.expand(count, 2)
    x = field.project(torch.tensor([[0.0], [x0]]).expand(count, 2, 1), mask)
    noisy = field.diffuse(x, torch.zeros(count), torch.full((count,), t), mask, BatchRandom(generator(0)))
    return noisy[:, 1, 0].double().numpy()


@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.65])
def test_images_and_frequencies_are_one_density(sigma: float) -> None:
    x = np.linspace(-0.5, 0.5, 2001)
    assert images(x, sigma) == pytest.approx(theta(x, sigma), abs=1e-9)
    assert np.trapezoid(theta(x, sigma), x) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("t", [0.5, 0.8, 1.0])
def test_noise_is_wrapped_normal(t: float) -> None:
    """Circular moments of noisy values are the coefficients of the theta series."""
    field = Torus(1)
    sigma = float(field.schedule.sigma(torch.tensor(t)))
    x = many(field, 0.3, t)
    for k in (1, 2, 3):
        moment = np.exp(2j * math.pi * k * (x - 0.3)).mean()
        assert abs(moment - math.exp(-2 * (math.pi * k * sigma) ** 2)) < 4 / math.sqrt(len(x))


def test_the_density_of_one_component_is_wrapped_normal() -> None:
    field = Torus(1, components=1)
    raw = torch.tensor([0.0, 0.4, -1.0])
    spread = 1e-3 + field.sd * math.log1p(math.exp(-1.0))
    x = torch.linspace(-0.5, 0.5, 1001)[:, None]
    log_p = Entries.of(field).likelihood(raw.expand(1001, 1, 3)).log_prob(x)[:, 0].double().numpy()
    centre = field.cut + 0.5 + field.sd * 0.4
    assert np.exp(log_p) == pytest.approx(theta(x[:, 0].double().numpy() - centre, spread), abs=1e-4)
    assert np.trapezoid(np.exp(log_p), x[:, 0].numpy()) == pytest.approx(1, abs=1e-4)


def test_the_divergence_to_the_prior() -> None:
    field = Torus(1)
    x = np.linspace(-0.5, 0.5, 4001)
    p = theta(x, field.schedule.high)
    kl = np.trapezoid(p * np.log(p), x)
    assert float(field.prior_kl(torch.zeros(1, 2, 1), PAIR)) == pytest.approx(kl, rel=1e-2)
    assert float(PathLikelihood.of(field).log_prior(torch.zeros(1, 2, 1), PAIR)) == 0


def test_the_prediction_is_exact_for_uniform_data() -> None:
    """E[e^{2 pi i x0} | x_t] where x0 is uniform, by quadrature over the posterior."""
    field, t = Torus(1), torch.tensor([0.7])
    sigma = float(field.schedule.sigma(t))
    x0 = np.linspace(0, 1, 4000, endpoint=False)
    weight = theta(0.2 - x0, sigma)
    mean = (weight * np.exp(2j * math.pi * x0)).sum() / weight.sum()
    x = torch.tensor([[[0.0], [0.2]]])
    cosine, sine = Denoising.of(field).precondition(torch.zeros(1, 2, 2), x, t, PAIR)[0, 1].tolist()
    assert (cosine, sine) == pytest.approx((mean.real, mean.imag), abs=1e-5)


def test_distances_go_the_short_way() -> None:
    assert wrapped(np.array([0.95 - 0.05])).item() == pytest.approx(-0.1)
    field = Torus(1)
    a, b = torch.tensor([[[0.0], [0.48]]]), torch.tensor([[[0.0], [-0.47]]])
    assert field.logmap(a, b)[0, 1].item() == pytest.approx(-0.05, abs=1e-6)


def test_a_step_interpolates_along_the_short_arc() -> None:
    """Euler's step from noise s to t moves by the share 1 - s/t of the arc, across the cut."""
    field = Torus(1)
    x = field.project(torch.tensor([[[0.0], [0.45]]]), PAIR)
    params = field.direction(torch.tensor([[[0.0], [-0.45]]]))
    t, s = torch.tensor([0.6]), torch.tensor([0.4])
    share = 1 - field.schedule.sigma(s) / field.schedule.sigma(t)
    y = Denoising.of(field).step(x, params, t, s, PAIR, SampleRandom(0, [0]))
    expected = (0.45 + 0.1 * share.item() + 0.5) % 1 - 0.5
    assert y[0, 1, 0].item() == pytest.approx(expected, abs=1e-5)
    end = Denoising.of(field).step(x, params, t, torch.zeros(1), PAIR, SampleRandom(0, [0]))
    assert end[0, 1, 0].item() == pytest.approx(-0.45, abs=1e-5)


def test_translations_and_whole_cells_change_nothing() -> None:
    field = Torus(3)
    places = np.random.default_rng(0).uniform(size=(5, 3))
    base = field.relative(places)
    for other in (places + [0.3, 0.9, -0.2], places + np.arange(5)[:, None], places % 1):
        gap = wrapped(field.relative(other) - base)
        assert np.abs(gap).max() < 1e-6
    assert (base[0] == 0).all()


def test_values_stay_in_their_interval_even_next_to_the_cut() -> None:
    for cut in (-0.5, -0.875):
        field, mask = Torus(1, cut=cut), torch.ones(1, 4001, dtype=torch.bool)
        near = torch.nextafter(torch.tensor(cut + 1), torch.tensor(-9.0))
        x = torch.cat([torch.linspace(-3, 3, 3998), near[None], torch.tensor([cut, cut + 1])])[None, :, None]
        once = field.project(x, mask)
        assert (once[:, 1:] >= cut).all() and (once[:, 1:] < cut + 1).all()
        assert torch.equal(field.project(once, mask), once)


def test_the_cut_is_where_data_are_few() -> None:
    draw = np.random.default_rng(0)
    values = [(draw.choice([0.0, 0.25, 0.5], (6, 3)) + 0.01 * draw.normal(size=(6, 3))) for _ in range(50)]
    cut = Torus(3).learn(values)["cut"]
    assert 0.6 < cut % 1 < 0.9


def test_cells_of_reals_come_back_and_keep_their_volume() -> None:
    field = Torus(3, cut=-0.8)
    x = field.prior(MASK, SampleRandom(0, [0, 1]))
    z, volume = Dequantization.of(field).dequantize(x, torch.rand(2, 5, 3, generator=generator(1)), MASK)
    assert torch.allclose(Dequantization.of(field).quantize(z, MASK), x, atol=1e-6)
    # One number of log |dx / dz| for each coordinate that is a value: of all atoms but the first.
    assert volume.sum(1).tolist() == pytest.approx([-math.log(field.sd) * 3 * n for n in (4, 2)])


def test_padding_and_the_first_site_never_count() -> None:
    field, t = Torus(3), torch.full((2,), 0.5)
    x0 = field.prior(MASK, SampleRandom(0, [0, 1]))
    x = field.diffuse(x0, torch.zeros(2), t, MASK, SampleRandom(1, [0, 1]))
    raw = torch.randn(2, 5, 6, generator=generator(2))
    params = Denoising.of(field).precondition(raw, x, t, MASK)
    assert (params[:, 0] == 0).all() and (params[1, 3:] == 0).all()
    junk = torch.where(field.valid(MASK), params, params + 5)
    for verb in (
        lambda p: Denoising.of(field).loss(p, x0, x, t, MASK),
        lambda p: Denoising.of(field).vlb_term(p, x0, x, t, t / 2, MASK),
        lambda p: Consistency.of(field).distance(p, params, MASK),
    ):
        assert torch.allclose(verb(junk), verb(params), atol=1e-6)
