"""Training against sums by hand: the average of weights, and the rules of the optimizer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

import molgen
from molgen import AutoregressiveModel, DiffusionModel
from molgen.core.batch import Batch, collate
from molgen.core.rng import RandomSource
from molgen.core.step import TrainingStep
from molgen.models.base import GenerativeModel
from molgen.testing.toys import Words
from molgen.train import Loader, TrainingModule

TRUNK = {"width": 16, "depth": 1, "heads": 2}


def prepared() -> tuple[GenerativeModel, molgen.DataModule]:
    model = DiffusionModel(Words(), trunk_options=TRUNK, width=16)
    data = molgen.DataModule(model, ["abc", "ba", "ac", "bb"] * 4, batch_size=8, seed=0)
    data.setup()
    return model, data


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


# ---------------------------------------------------------------------- the optimizer


class Log(Callback):
    """Keeps weights, gradients as the optimizer saw them, and learning rates."""

    def __init__(self, model: GenerativeModel) -> None:
        self.model, self.weights = model, [copied(model.trained)]
        self.grads: list[list[Tensor]] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.weights.append(copied(self.model.trained))
        every = self.model.trained.parameters()
        self.grads.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in every])

    def on_before_optimizer_step(self, trainer: Trainer, *args: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def logged(steps: int, model: GenerativeModel | None = None, **options: Any) -> Log:
    made, data = prepared()
    log = Log(made)
    limits = options.pop("limits", {})
    run(made.lightning_module(**options), data, steps, log, **limits)
    return log


def test_the_learning_rate_rises_and_falls_along_a_cosine_to_a_fiftieth() -> None:
    rates = logged(12, lr=0.01, warmup=3).rates
    exact = [
        0.01 * min(1, (k + 1) / 3) * (0.02 + 0.98 * (1 + math.cos(math.pi * k / 12)) / 2) for k in range(12)
    ]
    assert rates == pytest.approx(exact)


def test_the_limit_that_comes_first_counts() -> None:
    """Two batches an epoch: four epochs are eight steps, whatever the number of steps allows."""
    for steps, epochs, whole in ((100, 4, 8), (6, 100, 6)):
        rates = logged(steps, lr=0.01, warmup=1, limits={"max_epochs": epochs}).rates
        exact = [0.01 * (0.02 + 0.98 * (1 + math.cos(math.pi * k / whole)) / 2) for k in range(whole)]
        assert rates == pytest.approx(exact)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_step_is_that_of_adamw_with_decay_of_matrices_alone(decay: float) -> None:
    r"""Moments of :math:`\beta = (0.9, 0.99)`, corrected for their start; biases and scales do not decay."""
    log = logged(3, lr=0.01, warmup=1, weight_decay=decay, clip=1e9)
    zero = [torch.zeros_like(w) for w in log.weights[0]]
    first, second = list(zero), list(zero)
    for k, (before, after) in enumerate(zip(log.weights, log.weights[1:], strict=False)):
        rate = log.rates[k]
        for i, g in enumerate(log.grads[k]):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.99 * second[i] + 0.01 * g**2
            move = first[i] / (1 - 0.9 ** (k + 1)) / ((second[i] / (1 - 0.99 ** (k + 1))).sqrt() + 1e-8)
            shrunk = before[i] * (1 - rate * decay * (before[i].dim() > 1))
            if g.any():
                assert torch.allclose(after[i], shrunk - rate * move, atol=2e-5)


@pytest.mark.parametrize("clip", [1e-3, 0.05])
def test_gradients_are_clipped_to_a_norm(clip: float) -> None:
    log = logged(3, lr=1e-3, clip=clip)
    norms = [torch.stack([g.norm() for g in grads]).norm().item() for grads in log.grads]
    assert norms == pytest.approx([clip] * 3, rel=1e-2)
    free = logged(1, lr=1e-3, clip=1e9).grads[0]
    assert torch.stack([g.norm() for g in free]).norm().item() > 0.05


# ---------------------------------------------------------------------- noise, validation, order


def spied(monkeypatch: pytest.MonkeyPatch, rank: int = 0) -> tuple[list[float], list[float], list[bool]]:
    """First numbers drawn in training and in validation, and whether each validates the trained weights."""
    model = DiffusionModel(Words(), trunk_options=TRUNK, width=16)
    words = ["abc", "ba", "ac", "bb"] * 4
    data = molgen.DataModule(model, words, words[:8], batch_size=8, seed=0)
    data.setup()
    trained, losses = model.trained, model.losses
    fitting: list[float] = []
    checking: list[float] = []
    same: list[bool] = []

    def spy(network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep) -> Mapping[str, Tensor]:
        (fitting if network.training else checking).append(float(rng.uniform(batch.mask, ())[0]))
        if not network.training:
            same.append(network is trained)
        return losses(network, batch, rng, step)

    monkeypatch.setattr(model, "losses", spy)
    if rank:
        monkeypatch.setattr(TrainingModule, "global_rank", property(lambda self: rank))
    run(model.lightning_module(seed=3), data, 6, num_sanity_val_steps=0)
    return fitting, checking, same


def test_each_step_and_process_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fitting, checking, same = spied(patch)
    with monkeypatch.context() as patch:
        again = spied(patch)[0]
    with monkeypatch.context() as patch:
        other = spied(patch, rank=1)[0]
    assert len(set(fitting)) == len(fitting) == 6
    assert again == fitting
    assert not set(other) & set(fitting)
    assert len(checking) > 1 and len(set(checking)) == 1  # the same noise at every validation
    assert not any(same)  # of the average, which has no part in training


def test_batches_of_like_sizes_come_in_no_order_of_size() -> None:
    sizes = np.random.default_rng(0).integers(1, 60, 400)
    data = collate([{"i": np.full((n,), 0, np.int64)} for n in sizes])
    means = [float(batch.sizes.float().mean()) for batch in Loader(data, 8, seed=0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4
    assert np.std(means) > 10


# ---------------------------------------------------------------------- sums over entries


def test_log_probabilities_sum_over_fields_and_have_that_of_the_size() -> None:
    from tests.models.cells import fitted, records

    model, few = fitted("graph", "autoregressive"), records("graph")[:5]
    assert isinstance(model, AutoregressiveModel)
    batch = model.encode(few).trimmed()
    with torch.no_grad():
        each = model.trained.log_prob(batch.values, batch.mask, {})  # type: ignore[operator]
        losses = model.losses(model.trained, batch, None)  # type: ignore[arg-type]
    assert len(each) > 1
    values = torch.stack(list(each.values())).sum(0).double()
    sizes = torch.tensor([model.modality.log_size(int(n)) for n in batch.sizes], dtype=torch.float64)
    assert (sizes < 0).any()
    assert torch.allclose(model.log_prob(few), values + sizes, atol=1e-4)
    for name, value in each.items():  # nats per site of the batch
        assert losses[name].item() == pytest.approx(-value.sum().item() / int(batch.sizes.sum()), rel=1e-4)


@pytest.mark.parametrize(("count", "held"), [(19, 0), (20, 1), (100, 5), (399, 19)])
def test_a_twentieth_of_the_data_is_held_out(count: int, held: int) -> None:
    model = DiffusionModel(Words(), trunk_options=TRUNK, width=16)
    data = molgen.DataModule(model, ["abc", "ba"] * (count // 2) + ["ac"] * (count % 2), seed=0)
    data.setup()
    assert len(data.data) == count - held
    assert (0 if data.held is None else len(data.held)) == held
