"""The module and the data that users drive with a Lightning Trainer of their own."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch.utils.data import DataLoader

import molgen
from molgen.core.errors import MolgenWarning
from molgen.models.base import GenerativeModel
from molgen.train import Loader
from tests.models.cells import records, tiny


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(**{**quiet, "enable_model_summary": False, **options})


def fit(fitter: Trainer, *args: Any, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        fitter.fit(*args, **options)


def driven(model: GenerativeModel, lr: float = 2e-3, **options: Any) -> GenerativeModel:
    data = molgen.DataModule(model, records("smiles", 60), batch_size=16, seed=3)
    fit(trainer(**options), model.lightning_module(lr=lr, seed=3), data)
    return model


def same(a: GenerativeModel, b: GenerativeModel) -> bool:
    ours, theirs = a.tensors(), b.tensors()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


BUDGETS = [("diffusion", {"max_steps": 7}), ("vae", {"max_epochs": 2}), ("energy", {"max_steps": 4})]


@pytest.mark.parametrize(("family", "budget"), BUDGETS)
def test_a_trainer_of_ones_own_gives_the_weights_of_fit(family: str, budget: dict[str, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MolgenWarning)  # so few steps may well collapse
        fitted = tiny("smiles", family).fit(records("smiles", 60), batch_size=16, lr=2e-3, seed=3, **budget)
        model = driven(tiny("smiles", family), **budget)
    assert same(model, fitted)
    ours, theirs = (m.history["runs"][0] for m in (model, fitted))
    told = ("steps", "samples", "lr", "seed", "data", "records", "batch_size", "fingerprint")
    assert {k: ours[k] for k in told} == {k: theirs[k] for k in told}
    assert not same(model, driven(tiny("smiles", family), lr=1e-3, **budget))


class Cut(Callback):
    """Saves the state after three steps, with Lightning's own files, and stops."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def test_lightnings_own_checkpoint_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = driven(tiny("smiles"), max_steps=6)
    path, model = tmp_path / "cut.ckpt", tiny("smiles")
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        driven(tiny("smiles"), max_steps=6, callbacks=[Cut(path)])
    data = molgen.DataModule(model, records("smiles", 60), batch_size=16, seed=3)
    fit(trainer(max_steps=6), model.lightning_module(lr=2e-3, seed=3), data, ckpt_path=path)
    assert same(model, whole)


def test_batches_of_ones_own_train_as_well() -> None:
    model = tiny("smiles")
    data = molgen.DataModule(model, list(records("smiles")), batch_size=8)
    data.setup()
    fit(trainer(max_steps=2), model.lightning_module(), Loader(data.data[:16], 8, seed=5))
    assert model.history["samples"] == 16
    assert len(model.sample(2, steps=2)) == 2


def test_the_module_needs_data_first() -> None:
    model = tiny("smiles")
    batches = DataLoader([0])
    with pytest.raises(molgen.ConfigError, match="DataModule"):
        fit(trainer(max_steps=1), model.lightning_module(), batches)
    with pytest.raises(molgen.ConfigError, match="hold no records"):
        fit(trainer(max_steps=1), model.lightning_module(), molgen.DataModule(model, []))
