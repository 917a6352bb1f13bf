"""pythae: an epoch of a variational autoencoder on MNIST, around the same encoder and decoder."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor, nn

from benchmarks.peers.shared import digits, size
from benchmarks.peers.timing import Contest
from molgen import VAEModel

_COUNT, _BATCH, _LATENT = 1024, 64, 32


def contests() -> Iterator[Contest]:
    """An epoch as a user starts it: molgen's `fit`, and the peer's trainer without its saving at the end."""
    images = digits(_COUNT)
    model = VAEModel(
        "image", latent=_LATENT, trunk_options={"width": 16, "patch": 4}, label_dropout=0.0, warmup=0.0
    )
    model.fit(images, validation=images[:1], max_steps=1, batch_size=_BATCH)
    batch = model.encode(images)
    (name,) = model.view.fields
    inner: Any = copy.deepcopy(model.trained)
    theirs = VAE(
        VAEConfig(input_dim=(28, 28, 1), latent_dim=_LATENT),
        Encoder(inner.encoder, name),
        Decoder(inner.decoder, name),
    )
    data = BaseDataset(batch.values[name], torch.zeros(_COUNT))

    def epoch() -> None:
        with tempfile.TemporaryDirectory() as folder:
            config = BaseTrainerConfig(
                output_dir=folder, num_epochs=1, per_device_train_batch_size=_BATCH, learning_rate=1e-3
            )
            trainer = BaseTrainer(theirs, data, training_config=config)
            trainer.prepare_training()
            trainer.train_step(1)

    yield Contest(
        "variational autoencoder, an epoch",
        f"{_COUNT} images of MNIST, batches of {_BATCH}, the same encoder and decoder; molgen's loss is the "
        "likelihood of a mixture per pixel, the peer's a square, and molgen averages its weights",
        lambda: model.fit(images, validation=images[:1], max_epochs=1, batch_size=_BATCH, progress=False),
        epoch,
        (model.num_parameters, size(theirs)),
        _COUNT,
        "images",
    )


class Encoder(BaseEncoder):  # type: ignore[misc]
    """molgen's encoder with the interface of the peer."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.inner, self.name = inner, name

    def forward(self, x: Tensor) -> Any:
        mask = torch.ones(x.shape[:3], dtype=torch.bool)
        mean, log_sd = self.inner({self.name: x}, mask, {}).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=2 * log_sd)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """molgen's decoder with the interface of the peer."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.inner, self.name = inner, name

    def forward(self, z: Tensor) -> Any:
        mask = torch.ones(len(z), 28, 28, dtype=torch.bool)
        raw = self.inner(z, mask, {})[self.name]
        return ModelOutput(reconstruction=raw.reshape(len(z), 28, 28, -1)[..., :1])
