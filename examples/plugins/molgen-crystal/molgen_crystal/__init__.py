"""Crystals: a kind of data for molgen, with periodic coordinates, a cell, and elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gemmi
import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import DataError
from molgen.core.fields import Categorical, Continuous, Field
from molgen.core.modality import Format, Modality, View
from molgen.core.records import Records
from molgen.io.data import DataSource, embedded
from molgen.io.resolve import resolve
from molgen_crystal import metrics
from molgen_crystal.cif import read_cif, write_cif
from molgen_crystal.crystal import Crystal
from molgen_crystal.prototypes import crystals
from molgen_crystal.torus import Torus, wrapped

__all__ = ["Crystal", "Crystals", "Torus", "crystals", "wrapped"]

_ELEMENTS = tuple(gemmi.Element(number).name for number in range(1, 119))
_CELL = ([math.log(5.0)] * 3 + [math.pi / 2] * 3, [0.3] * 3 + [0.2] * 3)


class Crystals(Modality):
    r"""Crystals as their atoms: element and fractional coordinates of each, and the cell on the first one.

    The cell is six numbers, the logarithms of the edges and the angles in radians, each in standard
    deviations of the data. Coordinates are those seen from the first atom, so that a translation of all
    changes nothing; a turn of the crystal in space changes neither them nor the cell. The density of a
    crystal is per standard deviation of the cell's numbers and per fraction of its edges.

    Arguments:
        elements: the symbols that occur; all there are before it is fitted.
        cell: mean and standard deviation of each of the six numbers.
        learned: as for `Modality`.

    Example:
        >>> kind = Crystals().fit_to(crystals(60, seed=0))
        >>> salt = Crystal((5.6,) * 3, (90.0,) * 3, ("Na", "Cl"), ((0.1, 0.1, 0.1), (0.6, 0.1, 0.1)))
        >>> back = kind.decode(kind.encode(salt, "atoms"), "atoms")
        >>> back.species, [round(x, 6) for x in back.places[1]]
        (('Na', 'Cl'), [0.5, 0.0, 0.0])
    """

    name = "crystal"

    def __init__(
        self,
        elements: Sequence[str] = _ELEMENTS,
        cell: Sequence[Sequence[float]] = _CELL,
        **learned: Any,
    ) -> None:
        super().__init__(**learned)
        self.elements, self.cell = list(elements), [list(row) for row in cell]

    @property
    def fields(self) -> Mapping[str, Field]:
        return {
            "species": Categorical(len(self.elements), **self.learned("species")),
            "cell": Continuous(6, whole=True, **self.learned("cell")),
            "places": Torus(3, **self.learned("places")),
        }

    @property
    def views(self) -> Mapping[str, View]:
        # The same atoms in another order are the same crystal.
        return {"atoms": replace(super().views["fields"], name="atoms", bijective=False)}

    def learn(self, records: Sequence[Any]) -> dict[str, Any]:
        told = [_checked(record) for record in records]
        cells = np.array([_numbers(crystal) for crystal in told])
        spread = np.maximum(cells.std(0), 1e-3)  # of angles that are all the same
        return {
            "elements": sorted({element for crystal in told for element in crystal.species}),
            "cell": [[float(f"{x:.6g}") for x in row] for row in (cells.mean(0), spread)],
        }

    def encode(self, record: Any, view: str) -> Sample:
        crystal, (mean, spread) = _checked(record), np.array(self.cell)
        if strange := sorted(set(crystal.species) - set(self.elements)):
            raise DataError(f"element {strange[0]!r}, expected {', '.join(self.elements)}", fix="remove it")
        cell = np.zeros((len(crystal.species), 6), np.float32)
        cell[0] = (_numbers(crystal) - mean) / spread
        return {
            "species": np.array([self.elements.index(element) for element in crystal.species]),
            "cell": cell,
            "places": Torus(3, **self.learned("places")).relative(np.array(crystal.places)),
        }

    def decode(self, sample: Sample, view: str) -> Crystal:
        mean, spread = np.array(self.cell)
        numbers = sample["cell"][0].astype(np.float64) * spread + mean
        # Whatever a model drew: edges from a picometre to a micrometre, angles as they are.
        lengths, angles = np.exp(numbers[:3].clip(-5, 9)), np.degrees(numbers[3:])
        # The class beyond the last is that of an atom which was never drawn.
        known = [*self.elements, "X"]
        species = tuple(known[min(int(k), len(self.elements))] for k in sample["species"])
        places = tuple(map(tuple, (sample["places"].astype(np.float64) % 1).tolist()))
        return Crystal(tuple(lengths.tolist()), tuple(angles.tolist()), species, places)

    def is_valid(self, record: Any) -> bool:
        """Whether there is such a cell, and its atoms are at least 0.5 Angstrom apart."""
        return super().is_valid(record) and record.nearest >= metrics.CLOSE

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """The generic scores, and shares and distances of crystals, see `molgen_crystal.metrics`."""
        found = super().evaluate(records, reference, **options)
        good = self._good(records)
        found |= metrics.scores(good)
        if reference is None:
            return found
        test, train = resolve(self, reference, "test"), resolve(self, reference, "train")
        if not isinstance(reference, str):  # as the generic scores do
            test, train = test[::2], train[1::2]
        found |= {f"data/{name}": value for name, value in metrics.scores(test).items()}
        found |= metrics.distances(good, test)
        floor = metrics.distances(train[: len(good)], test)
        return found | {f"floor/{name}": value for name, value in floor.items()}

    def _good(self, records: Sequence[Any]) -> list[Crystal]:
        return [record for record in records if super(Crystals, self).is_valid(record)]

    @property
    def formats(self) -> Sequence[Format]:
        return (Format((".cif", ".cif.gz"), read_cif, write_cif), *super().formats)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        return {"prototypes": embedded("prototypes", _prototypes, 1200, "made by formula", "CC0")}


def _checked(record: Any) -> Crystal:
    if not isinstance(record, Crystal) or not record.species or len(record.species) != len(record.places):
        raise DataError(f"a {type(record).__name__}, expected a Crystal with atoms", fix="remove it")
    if not (np.isfinite(record.places).all() and min(record.lengths) > 0 and 0 < record.volume < math.inf):
        raise DataError(f"no cell has {record.lengths} and {record.angles}", fix="remove it")
    return record


def _numbers(crystal: Crystal) -> np.ndarray:
    return np.array([*np.log(crystal.lengths), *np.radians(crystal.angles)])


def _prototypes() -> Records:
    return Records(crystals(1200, seed=0))
