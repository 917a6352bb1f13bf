"""Small kinds of data, one for each geometry, for checks of families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import DataError
from molgen.core.fields import Categorical, Continuous, Field, Positions
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.io.data import DataSource, embedded

_COUNT = 60


@final
class Curves(Modality):
    """Reals on a line: waves of several lengths, float32 `(n,)`."""

    name = "toy_curves"

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"x": Continuous(1, **self.learned("x"))}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, np.ndarray) or record.ndim != 1 or not record.size:
            raise DataError(f"a {type(record).__name__}, expected an array with one axis", fix="remove it")
        return {"x": record.astype(np.float32)[:, None]}

    def decode(self, sample: Sample, view: str) -> np.ndarray:
        return sample["x"][:, 0]

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        return {"waves": embedded("waves", _waves, _COUNT)}


@final
class Words(Modality):
    """Classes on a line: words over the alphabet of the data.

    Arguments:
        alphabet: the letters.
        learned: as for `Modality`.
    """

    name = "toy_words"

    def __init__(self, alphabet: str = "ab", **learned: Any) -> None:
        super().__init__(**learned)
        self.alphabet = alphabet

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"letters": Categorical(len(self.alphabet), **self.learned("letters"))}

    def learn(self, records: Sequence[Any]) -> dict[str, Any]:
        return {"alphabet": "".join(sorted(set("".join(map(str, records)))))}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, str) or not record or set(record) - set(self.alphabet):
            raise DataError(f"{record!r} is no word of the letters {self.alphabet}", fix="remove it")
        return {"letters": np.array([self.alphabet.index(c) for c in record])}

    def decode(self, sample: Sample, view: str) -> str:
        # A masked letter is a question mark, which no word has.
        return "".join(f"{self.alphabet}?"[min(int(i), len(self.alphabet))] for i in sample["letters"])

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        return {"words": embedded("words", _words, _COUNT)}


@final
class Tiles(Modality):
    """Levels on a grid: grey tiles, uint8 `(4, 4)`."""

    name = "toy_tiles"
    extent = (4, 4)

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"grey": Continuous(1, levels=256, **self.learned("grey"))}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, np.ndarray) or record.shape != self.extent or record.dtype != np.uint8:
            raise DataError(f"a {type(record).__name__}, expected uint8 {self.extent}", fix="remove it")
        return {"grey": (record.astype(np.float32) / np.float32(127.5) - np.float32(1))[..., None]}

    def decode(self, sample: Sample, view: str) -> np.ndarray:
        return np.rint(sample["grey"][..., 0] * 127.5 + 127.5).clip(0, 255).astype(np.uint8)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        return {"tiles": embedded("tiles", _tiles, _COUNT)}


@final
class Clouds(Modality):
    """Points in space joined by edges: float32 `(n, 3)`, centred; points closer than 1 are joined."""

    name = "toy_clouds"

    @property
    def fields(self) -> Mapping[str, Field]:
        return {
            "edges": Categorical(2, pairs=True, **self.learned("edges")),
            "places": Positions(**self.learned("places")),
        }

    def encode(self, record: Any, view: str) -> Sample:
        if (
            not isinstance(record, np.ndarray)
            or record.ndim != 2
            or record.shape[1:] != (3,)
            or not len(record)
        ):
            raise DataError(f"a {type(record).__name__}, expected points (n, 3)", fix="remove it")
        near = np.linalg.norm(record[:, None] - record, axis=-1) < 1
        return {
            "edges": (near & ~np.eye(len(near), dtype=bool)).astype(np.uint8),
            "places": (record - record.mean(0)).astype(np.float32),
        }

    def decode(self, sample: Sample, view: str) -> np.ndarray:
        return sample["places"]

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        return {"clouds": embedded("clouds", _clouds, _COUNT)}


TOYS: tuple[type[Modality], ...] = (Curves, Words, Tiles, Clouds)


def _waves() -> Records:
    draw = np.random.default_rng(0)
    sizes, phases = draw.integers(6, 10, _COUNT), draw.uniform(0, 6, _COUNT)
    return Records([np.sin(np.arange(n) + p).astype(np.float32) for n, p in zip(sizes, phases, strict=True)])


def _words() -> Records:
    draw = np.random.default_rng(0)
    return Records(["".join(draw.choice(list("aab"), n)) + "c" for n in draw.integers(2, 7, _COUNT)])


def _tiles() -> Records:
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 16).reshape(4, 4)
    return Records([(ramp + draw.uniform(0, 55)).astype(np.uint8) for _ in range(_COUNT)])


def _clouds() -> Records:
    draw = np.random.default_rng(0)
    clouds = [draw.normal(size=(n, 3)).astype(np.float32) for n in draw.integers(3, 7, _COUNT)]
    return Records([cloud - cloud.mean(0) for cloud in clouds])
