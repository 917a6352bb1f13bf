"""Gaussian fields against closed forms: the reverse step, the loss weights, and the schedules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities import Consistency, Denoising, Embedding, Langevin
from molgen.core.fields import Angles, Continuous, Positions, Simplex
from molgen.core.fields.circular import CircularField
from molgen.core.fields.gaussian import GaussianField
from molgen.core.rng import BatchRandom, generator

FIELDS: dict[str, GaussianField] = {
    "continuous": Continuous(2, mean=0.3, sd=0.7),
    "straight": Embedding.of(Continuous(2, mean=-0.2, sd=1.5)).continuous("linear"),
    "positions": Positions(sd=1.4),
    "simplex": Simplex(3, frequencies=[0.5, 0.3, 0.2]),
    "simplex pairs": Simplex(3, pairs=True),
    "angles": Angles(2),
}
SITES = 3
DRAWS = 20_000
TIMES = {"continuous": (0.6, 0.5), "straight": (0.6, 0.4), "positions": (0.6, 0.5), "angles": (0.35, 0.3)}


def noise(key: int = 0) -> BatchRandom:
    return BatchRandom(generator(key))


def one(field: GaussianField, mask: Tensor, key: int) -> Tensor:
    """One value of the field near zero, the same for every sample."""
    white = field.standard_noise(mask[:1], noise(key))
    return field.project(0.3 * white, mask[:1]).expand(len(mask), *white.shape[1:]).contiguous()


def ends(field: GaussianField, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Parameters of p(x0 | .), and the value that they stand for."""
    x0 = one(field, mask, 1)
    if isinstance(field, Simplex):
        return x0, field.project(2 * x0.softmax(-1) - 1, mask)
    if isinstance(field, CircularField):
        return torch.cat([x0.cos(), x0.sin()], -1), x0
    return x0, x0


def projector(field: GaussianField) -> Tensor:
    """The covariance of standard noise in the field's geometry, over all numbers of its tensor."""
    mask = torch.ones(1, SITES, dtype=torch.bool)
    size = field.standard_noise(mask, noise()).numel()
    shape = field.standard_noise(mask, noise()).shape[1:]
    basis = torch.eye(size).reshape(size, *shape)
    lines: Tensor = field.project(basis, mask.expand(size, -1)).flatten(1)
    return lines.T @ lines


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("eta", "scale"), [(1.0, 1.0), (0.0, 1.0), (0.5, 1.0), (1.0, 0.7)])
def test_a_step_draws_from_the_posterior_of_the_noising_process(name: str, eta: float, scale: float) -> None:
    """At eta = 1 the step is q(x_s | x_t, x0), by Bayes' rule for Gaussians; at 0 it is the ODE's."""
    field, mask = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool)
    params, x0 = ends(field, mask)
    t, s = (torch.full((DRAWS,), time) for time in TIMES.get(name, (0.6, 0.5)))
    at_t, at_s = field.schedule.sigma(t)[0].item(), field.schedule.sigma(s)[0].item()
    # x_s ~ N(x0, at_s^2) and x_t ~ N(x_s, at_t^2 - at_s^2): precisions add, means are weighted by them.
    between = at_t**2 - at_s**2
    posterior = 1 / (1 / at_s**2 + 1 / between)
    x = field.project(x0 + at_t / 0.3 * one(field, mask, 2), mask)
    exact = {
        1.0: posterior * (x0 / at_s**2 + x / between),
        0.0: x0 + at_s / at_t * (x - x0),
        0.5: x0 + math.sqrt(at_s**2 - posterior / 4) / at_t * (x - x0),
    }[eta]
    y = Denoising.of(field).step(x, params, t, s, mask, noise(3), eta, scale)
    deviation = scale * eta * math.sqrt(posterior)
    if eta == 0:
        assert torch.allclose(y, exact, atol=1e-5)
        return
    gaps = (y - exact).flatten(1).double()
    assert gaps.mean(0).abs().max() < 5 * deviation / math.sqrt(DRAWS)
    covariance = gaps.T @ gaps / DRAWS / deviation**2
    assert (covariance - projector(field)).abs().max() < 5 * math.sqrt(2 / DRAWS)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_step_at_the_true_end_keeps_the_marginal(name: str, eta: float) -> None:
    """Whatever the share of fresh noise, x_t ~ N(x0, sigma_t^2) becomes x_s ~ N(x0, sigma_s^2)."""
    field, mask = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool)
    params, x0 = ends(field, mask)
    zero, t, s = (torch.full((DRAWS,), time) for time in (0.0, *TIMES.get(name, (0.6, 0.5))))
    x = field.diffuse(x0, zero, t, mask, noise(4))
    y = Denoising.of(field).step(x, params, t, s, mask, noise(5), eta)
    gaps = (y - x0).flatten(1).double() / field.schedule.sigma(s)[0].item()
    assert gaps.mean(0).abs().max() < 5 / math.sqrt(DRAWS)
    assert (gaps.T @ gaps / DRAWS - projector(field)).abs().max() < 5 * math.sqrt(2 / DRAWS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_step_forward_or_outside_the_window_changes_nothing(name: str) -> None:
    field, mask = FIELDS[name], torch.ones(2, SITES, dtype=torch.bool)
    params, _ = ends(field, mask)
    x, t = one(field, mask, 2), torch.full((2,), 0.4)
    for s in (t, t + 0.1):
        assert torch.allclose(Denoising.of(field).step(x, params, t, s, mask, noise(), 1.0), x, atol=1e-6)


# ---------------------------------------------------------------------- the weights of losses

SPACES = [n for n in FIELDS if not n.startswith(("simplex", "angles"))]
LEVELS = [0.1, 0.4, 0.7, 0.95]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("time", LEVELS)
def test_the_best_denoiser_of_gaussian_data_has_unit_loss_at_every_noise(name: str, time: float) -> None:
    r"""Its error is :math:`\sigma^2 s^2 / (\sigma^2 + s^2)` a dimension; EDM's weight divides by it."""
    field, mask = FIELDS[name], torch.ones(DRAWS, SITES, dtype=torch.bool)
    mask[: DRAWS // 2, 2] = False  # padding must not count
    x0 = field.project(field.mean + field.sd * field.standard_noise(mask, noise(1)), mask)
    t = torch.full((DRAWS,), time)
    x = field.diffuse(x0, 0 * t, t, mask, noise(2))
    best = Denoising.of(field).precondition(torch.zeros_like(x), x, t, mask)  # exact for Gaussian data
    for losses in (
        Denoising.of(field).loss(best, x0, x, t, mask),
        Langevin.of(field).denoising_loss(best, x0, t, mask),
    ):
        for half in losses.chunk(2):  # the dimension is another one in each half
            assert half.mean().item() == pytest.approx(1.0, abs=5 * half.std().item() / len(half) ** 0.5)
            assert half.mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("time", LEVELS)
def test_a_typical_error_costs_one_in_every_geometry(name: str, time: float) -> None:
    """An error as large as the best denoiser's in each free dimension has a weighted loss of 1."""
    field, mask = FIELDS[name], torch.ones(4, SITES, dtype=torch.bool)
    mask[2:, 2] = False
    t = torch.full((4,), time)
    sigma = field.schedule.sigma(t)[0].item()
    typical = sigma * field.sd / math.hypot(sigma, field.sd)
    white = field.standard_noise(mask, noise(3))
    count = projected_dimension(field, mask)
    white = white * (count / white.flatten(1).square().sum(1)).sqrt().reshape(-1, *(1,) * (white.dim() - 1))
    x0 = torch.zeros_like(white)
    # On the circle the error is an angle, which must not wrap: a tenth of it costs a hundredth.
    got = Langevin.of(field).denoising_loss(x0 + 0.1 * typical * white, x0, t, mask)
    assert torch.allclose(got, torch.full((4,), 0.01), rtol=1e-4)


def projected_dimension(field: GaussianField, mask: Tensor) -> Tensor:
    """The squared norm of standard noise in the tensor of values, on average, `(B,)`."""
    sites = mask.sum(1)
    if isinstance(field, Positions):
        return 3.0 * (sites - 1)
    if isinstance(field, Simplex) and field.axes == 2:
        return field.channels * sites * (sites - 1.0)  # every pair stands there twice
    return field.channels * sites.float()


@pytest.mark.parametrize("time", [0.1, 0.4, 0.7])
def test_the_best_denoiser_of_uniform_angles_has_unit_loss_at_every_noise(time: float) -> None:
    r"""Its error is :math:`1 - e^{-s^2}`, as its mean is shrunk by :math:`e^{-s^2 / 2}`."""
    field, mask = Angles(2), torch.ones(DRAWS, 1, dtype=torch.bool)
    x0, t = field.prior(mask, noise(1)), torch.full((DRAWS,), time)
    x = field.diffuse(x0, 0 * t, t, mask, noise(2))
    best = Denoising.of(field).precondition(torch.zeros(DRAWS, 1, 4), x, t, mask)
    loss = Denoising.of(field).loss(best, x0, x, t, mask)
    assert loss.mean().item() == pytest.approx(1.0, abs=5 * loss.std().item() / DRAWS**0.5)


@pytest.mark.parametrize("name", ["simplex", "simplex pairs"])
def test_the_loss_of_relaxed_classes_is_their_cross_entropy(name: str) -> None:
    field, mask = FIELDS[name], torch.tensor([[True, True, True], [True, True, False]])
    shape = (2, SITES, SITES, 3) if field.axes == 2 else (2, SITES, 3)
    logits = torch.randn(shape, generator=generator(0))
    classes = torch.randint(3, shape[:-1], generator=generator(1))
    if field.axes == 2:
        logits, classes = logits + logits.transpose(1, 2), classes.triu(1) + classes.triu(1).transpose(1, 2)
    x0 = field.project(2 * F.one_hot(classes, 3).float() - 1, mask)
    t = torch.full((2,), 0.5)
    each = F.cross_entropy(logits.movedim(-1, 1), classes, reduction="none")
    real = field.valid(mask)[..., 0]
    exact = torch.stack([each[i][real[i]].mean() for i in range(2)])
    assert torch.allclose(Denoising.of(field).loss(logits, x0, x0, t, mask), exact, atol=1e-5)
    assert torch.allclose(Consistency.of(field).cross_entropy_term(logits, x0, mask), exact, atol=1e-5)
