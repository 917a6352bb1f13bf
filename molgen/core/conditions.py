"""Labels and properties that a model can be conditioned on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from molgen.core.errors import ConfigError

_RECORDS = 512
"""How many records a model remembers the labels of."""


class Condition(ABC):
    """One label: how a value is read, checked, and turned into network input with a 'not given' state."""

    name: str
    joint = False
    """Whether `draw` gives the label of one record of the data, the same one for all labels at equal u."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of real features that `features` gives."""

    @abstractmethod
    def parse(self, value: Any) -> float:
        """A user's value to a number; `ConfigError` if it is out of range."""

    @abstractmethod
    def missing(self) -> float:
        """The number that stands for 'not given'."""

    @abstractmethod
    def features(self, value: Tensor) -> Tensor:
        """Values `(B,)` to features `(B, width)`; all-zero but for one flag where not given."""

    def seen(self, values: Tensor) -> Condition:
        """The same condition once it has seen the data's values `(n,)`, missing ones among them."""
        return self

    def draw(self, u: float) -> float | None:
        """A value distributed as in the data, by inversion at a uniform `u`; None where that is unknown."""
        return None

    def config(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, **self.__dict__}


@final
@dataclass(frozen=True)
class Label(Condition):
    """A class out of `classes`, with their shares in the data once those are known.

    Example:
        >>> Label("digit", 10).parse("7")
        7.0
        >>> Label("side", 2).seen(torch.tensor([0.0, 1, 1, 1])).draw(0.3)
        1.0
    """

    name: str
    classes: int
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))  # JSON knows lists only

    @property
    def width(self) -> int:
        return self.classes + 1

    def seen(self, values: Tensor) -> Label:
        known = values[(values >= 0) & (values < self.classes)].long()
        if len(known) == 0:
            return self
        counts = torch.bincount(known, minlength=self.classes)
        return replace(self, shares=tuple(round(float(share), 6) for share in counts / counts.sum()))

    def draw(self, u: float) -> float | None:
        if not self.shares:
            return None
        edges = np.cumsum(self.shares)
        return float(min(int(np.searchsorted(edges, u * edges[-1], side="right")), self.classes - 1))

    def parse(self, value: Any) -> float:
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < self.classes:
            raise ConfigError(f"condition {self.name}={value}: expected a class from 0 to {self.classes - 1}")
        return float(number)

    def missing(self) -> float:
        return -1.0

    def features(self, value: Tensor) -> Tensor:
        index = torch.nan_to_num(value.float(), nan=-1.0).long()
        index = torch.where((index < 0) | (index >= self.classes), self.classes, index)
        return nn.functional.one_hot(index, self.width).float()


@final
@dataclass(frozen=True)
class Scalar(Condition):
    """A real property, scaled by the data's mean and standard deviation, with the values of some records.

    Example:
        >>> Scalar("logp", 0.3, 1.0).parse("1.5")
        1.5
        >>> Scalar("logp").seen(torch.tensor([0.5, 1.5])).draw(0.7)
        1.5
    """

    name: str
    mean: float = 0.0
    sd: float = 1.0
    frequencies: int = 4
    records: tuple[float, ...] = ()

    joint = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))  # JSON knows lists only

    def seen(self, values: Tensor) -> Scalar:
        picks = np.linspace(0, len(values) - 1, min(_RECORDS, len(values))).round().astype(int)
        known = values[picks].tolist()  # of the same records for every label
        if not all(math.isfinite(value) for value in known):
            return self
        return replace(self, records=tuple(float(f"{value:.4g}") for value in known))

    def draw(self, u: float) -> float | None:
        return self.records[min(int(u * len(self.records)), len(self.records) - 1)] if self.records else None

    @property
    def width(self) -> int:
        return 2 * self.frequencies + 2

    def parse(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"condition {self.name}={value}: expected a finite number")
        return number

    def missing(self) -> float:
        return math.nan

    def features(self, value: Tensor) -> Tensor:
        given = torch.isfinite(value)
        z = torch.where(given, (value - self.mean) / self.sd, torch.zeros_like(value)).float()
        waves = z[:, None] * math.pi / 4 * 2.0 ** torch.arange(self.frequencies, device=value.device)
        known = torch.cat([z[:, None], waves.sin(), waves.cos()], 1) * given[:, None]
        return torch.cat([known, (~given)[:, None].float()], 1)


_KINDS: dict[str, type[Label] | type[Scalar]] = {"Label": Label, "Scalar": Scalar}


def condition_from(config: dict[str, Any]) -> Condition:
    """The condition that `Condition.config` described."""
    values = dict(config)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError.unknown("kind of condition", kind, _KINDS)
    condition: Condition = _KINDS[kind](**values)
    return condition


_CLASSES = 100
"""Whole numbers from 0 up to here are taken for classes."""


def conditions_of(labels: Mapping[str, np.ndarray]) -> dict[str, Condition]:
    """A condition for every label of numbers: classes for whole numbers from 0 to 99, else a property.

    Example:
        >>> found = conditions_of({"kind": np.array([0, 1, -1]), "size": np.array([0.5, 1.5])})
        >>> found["kind"].classes, found["size"].mean
        (2, 1.0)
    """
    found: dict[str, Condition] = {}
    for name, values in labels.items():
        numbers = np.asarray(values, np.float64)
        known = numbers[np.isfinite(numbers)]
        whole = len(known) and bool((known == np.rint(known)).all()) and known.min() >= -1
        if whole and 0 <= known.max() < _CLASSES:
            found[name] = Label(name, int(known.max()) + 1)
        elif len(known):
            found[name] = Scalar(name, float(f"{known.mean():.6g}"), float(f"{known.std():.6g}") or 1.0)
    return found
