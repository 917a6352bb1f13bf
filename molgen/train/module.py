"""The one LightningModule: losses, optimizer, schedule, and the average of weights."""

from __future__ import annotations

import copy
import math
import platform
import time
from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from molgen.core.batch import Batch
from molgen.core.errors import ConfigError, MolgenError
from molgen.core.rng import BatchRandom, Key, generator
from molgen.core.step import TrainingStep
from molgen.train.data import DataModule, fingerprint
from molgen.train.trainable import Trainable


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
        model: Trainable,
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
        self.samples, self.seconds, self.begun = 0, 0.0, time.monotonic()
        self.spent = 0.0
        self.logged: dict[str, Tensor] = {}
        """The last values that losses logged."""

    def setup(self, stage: str) -> None:
        """Takes the model's network, which its data module has built by now.

        Errors: `ConfigError` for a model without a network.
        """
        if self.model.network is None:
            raise ConfigError(
                "this model has no network yet: give Trainer.fit a molgen.DataModule(model, data), which "
                "builds it for the data"
            )
        self.network = self.model.trained
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def configure_optimizers(self) -> Any:
        decayed = [p for p in self.network.parameters() if p.requires_grad and p.dim() > 1]
        plain = [p for p in self.network.parameters() if p.requires_grad and p.dim() <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.lr,
            betas=self.model.betas,
            fused=True,  # one pass over the weights instead of ten
        )
        most = self.trainer.max_steps
        self.ramp = self.warmup or (200 if most < 0 else max(1, min(200, most // 10)))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate(self, step: int) -> float:
        """The learning rate of a step as a share of its peak: linear warm-up, then a cosine to 0.02."""
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress()))
        return min(1.0, (step + 1) / self.ramp) * decay

    def on_fit_start(self) -> None:
        self.begun = time.monotonic()
        self.network.train()  # one that was trained or loaded stands in evaluation, where Lightning leaves it
        # Walking through all modules costs as much as a small layer; buffers may be exchanged meanwhile.
        self.means, self.news = list(self.average.parameters()), list(self.network.parameters())

    @property
    def should_log(self) -> bool:
        """Whether this step goes to the log, as Lightning counts."""
        every: int = getattr(self.trainer, "log_every_n_steps", 0)
        return every > 0 and (self.global_step + 1) % every == 0

    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1], by the limit that comes first."""
        trainer, spent = self.trainer, [0.0]
        if trainer.max_steps > 0:
            spent.append(self.global_step / trainer.max_steps)
        if trainer.max_epochs and trainer.max_epochs > 0 and self.global_step:
            total = trainer.max_epochs * max(int(trainer.num_training_batches), 1)
            spent.append(self.global_step / total)
        for callback in trainer.__dict__["callbacks"]:  # which Lightning does not declare
            if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None:
                spent.append(callback.time_elapsed() / (callback.time_elapsed() + left))
        return min(max(spent), 1.0)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        self.spent = self.progress()
        source = generator(self.seed, Key.NOISE, self.global_step, self.global_rank)
        step = TrainingStep(self.spent, self.logged.__setitem__)
        terms = self.model.losses(self.network, batch, BatchRandom(source), step)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            bad = ", ".join(k for k, v in terms.items() if not torch.isfinite(v))
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise MolgenError(
                f"loss term {bad} is not finite at step {self.global_step}; lower the learning rate "
                f"(now {rate:.1e}) and resume from the last training state"
            )
        self.samples += len(batch)
        if self.should_log:
            more = {k: v.float() for k, v in self.logged.items()}
            self.log_dict({f"train/{k}": v for k, v in {**terms, **more}.items()}, batch_size=len(batch))
        self.log("loss", total, prog_bar=True, batch_size=len(batch))
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        norm = nn.utils.clip_grad_norm_(self.news, self.clip)
        if self.should_log:
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
        source = generator(self.seed, Key.HELD_OUT, index)  # the same noise at every validation
        step = TrainingStep(self.spent, self.logged.__setitem__)
        terms = self.model.losses(self.average, batch, BatchRandom(source), step)
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
        budget = model.history
        for key in ("seconds", "steps", "samples"):
            budget[key] += run[key]
        where = {"date": time.strftime("%Y-%m-%d"), "torch": str(torch.__version__)}
        where["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
        budget["runs"] = [*budget["runs"], {**run, "data": data, "seed": self.seed, **where}]
        model.on_fit_end(self.logged)

    def on_save_checkpoint(self, state: dict[str, Any]) -> None:
        seconds = self.seconds + time.monotonic() - self.begun
        state["molgen"] = {"samples": self.samples, "seed": self.seed, "seconds": seconds}

    def on_load_checkpoint(self, state: dict[str, Any]) -> None:
        self.samples, self.seconds = state["molgen"]["samples"], state["molgen"]["seconds"]
