"""Solvers against closed forms: moments, orders of convergence, exact discrete posteriors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities import Denoising
from molgen.core.errors import ConfigError
from molgen.core.fields import Angles, Categorical, Continuous, Positions
from molgen.core.rng import BatchRandom, generator
from molgen.core.solvers import SOLVERS, ReverseProcess, State, restart_times, sample_with_restarts, time_grid

ODE = {"euler": 1, "heun": 2, "dpm_2m": 2}


def gaussian(field: Continuous, mean: float, sd: float):  # noqa: ANN201
    """The exact denoiser of data N(mean, sd^2)."""

    def denoise(x: State, t: Tensor) -> State:
        variance = field.schedule.sigma(t)[:, None, None] ** 2
        return {"x": mean + sd**2 / (sd**2 + variance) * (x["x"] - mean)}

    return denoise


def mixture(field: Continuous, means: list[float], sd: float):  # noqa: ANN201
    """The exact denoiser of an even mixture of Gaussians."""

    def denoise(x: State, t: Tensor) -> State:
        variance = field.schedule.sigma(t)[:, None, None] ** 2 + sd**2
        centres = torch.tensor(means, dtype=x["x"].dtype)
        share = (-((x["x"] - centres) ** 2) / (2 * variance)).softmax(-1)
        each = centres + sd**2 / variance * (x["x"] - centres)
        return {"x": (share * each).sum(-1, keepdim=True)}

    return denoise


def draw(solver: str, denoise, steps: int, n: int, field: Continuous) -> Tensor:  # noqa: ANN001
    mask = torch.ones(n, 1, dtype=torch.bool)
    rng = BatchRandom(generator(0))
    x = {"x": field.prior(mask, rng).double()}
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return SOLVERS[solver](ReverseProcess(denoise, {"x": field}, mask, rng), x, times)["x"].flatten()


@pytest.mark.parametrize(
    ("solver", "steps"), [("euler", 500), ("heun", 100), ("dpm_2m", 100), ("ancestral", 1000), ("churn", 200)]
)
def test_gaussian_moments(solver: str, steps: int) -> None:
    field = Continuous(1, sd=0.5, mean=0.3)
    samples = draw(solver, gaussian(field, 0.3, 0.5), steps, 40_000, field)
    assert samples.mean().item() == pytest.approx(0.3, abs=0.01)
    assert samples.std().item() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    ("solver", "steps"), [("euler", 500), ("heun", 100), ("dpm_2m", 100), ("ancestral", 1000), ("churn", 200)]
)
def test_mixture_moments(solver: str, steps: int) -> None:
    field = Continuous(1, sd=0.5)
    samples = draw(solver, mixture(field, [-0.5, 0.5], 0.1), steps, 40_000, field)
    # Second and fourth moments of an even mixture; the mean by symmetry.
    second, fourth = 0.25 + 0.01, 0.0625 + 6 * 0.25 * 0.01 + 3 * 0.01**2
    assert samples.mean().item() == pytest.approx(0.0, abs=0.01)
    assert (samples**2).mean().item() == pytest.approx(second, rel=0.01)
    assert (samples**4).mean().item() == pytest.approx(fourth, rel=0.02)


@pytest.mark.parametrize("solver", sorted(ODE))
def test_order_of_convergence(solver: str) -> None:
    field, mean, sd = Continuous(1, sd=0.5), 0.3, 0.5
    errors = []
    for steps in (32, 64, 128):
        times = torch.linspace(1, 0.1, steps + 1, dtype=torch.float64)
        first, last = field.schedule.sigma(times[[0, -1]]).tolist()
        start = {"x": torch.full((1, 1, 1), 30.0, dtype=torch.float64)}
        mask = torch.ones(1, 1, dtype=torch.bool)
        rng = BatchRandom(generator(0))
        end = SOLVERS[solver](
            ReverseProcess(gaussian(field, mean, sd), {"x": field}, mask, rng), start, times
        )
        exact = mean + (30 - mean) * math.sqrt((last**2 + sd**2) / (first**2 + sd**2))
        errors.append(abs(end["x"].item() - exact))
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(ODE[solver], abs=0.15)


JOINT = torch.tensor([[0.30, 0.05, 0.05], [0.05, 0.20, 0.05], [0.05, 0.05, 0.20]])


def two_tokens(field: Categorical):  # noqa: ANN201
    """The exact marginals p(x0_i | x_t) of two correlated tokens."""

    def denoise(x: State, t: Tensor) -> State:
        alpha = field.schedule.alpha(t)[:, None]

        def likelihood(token: Tensor) -> Tensor:
            kept = F.one_hot(token, field.states)[:, :3].float()
            return alpha * kept + (1 - alpha) * field.redraw[token][:, None]

        first, second = x["x"].unbind(1)
        joint = JOINT * likelihood(first)[:, :, None] * likelihood(second)[:, None, :]
        both = torch.stack([joint.sum(2), joint.sum(1)], 1)
        return {"x": (both / both.sum(-1, keepdim=True)).clamp_min(1e-30).log()}

    return denoise


@pytest.mark.parametrize(
    ("kind", "order", "steps"),
    [("mask", "certain", 2), ("mask", "certain", 20), ("mask", "random", 20), ("marginal", "random", 400)],
)
def test_discrete_diffusion_recovers_a_known_joint(kind: str, order: str, steps: int) -> None:
    field = Categorical(3, noise=kind, order=order, marginal=[0.4, 0.3, 0.3])
    n = 20_000
    mask, rng = torch.ones(n, 2, dtype=torch.bool), BatchRandom(generator(1))
    times = torch.linspace(1, 0, steps + 1)
    reverse = ReverseProcess(two_tokens(field), {"x": field}, mask, rng)
    x = SOLVERS["ancestral"](reverse, {"x": field.prior(mask, rng)}, times)["x"]
    observed = torch.bincount(x[:, 0] * 3 + x[:, 1], minlength=9).reshape(3, 3)
    chi_square = ((observed - n * JOINT) ** 2 / (n * JOINT)).sum().item()
    assert chi_square < 26.1  # the 0.999 quantile with 8 degrees of freedom


def test_a_sample_takes_no_more_steps_than_it_has_tokens() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    tokens, reals = Categorical(3), Continuous(1)
    assert time_grid(10, {"x": tokens}, mask).T.tolist() == [[1, 0.75, 0.5, 0.25, 0], [1, 0.5, 0, 0, 0]]
    assert time_grid(3, {"x": tokens}, mask).shape == (4, 2)
    assert time_grid(10, {"x": tokens, "y": reals}, mask).shape == (11, 2)
    assert time_grid(10, {"x": Categorical(3, noise="marginal")}, mask).shape == (11, 2)


@pytest.mark.parametrize(("solver", "steps"), [("heun", 100), ("ancestral", 2000)])
def test_restarts_keep_the_target(solver: str, steps: int) -> None:
    field, n = Continuous(1, sd=0.5, mean=0.3), 40_000
    mask, rng = torch.ones(n, 1, dtype=torch.bool), BatchRandom(generator(0))
    fields, denoise = {"x": field}, gaussian(field, 0.3, 0.5)
    times = restart_times(steps, fields, mask, restarts=3, restart_from=0.5)
    start = {"x": field.prior(mask, rng)}
    x = sample_with_restarts(
        SOLVERS[solver], lambda n: ReverseProcess(denoise, fields, mask, n), start, times, rng
    )["x"]
    assert x.mean().item() == pytest.approx(0.3, abs=0.01)
    assert x.std().item() == pytest.approx(0.5, rel=0.01)


def test_restarts_forget_earlier_errors() -> None:
    """K restarts bring a sample at distance b from the mean to b (s / sqrt(s^2 + sigma^2))^K on average."""
    field, sd, n, restarts = Continuous(1, sd=0.5), 0.5, 40_000, 3
    mask, rng = torch.ones(n, 1, dtype=torch.bool), BatchRandom(generator(0))
    first, *others = restart_times(200, {"x": field}, mask, restarts, restart_from=0.5)
    start = {"x": torch.full((n, 1, 1), 4.0)}
    fields, denoise = {"x": field}, gaussian(field, 0.0, sd)
    times = [first[-1:], *others]
    x = sample_with_restarts(
        SOLVERS["heun"], lambda n: ReverseProcess(denoise, fields, mask, n), start, times, rng
    )["x"]
    sigma = field.schedule.sigma(torch.tensor(0.5)).item()
    assert x.mean().item() == pytest.approx(4.0 * (sd / math.hypot(sd, sigma)) ** restarts, abs=0.01)


@pytest.mark.parametrize("order", ["certain", "random"])
def test_restarts_keep_a_known_joint(order: str) -> None:
    field, n = Categorical(3, order=order), 20_000
    mask, rng, fields = torch.ones(n, 2, dtype=torch.bool), BatchRandom(generator(1)), {"x": field}
    times, start = (
        restart_times(2, fields, mask, restarts=2, restart_from=0.5),
        {"x": field.prior(mask, rng)},
    )
    denoise = two_tokens(field)
    x = sample_with_restarts(
        SOLVERS["ancestral"], lambda n: ReverseProcess(denoise, fields, mask, n), start, times, rng
    )["x"]
    observed = torch.bincount(x[:, 0] * 3 + x[:, 1], minlength=9).reshape(3, 3)
    chi_square = ((observed - n * JOINT) ** 2 / (n * JOINT)).sum().item()
    assert chi_square < 26.1  # the 0.999 quantile with 8 degrees of freedom


def test_a_restart_draws_the_end_of_every_window_again() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    first, again = (leg.T.tolist() for leg in restart_times(10, {"x": Categorical(3)}, mask, 1, 0.5))
    assert first == [[1, 0.75, 0.5, 0.25, 0], [1, 0.5, 0, 0, 0]]
    assert again == [[0.5, 0.25, 0], [0.5, 0, 0]]
    windows = {"x": Categorical(3, window=(0.5, 1.0)), "y": Continuous(1, window=(0.0, 0.5))}
    whole = restart_times(4, windows, mask[:1], 1, 0.5)
    assert [leg[:, 0].tolist() for leg in whole] == [[1, 0.75, 0.5], [0.75, 0.5, 0.25, 0], [0.25, 0]]
    for wrong in ((-1, 0.5), (1, 0.0), (1, 1.5), (1.5, 0.5)):
        with pytest.raises(ConfigError, match="restarts"):
            restart_times(4, windows, mask, *wrong)


def test_certain_tokens_are_revealed_first() -> None:
    field = Categorical(3)
    mask, x = torch.ones(1, 3, dtype=torch.bool), torch.full((1, 3), 3)
    params = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 9.0, 0.0], [1.0, 0.0, 0.0]]])
    t, rng = torch.ones(1), BatchRandom(generator(0))
    hidden = []
    for left in (2 / 3, 1 / 3, 0.0):
        s = torch.tensor([left])
        x = Denoising.of(field).step(x, params, t, s, mask, rng)
        hidden.append((x == 3)[0].tolist())
        t = s
    assert hidden == [[True, False, True], [True, False, False], [False, False, False]]


def test_angles_reach_a_known_target() -> None:
    """Data at one angle: every solver ends there, the short way round the circle."""
    field, target = Angles(1), 3.0
    mask = torch.ones(500, 1, dtype=torch.bool)

    def denoise(x: State, t: Tensor) -> State:
        return {"x": torch.tensor([math.cos(target), math.sin(target)]).expand(500, 1, 2)}

    for name, solver in SOLVERS.items():
        rng = BatchRandom(generator(2))
        reverse = ReverseProcess(denoise, {"x": field}, mask, rng)
        end = solver(reverse, {"x": field.prior(mask, rng)}, torch.linspace(1, 0, 11))
        assert end["x"].sub(target).abs().max() < 1e-3, name


def test_positions_keep_the_centre_of_mass_and_padding() -> None:
    field = Positions(sd=1.3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()

    def denoise(x: State, t: Tensor) -> State:
        return {"x": Denoising.of(field).precondition(torch.ones(2, 5, 3), x["x"], t, mask)}

    for solver in SOLVERS.values():
        rng = BatchRandom(generator(3))
        reverse = ReverseProcess(denoise, {"x": field}, mask, rng)
        end = solver(reverse, {"x": field.prior(mask, rng)}, torch.linspace(1, 0, 9))["x"]
        assert end.sum(1).abs().max() < 1e-5
        assert end[1, 3:].abs().max() == 0
