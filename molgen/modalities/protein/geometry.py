"""CA traces and their internal coordinates, both ways, for whole stacks of traces at once."""

from __future__ import annotations

import numpy as np

BOND = 3.80
"""Distance of consecutive CA atoms over a trans peptide bond, in Angstrom."""

FIRST = (1.6, 0.9)
"""What stands for the angles that do not exist: theta of residues 0 and 1, tau of residues 0, 1, 2."""


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors of length one, `(..., 3)`; a null vector stays null."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9))


def angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The angle at `b`, `(..., 3)` each, in radians.

    Example:
        >>> float(angle(np.array([1.0, 0, 0]), np.zeros(3), np.array([0, 1.0, 0])).round(4))
        1.5708
    """
    u, v = unit(a - b), unit(c - b)
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1)))


def dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The torsion about `b`-`c`, `(..., 3)` each, in radians, positive for a right-handed turn."""
    axis = unit(c - b)
    u, v = np.cross(axis, a - b), np.cross(axis, d - c)
    return np.asarray(np.arctan2((np.cross(u, v) * axis).sum(-1), (u * v).sum(-1)))


def place(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, bond: float, theta: np.ndarray, tau: np.ndarray
) -> np.ndarray:
    """The point at `bond` from `c` with angle `theta` at `c` and torsion `tau` about `b`-`c`, `(..., 3)`."""
    x = unit(c - b)
    z = unit(np.cross(b - a, x))
    y = np.cross(z, x)
    theta, tau = np.asarray(theta)[..., None], np.asarray(tau)[..., None]
    step = -np.cos(theta) * x + np.sin(theta) * (np.cos(tau) * y + np.sin(tau) * z)
    return np.asarray(c + bond * step)


def to_internal(ca: np.ndarray) -> np.ndarray:
    r"""Angles that place every residue after the ones before it, `(..., N, 2)`, from a trace `(..., N, 3)`.

    Row i holds :math:`\theta_i`, the angle at residue i-1, and :math:`\tau_i`, the torsion about the
    bond from i-2 to i-1. Undefined entries (theta of rows 0 and 1, tau of rows 0 to 2) hold `FIRST`.

    Example:
        >>> trace = from_internal(np.full((1, 6, 2), 1.0))
        >>> bool(np.allclose(to_internal(trace)[0, 3:], 1.0))
        True
    """
    out = np.broadcast_to(np.asarray(FIRST), (*ca.shape[:-1], 2)).copy()
    p = np.asarray(ca, np.float64)
    if p.shape[-2] > 2:
        out[..., 2:, 0] = angle(p[..., :-2, :], p[..., 1:-1, :], p[..., 2:, :])
    if p.shape[-2] > 3:
        out[..., 3:, 1] = dihedral(p[..., :-3, :], p[..., 1:-2, :], p[..., 2:-1, :], p[..., 3:, :])
    return out


def from_internal(angles: np.ndarray, bond: float = BOND) -> np.ndarray:
    """The centred trace `(..., N, 3)` with these angles `(..., N, 2)` and one bond length; see `to_internal`.

    Source: Parsons et al., Practical conversion from torsion space to Cartesian space (2005).
    """
    *batch, n, _ = angles.shape
    ca = np.zeros((*batch, n, 3))
    if n > 1:
        ca[..., 1, 0] = bond
    before = np.array([0.0, 1.0, 0.0])  # a fixed start: residues 0, 1, 2 define the frame, tau begins at 3
    for i in range(2, n):
        theta, tau = angles[..., i, 0], angles[..., i, 1]
        first, turn = (ca[..., i - 3, :], tau) if i > 2 else (before, np.zeros_like(tau))
        ca[..., i, :] = place(first, ca[..., i - 2, :], ca[..., i - 1, :], bond, theta, turn)
    return np.asarray(ca - ca.mean(-2, keepdims=True))


def extended(ca: np.ndarray, count: int = 2) -> np.ndarray:
    """A trace with `count` virtual residues before and after, which continue its first and last angles.

    Gives every residue of a chain a full neighbourhood: `(N, 3)` becomes `(N + 2 count, 3)`. Chains
    of fewer than four residues have no torsion and are continued as a helix.
    """
    rows = [np.asarray(p, np.float64) for p in ca] or [np.zeros(3)]
    total, theta, tau = len(ca) + 2 * count, np.asarray(FIRST[0]), np.asarray(FIRST[1])
    if len(rows) == 1:
        rows.append(rows[0] + np.array([BOND, 0.0, 0.0]))
    if len(rows) == 2:
        axis = unit(rows[1] - rows[0])
        rows.append(place(rows[0] + np.eye(3)[np.abs(axis).argmin()], rows[0], rows[1], BOND, theta, tau))
    if len(rows) == 3:
        rows.append(place(rows[0], rows[1], rows[2], BOND, theta, tau))
    first = rows[:4]
    start = angle(first[0], first[1], first[2]), dihedral(first[0], first[1], first[2], first[3])
    for _ in range(count):
        rows.insert(0, place(rows[2], rows[1], rows[0], BOND, *start))
    end = angle(rows[-3], rows[-2], rows[-1]), dihedral(rows[-4], rows[-3], rows[-2], rows[-1])
    while len(rows) < total:
        rows.append(place(rows[-3], rows[-2], rows[-1], BOND, *end))
    return np.array(rows[:total])
