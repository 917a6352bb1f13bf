"""The VAE against closed forms: a linear-Gaussian model whose likelihood is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from molgen import ConfigError, MolgenWarning, VAEModel
from molgen.core.batch import Batch
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.core.step import TrainingStep
from molgen.modalities.image import ImageModality
from molgen.models.vae import Autoencoder, Prior, _kl_normal, _log_normal
from tests.models.cells import fitted, records, tiny


class LinearGaussian(Autoencoder):
    """z ~ N(0, 1), x = a z + b + s e in one dimension; q(z|x) is the exact posterior, stretched."""

    a, b, s, stretch = 1.5, 0.3, 0.7, 1.0

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.prior = Prior(1, 1)

    def infer(self, values: object, mask: Tensor, labels: object) -> tuple[Tensor, Tensor]:
        x = values["x"]  # type: ignore[index]
        variance = 1 / (1 + self.a**2 / self.s**2)
        mean = variance * self.a / self.s**2 * (x - self.b)
        return mean, torch.full_like(mean, 0.5 * math.log(variance) + math.log(self.stretch))

    def log_likelihood(self, values: object, mask: Tensor, labels: object, z: Tensor) -> dict[str, Tensor]:
        x = values["x"]  # type: ignore[index]
        return {"x": _log_normal(x, self.a * z + self.b, torch.full_like(x, math.log(self.s)))}


def bound(stretch: float, samples: int, n: int = 4000) -> tuple[float, float]:
    """The mean bound and the mean exact log p over values of x."""
    model = VAEModel("smiles", latent=1)
    network = LinearGaussian()
    network.stretch = stretch
    model.network = network
    x = torch.linspace(-4, 4, n)[:, None]
    batch = Batch({"x": x}, torch.ones(n, 1, dtype=torch.bool))
    got = model.log_density(batch, BatchRandom(generator(0)), samples=samples)
    variance = network.a**2 + network.s**2
    exact = _log_normal(x, torch.full_like(x, network.b), torch.full_like(x, 0.5 * math.log(variance)))
    return got.mean().item(), exact.mean().item()


def test_the_bound_is_exact_at_the_exact_posterior() -> None:
    got, exact = bound(1.0, 1, 100)
    assert got == pytest.approx(exact, abs=1e-4)


def test_importance_weighting_tightens_the_bound() -> None:
    elbo, exact = bound(1.6, 1)
    closer, _ = bound(1.6, 5)
    tight, _ = bound(1.6, 200)
    assert elbo < closer < tight < exact + 0.01
    assert tight == pytest.approx(exact, abs=0.01)
    # KL(q || exact posterior) for a standard deviation that is stretched by r: (r^2 - 1) / 2 - log r.
    assert exact - elbo == pytest.approx((1.6**2 - 1) / 2 - math.log(1.6), abs=0.05)


def test_the_kl_term_is_that_of_gaussians() -> None:
    from torch.distributions import Normal, kl_divergence

    mean, log_sd = torch.randn(5, 3, generator=generator(0)), torch.randn(5, 3, generator=generator(1))
    exact = kl_divergence(Normal(mean, log_sd.exp()), Normal(0.0, 1.0))
    assert torch.allclose(_kl_normal(mean, log_sd), exact, atol=1e-5)


def test_a_mixture_prior_is_a_density_and_is_drawn_from() -> None:
    torch.manual_seed(0)
    prior = Prior(1, 3)
    grid = torch.linspace(-12, 12, 4001)[:, None]
    p = prior.log_prob(grid).exp().detach()
    assert float(p.sum()) * 24 / 4000 == pytest.approx(1, abs=1e-3)
    n = 20_000
    draws = prior.draw(torch.ones(n, 1) > 0, BatchRandom(generator(0))).detach()
    mean = float((p * grid[:, 0]).sum() / p.sum())
    assert draws.mean().item() == pytest.approx(mean, abs=4 * draws.std().item() / n**0.5)


def test_free_bits_are_free() -> None:
    model = VAEModel("smiles", latent=2, free_bits=0.5)
    small, z = torch.full((4, 2), 1e-3), torch.zeros(4, 2)
    assert model._kl(Prior(2, 1), small, small, z).item() == pytest.approx(1.0)
    large = torch.full((4, 2), 3.0)
    assert model._kl(Prior(2, 1), large, 0 * large, z).item() == pytest.approx(9.0)


def test_the_weight_of_the_kl_term_rises() -> None:
    model = tiny("smiles", "vae", warmup=0.5).fit(records("smiles"), max_steps=1, batch_size=8, seed=0)
    batch = model.encode(records("smiles")).trimmed()
    terms = [
        float(
            model.losses(model.trained, batch, BatchRandom(generator(0)), TrainingStep(progress))[
                "kl"
            ].detach()
        )
        for progress in (0.0, 0.25, 0.5, 1.0)
    ]
    assert terms == pytest.approx([0, terms[-1] / 2, terms[-1], terms[-1]])
    assert terms[-1] > 0


def test_a_fitted_code_reconstructs_and_interpolates() -> None:
    dark, light = np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 255, np.uint8)
    trunk = {"width": 16, "groups": 4, "multipliers": (1,), "attention": (False,)}
    model = VAEModel(ImageModality((4, 4, 1)), latent=2, trunk_options=trunk)
    model.fit([dark, light] * 16, max_steps=200, batch_size=32, lr=3e-3, seed=0)
    again = model.reconstruct([dark, light])
    assert again[0].mean() < 10
    assert again[1].mean() > 245
    between = [image.mean() for image in model.interpolate(dark, light, n=5)]
    assert between[0] < 10
    assert between[-1] > 245
    mean, sd = model.encode_latent([dark, light, dark])
    assert torch.equal(mean[0], mean[2])
    assert (sd > 0).all()
    means = np.array([image.mean() for image in model.sample(40, seed=0)])
    assert ((means < 30) | (means > 225)).mean() > 0.7
    assert 0.2 < (means > 128).mean() < 0.8


def test_a_collapsed_posterior_is_warned_about() -> None:
    with pytest.warns(MolgenWarning, match="collapse"):
        model = tiny("smiles", "vae", beta=1000.0, warmup=0, free_bits=0.0)
        model.fit(records("smiles"), max_steps=60, lr=1e-2, seed=0)


def test_strings_are_decoded_from_codes_at_given_sizes() -> None:
    model = fitted("smiles", "vae")
    assert isinstance(model, VAEModel)
    z = torch.randn(3, 4, generator=generator(0))
    assert [len(s) for s in model.decode_latent(z, sizes=[2, 3, 5])] == [2, 3, 5]
    with pytest.raises(ConfigError, match="shape"):
        model.decode_latent(z[:, :2])


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="decoder"):
        VAEModel("smiles", decoder="both")  # type: ignore[arg-type]
    for name in ("latent", "components", "code_channels"):
        with pytest.raises(ConfigError, match=f"{name} is 0"):
            VAEModel("smiles", **{name: 0})
    with pytest.raises(ConfigError, match="temperature"):
        fitted("smiles", "vae").generate(torch.ones(1, 3) > 0, {}, SampleRandom(0, [0]), temperature=-1)
