"""What a kind of data must say about itself: the class that every modality extends."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from molgen.core.batch import Batch, Sample, collate, split
from molgen.core.conditions import Condition
from molgen.core.data import DataSource, Records
from molgen.core.errors import ConfigError, DataError, UnsupportedError
from molgen.core.fields import Field
from molgen.core.trunk import Trunk, TrunkSpec


@dataclass(frozen=True)
class View:
    """One way to write a sample as fields.

    Arguments:
        name: how a user selects it.
        fields: the fields by name.
        bijective: an object has exactly one value, and decoding loses nothing; else log p of a value
            bounds that of its object from below.
        invariant: values do not change when the object moves, so a decoder can say each by itself.
        denoisable: every state between noise and data has a meaning, so it suits denoisers.
        ordered: sites have a meaningful order, so it suits autoregression.
        recipe: defaults for options of training and sampling that suit this data, whatever the
            family; a family takes those that it has (`batch_size`, `lr`, `steps`, `solver`, ...).
    """

    name: str
    fields: Mapping[str, Field]
    bijective: bool = True
    invariant: bool = True
    denoisable: bool = True
    ordered: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pairs(self) -> frozenset[str]:
        """Names of the fields that live on pairs of sites."""
        return frozenset(name for name, f in self.fields.items() if f.rank == "pair")

    @property
    def discrete(self) -> bool:
        """Whether every value is one of several classes."""
        return all(f.choices > 0 for f in self.fields.values())


@dataclass(frozen=True)
class Format:
    """A family of file suffixes with a reader and a writer.

    Arguments:
        suffixes: lower case with dots, e.g. ``(".smi", ".smi.gz")``; ``"/"`` stands for a folder.
        read: `read(path, on_error)` gives the records; each bad record goes to
            `on_error(DataError)`, which raises or counts, and is skipped.
        write: `write(path, records)`, atomic; None where the format is only read.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, Callable[[DataError], None]], Records] | None = None
    write: Callable[[Path, Sequence[Any]], None] | None = None


class Modality(ABC):
    """One kind of data: fields, sizes, codec, trunk, and at the edges files, data sets and metrics.

    A modality is immutable. What depends on the data (vocabulary, sizes, scales) is learned by
    `fitted`, which returns a new modality, and travels in `config`.
    """

    name: str
    version: int = 1

    # ------------------------------------------------------------------ the minimum

    @property
    @abstractmethod
    def views(self) -> Mapping[str, View]:
        """The views by name; the first is the default."""

    @abstractmethod
    def encode(self, record: Any, view: str) -> Sample:
        """One domain object to unpadded arrays, one per field of the view; `DataError` if it cannot."""

    @abstractmethod
    def decode(self, sample: Sample, view: str) -> Any:
        """Unpadded arrays to a domain object; total: whatever a model drew comes back, unrepaired."""

    @abstractmethod
    def fitted(self, records: Sequence[Any]) -> Self:
        """A modality whose vocabulary, sizes and scales come from these records."""

    @abstractmethod
    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        """The number of sites of each sample, drawn from the data's histogram by `(seed, index)`."""

    @abstractmethod
    def log_size(self, n: int) -> float:
        """log p(size) under the data's histogram, in nats."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What the constructor takes, as JSON; `type(self)(**config)` rebuilds the modality."""

    @abstractmethod
    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The network body for these streams; `name` selects an alternative; `ConfigError` if unknown."""

    # ------------------------------------------------------------------ sensible defaults

    def causal_trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The network body over a sample's entries in a row: a causal transformer, ``"transformer"``."""
        if name not in (None, "transformer"):
            raise ConfigError.unknown(f"causal trunk of {self.name}", name, ["transformer"])
        from molgen.nn.transformer import Transformer

        return Transformer(spec, **{"width": 192, "depth": 4, "heads": 6, **options})

    extent: tuple[int, ...] | None = None
    """The grid `(H, W)` of every sample; None where samples have sizes of their own."""

    size_options: tuple[str, ...] = ()
    """Conditions that fix the size instead of feeding the network, e.g. ``("length",)``."""

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The labels and properties a model of this modality can be conditioned on, by name."""
        return {}

    def measure(self, record: Any, name: str) -> float:
        """The value of a condition for a record, where the record alone determines it."""
        raise UnsupportedError(
            f"{self.name} records carry no {name!r}: give data with that label, or choose among "
            f"{', '.join(self.conditions) or 'no conditions'}"
        )

    @property
    def formats(self) -> Sequence[Format]:
        """The file formats, in order of preference."""
        return ()

    def read_samples(self, path: Path) -> Records:
        """Every record of a file in order, for scores; what is no valid object is kept and counted."""
        from molgen.core.resolve import read

        return read(self, path)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        """The data sets by name, the embedded one included."""
        return {}

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """The scores of records against a reference data set (a name) or `Records`."""
        raise UnsupportedError(f"modality {self.name!r} declares no metrics")

    def is_valid(self, record: Any) -> bool:
        """Whether a record is a valid object of its domain."""
        return True

    def plot(self, records: Sequence[Any], path: Path) -> None:
        """Draws records to a PNG."""
        raise UnsupportedError(f"modality {self.name!r} declares no picture")

    @property
    def largest(self) -> int:
        """The largest number of sites that a sample has, at most 4096."""
        for n in range(4096, 0, -1):
            if self.log_size(n) > -math.inf:
                return n
        raise UnsupportedError(f"modality {self.name!r} knows no size of up to 4096 sites")

    # ------------------------------------------------------------------ shared, final

    def view(self, name: str | None = None, **properties: bool) -> View:
        """The view of that name, or the first with these properties, e.g. `view(denoisable=True)`."""
        if name is not None:
            if name not in self.views:
                raise ConfigError.unknown(f"view of {self.name}", name, self.views)
            return self.views[name]
        for view in self.views.values():
            if all(getattr(view, key) == value for key, value in properties.items()):
                return view
        wanted = ", ".join(key for key, value in properties.items() if value)
        raise UnsupportedError(f"modality {self.name!r} has no view that is {wanted}")

    def encode_all(
        self,
        records: Sequence[Any],
        view: str,
        conditions: Mapping[str, np.ndarray] | None = None,
    ) -> Batch:
        """Records to one padded batch; the first bad record raises `DataError` with its number."""
        samples = []
        for i, record in enumerate(records):
            try:
                samples.append(self.encode(record, view))
            except DataError as error:
                raise error.at(record=i + 1) if error.record is None else error from None
        return collate(samples, self.views[view].pairs, self.extent, conditions)

    def decode_all(self, batch: Batch, view: str) -> list[Any]:
        """A batch to records, in order."""
        return [self.decode(sample, view) for sample in split(batch)]

    def template(self, sizes: Sequence[int]) -> Tensor:
        """The mask of a batch with these sizes, `(B, *extent)`."""
        if self.extent is not None:
            return torch.ones((len(sizes), *self.extent), dtype=torch.bool)
        longest = max(sizes, default=1)
        return torch.arange(longest)[None] < torch.tensor(list(sizes))[:, None]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, views={list(self.views)})"


def bounds(values: Iterable[float]) -> tuple[float, float]:
    """Mean and standard deviation of finite values, for scaling a property."""
    array = np.asarray([v for v in values if np.isfinite(v)], dtype=np.float64)
    return (float(array.mean()), float(array.std()) or 1.0) if len(array) else (0.0, 1.0)
