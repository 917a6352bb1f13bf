r"""Internal coordinates: every atom by a length, an angle and a torsion, measured from atoms before it.

Atom i stands at

.. math:: r_i = r_p + d (\cos\theta\, u + \sin\theta (\cos\tau\, v + \sin\tau\, w))

with p its parent, u the direction from p to a second atom a, v the direction across u towards a third one,
b, and :math:`w = v \times u`, so that :math:`\tau` is the dihedral b-a-p-i with its usual sign: a mirror
image has other torsions. Which atoms these are follows from the bonds and from the atoms placed so far:

- p is the latest earlier neighbour of i, its parent in a traversal; without one (only a broken graph has such
  atoms) the atom before i.
- a is the parent of p; for the first atom its first other neighbour, else atom 1. An atom that closes a ring
  takes its first earlier neighbour as a, if p and a are within `REACH`, and the length of that bond stands in
  place of the angle, which follows from the three sides of the triangle: so a ring closes in spite of the
  errors that its other atoms add up; where they are too large, the atom is placed like any other.
- b is the first of these that stands at least `BENT` off the line through p and a: the other neighbours of
  p, latest first (the torsion is then nearly fixed by hybridisation); the parent of a; the other neighbours
  of a; all other atoms, latest first. If all atoms stand on a line, as in acetylene, it is a direction of
  the frame.

Molecules have 20 atoms, one after the other: plain numbers are ten times faster here than small arrays.

Source: Parsons et al., Practical conversion from torsion space to Cartesian space (2005).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

BENT = 0.3
"""Angstrom that an atom must stand off an axis to tell a torsion about it."""

REACH = 3.0
"""Angstrom that the two ends which a ring's last atom joins are apart at most: two bonds in a row."""

Point = tuple[float, float, float]
Frame = tuple[Point, Point, Point, Point]
"""Origin and three orthonormal directions u, v, w."""


def to_internal(xyz: NDArray[np.float64], bonds: NDArray[Any]) -> NDArray[np.float32]:
    """Length (Angstrom), angle and torsion (radians) of every atom, `(n, 3)`; NaN where there is none.

    For atoms that close a ring, the second number is the length of the closing bond.

    Atom 0 has none, atom 1 has a length, and the first atom off their line has the torsion 0. Each atom is
    measured from where the atoms before it will be placed, so that rounding never adds up and both ways
    choose the same references.

    Arguments:
        xyz: coordinates `(n, 3)` in Angstrom.
        bonds: symmetric orders `(n, n)`.

    Example:
        >>> water = np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
        >>> values = to_internal(water, np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]))
        >>> values.astype(float).round(2).tolist()[1:]
        [[0.97, nan, nan], [0.97, 1.81, 0.0]]
    """
    chain = Chain(bonds)
    values = np.full((len(xyz), 3), np.nan, np.float32)
    for i, point in enumerate(_upright(xyz).tolist()):
        frame, known = chain.frame(i), i if i < 2 else 3
        length, angle, torsion = _polar(point, frame)
        if chain.closes(i):
            angle = math.dist(point, chain.points[chain.closing[i]])
        values[i, :known] = (length, angle, torsion)[:known]
        chain.add(frame, *values[i].tolist())
    return values


def from_internal(values: NDArray[Any], bonds: NDArray[Any]) -> NDArray[np.float64]:
    """Centred coordinates `(n, 3)` from lengths, angles and torsions `(n, 3)`; total, whatever the bonds.

    Example:
        >>> values = np.array([[0, 0, 0], [1.5, 0, 0], [1.5, np.pi / 2, 0]])
        >>> path = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
        >>> (from_internal(values, path) * 2).round(6).tolist()
        [[-2.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 2.0, 0.0]]
    """
    chain = Chain(bonds)
    for i, (length, angle, torsion) in enumerate(np.asarray(values, np.float64).tolist()):
        chain.add(chain.frame(i), length, angle, torsion)
    xyz = np.array(chain.points, np.float64).reshape(-1, 3)
    return np.asarray(xyz - xyz.mean(0))


@final
class Chain:
    """Atoms placed so far, and the frame in which the next one is measured.

    Arguments:
        bonds: symmetric orders `(n, n)`.

    Example:
        >>> Chain(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])).parents
        [0, 0, 0]
    """

    def __init__(self, bonds: NDArray[Any]) -> None:
        self.near = [np.flatnonzero(row).tolist() for row in np.asarray(bonds)]
        self.parents = [
            max((j for j in near if j < i), default=max(i - 1, 0)) for i, near in enumerate(self.near)
        ]
        # The earlier end of the bond that closes a ring, by its later end.
        earlier = {i: [j for j in near if j < i] for i, near in enumerate(self.near)}
        self.closing = {i: found[0] for i, found in earlier.items() if len(found) > 1}
        self.points: list[Point] = []

    def add(self, frame: Frame, length: float, angle: float, torsion: float) -> None:
        """Places the next atom; values that its place among the first does not need are not read."""
        i, (p, u, v, w) = len(self.points), frame
        if i < 2:
            angle = torsion = 0.0  # along the first direction
        if i == 0:
            length = 0.0
        if not (math.isfinite(length) and math.isfinite(angle) and math.isfinite(torsion)):
            length, angle, torsion = math.nan, 0.0, 0.0
        elif self.closes(i):
            angle = _opposite(angle, length, math.dist(p, self.points[self.closing[i]]))
        across = _along(_scaled(math.cos(torsion), v), math.sin(torsion), w)
        self.points.append(_along(p, length, _along(_scaled(math.cos(angle), u), math.sin(angle), across)))

    def frame(self, i: int) -> Frame:
        """The frame of atom i, given the atoms before it."""
        if i < 2:
            return _FRAME
        p, a = self.axis(i)
        origin = self.points[p]
        u = _unit(_minus(self.points[a], origin), _FRAME[1])
        for b in self.thirds(i, p, a):
            offset = _minus(self.points[b], origin)
            across = _along(offset, -_dot(offset, u), u)
            if _dot(across, across) > BENT * BENT:
                v = _unit(across, _FRAME[2])
                return origin, u, v, _cross(v, u)
        # All atoms stand on a line: the frame's second direction, unless it is this line.
        side = _FRAME[2] if abs(u[1]) < 0.9 else _FRAME[3]
        v = _unit(_along(side, -_dot(side, u), u), side)
        return origin, u, v, _cross(v, u)

    def axis(self, i: int) -> tuple[int, int]:
        """The parent p of atom i, at least 2, and the atom a from which its angle is measured."""
        p = self.parents[i]
        if self.closes(i):
            return p, self.closing[i]
        if p:
            return p, self.parents[p]
        return p, next((j for j in self.near[p] if p != j < i), 1)

    def closes(self, i: int) -> bool:
        """Whether atom i is placed by two bonds of a ring."""
        q = self.closing.get(i)
        return q is not None and math.dist(self.points[self.parents[i]], self.points[q]) < REACH

    def thirds(self, i: int, p: int, a: int) -> Iterator[int]:
        """Candidates for the atom b from which the torsion of atom i is measured, best first."""
        seen = {p, a}
        beyond = [self.parents[a]] if a else []
        for group in (self.near[p][::-1], beyond, self.near[a][::-1], range(i - 1, -1, -1)):
            for j in group:
                if j < i and j not in seen:
                    seen.add(j)
                    yield j


_FRAME: Frame = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
"""Atom 0 at its origin, atom 1 along its first direction, the first atom off this line towards the second."""


def _upright(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The coordinates moved, without a reflection, to where `Chain` places the first atoms."""
    at = (np.asarray(xyz, np.float64) - xyz[0]).tolist()
    x = _unit(at[min(1, len(at) - 1)], _FRAME[1])
    across = [_along(point, -_dot(point, x), x) for point in at]
    off = [_dot(side, side) for side in across]
    first = next((i for i, square in enumerate(off) if square > BENT * BENT), off.index(max(off)))
    # Atoms that stand exactly on a line may be turned about it at will.
    least = min(range(3), key=lambda k: abs(x[k]))
    y = _unit(across[first], _unit(_cross(x, _AXES[least]), _FRAME[2]))
    basis = np.array([x, y, _cross(x, y)])
    return np.asarray(np.array(at) @ basis.T)


_AXES: tuple[Point, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def _polar(point: Point, frame: Frame) -> Point:
    """Length, angle and torsion of a point in a frame."""
    offset = _minus(point, frame[0])
    along, side, up = (_dot(offset, axis) for axis in frame[1:])
    across = math.hypot(side, up)
    return math.hypot(along, across), math.atan2(across, along), math.atan2(up, side)


def _opposite(side: float, b: float, c: float) -> float:
    """The angle between two sides of a triangle; the nearest there is, if the three do not close."""
    twice = 2 * b * c
    cosine = (b * b + c * c - side * side) / twice if abs(twice) > 1e-12 else 0.0
    return math.acos(min(max(cosine, -1.0), 1.0)) if math.isfinite(cosine) else 0.0


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _along(a: Point, step: float, b: Point) -> Point:
    """The point `a + step b`."""
    return a[0] + step * b[0], a[1] + step * b[1], a[2] + step * b[2]


def _scaled(factor: float, a: Point) -> Point:
    return factor * a[0], factor * a[1], factor * a[2]


def _cross(a: Point, b: Point) -> Point:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _unit(a: Point, otherwise: Point) -> Point:
    """The vector of length one; `otherwise` for a null vector, which a drawn length of zero makes."""
    length = math.sqrt(_dot(a, a))
    return otherwise if length < 1e-9 else _scaled(1 / length, a)
