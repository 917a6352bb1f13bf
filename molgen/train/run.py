"""One call that trains: limits, callbacks, logs, and a quiet Lightning."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, Timer
from pytorch_lightning.loggers import CSVLogger

from molgen.core.errors import CheckpointError, ConfigError
from molgen.train.data import DataModule
from molgen.train.resume import SafeCheckpointIO, SaveState
from molgen.train.trainable import Trainable


def parse_time(text: str) -> timedelta:
    """A duration from ``"90s"``, ``"10m"``, ``"1h"``, ``"HH:MM:SS"`` or ``"DD:HH:MM:SS"``.

    Example:
        >>> parse_time("10m"), parse_time("00:00:30:00") == parse_time("00:30:00")
        (datetime.timedelta(seconds=600), True)
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        if text[-1:] in units:
            seconds = float(text[:-1]) * units[text[-1]]
        else:
            parts = [int(part) for part in text.split(":")]
            if len(parts) not in (3, 4):
                raise ValueError
            seconds = sum(n * scale for n, scale in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"max_time {text!r}: expected e.g. 90s, 10m, 1h or HH:MM:SS")
    return timedelta(seconds=seconds)


def run(
    model: Trainable,
    data: DataModule,
    *,
    max_epochs: int | None,
    max_steps: int | None,
    max_time: str | None,
    lr: float | None,
    seed: int,
    ckpt_path: str | Path | None,
    trainer: Any,
    patience: int | None,
    root_dir: str | Path | None,
    progress: bool | None,
) -> None:
    """Trains the model's network in place, leaves the averaged weights in it, and records the budget.

    The budget of a resumed run counts from its own start, not from where it was interrupted.
    """
    # Reading a data set may take minutes: what can be refused is refused before.
    duration = None if max_time is None else parse_time(max_time)
    if ckpt_path is not None and not Path(ckpt_path).is_file():
        raise CheckpointError(f"{ckpt_path}: no such training state")
    if max_epochs is None and max_steps is None and max_time is None:
        max_epochs = 10
    data.setup()  # as the trainer would, but before a logger makes folders
    callbacks: list[Callback] = [_SparseValidation()]
    if duration is not None:
        callbacks.append(Timer(duration, interval="step"))
    if patience is not None:
        callbacks.append(EarlyStopping("val/loss", patience=patience, check_on_train_epoch_end=False))
    if root_dir is not None:
        callbacks.append(SaveState(Path(root_dir) / "state.safetensors"))
    with _quiet():
        if not isinstance(trainer, pl.Trainer):
            given = dict(trainer or {})
            given["callbacks"] = [*callbacks, *given.get("callbacks", [])]
            trainer = pl.Trainer(
                **{
                    "max_epochs": -1 if max_epochs is None else max_epochs,
                    "max_steps": -1 if max_steps is None else max_steps,
                    "enable_checkpointing": False,
                    "enable_progress_bar": sys.stderr.isatty() if progress is None else progress,
                    "enable_model_summary": False,
                    "logger": False if root_dir is None else CSVLogger(str(root_dir), name="", version="log"),
                    "log_every_n_steps": 50,
                    "num_sanity_val_steps": 0,
                    "plugins": [SafeCheckpointIO()],
                    "use_distributed_sampler": False,
                    **given,
                }
            )
        state = None if ckpt_path is None else str(ckpt_path)
        trainer.fit(model.lightning_module(lr, seed), datamodule=data, ckpt_path=state)


@final
class _SparseValidation(Callback):
    """Validates every 200 steps or more, where an epoch has fewer."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        steps = len(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        if trainer.check_val_every_n_epoch and steps < 200:
            trainer.check_val_every_n_epoch = math.ceil(200 / steps)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its banners and its advice about loaders, which ours does not need."""
    names = ("pytorch_lightning", "lightning.pytorch", "lightning.fabric")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
            for text in ("does not have many workers", "litmodels", "dataloader", "exists and is not empty"):
                warnings.filterwarnings("ignore", message=f".*{text}.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
