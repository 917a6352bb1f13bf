"""The subjects of checks: a modality with a few records, and a small model of a family on it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.batch import Batch, Sample
from molgen.core.capabilities import Embedding
from molgen.core.errors import ConfigError, MolgenWarning, UnsupportedError
from molgen.core.fields import Field
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.core.registry import get_family
from molgen.core.rng import SampleRandom
from molgen.io.resolve import resolve
from molgen.models.base import GenerativeModel
from molgen.models.sampler import Sampler

COUNT = 24
"""Records of a check: enough for three batches, few enough for seconds."""

SMALL: Sequence[Mapping[str, Any]] = (
    {"width": 24, "pair_width": 8, "depth": 1, "heads": 2, "vectors": 2},
    {"width": 16, "multipliers": (1,), "attention": (False,)},
    {"width": 24, "depth": 1, "heads": 2},
    {"width": 8, "depth": 2},
    {"width": 16},
    {},
)
"""Sizes of networks, of which the first that a trunk takes is used."""

QUICK = {"steps": 3, "gibbs_steps": 5}
"""Options of sampling that make it quick, of which a family gets those that it has."""


@final
class Subject:
    """A modality and some of its records.

    Arguments:
        modality: with its defaults, or fitted.
        records: valid ones, at least 10; by default of the first embedded data set.
    """

    def __init__(self, modality: Modality, records: Any = None) -> None:
        self.modality = modality
        if records is None:
            own = [s for s in modality.datasets.values() if not s.files]
            if not own:
                raise ConfigError(
                    f"modality {modality.name!r} has no embedded data set to check it with; give records, "
                    "or declare one, see molgen.io.data.embedded"
                )
            records = own[0].load(own[0].splits[0])
        found = resolve(modality, records)
        if len(found) < 10:
            raise ConfigError(f"{len(found)} records to check {modality.name!r} with, give at least 10")
        self.records: Records = found[:COUNT]

    @cached_property
    def fitted(self) -> Modality:
        """The modality fitted to the records."""
        return self.modality.fit_to(self.records)

    def samples(self, view: str) -> list[Sample]:
        """The records in a view."""
        return [self.fitted.encode(record, view) for record in self.records]

    def batch(self, view: str, count: int = 6) -> Batch:
        """The first records of a view, padded."""
        return self.fitted.encode_all(self.records[:count], view)


@final
class Cell:
    """A family on a modality, at the smallest size that can be trained.

    Arguments:
        subject: the modality and its records.
        family: a family's class, or its registered name.
        kind: of a family of several kinds; empty for its default.
    """

    def __init__(self, subject: Subject, family: type[GenerativeModel] | str, kind: str = "") -> None:
        self.subject, self.kind = subject, kind
        found: type[GenerativeModel] = get_family(family) if isinstance(family, str) else family
        self.family = found.of_kind(kind or None)

    def __str__(self) -> str:
        return f"{self.family.family}{self.kind and '-' + self.kind}-{self.subject.modality.name}"

    def tiny(self, modality: Modality | str | None = None, **options: Any) -> GenerativeModel:
        """An unfitted model; `UnsupportedError` if the family refuses the modality."""
        kind = self.subject.modality if modality is None else modality
        taken = inspect.signature(self.family).parameters
        options = {**self.family.tiny_config(), **options}
        if "width" in taken:
            options = {"width": 16, **options}
        networks = [name for name in taken if name.endswith("_options") and name != "trunk_options"]
        last: ConfigError | None = None
        for small in _choices(networks):
            given = {name: dict(size) for name, size in small.items() if size and name not in options}
            try:
                model = self.family(kind, **{**options, **given})
                known, model.modality = model.modality, self.subject.fitted
                model._built(0)
                model.modality = known
            except ConfigError as error:  # a network without these options
                last = error
                continue
            return model
        raise last or ConfigError(f"{self}: no network could be built")

    @cached_property
    def refusal(self) -> str:
        """The reason why the family refuses the modality; empty if it does not."""
        try:
            self.tiny()
        except UnsupportedError as error:
            return str(error) or "no reason given"
        return ""

    @cached_property
    def trained(self) -> GenerativeModel:
        """A model after five steps; shared, so never change it."""
        model = self.tiny()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MolgenWarning)  # five steps may have collapsed
            return model.fit(self.subject.records, max_steps=5, batch_size=8, seed=0)

    def quick(self, model: GenerativeModel) -> dict[str, Any]:
        """Options for fast sampling."""
        return {name: value for name, value in QUICK.items() if name in model.sampling_options()}

    def draw(self, n: int, model: GenerativeModel | None = None, **options: Any) -> list[dict[str, Tensor]]:
        """Raw values of samples of the trained model, or of another, each trimmed to its own size."""
        model = self.trained if model is None else model
        return draw(model, n, **{**self.quick(model), **options})


def draw(
    model: GenerativeModel,
    n: int,
    seed: int = 0,
    batch_size: int | None = None,
    precision: str = "fp32",
    **options: Any,
) -> list[dict[str, Tensor]]:
    """Raw values of samples, each trimmed to its own size."""
    out: list[dict[str, Tensor]] = []
    model.trained.eval()
    sampler = Sampler(model, seed, batch_size, {}, precision, options)
    with torch.no_grad():
        for indices in _chunks(n, batch_size or n):
            mask = model.modality.make_mask(model.modality.draw_sizes(seed, indices))
            values = sampler.values(mask, {}, SampleRandom(seed, indices))
            batch = Batch(values, mask, {}, model.view.pairs)
            out += [
                {k: v[0] for k, v in batch[i : i + 1].trimmed().values.items()} for i in range(len(batch))
            ]
    return out


def randomised(network: torch.nn.Module, seed: int = 0, sd: float = 0.2) -> None:
    """Fills parameters that are initialised to zero, which could hide errors."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            if bool((p == 0).all()):
                p.copy_(sd * torch.randn(p.shape, generator=source).to(p))


def apart(field: Field, a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> Tensor:
    """The distance of values, entry by entry, in the geometry of their field: on circles the shorter arc.

    Example:
        >>> from molgen.core.fields import Angles
        >>> apart(Angles(1), np.array([[3.1]]), np.array([[-3.1]])).round(decimals=3).tolist()
        [[0.083]]
    """
    x, y = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return (x - y if field.num_classes else Embedding.of(field).continuous().logmap(x, y)).abs()


def garbage(field: Field, shape: Sequence[int], draw: np.random.Generator, scale: float) -> np.ndarray:
    """Values of a field as a bad model may sample them, for the extent `shape`."""
    sites = tuple(shape) * field.axes
    if field.num_classes:
        return draw.integers(
            0, field.num_classes + (scale > 1), sites
        )  # the class beyond the last is a remaining mask
    return (scale * draw.normal(size=(*sites, *field.shape))).astype(np.float32)


def _chunks(n: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def _choices(networks: Sequence[str]) -> Iterator[dict[str, Mapping[str, Any]]]:
    """Sizes of the trunk, and for each those of other networks that the family has."""
    for size in SMALL:
        for other in SMALL if networks else ({},):
            yield {"trunk_options": size, **dict.fromkeys(networks, other)}
