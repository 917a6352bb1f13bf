"""The deep Boltzmann machine against enumeration of all its states."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from molgen import ConfigError, DataError, MolgenWarning, UnsupportedError
from molgen.core.annealing import Bounded
from molgen.core.batch import Batch
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.core.step import TrainingStep
from molgen.io import checkpoint
from molgen.modalities.image import ImageModality
from molgen.models.energy.boltzmann import BoltzmannMachine
from molgen.nn.boltzmann import DeepBoltzmann

PLAIN = ImageModality((2, 3, 1), binarised=True)
SMALL: dict[str, Any] = {"hidden": (3, 2), "chains": 10}


def machine(hidden: tuple[int, ...] = (3, 2), scale: float = 0.7, **options: Any) -> BoltzmannMachine:
    """Six pixels, with weights and biases drawn at random."""
    model = BoltzmannMachine(PLAIN, hidden=hidden, **options)
    net = cast(DeepBoltzmann, model._built(0))
    source = generator(7)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=source))
        net.counts.copy_(torch.randint(1, 9, net.counts.shape, generator=source))
        net.seen.copy_(net.counts + torch.randint(1, 9, net.seen.shape, generator=source))
    model.network = net
    return model


def bits(n: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)))


def images(x: Tensor) -> list[np.ndarray]:
    return [(255 * row).to(torch.uint8).reshape(2, 3, 1).numpy() for row in x]


def enumerated(model: BoltzmannMachine) -> tuple[Tensor, Tensor, Tensor]:
    """Every image `(64, 6)`, its unnormalised log p `(64,)`, and log p with the hidden units `(64, H)`."""
    net = cast(DeepBoltzmann, model.trained)
    x, h = bits(6), bits(sum(net.sizes[1:]))
    whole = torch.cat((x.repeat_interleave(len(h), 0), h.repeat(len(x), 1)), 1)
    log_p = -net.energy(list(whole.split(net.sizes, 1)), torch.ones(1, 6)).reshape(len(x), len(h))
    return x, log_p.logsumexp(1), log_p


@lru_cache
def truth() -> tuple[BoltzmannMachine, Tensor, Tensor, float]:
    model = machine()
    with torch.no_grad():
        x, log_p, _ = enumerated(model)
    return model, x, log_p, float(log_p.logsumexp(0))


@pytest.mark.parametrize("hidden", [(3,), (3, 2), (2, 3, 2)])
def test_annealing_finds_log_z_from_both_ends(hidden: tuple[int, ...]) -> None:
    model = machine(hidden)
    with torch.no_grad():
        exact = float(enumerated(model)[1].logsumexp(0))
    for reverse in (False, True):
        found = model.log_partition(chains=500, temperatures=50, reverse=reverse, burn_in=100)
        assert abs(found.value - exact) < 0.05
        assert found.low < exact < found.high


def test_both_ends_enclose_log_z_and_agree() -> None:
    model, _, _, exact = truth()
    bounds = model.log_partition_bounds(chains=500, temperatures=30)
    assert isinstance(model, Bounded)
    assert bounds.agree and bounds.forward.low < exact < bounds.reverse.high
    assert bounds.forward == model.log_partition(chains=500, temperatures=30)


def test_annealing_of_a_machine_without_weights_is_exact() -> None:
    model = machine(scale=0.0)
    with torch.no_grad():
        exact = float(enumerated(model)[1].logsumexp(0))
    assert model.log_partition(chains=2, temperatures=3).value == pytest.approx(exact, abs=1e-5)
    net = cast(DeepBoltzmann, model.trained)
    rates = 5 * math.log(2) + float((1 + net.rates.exp()).log().sum())
    assert exact == pytest.approx(rates, abs=1e-5)


def test_gibbs_sampling_has_the_exact_marginals() -> None:
    model, x, log_p, log_z = truth()
    p = (log_p - log_z).exp()
    mask = PLAIN.make_mask([6] * 3000)
    values = model.generate(mask, {}, BatchRandom(generator(3)), gibbs_steps=60)["image"].flatten(1).double()
    exact = (p[:, None] * x).sum(0).double()
    assert (values.mean(0) - exact).abs().max() < 4 * 0.5 / math.sqrt(3000)
    pairs = torch.einsum("n,ni,nj->ij", p, x, x).double()
    assert (values.t() @ values / 3000 - pairs).abs().max() < 4 * 0.5 / math.sqrt(3000)


def test_the_mean_field_bound_lies_below_log_p_and_is_exact_for_one_layer() -> None:
    for hidden in ((3, 2), (3,)):
        model = machine(hidden)
        with torch.no_grad():
            x, log_p, _ = enumerated(model)
        bound = -model.energy(images(x))
        assert (bound <= log_p + 1e-4).all()
        if hidden == (3,):
            assert torch.allclose(bound, log_p, atol=1e-4)
    log_z = float(log_p.logsumexp(0))
    density = model.log_prob(images(x), chains=500, temperatures=50)
    assert torch.allclose(density, (log_p - log_z).double(), atol=0.05)
    assert float(density.exp().sum()) == pytest.approx(1, abs=0.05)


def test_a_machine_of_images_turned_around_has_its_weights_turned_around() -> None:
    """What centring brings: nothing depends on which class of a pixel is the one with a unit."""
    gradients, densities = [], []
    for sign in (1, -1):
        model = machine()
        net = cast(DeepBoltzmann, model.trained)
        if sign < 0:
            with torch.no_grad():
                net.weights[0].neg_()
                net.biases[0].neg_()
                net.counts.copy_(net.seen - net.counts)
        log_v = enumerated(model)[1].log_softmax(0)
        image = bits(6)[11] if sign > 0 else 1 - bits(6)[11]
        found = log_v[int((bits(6) == image).all(1).nonzero())]
        gradient = torch.autograd.grad(found, list(net.parameters()), retain_graph=True)
        turned = {id(net.weights[0]), id(net.biases[0])}
        parameters = list(net.parameters())
        gradients.append(
            [sign * g if id(p) in turned else g for g, p in zip(gradient, parameters, strict=True)]
        )
        densities.append(log_v if sign > 0 else log_v.flip(0))
    assert torch.allclose(*densities, atol=1e-5)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_energies_at_exact_expectations_have_the_gradient_of_log_p() -> None:
    model = machine()
    net = cast(DeepBoltzmann, model.trained)
    _, log_v, log_p = enumerated(model)
    k = 11
    parameters = list(net.parameters())
    exact = torch.autograd.grad(log_v.logsumexp(0) - log_v[k], parameters, retain_graph=True)
    positive, negative = log_p[k].softmax(0).detach(), log_p.flatten().softmax(0).detach()
    contrast = -(positive * log_p[k]).sum() + (negative * log_p.flatten()).sum()
    for a, b in zip(torch.autograd.grad(contrast, parameters), exact, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_the_loss_has_the_gradient_of_log_p_where_chains_are_exact() -> None:
    """One hidden layer, so that mean field is exact, and chains drawn from the enumerated model."""
    model = machine((3,), pretraining=0.0, chains=20_000, gibbs_steps=1)
    net = cast(DeepBoltzmann, model.trained.train())
    counts, seen = net.counts.clone(), net.seen.clone()
    _, log_v, log_p = enumerated(model)
    picked = torch.multinomial(
        log_p.detach().flatten().softmax(0), len(net.chains), True, generator=generator(2)
    )
    x, h = bits(6), bits(3)
    net.chains.copy_(torch.cat((x[picked // 8], h[picked % 8]), 1).bool())
    data = torch.tensor([3, 20, 41])
    parameters = list(net.parameters())
    exact = torch.autograd.grad((log_v.logsumexp(0) - log_v[data].mean()) / 6, parameters)
    batch = model.encode(images(x[data]))
    net.counts -= x[data].sum(0).long()  # which the step counts anew
    net.seen -= len(data)
    loss = model.losses(net, batch, BatchRandom(generator(4)))
    got = torch.autograd.grad(torch.stack(list(loss.values())).sum(), parameters)
    for a, b in zip(got, exact, strict=True):
        assert (a - b).abs().max() < 4 * 0.5 / math.sqrt(20_000) / 6
    assert (net.counts == counts).all() and (net.seen == seen).all()


def test_a_layer_by_itself_is_a_restricted_machine() -> None:
    """At the stationary point of its contrastive divergence the gradient vanishes: the model's own data."""
    model = machine((3,))
    net = cast(DeepBoltzmann, model.trained)
    _, log_v, _ = enumerated(model)
    x, n = bits(6), 40_000
    drawn = x[torch.multinomial(log_v.detach().softmax(0), n, True, generator=generator(5))]
    u = torch.rand(n, net.draws, generator=generator(6))
    loss = net.pair_contrast(0, drawn, torch.ones(n, 6), u).mean()
    for g in torch.autograd.grad(loss, list(net.parameters())):
        assert g.abs().max() < 4 / math.sqrt(n)


def test_units_give_the_values_back_at_every_size() -> None:
    model = BoltzmannMachine("graph", **SMALL)
    modality = model.modality
    records = modality.datasets["gdb6"].load("train")[::8][:12]
    model.modality = modality.fit_to(records)
    net = cast(DeepBoltzmann, model._built(0))
    batch = model.encode(records)
    for part in (batch, batch[batch.sizes <= batch.sizes.min() + 1].trimmed()):
        v = net.visible.encode(part.values, part.mask)
        n = part.sizes
        real = net.visible.real(part.mask)
        assert (real.sum(1) == n + n * (n - 1) / 2).all()  # an atom each, and half of the pairs
        assert (v <= net.visible.units.spread(real)).all() and (net.visible.units.total(v) <= 1).all()
        for name, value in net.visible.decode(v, part.mask).items():
            assert (value == part.values[name]).all()


def test_sizes_have_densities_of_their_own() -> None:
    """Padding changes nothing, and what the data do not have has no probability."""
    records = ["C", "CC", "CO", "OC", "CCO"]
    model = BoltzmannMachine("smiles", **SMALL).fit(records, records, max_steps=4, batch_size=4)
    options: dict[str, Any] = {"chains": 50, "temperatures": 20}
    together, alone = (model.log_prob(r, **options) for r in (records, records[:1]))
    assert float(together[0]) == pytest.approx(float(alone[0]), abs=1e-4)
    assert torch.isfinite(together).all()
    assert model.log_prob(["CCCC"], **options).tolist() == [-math.inf]
    with pytest.raises(DataError, match="4 sites"):
        model.energy(["CCCC"])


@lru_cache
def taught() -> tuple[BoltzmannMachine, list[np.ndarray]]:
    two = images(torch.tensor([[1.0, 0, 1, 0, 1, 0], [0, 1, 1, 1, 0, 0]]))
    model = BoltzmannMachine(PLAIN, hidden=(8, 4), chains=40, gibbs_steps=3)
    model.fit(two * 16, two, max_steps=900, batch_size=32, lr=5e-2, seed=0)
    return model, two


def test_training_learns_two_patterns() -> None:
    model, two = taught()
    samples = model.sample(100, seed=0, gibbs_steps=100)
    hits = [[(s == pattern).all() for s in samples] for pattern in two]
    assert min(map(sum, hits)) > 20
    assert sum(map(sum, hits)) > 80
    logged: dict[str, Tensor] = {}
    rng = BatchRandom(generator(0))
    model.losses(model.trained.train(), model.encode(two * 16), rng, TrainingStep(1.0, logged.__setitem__))
    assert abs(float(logged["gap"])) < 0.2
    with torch.no_grad():
        x, log_p, _ = enumerated(model)
    known = [int((x == torch.from_numpy(p).flatten() / 255).all(1).nonzero()) for p in two]
    found = float((log_p - log_p.logsumexp(0))[known].mean())
    assert -1.0 < found < -math.log(2)  # the entropy of the data, which no model can exceed
    near = model.sample_from(two, gibbs_steps=1, seed=0)
    assert all((a == b).all() for a, b in zip(near, two, strict=True))


def test_features_tell_the_patterns_apart_and_a_classifier_learns_from_them() -> None:
    model, two = taught()
    features = model.features(two)
    assert features.shape == (2, 12)
    assert (model.features(two, 2) == features[:, 8:]).all()
    assert (features[0] - features[1]).abs().max() > 0.5
    for pretrained in (True, False):
        made = model.classifier(two, [1, 0], pretrained=pretrained, steps=150, lr=1e-2)
        assert made.predict(two).tolist() == [1, 0]


def test_seeds_and_files_fix_samples(tmp_path: Path) -> None:
    model, _ = taught()
    first, again, other = (np.stack(model.sample(8, seed=s, gibbs_steps=5)) for s in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert (np.stack(model.sample(8, seed=0, gibbs_steps=5, batch_size=3)) == first).all()
    few = {"chains": 20, "temperatures": 20}
    model.save(tmp_path / "model.safetensors")
    tensors, header = checkpoint.read(tmp_path / "model.safetensors")
    loaded = BoltzmannMachine.from_header(header)
    loaded.load_weights(tensors)
    assert loaded.header() == model.header() and header["kind"] == "dbm"
    assert (np.stack(loaded.sample(8, seed=0, gibbs_steps=5)) == first).all()
    assert loaded.log_partition(**few) == model.log_partition(**few)


class Cut(Callback):
    """Saves the training state after some steps and ends the run a step later."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
        if trainer.global_step == self.steps + 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [2, 5])
def test_persistent_chains_resume_exactly(steps: int, tmp_path: Path) -> None:
    """Cut off while layers are trained one by one, and after."""
    data = images(bits(6)[::3])

    def run(cut: bool, ckpt: Path | None = None) -> dict[str, Tensor]:
        model = BoltzmannMachine(PLAIN, hidden=(4, 3), chains=10, pretraining=0.5)
        trainer = {"callbacks": [Cut(tmp_path / "state", steps)]} if cut else None
        model.fit(data, data[:4], max_steps=8, batch_size=8, seed=1, ckpt_path=ckpt, trainer=trainer)
        return model.trained.state_dict()

    whole = run(False)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(True)
    resumed = run(False, tmp_path / "state")
    assert {"chains", "counts", "seen", "real"} < set(whole)
    for name, value in whole.items():
        assert (value == resumed[name]).all(), name


def test_only_the_first_fit_trains_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    data, terms = images(bits(6)[::3]), []
    model = BoltzmannMachine(PLAIN, hidden=(4, 3), chains=10, pretraining=0.5)
    losses = BoltzmannMachine.losses

    def spy(self: BoltzmannMachine, *args: Any) -> dict[str, Tensor]:
        terms.append(losses(self, *args))
        return terms[-1]

    monkeypatch.setattr(BoltzmannMachine, "losses", spy)
    for expected in (["layer1", "layer2", "contrast", "contrast"], 4 * ["contrast"]):
        terms.clear()
        model.fit(data, max_steps=4, batch_size=8, seed=1)
        assert [name for term in terms for name in term if name != "reconstruction"] == expected


def test_evaluation_leaves_the_chains_alone() -> None:
    model = machine()
    net = cast(DeepBoltzmann, model.trained.eval())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    batch: Batch = model.encode(images(bits(6)[:8]))
    terms = model.losses(net, batch, SampleRandom(0, range(8)))
    assert list(terms) == ["reconstruction"]
    assert all((v == before[k]).all() for k, v in net.state_dict().items())


def test_divergence_is_told() -> None:
    model = machine()
    with pytest.warns(MolgenWarning, match="divergence"):
        model.on_fit_end({"gap": torch.tensor(-3.0)})


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="molecule"):
        BoltzmannMachine("molecule")
    with pytest.raises(UnsupportedError, match="pixels"):
        BoltzmannMachine("image", view="pixels")
    with pytest.raises(UnsupportedError, match="digit"):
        BoltzmannMachine("image", **SMALL).fit("digits", condition=["digit"], max_steps=1)
    wrong: list[dict[str, Any]] = [
        {"hidden": ()}, {"pretraining": 1.0}, {"chains": 0}, {"trunk_options": {"width": 3}}
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError, match=next(iter(options)).split("_")[0]):
            BoltzmannMachine("image", **options)
