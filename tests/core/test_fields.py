"""Every verb of every field: constraints, padding, bounds, and the algebra of the noising process."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from molgen.core.capabilities import Denoising, Dequantization, Embedding, PathLikelihood, Reparameterization
from molgen.core.capabilities.dequantization import log_normal
from molgen.core.errors import ConfigError
from molgen.core.fields import Angles, Categorical, Continuous, Field, Positions, Simplex
from molgen.core.fields.frequencies import probabilities
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.core.schedules import GaussianSchedule, Window

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
FIELDS: dict[str, Field] = {
    "continuous": Continuous(2),
    "levels": Continuous(2, levels=256),
    "shares": Continuous(2, levels=256, shares=[1.0, *[0.01] * 254, 0.0]),
    "positions": Positions(sd=1.4),
    "angles": Angles(2),
    "mask": Categorical(4),
    "marginal": Categorical(4, noise="marginal", marginal=[0.4, 0.3, 0.2, 0.1]),
    "pairs": Categorical(4, pairs=True),
    "window": Categorical(4, pairs=True, noise="marginal", window=(0.5, 1.0)),
    "simplex": Simplex(4, frequencies=[0.4, 0.3, 0.2, 0.1]),
    "simplex pairs": Simplex(4, pairs=True),
    "straight": Embedding.of(Continuous(2)).continuous("linear"),
}


def noise(key: int = 0) -> BatchRandom:
    return BatchRandom(generator(key))


def data(field: Field) -> Tensor:
    """A valid value, made by hardening random relaxed reals."""
    template = Embedding.of(field).embed(seed_value(field), MASK)
    value = Embedding.of(field).round(torch.randn(template.shape, generator=generator(9)), MASK)
    if isinstance(field, Simplex):  # its data are one-hot vectors
        hard = torch.nn.functional.one_hot(value.argmax(-1), field.channels)
        value = field.project(2.0 * hard - 1, MASK)
    return value


def seed_value(field: Field) -> Tensor:
    shape = (2, 5, 5) if field.axes == 2 else (2, 5)
    if isinstance(field, Categorical):
        return torch.zeros(shape, dtype=torch.long)
    return torch.zeros(*shape, field.channels)  # type: ignore[attr-defined]


def params(field: Field, x: Tensor, t: Tensor) -> Tensor:
    raw = torch.randn(
        *x.shape[: 3 if field.axes == 2 else 2], Denoising.of(field).outputs, generator=generator(5)
    )
    if field.axes == 2:
        raw = raw + raw.transpose(1, 2)
    return Denoising.of(field).precondition(raw, x, t, MASK)


def check_constraints(field: Field, x: Tensor) -> None:
    assert (x * ~field.valid(MASK)).abs().sum() == 0
    if field.axes == 2:
        assert (x == x.transpose(1, 2)).all()
    if isinstance(field, Positions):
        assert x.sum(1).abs().max() < 1e-4
    assert torch.allclose(field.project(x, MASK).float(), x.float(), atol=1e-5)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("time", [0.05, 0.5, 0.9, 1.0])
def test_every_verb_keeps_constraints_and_padding(name: str, time: float) -> None:
    field = FIELDS[name]
    x0, t = data(field), torch.full((2,), time)
    check_constraints(field, field.prior(MASK, noise()))
    x = field.diffuse(x0, torch.zeros(2), t, MASK, noise())
    check_constraints(field, x)
    for eta in (0.0, 1.0):
        y = Denoising.of(field).step(x, params(field, x, t), t, t / 2, MASK, noise(), eta)
        check_constraints(field, y)
        check_constraints(field, field.renoise(y, t / 2, t, MASK, noise(), 0.5))
    assert (Denoising.of(field).scale_input(x, t, MASK)[1, 3:] == 0).all()
    assert (Denoising.of(field).self_condition_input(params(field, x, t), MASK)[1, 3:] == 0).all()


@pytest.mark.parametrize("name", FIELDS)
def test_harden_inverts_relax(name: str) -> None:
    field = FIELDS[name]
    x0 = data(field)
    assert torch.allclose(
        Embedding.of(field).round(Embedding.of(field).embed(x0, MASK), MASK).float(), x0.float(), atol=1e-5
    )


@pytest.mark.parametrize("name", FIELDS)
def test_time_zero_is_data_and_the_last_step_trusts_the_parameters(name: str) -> None:
    field = FIELDS[name]
    x0, zero = data(field), torch.zeros(2)
    assert torch.allclose(field.diffuse(x0, zero, zero, MASK, noise()).float(), x0.float())


@pytest.mark.parametrize("name", FIELDS)
def test_padding_never_changes_a_loss_or_a_bound(name: str) -> None:
    field = FIELDS[name]
    x0, t, s = data(field), torch.full((2,), 0.8), torch.full((2,), 0.6)
    x = field.diffuse(x0, torch.zeros(2), t, MASK, noise())
    p = params(field, x, t)
    junk = torch.where(MASK.reshape(2, 5, *(1,) * (p.dim() - 2)), p, p + 7)
    if field.axes == 2:
        real = field.valid(MASK)
        junk = torch.where(real if real.dim() == p.dim() else real[..., None], p, p + 7)
    for verb in (
        lambda q: Denoising.of(field).loss(q, x0, x, t, MASK),
        lambda q: Denoising.of(field).vlb_term(q, x0, x, t, s, MASK),
    ):
        assert torch.allclose(verb(p), verb(junk), atol=1e-5)
        assert (verb(p) >= -1e-5).all()


@pytest.mark.parametrize("name", ["window"])
def test_outside_its_window_a_field_neither_moves_nor_learns(name: str) -> None:
    field = FIELDS[name]
    x0, t, s = data(field), torch.full((2,), 0.4), torch.full((2,), 0.2)
    x = field.diffuse(x0, torch.zeros(2), t, MASK, noise())
    assert (x == x0).all()
    p = params(field, x, t)
    assert Denoising.of(field).loss(p, x0, x, t, MASK).abs().sum() == 0
    assert Denoising.of(field).vlb_term(p, x0, x, t, s, MASK).abs().sum() == 0
    assert (Denoising.of(field).step(x, p, t, s, MASK, noise()) == x).all()


@pytest.mark.parametrize("name", ["continuous", "positions", "mask", "marginal"])
def test_diffusing_twice_equals_diffusing_once(name: str) -> None:
    """The noising process is Markov: q(x_t | x_0) = sum over x_s, compared by first two moments."""
    field, n = FIELDS[name], 20_000
    mask = torch.ones(n, 2, dtype=torch.bool)
    one = seed_value(field)[:1, :2]
    x0 = one.expand(n, *one.shape[1:])
    zero, s, t = (torch.full((n,), v) for v in (0.0, 0.3, 0.5))
    once = field.diffuse(x0, zero, t, mask, noise(1)).float()
    twice = field.diffuse(field.diffuse(x0, zero, s, mask, noise(2)), s, t, mask, noise(3)).float()
    scale = once.std() + 1e-9
    assert abs(once.mean() - twice.mean()) < 0.03 * scale
    assert once.std().item() == pytest.approx(twice.std().item(), rel=0.03)


@pytest.mark.parametrize("kind", ["mask", "marginal"])
def test_posterior_is_bayes_rule(kind: str) -> None:
    """posterior(delta) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0), by enumeration."""
    field = Categorical(3, noise=kind, marginal=[0.5, 0.3, 0.2])
    t, s = torch.tensor([0.7]), torch.tensor([0.4])
    alpha_t, alpha_s = 0.3, 0.6
    eye = torch.eye(field.states)

    def kernel(keep: float) -> Tensor:
        return keep * eye + (1 - keep) * field.redraw

    for x0 in range(3):
        for xt in range(field.states):
            if kernel(alpha_t)[x0, xt] == 0:
                continue
            exact = kernel(alpha_s)[x0] * kernel(alpha_t / alpha_s)[:, xt] / kernel(alpha_t)[x0, xt]
            delta = torch.nn.functional.one_hot(torch.tensor([[x0]]), 3).float()
            got = field.posterior(delta, torch.tensor([[xt]]), t, s)[0, 0]
            assert torch.allclose(got, exact, atol=1e-5)


def test_preconditioning_is_exact_for_gaussian_data() -> None:
    """With F = 0 the denoiser is the posterior mean of N(mean, sd^2) data."""
    field = Continuous(1, mean=0.2, sd=0.7)
    t = torch.tensor([0.5])
    x = torch.tensor([[[1.5]]])
    sigma = field.schedule.sigma(t).item()
    expected = 0.2 + 0.49 / (0.49 + sigma**2) * 1.3
    assert Denoising.of(field).precondition(torch.zeros(1, 1, 1), x, t, MASK[:1, :1]).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_angles_precondition_is_exact_for_uniform_data() -> None:
    field, t = Angles(1), torch.tensor([0.4])
    sigma = field.schedule.sigma(t).item()
    x = torch.full((1, 1, 1), 2.0)
    params = Denoising.of(field).precondition(torch.zeros(1, 1, 2), x, t, MASK[:1, :1]).flatten()
    assert params.norm().item() == pytest.approx(math.exp(-(sigma**2) / 2), rel=1e-4)
    assert field.x0_mean(params[None, None]).item() == pytest.approx(2.0, abs=1e-5)


def test_noise_of_a_sample_depends_on_seed_and_index_alone() -> None:
    for name, field in FIELDS.items():
        both = field.prior(MASK, SampleRandom(7, [3, 4]))
        alone = field.prior(MASK[1:, :3], SampleRandom(7, [4]))[0]
        short = both[1, :3, :3] if field.axes == 2 else both[1, :3]
        assert (short == alone).all(), name


def test_bad_options_name_the_choices() -> None:
    with pytest.raises(ConfigError, match="mask"):
        Categorical(3, noise="msk")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected 3"):
        Categorical(3, marginal=[1.0])
    with pytest.raises(ConfigError, match="window"):
        Window(0.6, 0.5)
    assert GaussianSchedule(0.01, 2.0).sigma(torch.zeros(1)).item() == 0


@pytest.mark.parametrize("name", FIELDS)
def test_the_relaxed_field_holds_the_relaxed_values(name: str) -> None:
    field = FIELDS[name]
    soft, x0 = Embedding.of(field).continuous(), data(field)
    z = Embedding.of(field).embed(x0, MASK)
    assert torch.allclose(soft.project(z, MASK), z)
    assert torch.allclose(Embedding.of(field).round(z, MASK).float(), x0.float(), atol=1e-5)
    # With hardly any noise, a denoiser that adds nothing returns what it is given.
    t = torch.full((2,), 1e-4)
    noisy = soft.add_noise(z, soft.standard_noise(MASK, noise()), t, MASK)
    raw = torch.zeros(*noisy.shape[: 3 if field.axes == 2 else 2], Denoising.of(soft).outputs)
    back = soft.project(soft.x0_mean(Denoising.of(soft).precondition(raw, noisy, t, MASK)), MASK)
    assert torch.allclose(back, z, atol=0.02 * soft.sd + 3 * soft.schedule.low)


@pytest.mark.parametrize("straight", [False, True])
def test_noise_of_classes_reaches_from_no_doubt_to_none_known(straight: bool) -> None:
    """Bayes' posterior of the right class among four: sure at first, a guess at last, between half way."""
    field, n = Embedding.of(Simplex(4)).continuous("linear" if straight else "data"), 4000
    mask = torch.ones(n, 1, dtype=torch.bool)
    x0 = field.project(2 * torch.eye(4)[torch.arange(n) % 4][:, None] - 1, mask)
    right = []
    for t in (0.02, 0.5, 1.0):
        level = torch.full((n,), t)
        x = field.diffuse(x0, torch.zeros(n), level, mask, BatchRandom(generator(0)))
        posterior = Denoising.of(field).precondition(torch.zeros_like(x), x, level, mask).softmax(-1)
        right.append(float((posterior * (x0 > 0)).sum(-1).mean()))
    assert right[0] > 0.999
    assert 0.33 < right[1] < 0.9
    assert right[2] < 0.28


@pytest.mark.parametrize("name", ["simplex", "simplex pairs"])
def test_preconditioning_is_exact_for_independent_classes(name: str) -> None:
    """With F = 0 the logits are Bayes' posterior of one-hot data in Gaussian noise."""
    field = FIELDS[name]
    assert isinstance(field, Simplex)
    x0, t = data(field), torch.full((2,), 0.6)
    x = field.diffuse(x0, torch.zeros(2), t, MASK, noise())
    got = Denoising.of(field).precondition(torch.zeros_like(x), x, t, MASK).softmax(-1)
    corners = 2 * torch.eye(4) - 1
    sigma = field.schedule.sigma(t)[0]
    log_p = -((x[..., None, :] - corners) ** 2).sum(-1) / (2 * sigma**2) + field.log_frequencies
    exact = log_p.softmax(-1)
    valid = field.valid(MASK)
    assert torch.allclose(got * valid, exact * valid, atol=1e-5)


@pytest.mark.parametrize("name", ["continuous", "levels", "shares", "angles", "mask", "marginal", "pairs"])
def test_quantize_inverts_dequantize(name: str) -> None:
    field = FIELDS[name]
    x0 = data(field)
    if name in ("levels", "shares"):
        x0 = Dequantization.of(field).quantize(x0, MASK)
    shape = (*x0.shape[: 3 if field.axes == 2 else 2], Dequantization.of(field).dim)
    u = torch.rand(shape, generator=generator(3))
    u = u if field.axes == 1 else (u + u.transpose(1, 2)) / 2
    z, volume = Dequantization.of(field).dequantize(x0, u, MASK)
    assert torch.allclose(Dequantization.of(field).quantize(z, MASK).float(), x0.float(), atol=1e-5)
    assert volume.shape == x0.shape[: 3 if field.axes == 2 else 2]
    assert (z * ~MASK.reshape(2, 5, *(1,) * (z.dim() - 2))).abs().sum() == 0


SHARES = [0.7, 0.0, 0.05, 0.2, 0.05]


@pytest.mark.parametrize("name", ["classes", "pairs of classes", "levels"])
def test_cells_of_normal_reals_are_as_probable_as_their_values(name: str) -> None:
    """Wherever z lies in the cell of x, N(z) times the volume is p(x); and normal z fall there as often."""
    field: Field
    if name == "levels":
        field = Continuous(1, levels=5, shares=SHARES)
        every = torch.linspace(-1, 1, 5)[None, :, None]
    else:
        field = Categorical(5, marginal=SHARES, pairs=name != "classes")
        every = torch.arange(5)[None]
    n, p = every.shape[1], probabilities(SHARES)
    mask = torch.ones(1, n, dtype=torch.bool)
    shape = (1, n, Dequantization.of(field).dim)
    if field.axes == 2:  # values stand above the diagonal
        every = torch.zeros(1, n, n, dtype=torch.long)
        every[0, 0, 1:] = every[0, 1:, 0] = torch.arange(1, n)
        shape = (1, n, n, Dequantization.of(field).dim)
    u = torch.rand(shape, generator=generator(0))
    u = u if field.axes == 1 else (u + u.transpose(1, 2)) / 2
    z, volume = Dequantization.of(field).dequantize(every, u, mask)
    log_p = log_normal(z).sum(-1) + volume
    if field.axes == 2:
        assert torch.allclose(log_p[0, 0, 1:].double(), p[1:].log(), atol=1e-4)
        return
    assert torch.allclose(log_p[0].double(), p.log(), atol=1e-4)
    many = torch.randn(1, 40_000, Dequantization.of(field).dim, generator=generator(1))
    values = Dequantization.of(field).quantize(many, torch.ones(1, 40_000, dtype=torch.bool))
    level = values.flatten() if name == "classes" else ((values.flatten() + 1) * 2).round().long()
    shares = torch.bincount(level, minlength=5) / 40_000
    assert torch.allclose(shares.double(), p, atol=4 * (0.25 / 40_000) ** 0.5)


def test_drawing_from_a_relaxed_class_follows_its_probabilities() -> None:
    field, n = Simplex(3), 20_000
    p = torch.tensor([0.6, 0.3, 0.1])
    mask = torch.ones(n, 1, dtype=torch.bool)
    logits = p.log().expand(n, 1, 3).clone().requires_grad_()
    x = Reparameterization.of(field).rsample(logits, mask, noise())
    shares = (x[:, 0] + 1).div(2).mean(0)
    assert torch.allclose(shares, p, atol=4 * (0.25 / n) ** 0.5)
    x[..., 0].sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[..., 0].mean() > 0


# ---------------------------------------------------------------------- values of the whole sample


def test_a_value_of_the_whole_sample_has_the_density_of_one_vector() -> None:
    field = Continuous(2, whole=True, mean=1.0, sd=2.0)
    x = field.project(torch.randn(2, 5, 2, generator=generator(3)), MASK)
    assert (x[:, 1:] == 0).all() and (x[:, 0] != 0).all()
    z, volume = Dequantization.of(field).dequantize(x, torch.rand(2, 5, 2, generator=generator(4)), MASK)
    assert torch.allclose(Dequantization.of(field).quantize(z, MASK), x, atol=1e-6)
    assert volume.sum(1).tolist() == pytest.approx([-2 * math.log(2.0)] * 2)
    sigma = field.schedule.high
    normal = torch.distributions.Normal(1.0, sigma)
    assert torch.allclose(
        PathLikelihood.of(field).log_prior(x, MASK), normal.log_prob(x[:, 0]).sum(1), atol=1e-4
    )


def test_a_value_of_the_whole_sample_counts_once_however_many_sites_there_are() -> None:
    field, t = Continuous(2, whole=True), torch.full((2,), 0.5)
    x0 = field.project(torch.ones(2, 5, 2), MASK)
    loss = Denoising.of(field).loss(x0 + 0.1, x0, x0, t, MASK)
    assert loss[0].item() == pytest.approx(loss[1].item())
    learned = field.learn([np.array([[3.0, 5.0], [0, 0], [0, 0]]), np.array([[3.0, 5.0]])])
    assert learned == {"mean": 4.0, "sd": 1.0}
