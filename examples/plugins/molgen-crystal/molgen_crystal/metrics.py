"""What is asked of crystals: room between atoms, density, charges, and the prototype they match."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from molgen.metrics.statistics import wasserstein_1d
from molgen_crystal.crystal import Crystal
from molgen_crystal.prototypes import IONS, PROTOTYPES, Prototype

CLOSE = 0.5
"""Angstrom that atoms of a valid crystal are apart at least, as in CDVAE."""

_SHELL = 1.25  # a neighbour is at most so many times as far as the nearest one


def charge(crystal: Crystal) -> int:
    """The sum of the ions' charges.

    Example:
        >>> charge(PROTOTYPES[4].ideal(("Ca", "F")))
        0
    """
    return sum(IONS[element][0] if element in IONS else 99 for element in crystal.species)


def coordination(crystal: Crystal) -> list[int]:
    """How many ions of the other sign are about as near to each atom as the nearest of them.

    Example:
        >>> coordination(PROTOTYPES[0].ideal(("Na", "Cl")))
        [6, 6, 6, 6, 6, 6, 6, 6]
    """
    sign = np.sign([IONS[element][0] if element in IONS else 0 for element in crystal.species])
    apart = np.where((sign[:, None] * sign[None] < 0)[..., None], crystal.distances, np.inf)
    apart = apart.reshape(len(sign), -1)
    nearest = apart.min(1, keepdims=True)
    counted = (apart <= _SHELL * nearest) & np.isfinite(nearest)
    return [int(count) for count in counted.sum(1)]


def match(crystal: Crystal) -> str | None:
    """The prototype whose ions have the same charges' signs, ratio and coordination numbers, or None.

    Zinc blende and wurtzite, which have the same neighbours, are told apart by their cells.

    Example:
        >>> [match(p.ideal(p.compositions[0])) == p.name for p in PROTOTYPES]
        [True, True, True, True, True, True]
    """
    if not math.isfinite(crystal.volume) or charge(crystal):
        return None
    own = _shells(crystal.species, coordination(crystal))
    return _KNOWN.get((len(crystal.species), own))


def _shells(species: Sequence[str], neighbours: Sequence[int]) -> frozenset[tuple[tuple[str, int], int]]:
    signs = ["+" if IONS.get(element, (0, 0))[0] > 0 else "-" for element in species]
    return frozenset(Counter(zip(signs, neighbours, strict=True)).items())


def _shape(prototype: Prototype) -> tuple[int, frozenset[tuple[tuple[str, int], int]]]:
    species = prototype.ideal(prototype.compositions[0]).species
    return len(species), _shells(species, [prototype.neighbours[role] for role in prototype.roles])


_KNOWN = {_shape(prototype): prototype.name for prototype in PROTOTYPES}


def scores(crystals: Sequence[Crystal]) -> dict[str, float]:
    """Shares of crystals that are neutral and that match a prototype, and their mean smallest distance."""
    count = max(len(crystals), 1)
    return {
        "neutral": sum(charge(crystal) == 0 for crystal in crystals) / count,
        "prototype": sum(match(crystal) is not None for crystal in crystals) / count,
        "nearest": float(np.mean([crystal.nearest for crystal in crystals])) if len(crystals) else math.nan,
    }


def distances(crystals: Sequence[Crystal], reference: Sequence[Crystal]) -> Mapping[str, float]:
    """Wasserstein distances of densities (g / cm^3) and of smallest distances (Angstrom)."""
    return {
        f"wasserstein/{name}": wasserstein_1d(
            [getattr(crystal, name) for crystal in crystals],
            [getattr(crystal, name) for crystal in reference],
        )
        for name in ("density", "nearest")
    }
