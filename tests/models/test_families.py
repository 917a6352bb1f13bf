"""Every family on every modality: seeds, batch sizes, files, domain objects, learning, labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer

import molgen
from molgen import UnsupportedError
from molgen.core.noise import BatchNoise, generator
from tests.models.cells import CELLS, FAMILIES, draw, fitted, records, tiny


class Interrupted(Exception):
    """Ends a run in the middle."""


class Interrupt(Callback):
    """Saves the training state after three steps and ends the run a step later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)
        if trainer.global_step == 4:
            raise Interrupted


cells = pytest.mark.parametrize(("family", "name"), CELLS)
# Adversaries have not spread out after a few steps.
pytestmark = pytest.mark.filterwarnings("ignore:mode collapse")


@cells
def test_a_seed_fixes_the_samples(family: str, name: str) -> None:
    model = fitted(name, family)
    first, again, other = (draw(model, 4, seed=s) for s in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        assert all((a[k] == b[k]).all() for k in a)
    assert any(
        a[k].shape != b[k].shape or (a[k] != b[k]).any() for a, b in zip(first, other, strict=True) for k in a
    )


@cells
def test_samples_do_not_depend_on_the_batch_size(family: str, name: str) -> None:
    model = fitted(name, family)
    together, apart = (draw(model, 6, batch_size=size) for size in (6, 2))
    same = 0.0
    for a, b in zip(together, apart, strict=True):
        for k in a:
            if a[k].is_floating_point():
                scale = a[k].abs().max().clamp_min(1)
                assert (a[k] - b[k]).abs().max() <= 1e-4 * scale
        same += all((a[k] == b[k]).all() for k in a if not a[k].is_floating_point())
    assert same / len(together) >= 0.99


@cells
def test_saving_and_loading_keeps_the_samples(family: str, name: str, tmp_path: Path) -> None:
    model = fitted(name, family)
    model.save(tmp_path / "model.safetensors")
    loaded = molgen.load(tmp_path / "model.safetensors")
    assert loaded.header() == model.header()
    for a, b in zip(draw(model, 3), draw(loaded, 3), strict=True):
        assert all((a[k] == b[k]).all() for k in a)


@cells
def test_samples_are_domain_objects_and_a_likelihood_is_finite(family: str, name: str) -> None:
    model = fitted(name, family)
    samples = model.sample(3, seed=0, **FAMILIES[family])
    assert len(samples) == 3
    assert {type(s) for s in samples} == {type(records(name)[0])}
    if model.likelihood == "none":
        with pytest.raises(UnsupportedError, match=family):
            model.log_prob(records(name)[:3])
        return
    options = {"draws": 2, "steps": 20} if family == "diffusion" else {}
    bound = model.log_prob(records(name)[:3], **options)
    assert bound.shape == (3,)
    assert torch.isfinite(bound).all()


def test_what_a_family_has_not_names_those_that_have_it() -> None:
    with pytest.raises(UnsupportedError, match=r"gan has no likelihood.*autoregressive.*vae"):
        fitted("smiles", "gan").log_prob(records("smiles")[:2])
    with pytest.raises(UnsupportedError, match=r"vae has no steps to sample with.*consistency.*diffusion"):
        fitted("smiles", "vae").sample(2, steps=10)


# A decoder that knows four records by heart, or that is told the label, rightly ignores its code.
collapsing = pytest.mark.filterwarnings("ignore:posterior collapse")


@collapsing
@pytest.mark.parametrize(("family", "name"), [(f, m) for f, m in CELLS if f != "gan"])
def test_the_loss_falls_on_a_tiny_set(family: str, name: str) -> None:
    """The loss at fixed noise, before and after a short fit to four records.

    Adversaries have no loss that falls: what one gains the other loses.
    """
    # A consistency model's loss changes on the way; here it keeps to its first stage nearly all the time.
    model = tiny(name, family, **({"pretraining": 0.9} if family == "consistency" else {}))
    few = records(name)[-4:]  # the first strings are too short to tell apart

    def loss(network: torch.nn.Module) -> float:
        batch = model.encode(few)
        batch = batch[torch.arange(len(batch)).repeat(16)].trimmed()
        model.progress = 0.0
        with torch.no_grad():
            terms = model.losses(network, batch, BatchNoise(generator(5)))
        return float(torch.stack(list(terms.values())).sum())

    # All four are for training: none is held out.
    model.fit(few, few, max_steps=1, batch_size=4, lr=1e-12)
    before = loss(model.trained)
    # Couplings start from the marginal distribution of the data, so what is left takes longer to learn.
    model.fit(few, few, max_steps=400 if family == "flow-coupling" else 150, batch_size=4, lr=3e-3)
    after = loss(model.trained)
    assert math.isfinite(after)
    # The consistency loss is a root mean square, so the same fit moves it half as much.
    assert after < before - (0.08 if family == "consistency" else 0.2) * abs(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_run_resumes_to_the_same_weights(family: str, tmp_path: Path) -> None:
    """A run that goes on from a training state ends with the weights of an uninterrupted one."""

    def run(folder: str, steps: int, ckpt: Path | None = None, **options: Any) -> dict[str, torch.Tensor]:
        model = tiny("smiles", family)
        data = records("smiles")
        model.fit(
            data, max_steps=steps, batch_size=8, seed=1, root_dir=tmp_path / folder, ckpt_path=ckpt, **options
        )
        return {k: v.clone() for k, v in model.trained.state_dict().items()}

    whole = run("whole", 6)
    with pytest.raises(Interrupted):
        run("cut", 6, trainer={"callbacks": [Interrupt(tmp_path / "cut" / "state.safetensors")]})
    resumed = run("cut", 6, tmp_path / "cut" / "state.safetensors")
    for k, value in whole.items():
        assert (value == resumed[k]).all(), k


@collapsing
@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_samples_follow_their_condition(family: str) -> None:
    """Dark images have label 0, light ones label 1; the label alone decides the sample."""
    import numpy as np

    from molgen.core.data import Records
    from molgen.modalities.image import ImageModality

    dark, light = np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 255, np.uint8)
    data = Records([dark, light] * 16, labels={"kind": np.array([0, 1] * 16)})
    modality = ImageModality((4, 4, 1), labels={"kind": 2})
    trunk: dict[str, int] = {} if family == "flow-nice" else {"width": 16}
    if family not in ("autoregressive", "flow-coupling", "flow-nice"):
        trunk["groups"] = 4
    family, _, kind = family.partition("-")
    options: dict[str, Any] = {"kind": kind} if kind else {}
    model = molgen.list_families()[family](modality, trunk_options=trunk, **options)
    model.fit(data, condition=["kind"], max_steps=200, batch_size=32, lr=3e-3, seed=0)
    for kind, low, high in ((0, 0, 80), (1, 175, 255)):
        means = [image.mean() for image in model.sample(20, seed=0, condition={"kind": kind})]
        assert sum(low <= mean <= high for mean in means) >= 15
