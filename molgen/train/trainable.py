"""What training needs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.core.rng import RandomSource
from molgen.core.step import TRAINED, TrainingStep


class Trainable(Protocol):
    """A model that training fits in place; see `molgen.models.base.GenerativeModel`."""

    betas: ClassVar[tuple[float, float]]
    modality: Modality
    network: nn.Module | None
    history: dict[str, Any]
    fit_options: Any

    @property
    def trained(self) -> nn.Module:
        """The network; `ConfigError` before it exists."""

    def setup(self, records: Records, known: Records, condition: Sequence[str], seed: int) -> Batch:
        """Records as a batch; a new model is fitted to `known` and gets its network."""

    def encode(self, records: Sequence[Any]) -> Batch:
        """Domain objects to a batch."""

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> Mapping[str, Tensor]:
        """The terms of the training loss."""

    def on_fit_end(self, logged: Mapping[str, Tensor]) -> None:
        """Called when training has ended."""

    def lightning_module(self, lr: float | None = None, seed: int = 0) -> Any:
        """The module that trains the model."""
