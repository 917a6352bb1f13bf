"""Training: the one LightningModule, its data, its checkpoints, and exact resume."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, Timer
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from molgen.core import checkpoint
from molgen.core.batch import Batch
from molgen.core.data import Records
from molgen.core.errors import CheckpointError, ConfigError, MolgenError
from molgen.core.modality import Modality
from molgen.core.noise import BatchNoise, generator
from molgen.core.resolve import resolve

if TYPE_CHECKING:
    from molgen.models.base import GenerativeModel

_ORDER, _NOISE, _HELD = 1, 2, 3  # what a key of the injected randomness is for


# ---------------------------------------------------------------------- data


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
    order = torch.randperm(len(records), generator=generator(seed, _HELD)).numpy()
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
        source = generator(self.seed, _ORDER, epoch)
        order = torch.randperm(len(self.data), generator=source)
        sizes, size = self.data.sizes, self.batch_size
        batches: list[Tensor] = []
        for stretch in torch.split(order, 50 * size):
            batches += torch.split(stretch[sizes[stretch].argsort(stable=True)], size)
        return [batches[i] for i in torch.randperm(len(batches), generator=source).tolist()]


@final
class DataModule(pl.LightningDataModule):
    """The data of a model as Lightning takes them: batches in an order that depends on (seed, step) alone.

    A new model learns from the data what it must know of them (vocabulary, sizes, scales, labels), and its
    network is built: so make this first, and then the module. Data are read at once.

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
        >>> model.training["steps"], len(model.sample(3, steps=2))
        (2, 3)
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: Any,
        validation: Any = None,
        batch_size: int | None = None,
        seed: int = 0,
        condition: Sequence[str] = (),
        skip_invalid: bool = False,
    ) -> None:
        super().__init__()
        records, held, known = split(model.modality, data, validation, seed, skip_invalid)
        self.records, self.seed = records.name, seed
        self.data = model.prepared(records, known, condition, seed)
        self.held = model.encode(held) if len(held) else None
        self.batch_size = min(batch_size or model.option("batch_size", 64), len(self.data))

    def train_dataloader(self) -> Loader:
        """Batches from the step that training has reached, of the process that asks."""
        fitter = self.trainer
        if fitter is None:
            return Loader(self.data, self.batch_size, self.seed)
        start, rank, world = fitter.global_step, fitter.global_rank, fitter.world_size
        return Loader(self.data, self.batch_size, self.seed, start, rank, world)

    def val_dataloader(self) -> Any:
        """The held-out records, the same batches every time; nothing where there are none."""
        return [] if self.held is None else _Fixed(Loader(self.held, self.batch_size, self.seed))


def fingerprint(data: Batch) -> str:
    """A short hash of encoded data, recorded in checkpoints."""
    digest = hashlib.sha256()
    for name, value in sorted(data.values.items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value[:: max(1, len(value) // 1000)].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------- the module


@final
class TrainingModule(pl.LightningModule):
    """One family's losses under AdamW with warm-up, cosine decay, clipping and an average of weights.

    When training ends, the model has the averaged weights, and its header the budget. The learning rate
    follows the limits of the `Trainer` (`max_steps`, `max_epochs`, `max_time`), whichever comes first.

    Arguments:
        model: gives `losses` and the network.
        lr: peak learning rate.
        seed: of the noise; step k uses the generator of (seed, k).
        warmup: steps of linear warm-up; by default 200, or a tenth of `max_steps` if that is less.
        ema: decay of the average of weights, ramped up over the first steps (on by default).
        clip: largest norm of the gradient.
    """

    def __init__(
        self,
        model: GenerativeModel,
        lr: float,
        seed: int,
        warmup: int | None = None,
        ema: float = 0.9995,
        clip: float = 1.0,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        self.model, self.lr, self.seed = model, lr, seed
        self.warmup, self.ema, self.clip, self.weight_decay = warmup, ema, clip, weight_decay
        self.network = model.trained
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.samples, self.seconds, self.begun = 0, 0.0, time.monotonic()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        decayed = [p for p in self.network.parameters() if p.requires_grad and p.dim() > 1]
        plain = [p for p in self.network.parameters() if p.requires_grad and p.dim() <= 1]
        return torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.lr,
            betas=self.model.betas,
            fused=True,  # one pass over the weights instead of ten
        )

    def on_fit_start(self) -> None:
        self.begun, most = time.monotonic(), self.trainer.max_steps
        self.ramp = self.warmup or (200 if most < 0 else max(1, min(200, most // 10)))
        self.network.train()  # one that was trained or loaded stands in evaluation, where Lightning leaves it
        # Walking through all modules costs as much as a small layer; buffers may be exchanged meanwhile.
        self.means, self.news = list(self.average.parameters()), list(self.network.parameters())

    @property
    def told(self) -> bool:
        """Whether this step goes to the log, as Lightning counts."""
        every: int = getattr(self.trainer, "log_every_n_steps", 0)
        return every > 0 and (self.global_step + 1) % every == 0

    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1], by the limit that comes first."""
        trainer, spent = self.trainer, [0.0]
        if trainer.max_steps > 0:
            spent.append(self.global_step / trainer.max_steps)
        if trainer.max_epochs and trainer.max_epochs > 0:
            total = trainer.max_epochs * max(int(trainer.num_training_batches), 1)
            spent.append(self.global_step / total)
        for callback in trainer.__dict__["callbacks"]:  # which Lightning does not declare
            if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None:
                spent.append(callback.time_elapsed() / (callback.time_elapsed() + left))
        return min(max(spent), 1.0)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.model.progress = self.progress()
        rate = self.lr * min(1.0, (self.global_step + 1) / self.ramp)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.model.progress))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        source = generator(self.seed, _NOISE, self.global_step, self.global_rank)
        terms = self.model.losses(self.network, batch, BatchNoise(source))
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            bad = ", ".join(k for k, v in terms.items() if not torch.isfinite(v))
            raise MolgenError(
                f"loss term {bad} is not finite at step {self.global_step}; lower the learning rate "
                f"(now {rate:.1e}) and resume from the last training state"
            )
        self.samples += len(batch)
        if self.told:
            more = {k: v.float() for k, v in self.model.logged.items()}
            self.log_dict({f"train/{k}": v for k, v in {**terms, **more}.items()}, batch_size=len(batch))
        self.log("loss", total, prog_bar=True, batch_size=len(batch))
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        norm = nn.utils.clip_grad_norm_(self.news, self.clip)
        if self.told:
            self.log("train/gradient_norm", norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # The average belongs to the step: callbacks that save the state run before any later hook.
        super().optimizer_step(*args, **kwargs)
        decay = min(self.ema, (1 + self.global_step) / (10 + self.global_step))
        get_ema_multi_avg_fn(decay)(self.means, self.news, None)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            # Buffers are state, e.g. of chains: the mean of two states would be none.
            for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
                kept.copy_(now)

    def validation_step(self, batch: Batch, index: int) -> None:
        source = generator(self.seed, _HELD, index)  # the same noise at every validation
        terms = self.model.losses(self.average, batch, BatchNoise(source))
        total = torch.stack(list(terms.values())).sum()
        self.log("val/loss", total, prog_bar=True, batch_size=len(batch), sync_dist=True)

    def on_fit_end(self) -> None:
        model, value = self.model, self.trainer.callback_metrics.get("val/loss")
        model.network = self.average.to("cpu").requires_grad_(True).eval()
        run: dict[str, Any] = {
            "seconds": round(self.seconds + time.monotonic() - self.begun, 1),
            "steps": self.global_step,
            "samples": self.samples,
            "lr": self.lr,
            "validation_loss": None if value is None else round(float(value), 5),
        }
        source, data = self.trainer.__dict__.get("datamodule"), "loader of the user's"
        if isinstance(source, DataModule):
            data = source.records
            run |= {
                "batch_size": source.batch_size,
                "fingerprint": fingerprint(source.data),
                "records": len(source.data),
            }
        budget = model.training
        for key in ("seconds", "steps", "samples"):
            budget[key] += run[key]
        where = {"date": time.strftime("%Y-%m-%d"), "torch": str(torch.__version__)}
        where["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
        budget["runs"] = [*budget["runs"], {**run, "data": data, "seed": self.seed, **where}]
        model.fitted()

    def on_save_checkpoint(self, state: dict[str, Any]) -> None:
        seconds = self.seconds + time.monotonic() - self.begun
        state["molgen"] = {"samples": self.samples, "seed": self.seed, "seconds": seconds}

    def on_load_checkpoint(self, state: dict[str, Any]) -> None:
        self.samples, self.seconds = state["molgen"]["samples"], state["molgen"]["seconds"]


@final
class SafeCheckpointIO(CheckpointIO):
    """Lightning's training state as safetensors and JSON: resuming never unpickles anything."""

    def save_checkpoint(self, checkpoint_: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        plain, tensors = checkpoint.flatten(checkpoint_)
        checkpoint.write(path, tensors, {"kind": "training state", "state": plain})

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: Any = None
    ) -> dict[str, Any]:
        tensors, header = checkpoint.read(path)
        if header.get("kind") != "training state":
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


# ---------------------------------------------------------------------- running


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


def check(max_time: str | None, ckpt_path: str | Path | None) -> None:
    """`ConfigError` or `CheckpointError` for what `run` would refuse."""
    if max_time is not None:
        parse_time(max_time)
    if ckpt_path is not None and not Path(ckpt_path).is_file():
        raise CheckpointError(f"{ckpt_path}: no such training state")


def run(
    model: GenerativeModel,
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

    The budget of a resumed run counts from its own beginning, not from where it was cut off.
    """
    if max_epochs is None and max_steps is None and max_time is None:
        max_epochs = 10
    duration = None if max_time is None else parse_time(max_time)
    module = model.lightning_module(lr, seed)
    callbacks: list[Callback] = [Timer(duration, interval="step")] if duration else []
    if patience is not None and data.held is not None:
        callbacks.append(EarlyStopping("val/loss", patience=patience))
    if root_dir is not None:
        callbacks.append(SaveState(Path(root_dir) / "state.safetensors"))
    with _quiet():
        options = {} if trainer is None or isinstance(trainer, pl.Trainer) else dict(trainer)
        options["callbacks"] = [*callbacks, *options.get("callbacks", [])]
        fitter = (
            trainer
            if isinstance(trainer, pl.Trainer)
            else pl.Trainer(
                **{
                    "max_epochs": -1 if max_epochs is None else max_epochs,
                    "max_steps": -1 if max_steps is None else max_steps,
                    "enable_checkpointing": False,
                    "enable_progress_bar": _watched() if progress is None else progress,
                    "enable_model_summary": False,
                    "logger": _logger(root_dir),
                    "log_every_n_steps": 50,
                    "num_sanity_val_steps": 0,
                    "limit_val_batches": 1.0 if data.held is not None else 0,
                    "plugins": [SafeCheckpointIO()],
                    "use_distributed_sampler": False,
                    **options,
                }
            )
        )
        steps = len(Loader(data.data, data.batch_size, seed, world=fitter.world_size))
        if fitter.check_val_every_n_epoch and steps < 200:
            fitter.check_val_every_n_epoch = math.ceil(200 / steps)
        fitter.fit(module, datamodule=data, ckpt_path=None if ckpt_path is None else str(ckpt_path))


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


def _logger(root_dir: str | Path | None) -> Any:
    if root_dir is None:
        return False
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(str(root_dir), name="", version="log")


def _watched() -> bool:
    import sys

    return sys.stderr.isatty()


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
