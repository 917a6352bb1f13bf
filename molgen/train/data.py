"""The data of a model by step: the batch of step k is a function of (seed, k)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from molgen.core.batch import Batch
from molgen.core.errors import ConfigError
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.core.rng import Key, generator
from molgen.io.resolve import resolve
from molgen.train.trainable import Trainable


def split(
    modality: Modality,
    data: str | Path | Sequence[Any],
    validation: str | Path | Sequence[Any] | None,
    seed: int,
    skip_invalid: bool,
) -> tuple[Records, Records, Records]:
    """Records to train on, to validate on (given, the data set's own, or a held-out twentieth), and to know.

    What is held out of a user's data is known as well: a character that it alone has must not stop the fit.
    """
    records = resolve(modality, data, "train", skip_invalid)
    if len(records) == 0:
        raise ConfigError("there is nothing to fit: the data hold no records")
    if validation is not None:
        return records, resolve(modality, validation, "valid", skip_invalid), records
    if isinstance(data, str) and "valid" in getattr(modality.datasets.get(data), "splits", ()):
        held = resolve(modality, data, "valid")
        return records, held[:2000] if len(held) > 2000 else held, records
    count = min(len(records) // 20, 1000)
    if count == 0:
        return records, Records([]), records
    order = torch.randperm(len(records), generator=generator(seed, Key.HELD_OUT)).numpy()
    return records[np.sort(order[count:])], records[np.sort(order[:count])], records


@final
class Loader:
    """Batches by step: the batch of step k is a function of (seed, k), padded little.

    Each epoch is a permutation; within stretches of 50 batches samples are sorted by size, so that a
    batch holds samples of like size, and the batches of a stretch are shuffled.

    Arguments:
        data: all samples as one padded batch.
        batch_size: samples a batch; the last one of an epoch may be smaller.
        seed: of the order.
        start: the step to begin with.
        rank, world: this process among those that train together.
    """

    def __init__(
        self, data: Batch, batch_size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.start, self.rank, self.world = start, rank, world

    def __len__(self) -> int:
        """Steps in an epoch."""
        return math.ceil(math.ceil(len(self.data) / self.batch_size) / self.world)

    def __iter__(self) -> Iterator[Batch]:
        # A resumed epoch yields only what is left of it.
        epoch, first = divmod(self.start, len(self))
        plan = self.plan(epoch)
        for step in range(first, len(self)):
            index = plan[(step * self.world + self.rank) % len(plan)]
            self.start += 1
            yield self.data[index].trimmed()

    def plan(self, epoch: int) -> list[Tensor]:
        """The indices of every batch of an epoch."""
        source = generator(self.seed, Key.ORDER, epoch)
        order = torch.randperm(len(self.data), generator=source)
        sizes, size = self.data.sizes, self.batch_size
        batches: list[Tensor] = []
        for stretch in torch.split(order, 50 * size):
            batches += torch.split(stretch[sizes[stretch].argsort(stable=True)], size)
        return [batches[i] for i in torch.randperm(len(batches), generator=source).tolist()]


@final
class DataModule(pl.LightningDataModule):
    """The data of a model as Lightning takes them: batches in an order that depends on (seed, step) alone.

    `setup`, which `Trainer.fit` calls, reads the data; a new model is fitted to them (vocabulary, sizes,
    scales, labels) and gets its network.

    Arguments:
        model: the model to train.
        data, validation, batch_size, seed, condition, skip_invalid: as for `GenerativeModel.fit`.

    Errors: `DataError` for bad data, `ConfigError` for bad options.

    Example:
        >>> from molgen import DiffusionModel
        >>> model = DiffusionModel("smiles", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> data = DataModule(model, ["CCO", "CCN", "CCC", "CO"], ["CN"], batch_size=2, seed=0)
        >>> module = model.lightning_module(lr=1e-3, seed=0)
        >>> silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        >>> trainer = pl.Trainer(max_steps=2, enable_model_summary=False, accelerator="cpu", **silent)
        >>> trainer.fit(module, data)
        >>> model.history["steps"], len(model.sample(3, steps=2))
        (2, 3)
    """

    data: Batch
    held: Batch | None

    def __init__(
        self,
        model: Trainable,
        data: Any,
        validation: Any = None,
        batch_size: int | None = None,
        seed: int = 0,
        condition: Sequence[str] = (),
        skip_invalid: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.source, self.validation, self.seed = model, data, validation, seed
        self.batch_size, self.condition, self.skip_invalid = batch_size or 0, condition, skip_invalid
        self.records = ""
        """The name of the data, once they are read."""

    def setup(self, stage: str = "fit") -> None:
        """Reads the data, once."""
        if self.records:
            return
        model = self.model
        records, held, known = split(
            model.modality, self.source, self.validation, self.seed, self.skip_invalid
        )
        self.data = model.setup(records, known, self.condition, self.seed)
        self.held = model.encode(held) if len(held) else None
        self.batch_size = min(self.batch_size or model.fit_options.batch_size, len(self.data))
        self.records = records.name or "data in memory"

    def train_dataloader(self) -> Loader:
        """Batches from the step that training has reached, of the process that asks."""
        self.setup()
        trainer = self.trainer
        if trainer is None:
            return Loader(self.data, self.batch_size, self.seed)
        start, rank, world = trainer.global_step, trainer.global_rank, trainer.world_size
        return Loader(self.data, self.batch_size, self.seed, start, rank, world)

    def val_dataloader(self) -> Any:
        """The held-out records, the same batches every time; nothing where there are none."""
        self.setup()
        return [] if self.held is None else _Fixed(Loader(self.held, self.batch_size, self.seed))


def fingerprint(data: Batch) -> str:
    """A short hash of encoded data, recorded in checkpoints."""
    digest = hashlib.sha256()
    for name, value in sorted(data.values.items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value[:: max(1, len(value) // 1000)].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@final
class _Fixed:
    """Validation batches: the first epoch's plan, every time."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.loader.start = 0
        return iter(self.loader)
