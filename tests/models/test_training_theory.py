"""Training against sums by hand: the average of weights, and the rules of the optimizer."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

import molgen
from molgen import DiffusionModel
from molgen.models.base import GenerativeModel
from molgen.testing.toys import Words

TRUNK = {"width": 16, "depth": 1, "heads": 2}


def prepared() -> tuple[GenerativeModel, molgen.DataModule]:
    model = DiffusionModel(Words(), trunk_options=TRUNK, width=16)
    return model, molgen.DataModule(model, ["abc", "ba", "ac", "bb"] * 4, batch_size=8, seed=0)


def run(module: LightningModule, data: Any, steps: int, *callbacks: Callback, **options: Any) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_model_summary=False,
        **{**quiet, **options},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        trainer.fit(module, data)


def copied(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


class Watch(Callback):
    """Keeps the weights that are trained, after every step."""

    def __init__(self, model: GenerativeModel) -> None:
        self.model, self.weights = model, [copied(model.trained)]

    def on_train_batch_end(self, *args: Any) -> None:
        self.weights.append(copied(self.model.trained))


@pytest.mark.parametrize("ema", [0.9995, 0.2, 0.0])
def test_a_model_ends_with_the_average_of_its_weights(ema: float) -> None:
    r"""Step k averages with the decay :math:`\min(\mathrm{ema}, (1 + k) / (10 + k))`, k from 0."""
    model, data = prepared()
    watch = Watch(model)
    module = model.lightning_module(lr=0.05, ema=ema)
    run(module, data, 6, watch)
    average = watch.weights[0]
    for k, weights in enumerate(watch.weights[1:]):
        decay = min(ema, (1 + k) / (10 + k))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    assert len(watch.weights) == 7
    got = copied(model.trained)
    for a, b in zip(got, average, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    last = max((a - b).abs().max().item() for a, b in zip(got, watch.weights[-1], strict=True))
    assert last < 1e-6 if ema == 0 else last > 1e-3


def test_buffers_are_copied_into_the_average() -> None:
    """The average of two states of a chain would be no state: a buffer ends with its last value."""
    model, data = prepared()
    network = model.trained
    network.register_buffer("count", torch.zeros(()))

    def counted(module: nn.Module, *args: Any) -> None:
        if module.training:
            module.get_buffer("count").add_(1)

    network.register_forward_pre_hook(counted)
    run(model.lightning_module(lr=1e-3), data, 5)
    assert model.trained is not network
    assert model.trained.get_buffer("count").item() == 5
