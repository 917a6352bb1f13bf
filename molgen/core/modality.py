"""What a kind of data must say about itself: the class that every modality extends."""

from __future__ import annotations

import inspect
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.batch import Batch, Sample, collate, split
from molgen.core.call import called
from molgen.core.capabilities import Entries
from molgen.core.conditions import Condition, condition_from, conditions_of
from molgen.core.errors import ConfigError, DataError, UnsupportedError
from molgen.core.fields import Field
from molgen.core.records import Records
from molgen.core.rng import RandomSource
from molgen.core.sizes import Sizes
from molgen.core.trunk import Trunk, TrunkSpec

_UNFITTED = {8: 1}
"""Sizes before any data are seen, so that networks can be built and refused."""


@final
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
        defaults: defaults for options of training and sampling that suit this data, whatever the
            family; a family takes those that it has (`batch_size`, `lr`, `steps`, `solver`, ...).
    """

    name: str
    fields: Mapping[str, Field]
    bijective: bool = True
    invariant: bool = True
    denoisable: bool = True
    ordered: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pairs(self) -> frozenset[str]:
        """Names of the fields that live on pairs of sites."""
        return frozenset(name for name, f in self.fields.items() if f.axes == 2)

    @property
    def discrete(self) -> bool:
        """Whether every value is one of several classes."""
        return all(f.num_classes > 0 for f in self.fields.values())


@final
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

    Required are `name`, `fields` (or `views`), `encode` and `decode`; all else has a default. A modality is
    immutable. What depends on the data (vocabulary, sizes, scales) is learned by `fit_to`, which returns a
    new modality, and travels in `config`.

    Arguments:
        sizes: how many records of the data have each number of sites, e.g. ``{"9": 100}``.
        scales: what each field has learned from the data, as its constructor takes it.
        labels: what is known of each label of the data, as `Condition.config` gives it.

    A constructor with arguments of its own keeps each as the attribute of its name, and hands the rest on:
    ``def __init__(self, alphabet="ab", **learned): super().__init__(**learned); self.alphabet = alphabet``.

    Example:
        >>> from molgen.core.fields import Continuous
        >>> class Line(Modality):
        ...     name = "line"
        ...     @property
        ...     def fields(self):
        ...         return {"x": Continuous(1, **self.learned("x"))}
        ...     def encode(self, record, view):
        ...         return {"x": np.asarray(record, np.float32)[:, None]}
        ...     def decode(self, sample, view):
        ...         return sample["x"][:, 0].tolist()
        >>> line = Line().fit_to([[1.0, 3.0], [2.0]])
        >>> line.config()
        {'sizes': {'1': 1, '2': 1}, 'scales': {'x': {'mean': 2.0, 'sd': 0.816497}}, 'labels': {}}
    """

    name: str
    sizes: Any  # a `Sizes`, unless a modality keeps its own
    scales: Mapping[str, Any]
    labels: Mapping[str, Any] = MappingProxyType({})
    version: int = 1
    """Of the constructor's arguments and the fields; a checkpoint of another version is refused."""

    def __init__(
        self,
        sizes: Mapping[Any, int] | None = None,
        scales: Mapping[str, Mapping[str, Any]] | None = None,
        labels: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.sizes = Sizes(_UNFITTED if sizes is None else sizes)
        self.scales = {name: dict(known) for name, known in (scales or {}).items()}
        self.labels = {name: dict(known) for name, known in (labels or {}).items()}

    # ------------------------------------------------------------------ the minimum

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields of a modality with one view; `self.learned(name)` gives what the data said of each."""
        raise NotImplementedError(f"{type(self).__name__} must give `fields`, or `views`")

    @abstractmethod
    def encode(self, record: Any, view: str) -> Sample:
        """One domain object to unpadded arrays, one per field of the view; `DataError` if it cannot."""

    @abstractmethod
    def decode(self, sample: Sample, view: str) -> Any:
        """Unpadded arrays to a domain object; total: whatever a model drew comes back, unrepaired."""

    # ------------------------------------------------------------------ fields, sizes, configuration

    @property
    def views(self) -> Mapping[str, View]:
        """The views by name; the first is the default."""
        fields = self.fields
        # Who has entries of their own does not move with the object; points have none.
        invariant = all(Entries.supports(f) for f in fields.values())
        return {"fields": View("fields", fields, invariant=invariant, ordered=True)}

    def learned(self, name: str) -> dict[str, Any]:
        """What the data said of a field, as keyword arguments for its constructor; empty before `fit_to`."""
        return dict(self.scales.get(name, {}))

    def learn(self, records: Sequence[Any]) -> dict[str, Any]:
        """Arguments of the constructor that these records decide, e.g. an alphabet; fields learn next."""
        return {}

    def fit_to(self, records: Sequence[Any]) -> Self:
        """A modality whose vocabulary, sizes and scales come from these records."""
        if not len(records):
            raise DataError("no records to fit to", fix=f"give at least one {self.name}")
        told = self.replace(**self.learn(records))
        sizes: list[int] = []
        scales: dict[str, dict[str, Any]] = {}
        for view in told.views.values():
            samples = told._encoded(records, view.name)
            for name, f in view.fields.items():
                scales[name] = f.learn([sample[name] for sample in samples])
            sizes = sizes or [len(next(iter(sample.values()))) for sample in samples]
        known = conditions_of(records.labels if isinstance(records, Records) else {})
        found = {
            "sizes": Sizes.of(sizes).config(),
            "scales": {name: scale for name, scale in scales.items() if scale},
            "labels": {name: condition.config() for name, condition in known.items()},
        }
        taken = _arguments(type(self))
        return told.replace(**{name: value for name, value in found.items() if name in taken})

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        """The number of sites of each sample, drawn from the data's histogram by `(seed, index)`."""
        for option in fixed:
            if option not in self.size_options:
                raise ConfigError.unknown(f"size option of {self.name}", option, self.size_options)
        if self.extent is not None:
            return [math.prod(self.extent)] * len(indices)
        drawn: list[int] = self.sizes.draw(seed, indices, next(iter(fixed.values()), None))
        return drawn

    def log_size(self, n: int) -> float:
        """log p(size) under the data's histogram, in nats."""
        if self.extent is not None:
            return 0.0 if n == math.prod(self.extent) else -math.inf
        logarithm: float = self.sizes.log(n)
        return logarithm

    def config(self) -> dict[str, Any]:
        """What the constructor takes, as JSON; `type(self)(**config)` rebuilds the modality."""
        found = {}
        for name in _arguments(type(self)):
            if not hasattr(self, name):
                raise ConfigError(
                    f"{type(self).__name__} takes {name!r} but keeps no attribute of that name; set "
                    f"self.{name} in the constructor, or give `config`"
                )
            value = getattr(self, name)
            found[name] = value.config() if hasattr(value, "config") else value
        try:
            plain: dict[str, Any] = json.loads(json.dumps(found))
        except TypeError as error:
            raise ConfigError(
                f"{type(self).__name__}: its arguments are not JSON ({error}); keep lists, dicts, strings "
                "and numbers, or give `config`"
            ) from None
        return plain

    def replace(self, **changes: Any) -> Self:
        """A copy with other arguments of the constructor."""
        return type(self)(**{**self.config(), **changes})

    # ------------------------------------------------------------------ networks

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The network body for these streams; `name` selects an alternative; `ConfigError` if unknown.

        By default a stock network that suits the fields, see `molgen.nn.stock`.
        """
        stock = resolve_name("molgen.nn.stock:stock")  # which imports networks, and those this module
        made: Trunk = stock(spec, name, self.extent, f"trunk of {self.name}", **options)
        return made

    def causal_trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The network body over a sample's entries in a row: a causal transformer, ``"transformer"``."""
        if name not in (None, "transformer"):
            raise ConfigError.unknown(f"causal trunk of {self.name}", name, ["transformer"])
        transformer = resolve_name("molgen.nn.transformer:Transformer")
        made: Trunk = transformer(spec, **{"width": 192, "depth": 4, "heads": 6, **options})
        return made

    extent: tuple[int, ...] | None = None
    """The grid `(H, W)` of every sample; None where samples have sizes of their own."""

    size_options: tuple[str, ...] = ()
    """Conditions that fix the size instead of feeding the network, e.g. ``("length",)``."""

    # ------------------------------------------------------------------ conditions

    @property
    def conditions(self) -> Mapping[str, Condition]:
        """The labels and properties a model of this modality can be conditioned on, by name."""
        return {name: condition_from(known) for name, known in self.labels.items()}

    def measure(self, record: Any, name: str) -> float:
        """The value of a condition for a record, where the record alone determines it."""
        raise UnsupportedError(
            f"{self.name} records carry no {name!r}: give data with that label, or choose among "
            f"{', '.join(self.conditions) or 'no conditions'}"
        )

    # ------------------------------------------------------------------ files, data sets, scores, pictures

    toolkit_path: str = "molgen.io.toolkit:PlainToolkit"
    """The class of `toolkit`, ``"module:Class"``, which is imported when it is used."""

    @property
    def toolkit(self) -> Any:
        """What reads, writes, scores and draws records: a `molgen.io.toolkit.Toolkit`."""
        return resolve_name(self.toolkit_path)(self)

    @property
    def formats(self) -> Sequence[Format]:
        """The file formats, in order of preference; by default the fields' arrays in `.npz` and `.json`."""
        found: Sequence[Format] = self.toolkit.formats
        return found

    @property
    def datasets(self) -> Mapping[str, Any]:
        """The data sets by name (`molgen.io.data.DataSource`), the embedded one included."""
        found: Mapping[str, Any] = self.toolkit.datasets
        return found

    def from_array(self, array: np.ndarray) -> Records:
        """The records of an array in memory: by default its rows."""
        found: Records = self.toolkit.from_array(array)
        return found

    def from_frame(self, frame: Any) -> Records:
        """The records of a pandas frame: what its CSV holds for a modality that reads CSV, else its rows.

        Labels are then the columns that the CSV reader takes for such.
        """
        found: Records = self.toolkit.from_frame(frame)
        return found

    def to_pyg(self, record: Any) -> Any:
        """A domain object as a `torch_geometric.data.Data`: by default its fields, see `molgen.io.pyg`."""
        return self.toolkit.to_pyg(record)

    def from_pyg(self, data: Any) -> Any:
        """A domain object from a `Data`, of those that `to_pyg` gives; `DataError` for what is missing."""
        return self.toolkit.from_pyg(data)

    def read_samples(self, path: Path) -> Records:
        """Every record of a file in order, for scores; what is no valid object is kept and counted."""
        found: Records = self.toolkit.read_samples(path)
        return found

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """The scores of records against a reference data set (a name) or `Records`.

        Errors: `ConfigError` naming the nearest option for one that the modality does not take.
        """
        what = f"scoring option of {self.name}"
        return called(what, self.toolkit.evaluate, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        """Whether a record is a valid object of its domain: by default whether it can be encoded."""
        return bool(self.toolkit.is_valid(record))

    def plot(self, records: Sequence[Any], path: Path) -> None:
        """Draws records to a PNG: by default the values of their fields."""
        self.toolkit.plot(records, path)

    def to_3d(self, record: Any) -> Any:
        """A record as a viewer of objects in space takes it (`molgen.io.samples.Solid`); None by default."""
        return self.toolkit.to_3d(record)

    # ------------------------------------------------------------------ sizes

    @property
    def max_size(self) -> int:
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
        return collate(self._encoded(records, view), self.views[view].pairs, self.extent, conditions)

    def _encoded(self, records: Sequence[Any], view: str) -> list[Sample]:
        samples = []
        for i, record in enumerate(records):
            try:
                samples.append(self.encode(record, view))
            except DataError as error:
                raise error.at(record=i + 1) if error.record is None else error from None
        return samples

    def decode_all(self, batch: Batch, view: str, rng: RandomSource | None = None) -> list[Any]:
        """A batch to records, in order; noise is for a kind of data that draws as it decodes."""
        return [self.decode(sample, view) for sample in split(batch)]

    def make_mask(self, sizes: Sequence[int]) -> Tensor:
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


def _arguments(kind: type[Modality]) -> list[str]:
    """Names of the constructor's arguments, those that it hands on to its base (`**learned`) included."""
    names: list[str] = []
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        given = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        names += [p.name for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in given):
            break
    return names
