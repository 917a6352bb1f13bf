"""Bounds, games and machines against sums by hand: VAE, GAN, deep Boltzmann machine, flows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.distributions import Categorical as Classes
from torch.distributions import MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional as F

from molgen import FlowModel, GANModel, VAEModel
from molgen.core.batch import Batch
from molgen.core.capabilities import Embedding
from molgen.core.fields import Categorical, Continuous, Positions
from molgen.core.fields.frequencies import probabilities
from molgen.core.modality import View
from molgen.core.rng import BatchRandom, generator
from molgen.core.step import TrainingStep
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.models.energy.boltzmann import BoltzmannMachine
from molgen.models.flow.bijections import FlowContext, Scaling
from molgen.models.flow.continuous import paired
from molgen.models.gan import GeneratorAndCritic
from molgen.models.vae import Prior
from molgen.nn.boltzmann import DeepBoltzmann
from molgen.nn.pair import PairTransformer
from tests.models.cells import records
from tests.models.test_flow import Known, Toy
from tests.models.test_flow_kinds import Points
from tests.models.test_gan import Plane
from tests.models.test_vae import LinearGaussian

# Models of a few steps may well have collapsed or diverged.
pytestmark = pytest.mark.filterwarnings("ignore:mode collapse", "ignore:divergence")
MANY = 20_000


def mixture(prior: Prior) -> MixtureSameFamily:
    parts = Normal(prior.mean[:, 0], prior.log_sd[:, 0].exp())
    return MixtureSameFamily(Classes(logits=prior.logits), parts)


def prior_of_three() -> Prior:
    prior = Prior(1, 3)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.5, -0.4, 0.0]))
        prior.mean.copy_(torch.tensor([[-2.0], [0.5], [3.0]]))
        prior.log_sd.copy_(torch.tensor([[-1.0], [0.4], [-0.3]]))
    return prior.requires_grad_(False)


# ---------------------------------------------------------------------- VAE


def test_a_mixture_prior_has_the_density_and_the_draws_of_its_components() -> None:
    prior = prior_of_three()
    z = torch.linspace(-5, 6, 50)
    assert torch.allclose(prior.log_prob(z[:, None]), mixture(prior).log_prob(z), atol=1e-5)
    mask = torch.ones(MANY, 1, dtype=torch.bool)
    drawn = prior.draw(mask, BatchRandom(generator(0))).flatten()
    assert stats.kstest(drawn.numpy(), lambda x: mixture(prior).cdf(torch.as_tensor(x)).numpy()).pvalue > 1e-3
    cold = prior.draw(mask, BatchRandom(generator(0)), 0.0).flatten()
    assert set(cold.unique().tolist()) == {-2.0, 0.5, 3.0}


class Watched(LinearGaussian):
    """Keeps the codes that it decodes."""

    def log_likelihood(self, values: Any, mask: Tensor, labels: Any, z: Tensor) -> dict[str, Tensor]:
        self.z = z
        return super().log_likelihood(values, mask, labels, z)


def terms(network: Watched, progress: float = 1.0, **options: Any) -> dict[str, Tensor]:
    model = VAEModel("smiles", latent=1, **{"warmup": 0.0, "free_bits": 0.0, **options})
    mask = torch.ones(MANY, 2, dtype=torch.bool)  # two sites a sample
    batch = Batch({"x": torch.full((MANY, 1), 0.9)}, mask, {})
    return dict(model.losses(network, batch, BatchRandom(generator(1)), TrainingStep(progress)))


def inferred(network: Watched) -> Normal:
    """q(z | x) of every sample."""
    mean, log_sd = network.infer({"x": torch.full((1, 1), 0.9)}, torch.ones(1, 1) > 0, {})
    return Normal(mean[0, 0], log_sd[0, 0].exp())


@pytest.mark.parametrize(
    ("options", "weight"),
    [({}, 1.0), ({"beta": 0.3}, 0.3), ({"beta": 2.0, "warmup": 0.5, "progress": 0.125}, 0.5)],
)
def test_the_terms_of_the_bound_are_per_site(options: dict[str, Any], weight: float) -> None:
    network = Watched()
    got, q = terms(network, **options), inferred(network)
    assert network.z.mean().item() == pytest.approx(q.mean.item(), abs=0.02)
    assert network.z.std().item() == pytest.approx(q.stddev.item(), rel=0.02)
    kl = kl_divergence(q, Normal(0.0, 1.0)).item()
    assert got["kl"].item() == pytest.approx(weight * kl / 2, rel=1e-4)
    # E log N(x; a z + b, s^2) over the posterior of z.
    square = (0.9 - network.a * q.mean.item() - network.b) ** 2 + (network.a * q.stddev.item()) ** 2
    exact = 0.5 * square / network.s**2 + math.log(network.s * math.sqrt(2 * math.pi))
    assert got["reconstruction/x"].item() == pytest.approx(exact / 2, rel=0.02)


def test_the_divergence_from_a_mixture_is_estimated_at_the_codes() -> None:
    network = Watched()
    network.prior = prior_of_three()
    got = terms(network, components=3)["kl"].item()
    q, grid = inferred(network), torch.linspace(-8, 8, 8001)
    gap = q.log_prob(grid) - mixture(network.prior).log_prob(grid)
    exact = (q.log_prob(grid).exp() * gap).sum().item() * 16 / 8000
    assert got == pytest.approx(exact / 2, abs=0.02)


def test_free_bits_of_a_mixture_are_those_of_all_dimensions() -> None:
    prior = Prior(3, 2)
    with torch.no_grad():
        prior.mean.zero_(), prior.log_sd.zero_()
    model = VAEModel("smiles", latent=3, components=2, free_bits=0.5)
    zeros = torch.zeros(4, 3)
    assert model._kl(prior, zeros, zeros, zeros).item() == pytest.approx(1.5)


# ---------------------------------------------------------------------- GAN


class Half(Plane):
    """Points of the plane with half a unit's deviation."""

    @property
    def views(self) -> Mapping[str, View]:
        return {"x": View("x", {"x": Continuous(2, sd=0.5)})}


class Bowl(nn.Module):
    """C(x) = |x|^2 / 2 plus a number, whose gradient is x; keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.level, self.seen = nn.Parameter(torch.tensor(0.0)), list[Tensor]()

    def forward(self, x: Mapping[str, Tensor], *rest: Any) -> Tensor:
        self.seen.append(x["x"].detach())
        return self.level + x["x"].square().sum((1, 2))[:, None] / 2


def play(monkeypatch: pytest.MonkeyPatch, blur: float) -> tuple[dict[str, Tensor], Bowl, Tensor]:
    """A round with all samples at (1, 1) and data near the origin."""
    data = list(0.5 * np.random.default_rng(0).normal(size=(4096, 2)).astype(np.float32))
    model = GANModel(Half(), r1_gamma=0.6, instance_noise=blur)
    model.fit(data[:16], data[:16], max_steps=1, batch_size=16, seed=0)
    gan, batch, bowl = cast(GeneratorAndCritic, model.trained), model.encode(data), Bowl()
    gan.critic = bowl  # type: ignore[assignment]
    monkeypatch.setattr(gan, "generate", lambda mask, *rest: {"x": torch.ones(len(mask), 1, 2)})
    return dict(model.losses(gan, batch, BatchRandom(generator(0)))), bowl, batch.values["x"]


def test_the_terms_of_the_game_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _, x = play(monkeypatch, 0.0)
    real, fake = x.square().sum((1, 2)) / 2, torch.ones(len(x))
    assert found["critic"].item() == pytest.approx(F.softplus(fake - real).mean().item(), rel=1e-4)
    assert found["generator"].item() == pytest.approx(F.softplus(real - fake).mean().item(), rel=1e-4)
    # Squared gradients at every fourth value, per standard deviation of 0.5.
    exact = 0.3 * 0.25 * x[::4].square().sum((1, 2)).mean().item()
    assert found["r1"].item() == pytest.approx(exact, rel=1e-4)
    assert found["r2"].item() == pytest.approx(0.3 * 0.25 * 2.0, rel=1e-4)


@pytest.mark.parametrize("blur", [0.4, 2.0])
def test_noise_of_the_game_has_the_square_of_a_uniform_as_its_strength(
    monkeypatch: pytest.MonkeyPatch, blur: float
) -> None:
    r"""A pair of datum and sample shares the strength :math:`b u^2 s`, so that variances are b^2 s^2 / 5."""
    _, bowl, x = play(monkeypatch, blur)
    added = [bowl.seen[0] - x, bowl.seen[1] - 1.0]
    for gap in added:
        assert gap.mean().item() == pytest.approx(0.0, abs=0.02 * blur)
        assert gap.std().item() == pytest.approx(blur * 0.5 / math.sqrt(5), rel=0.06)
    sizes = torch.stack([gap.square().sum((1, 2)) for gap in added]).clamp_min(1e-12).log()
    assert torch.corrcoef(sizes)[0, 1] > 0.5


# ---------------------------------------------------------------------- deep Boltzmann machines


def machine(*hidden: int) -> tuple[BoltzmannMachine, DeepBoltzmann]:
    model = BoltzmannMachine("smiles", hidden=hidden, chains=64)
    model.fit(records("smiles"), max_steps=3, batch_size=8, seed=0)
    net = cast(DeepBoltzmann, model.trained)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(0.3 * torch.randn(p.shape, generator=generator(i)))
    return model, net


def test_pairs_of_layers_are_doubled_where_a_neighbour_is_missing() -> None:
    assert [machine(4, 3, 2)[1].scales(i) for i in range(3)] == [(2, 1), (2, 2), (1, 2)]
    assert machine(4)[1].scales(0) == (1, 1)


def test_held_out_strings_are_scored_by_their_classes_given_the_units_above() -> None:
    model, net = machine(6, 4)
    batch = model.encode(records("smiles")[:5]).trimmed()
    got = model.losses(net.eval(), batch, BatchRandom(generator(0)))["reconstruction"].item()
    v, real = net.visible.encode(batch.values, batch.mask), net.visible.real(batch.mask)
    state = net.mean_field(v, real, 10)
    above = (state[1] - 0.5) @ net.weights[0].T
    ((name, field),) = net.visible.fields.items()
    logits = F.pad((above + net.biases[0] + net.rates).reshape(5, -1, field.num_classes - 1), (1, 0))
    log_p = logits.log_softmax(-1)[:, : batch.mask.shape[1]]
    each = log_p.gather(-1, batch.values[name][..., None].long()).squeeze(-1)
    assert got == pytest.approx(-each[batch.mask].mean().item(), rel=1e-4)


def test_chains_return_means_of_the_odd_layers_given_the_even_ones() -> None:
    _, net = machine(6, 4, 3)
    state = net.advance(BatchRandom(generator(0)), 2)
    with torch.no_grad():
        pull = (state[0] - net.means(0) * net.visible.units.spread(net.real)) @ net.weights[0]
        pull = pull + (state[2] - 0.5) @ net.weights[1].T + net.biases[1]
        top = (state[2] - 0.5) @ net.weights[2] + net.biases[3]
    assert torch.allclose(state[1], pull.sigmoid(), atol=1e-5)
    assert torch.allclose(state[3], top.sigmoid(), atol=1e-5)
    for layer in (0, 2):
        assert set(state[layer].unique().tolist()) <= {0.0, 1.0}


def test_a_classifier_begins_with_the_features_of_the_machine() -> None:
    model, net = machine(6, 4)
    few = records("smiles")[:6]
    made = model.classifier(few, [0, 1] * 3, steps=1, lr=0.0)
    batch = model.encode(few)
    v = net.visible.encode(batch.values, batch.mask)
    real = torch.ones(6, net.visible.units.entries)  # a network on vectors takes all entries for real
    with torch.no_grad():
        assert torch.allclose(made.layers[:-1](v), net.rise(v, real, 2)[-1], atol=1e-5)


# ---------------------------------------------------------------------- flows


class Bonds(Toy):
    """Samples of pairs with a real trunk."""

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        return PairTransformer(spec, width=16, pair_width=8, depth=1, heads=2)


def test_a_flow_that_is_still_the_identity_has_the_frequencies_of_free_pairs() -> None:
    field = Categorical(3, pairs=True, marginal=[0.6, 0.3, 0.1])
    model = FlowModel(Bonds(field, 3), kind="coupling", layers=2)
    model.network = model.build()
    x = torch.randint(3, (20, 3, 3), generator=generator(0)).triu(1)
    batch = Batch({"x": x + x.transpose(1, 2)}, torch.ones(20, 3, dtype=torch.bool), {})
    log_p = probabilities([0.6, 0.3, 0.1]).log()
    upper = torch.triu_indices(3, 3, 1)
    exact = log_p[x[:, upper[0], upper[1]]].sum(1).float()
    with torch.no_grad():
        assert torch.allclose(model.log_density(batch, BatchRandom(generator(1))), exact, atol=1e-3)


@pytest.mark.parametrize(("kind", "law"), [("nice", stats.logistic), ("coupling", stats.norm)])
def test_a_flow_that_is_still_the_identity_samples_its_prior(kind: str, law: Any) -> None:
    model = FlowModel(Points(Continuous(1, mean=0.3, sd=0.5), sites=1), kind=kind, layers=2)
    model.network = model.build()
    mask = torch.ones(MANY, 1, dtype=torch.bool)
    for heat in (1.0, 0.5):
        with torch.no_grad():
            x = model.generate(mask, {}, BatchRandom(generator(0)), temperature=heat)["x"].flatten()
        assert stats.kstest((x.numpy() - 0.3) / 0.5 / heat, law.cdf).pvalue > 1e-3


def test_positions_of_noise_are_turned_onto_the_data_that_they_are_dealt_to() -> None:
    fields = {"p": Embedding.of(Positions()).continuous("linear")}
    mask = torch.ones(1, 5, dtype=torch.bool)
    x0, white = (fields["p"].standard_noise(mask, BatchRandom(generator(i))) for i in (0, 1))
    got = paired(fields, {"p": x0}, {"p": white}, mask)["p"]
    best, _ = Rotation.align_vectors(x0[0].numpy(), white[0].numpy())
    assert np.allclose(got[0].numpy(), best.apply(white[0].numpy()), atol=1e-4)


@pytest.mark.parametrize("probes", [1, 3])
def test_a_density_from_probes_is_that_of_the_whole_divergence(probes: int) -> None:
    model = FlowModel(Toy(Continuous(2, mean=0.3, sd=0.7)))
    model.network = Known(model, lambda x, sigma: 0.3 + 0.49 / (0.49 + sigma**2) * (x - 0.3))
    batch = Batch({"x": torch.full((2000, 2, 2), 0.5)}, torch.ones(2000, 2, dtype=torch.bool))
    got = model.log_density(batch, BatchRandom(generator(0)), steps=60, probes=probes)
    exact = Normal(0.3, 0.7).log_prob(torch.tensor(0.5)).item() * 4
    assert got.mean().item() == pytest.approx(exact, abs=0.02 + 4 * got.std().item() / math.sqrt(2000))


def test_the_bound_of_levels_is_tight_but_for_its_last_term() -> None:
    r"""As :math:`\log p(x) = \log p(z) + \log p(x | z) - \log q(z | x)` for every z.

    The model's p(x | z) is a Gaussian around the exact denoiser's mean, which costs its gap to Bayes' rule.
    """
    levels, n = torch.linspace(-1, 1, 3), 12_000
    model = FlowModel(Toy(Continuous(1, levels=3, sd=0.8), 1))

    def law(x: Tensor, sigma: Tensor) -> Tensor:
        share = (-((x - levels) ** 2) / (2 * sigma**2)).softmax(-1)
        return (share * levels).sum(-1, keepdim=True)

    model.network = Known(model, law)
    x = levels.repeat(n // 3)[:, None, None]
    batch = Batch({"x": x}, torch.ones(n, 1, dtype=torch.bool))
    got = model.log_density(batch, BatchRandom(generator(0)), steps=100, exact=True)
    sigma = torch.tensor(0.25)  # a quarter of the distance of two levels
    x = x.repeat(30, 1, 1)
    z = x + sigma * torch.randn(x.shape, generator=generator(1))
    bayes = Normal(levels, sigma).log_prob(z).log_softmax(-1)
    std = sigma * 0.8 / (sigma**2 + 0.64).sqrt()
    model_s = Normal(levels, std).log_prob(law(z, sigma)).log_softmax(-1)
    off = (bayes - model_s).gather(-1, (x + 1).long()).mean().item()
    assert off > 0.02
    assert got.mean().item() == pytest.approx(-math.log(3) - off, abs=0.015)


def test_a_factor_is_learned_five_times_as_fast_as_a_weight() -> None:
    scaling = Scaling({"x": (2,)})
    (weight,) = scaling.parameters()
    with torch.no_grad():
        weight.copy_(torch.tensor([0.1, -0.2]))
    mask = torch.ones(1, 1, dtype=torch.bool)
    z, log_det = scaling({"x": torch.ones(1, 1, 2)}, FlowContext(mask, {"x": mask[..., None].float()}, {}))
    assert torch.allclose(z["x"].log(), torch.tensor([0.5, -1.0]))
    assert log_det.item() == pytest.approx(-0.5)
