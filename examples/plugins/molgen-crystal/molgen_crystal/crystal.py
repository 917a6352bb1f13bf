"""The domain object: a cell, and the atoms in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np

Triple = tuple[float, float, float]
_IMAGES = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)


@dataclass(frozen=True)
class Crystal:
    """A periodic arrangement of atoms; it may be an impossible one, since models draw such.

    Arguments:
        lengths: of the cell's edges a, b, c in Angstrom.
        angles: alpha, beta, gamma in degrees.
        species: the element of each atom.
        places: its fractional coordinates, each in [0, 1).

    Example:
        >>> salt = Crystal((4.1,) * 3, (90.0,) * 3, ("Cs", "Cl"), ((0.0,) * 3, (0.5,) * 3))
        >>> round(salt.nearest, 3), round(salt.density, 2)
        (3.551, 4.06)
    """

    lengths: Triple
    angles: Triple
    species: tuple[str, ...]
    places: tuple[Triple, ...]

    @cached_property
    def matrix(self) -> np.ndarray:
        """Edges of the cell as rows, `(3, 3)` in Angstrom; NaN where no cell has these angles."""
        a, b, c = self.lengths
        alpha, beta, gamma = (math.radians(angle) for angle in self.angles)
        sine = math.sin(gamma) or math.nan
        x, y = math.cos(beta), (math.cos(alpha) - math.cos(beta) * math.cos(gamma)) / sine
        rest = 1 - x * x - y * y
        z = math.sqrt(rest) if rest > 0 else math.nan
        rows = [[a, 0, 0], [b * math.cos(gamma), b * sine, 0], [c * x, c * y, c * z]]
        return np.array(rows, np.float64)

    @property
    def volume(self) -> float:
        """Of the cell in cubic Angstrom; NaN where there is none."""
        return float(np.prod(np.diag(self.matrix)))

    @property
    def density(self) -> float:
        """In g / cm^3."""
        return sum(gemmi.Element(s).weight for s in self.species) * 1.66053907 / self.volume

    @cached_property
    def distances(self) -> np.ndarray:
        """Distances from each atom to each atom and its images in the cells around, `(n, n, 27)`."""
        x = np.array(self.places, np.float64).reshape(-1, 3)
        gap = (x[None] - x[:, None] + 0.5) % 1 - 0.5
        found: np.ndarray = np.linalg.norm((gap[:, :, None] + _IMAGES) @ self.matrix, axis=-1)
        return found

    @property
    def nearest(self) -> float:
        """The smallest distance between two atoms, images included."""
        apart = (
            self.distances + np.where((_IMAGES == 0).all(1), np.eye(len(self.species))[..., None], 0) * 1e9
        )
        return float(apart.min())
