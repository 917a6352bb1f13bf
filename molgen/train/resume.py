"""The training state: saved atomically, read without running code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import CheckpointIO

from molgen.core.errors import CheckpointError
from molgen.io import checkpoint


@final
class SafeCheckpointIO(CheckpointIO):
    """Lightning's training state as safetensors and JSON: resuming never unpickles anything."""

    def save_checkpoint(self, checkpoint_: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        plain, tensors = checkpoint.flatten(checkpoint_)
        checkpoint.write(path, tensors, {"content": "training state", "state": plain})

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        tensors, header = checkpoint.read(path)
        if header.get("content") != "training state":
            raise CheckpointError(
                f"{path}: not a training state; to go on from weights, load the model and fit"
            )
        state: dict[str, Any] = checkpoint.unflatten(header["state"], tensors)
        return state

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


@final
class SaveState(Callback):
    """Writes the training state every few minutes and at the end, over the last one, atomically."""

    def __init__(self, path: Path, every: float = 180.0) -> None:
        self.path, self.every, self.last = path, every, time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if time.monotonic() - self.last > self.every:
            trainer.save_checkpoint(self.path)
            self.last = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)
