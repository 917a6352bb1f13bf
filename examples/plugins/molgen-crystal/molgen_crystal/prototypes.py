"""Ionic crystals made by formula: prototypes, whose size follows from the radii of their ions.

Radii are those of Shannon, Revised Effective Ionic Radii (1976), rounded, for six neighbours (four for those
of zinc blende and wurtzite). They set the lattice constant where ions touch; strain and displacements come
from an explicit seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from molgen_crystal.crystal import Crystal, Triple

IONS: Mapping[str, tuple[int, float]] = {
    **{"Li": (1, 0.76), "Na": (1, 1.02), "K": (1, 1.38), "Rb": (1, 1.52), "Cs": (1, 1.67)},
    **{"Mg": (2, 0.72), "Ca": (2, 1.00), "Sr": (2, 1.18), "Ba": (2, 1.35), "Zn": (2, 0.60), "Cd": (2, 0.78)},
    **{"Ti": (4, 0.61), "Zr": (4, 0.72), "Sn": (4, 0.69)},
    **{"F": (-1, 1.33), "Cl": (-1, 1.81), "Br": (-1, 1.96), "I": (-1, 2.20)},
    **{"O": (-2, 1.40), "S": (-2, 1.84), "Se": (-2, 1.98)},
}
"""Charge and radius in Angstrom of each ion."""

_HALIDES, _CHALCOGENIDES = ("F", "Cl", "Br", "I"), ("O", "S", "Se")
_FACES: list[Triple] = [(0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]


def _shifted(places: Sequence[Triple], by: float) -> list[Triple]:
    return [((x + by) % 1, (y + by) % 1, (z + by) % 1) for x, y, z in places]


@dataclass(frozen=True)
class Prototype:
    """A structure type.

    Arguments:
        name: e.g. ``"rock salt"``.
        roles: the role of each atom, an index into a composition; equal ones stand in a row.
        places: its fractional coordinates.
        bond: the edge a in units of the sum of radii of the first two roles that touch.
        touching: these two roles.
        ratio: c / a; above 0.
        gamma: the angle of a and b in degrees.
        compositions: the elements of each role.
        neighbours: coordination numbers by role, of ions of the other sign.
    """

    name: str
    roles: tuple[int, ...]
    places: tuple[Triple, ...]
    bond: float
    compositions: tuple[tuple[str, ...], ...]
    neighbours: tuple[int, ...]
    touching: tuple[int, int] = (0, 1)
    ratio: float = 1.0
    gamma: float = 90.0

    def ideal(self, composition: tuple[str, ...]) -> Crystal:
        """The crystal without strain, every atom at its place."""
        a = self.bond * sum(IONS[composition[role]][1] for role in self.touching)
        species = tuple(composition[role] for role in self.roles)
        return Crystal((a, a, a * self.ratio), (90.0, 90.0, self.gamma), species, self.places)


def _pairs(*groups: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(pair for group in groups for pair in product(*group))


PROTOTYPES: tuple[Prototype, ...] = (
    Prototype(
        "rock salt",
        (0,) * 4 + (1,) * 4,
        (*_FACES, *_shifted(_FACES, 0.5)),
        2.0,
        _pairs((("Li", "Na", "K", "Rb"), _HALIDES), (("Mg", "Ca", "Sr", "Ba"), _CHALCOGENIDES)),
        (6, 6),
    ),
    Prototype(
        "caesium chloride",
        (0, 1),
        ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)),
        2 / math.sqrt(3),
        _pairs((("Cs",), ("Cl", "Br", "I")), (("Rb",), ("Cl",))),
        (8, 8),
    ),
    Prototype(
        "zinc blende",
        (0,) * 4 + (1,) * 4,
        (*_FACES, *_shifted(_FACES, 0.25)),
        4 / math.sqrt(3),
        _pairs((("Zn", "Cd"), ("S", "Se"))),
        (4, 4),
    ),
    Prototype(
        "wurtzite",
        (0, 0, 1, 1),
        ((1 / 3, 2 / 3, 0.0), (2 / 3, 1 / 3, 0.5), (1 / 3, 2 / 3, 0.375), (2 / 3, 1 / 3, 0.875)),
        math.sqrt(8 / 3),
        _pairs((("Zn", "Cd"), _CHALCOGENIDES)),
        (4, 4),
        ratio=math.sqrt(8 / 3),
        gamma=120.0,
    ),
    Prototype(
        "fluorite",
        (0,) * 4 + (1,) * 8,
        (*_FACES, *_shifted(_FACES, 0.25), *_shifted(_FACES, 0.75)),
        4 / math.sqrt(3),
        _pairs((("Ca", "Sr", "Ba", "Cd"), ("F",)), (("Sr", "Ba"), ("Cl",)), (("Zr",), ("O",))),
        (8, 4),
    ),
    Prototype(
        "perovskite",
        (0, 1, 2, 2, 2),
        ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)),
        2.0,
        tuple((a, b, "O") for a, b in product(("Ca", "Sr", "Ba"), ("Ti", "Zr", "Sn")))
        + (("K", "Mg", "F"), ("Na", "Mg", "F"), ("K", "Zn", "F"), ("Cs", "Ca", "Cl"), ("Cs", "Cd", "Cl")),
        (12, 6, 2),
        touching=(1, 2),
    ),
)


def crystals(count: int, seed: int, strain: float = 0.01, displacement: float = 0.03) -> list[Crystal]:
    """Crystals of all prototypes in turn, with random compositions, strains and displacements.

    Arguments:
        count: how many.
        seed: crystal i depends on (seed, i) alone.
        strain: standard deviation of the logarithm of each edge; of each angle in radians a half of it.
        displacement: standard deviation in Angstrom of each atom along each edge.

    Example:
        >>> [crystal.species for crystal in crystals(2, seed=0)][1]
        ('Cs', 'I')
    """
    found = []
    for i in range(count):
        draw = np.random.default_rng((seed, i))
        prototype = PROTOTYPES[i % len(PROTOTYPES)]
        ideal = prototype.ideal(prototype.compositions[draw.integers(len(prototype.compositions))])
        lengths = np.array(ideal.lengths) * np.exp(strain * draw.normal(size=3))
        angles = np.array(ideal.angles) + np.degrees(strain / 2 * draw.normal(size=3))
        noise = displacement * draw.normal(size=(len(ideal.species), 3)) / lengths
        # The origin is nobody's: anywhere is as good.
        places = (np.array(ideal.places) + noise + draw.uniform(size=3)) % 1
        found.append(Crystal(_triple(lengths), _triple(angles), ideal.species, tuple(map(_triple, places))))
    return found


def _triple(x: np.ndarray) -> Triple:
    a, b, c = x.tolist()
    return a, b, c
