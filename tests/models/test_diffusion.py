"""DiffusionModel on every modality: promises on seeds, files, resuming, learning and likelihood."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import molgen
from molgen import ConfigError, DiffusionModel
from molgen.core.capabilities import Denoising
from molgen.core.conditions import Label
from molgen.core.rng import BatchRandom, generator
from molgen.models.sampler import Sampler, parse_conditions
from tests.models.cells import draw, fitted, records, tiny


@pytest.mark.parametrize("name", ["molecule", "protein"])
def test_a_model_of_coordinates_is_equivariant(name: str) -> None:
    """Rotating noisy coordinates rotates the prediction; mirroring them does not mirror it."""
    from scipy.spatial.transform import Rotation

    model = fitted(name)
    torch.manual_seed(0)
    network = model.build().double().eval()
    for p in network.parameters():  # zero-initialised parts would hide a difference
        p.data += 0.1 * torch.randn(p.shape, dtype=p.dtype)
    batch = model.encode(records(name)[:3])
    t = torch.full((3,), 0.3, dtype=torch.float64)
    key = next(k for k, f in model.view.fields.items() if f.stream == "point")
    x = {
        k: f.diffuse(batch.values[k], t * 0, t, batch.mask, BatchRandom(generator(1)))
        for k, f in model.view.fields.items()
    }
    x[key] = x[key].double()
    turn = torch.tensor(Rotation.random(rng=np.random.default_rng(0)).as_matrix())
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))

    def moved(matrix: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = network({**x, key: x[key] @ matrix.T}, t, batch.mask)[key]
        return out

    plain = moved(torch.eye(3, dtype=torch.float64))
    assert torch.allclose(moved(turn), plain @ turn.T, atol=1e-5)
    assert not torch.allclose(moved(mirror), plain @ mirror.T, atol=1e-4)


@pytest.mark.parametrize("name", ["smiles", "protein"])
def test_a_killed_run_resumes_to_the_same_weights(name: str, tmp_path: Path) -> None:
    """A run that is killed hard and resumed ends with the weights of an uninterrupted one."""
    code = """
import os, signal, sys
from molgen.train import resume
from tests.models.cells import records, tiny
def kill(self, trainer, *rest):
    if trainer.global_step == 5:
        trainer.save_checkpoint(self.path)
    if trainer.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
resume.SaveState.on_train_batch_end = kill
tiny(sys.argv[1]).fit(records(sys.argv[1]), max_steps=9, batch_size=8, seed=1, root_dir=sys.argv[2])
"""
    threads = str(torch.get_num_threads())  # sums of another number of threads round otherwise
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-c", code, name, str(tmp_path)]
    killed = subprocess.run(command, env=env, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL

    def run(state: Path | None) -> Any:
        return tiny(name).fit(records(name), max_steps=9, batch_size=8, seed=1, ckpt_path=state)

    whole, cut = run(None), run(tmp_path / "state.safetensors")
    for (k, a), b in zip(whole.trained.state_dict().items(), cut.trained.state_dict().values(), strict=True):
        assert (a == b).all(), k


def test_going_on_from_weights_sums_the_budget(tmp_path: Path) -> None:
    model = tiny("smiles").fit(records("smiles"), max_steps=2, batch_size=8)
    model.save(tmp_path / "a.safetensors")
    more = molgen.load(tmp_path / "a.safetensors").fit(records("smiles"), max_steps=3, batch_size=8)
    assert more.history["steps"] == 5
    assert len(more.history["runs"]) == 2


def test_the_bound_lies_below_the_exact_likelihood_of_a_gaussian() -> None:
    """With the exact denoiser of N(0, 1) data, the bound is below log p and close to it."""
    from molgen.core.fields import Continuous

    field = Continuous(1, sd=1.0)
    mask = torch.ones(4000, 1, dtype=torch.bool)
    rng = BatchRandom(generator(0))
    x0 = rng.normal(mask, (1, 1))
    grid = torch.linspace(0, 1, 2001)
    total = field.prior_kl(x0, mask)
    for s, t in zip(grid[:-1], grid[1:], strict=True):
        ts, ss = t.expand(4000), s.expand(4000)
        x = field.diffuse(x0, ss * 0, ts, mask, rng)
        variance = field.schedule.sigma(ts)[:, None, None] ** 2
        total = total + Denoising.of(field).vlb_term(x / (1 + variance), x0, x, ts, ss, mask)
    exact = 0.5 * (math.log(2 * math.pi) + x0.flatten() ** 2)
    gap = total - exact
    error = gap.std().item() / math.sqrt(len(gap))
    assert -3 * error < gap.mean().item() < 0.08


def test_guidance_follows_the_label() -> None:
    """Two digits as labels: samples under each label are nearer to that digit's mean image."""
    data = molgen.core.registry.get_modality("image").datasets["digits"].load("train")
    picks = np.flatnonzero(np.isin(data.labels["digit"], [0, 1]))[:96]
    few = data[picks]
    model = DiffusionModel(
        "image", trunk_options={"width": 32, "multipliers": (1,), "attention": (False,)}, solver="heun"
    )
    model.fit(few, max_steps=150, batch_size=32, lr=3e-3, condition=["digit"], seed=0)
    images = np.stack([np.asarray(i, float) for i in few.items])
    means = [images[few.labels["digit"] == d].mean(0) for d in (0, 1)]
    for digit in (0, 1):
        drawn = model.sample(16, seed=1, steps=12, condition={"digit": digit}, guidance=2.0)
        near = [np.argmin([np.abs(s - m).mean() for m in means]) == digit for s in drawn]
        assert np.mean(near) >= 0.8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stps": 3}, "steps"),
        ({"steps": 0}, "1 to 1000"),
        ({"solver": "huen"}, "heun"),
        ({"condition": {"digit": 3}}, "condition"),
        ({"n": -1}, "0 or more"),
    ],
)
def test_bad_sampling_options_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        fitted("smiles").sample(**{"n": 1, **options})


def test_bad_construction_is_refused() -> None:
    with pytest.raises(ConfigError, match="smiles"):
        DiffusionModel("smile")
    with pytest.raises(ConfigError, match="ancestral"):
        DiffusionModel("smiles", solver="ancestrl")
    with pytest.raises(ConfigError, match="no weights"):
        DiffusionModel("smiles").sample(1)
    with pytest.raises(ConfigError, match="wdith"):
        DiffusionModel("smiles", trunk_options={"wdith": 8}).fit(["CC", "CO"], max_steps=1)


@pytest.mark.parametrize("name", ["molecule", "smiles"])
def test_self_conditioning_feeds_the_estimate_back(name: str) -> None:
    """The previous estimate changes the prediction, and the samples stay a function of the seed."""
    model = tiny(name, self_condition=True).fit(records(name), max_steps=3, batch_size=8, seed=0)
    batch = model.encode(records(name)[:2])
    t = torch.full((2,), 0.4)
    x = {
        k: f.diffuse(batch.values[k], t * 0, t, batch.mask, BatchRandom(generator(0)))
        for k, f in model.view.fields.items()
    }
    network = model.trained
    for p in network.parameters():  # zero-initialised parts would hide a difference
        p.data += 0.1 * torch.randn(p.shape, generator=generator(3))
    with torch.no_grad():
        first = network(x, t, batch.mask)
        second = network(x, t, batch.mask, None, first)
    assert any((first[k] - second[k]).abs().max() > 1e-4 for k in first)
    for a, b in zip(draw(model, 2), draw(model, 2), strict=True):
        assert all((a[k] == b[k]).all() for k in a)


def test_a_label_that_is_not_named_is_drawn_as_in_the_data() -> None:
    model = tiny("image").fit(records("image"), max_steps=1, batch_size=8, condition=["digit"])
    (label,) = model.conditions
    assert isinstance(label, Label)
    n = 20_000
    sampler = Sampler(model, 0, None, {}, "fp32", {})
    drawn = sampler.drawn_labels(range(n))["digit"]
    expected = n * torch.tensor(label.shares)
    assert (drawn[7:9] == sampler.drawn_labels([7, 8])["digit"]).all()
    counts = torch.bincount(drawn.long(), minlength=label.classes)
    assert ((counts - expected).abs() < 4 * expected.sqrt() + 1e-6).all()
    assert Sampler(model, 0, None, {"digit": 3}, "fp32", {}).drawn_labels(range(2)) == {}
    assert parse_conditions(model, {"digit": None})[0] == {"digit": label.missing()}


def test_labels_that_are_not_named_are_drawn_together() -> None:
    model = tiny("smiles").fit(records("smiles"), max_steps=1, batch_size=8, condition=["logp", "weight"])
    there = {tuple(model.modality.measure(r, name) for name in ("logp", "weight")) for r in records("smiles")}
    drawn = Sampler(model, 0, None, {}, "fp32", {}).drawn_labels(range(200))
    pairs = set(zip(drawn["logp"].tolist(), drawn["weight"].tolist(), strict=True))
    assert len(pairs) > 1
    for pair in pairs:
        assert min(max(abs(a - b) for a, b in zip(pair, known, strict=True)) for known in there) < 0.1
    assert Sampler(model, 0, None, {"logp": 1.0}, "fp32", {}).drawn_labels(range(2)) == {}


def test_a_network_that_begins_with_another_one_keeps_its_labels() -> None:
    model = tiny("smiles").fit(records("smiles"), max_steps=1, batch_size=8, condition=["logp"])
    more = tiny("smiles")
    more.modality = model.modality
    more.conditions = (*model.conditions, model.modality.conditions["weight"])
    assert not more.warm_start(model.tensors())
    theirs, own = (m.tensors() for m in (model, more))
    assert theirs.keys() == own.keys()
    for name, tensor in theirs.items():
        assert torch.equal(own[name][..., : tensor.shape[-1]], tensor), name
    assert own["embed_label.weight"].shape[1] == 2 * theirs["embed_label.weight"].shape[1]


def test_restarts_do_not_depend_on_who_else_is_drawn() -> None:
    """Short samples wait for long ones at the end of a leg, and must draw no other numbers for it."""
    model = fitted("smiles")
    together, alone = (model.sample(12, seed=0, batch_size=size, restarts=3) for size in (12, 1))
    assert len({len(text) for text in together}) > 2
    assert together == alone
