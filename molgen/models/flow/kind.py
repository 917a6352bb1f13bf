"""What a kind of flow gives to `FlowModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.errors import ConfigError
from molgen.core.noise import Noise
from molgen.models.base import GenerativeModel


class Kind(ABC):
    """One way to carry noise to data and back.

    Arguments:
        model: the model whose view, conditions and options it works with.
    """

    needs: ClassVar[Mapping[str, bool]]
    """Properties that the view must have."""
    defaults: ClassVar[Mapping[str, Any]]
    """The options that only some kinds have, with their values if not given."""
    sampling: ClassVar[tuple[str, ...]]
    """Names of the options that `generate` takes."""
    scoring: ClassVar[tuple[str, ...]]
    """Names of the options that `log_density` takes."""

    def __init__(self, model: GenerativeModel) -> None:
        self.model = model

    @abstractmethod
    def check(self, given: Mapping[str, Any]) -> None:
        """Refuses what cannot work with this view and these options, before anything is built.

        Arguments:
            given: the options that the user named.
        """

    def heat(self, temperature: float | None) -> float:
        """The factor on the spread of the noise that samples are made from, by default the model's."""
        value = self.model.hyper["temperature"] if temperature is None else temperature
        if value < 0:
            raise ConfigError(f"temperature is {value}, expected 0 or more")
        return float(value)

    @property
    @abstractmethod
    def likelihood(self) -> str:
        """``"exact"`` or ``"lower bound"``."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network; see `GenerativeModel.build`."""

    @abstractmethod
    def losses(self, network: nn.Module, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """The terms of the loss; see `GenerativeModel.losses`."""

    @abstractmethod
    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], noise: Noise, *args: Any, **options: Any
    ) -> dict[str, Tensor]:
        """Values of every field; see `GenerativeModel.generate`."""

    @abstractmethod
    def log_density(self, batch: Batch, noise: Noise, *args: Any, **options: Any) -> Tensor:
        """log p(values | size); see `GenerativeModel.log_density`."""
