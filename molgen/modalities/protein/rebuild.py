"""N, C and O from a CA trace: the peptide planes turn as in the eight nearest local CA geometries."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from molgen.core.errors import DataError
from molgen.modalities.protein.geometry import angle, dihedral, extended, place, unit

TABLE = Path(__file__).parent / "assets" / "peptides.npz"
NEIGHBOURS = 8
OUTER = 0.2
"""Weight of the outer two residues of the window of six against the inner two."""

CA_C, C_N, N_CA, C_O = 1.523, 1.330, 1.459, 1.234
"""Bond lengths in Angstrom: means over chains of the PDB."""
CA_C_N, C_N_CA, CA_C_O = np.radians([116.7, 121.6, 120.4])
CIS = 3.4
"""A CA-CA distance under this is rebuilt as a cis peptide bond."""


def windows(ca: np.ndarray) -> np.ndarray:
    """Six consecutive CA around each peptide bond i -> i+1 of a trace, `(N + 1, 6, 3)`.

    The first and the last window belong to the virtual peptide bonds that carry the first N and the
    last C and O.
    """
    p = extended(ca, 3)
    return np.lib.stride_tricks.sliding_window_view(p, 6, axis=0).transpose(0, 2, 1)


def shape(window: np.ndarray) -> np.ndarray:
    """Four angles and three torsions of windows, `(M, 7)`."""
    w = [window[:, i] for i in range(6)]
    thetas = [angle(w[i], w[i + 1], w[i + 2]) for i in range(4)]
    taus = [dihedral(w[i], w[i + 1], w[i + 2], w[i + 3]) for i in range(3)]
    return np.stack(thetas + taus, 1)


def features(shapes: np.ndarray) -> np.ndarray:
    """Windows of these shapes as points whose distances compare geometries, `(M, 12)`, in Angstrom."""
    theta, tau = shapes[:, :4], shapes[:, 4:]
    zero = np.zeros((len(shapes), 3))
    ahead = zero + [3.8, 0.0, 0.0]
    bond, none = 3.8, np.zeros(len(shapes))
    before = place(zero + [3.8, 1.0, 0.0], ahead, zero, bond, theta[:, 1], none)
    after = place(before, zero, ahead, bond, theta[:, 2], tau[:, 1])
    first = place(ahead, zero, before, bond, theta[:, 0], tau[:, 0])
    last = place(zero, ahead, after, bond, theta[:, 3], tau[:, 2])
    return np.concatenate([before, after, OUTER * first, OUTER * last], 1)


def frames(window: np.ndarray) -> np.ndarray:
    """Axes in rows: along the bond, towards the residue before it, and across, `(M, 3, 3)`."""
    x = unit(window[:, 3] - window[:, 2])
    back = window[:, 1] - window[:, 2]
    y = unit(back - (back * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], 1)


def plane(distance: np.ndarray) -> np.ndarray:
    r"""C, O and the next N in the peptide plane for CA-CA distances `(M,)`, as `(M, 3, 2)`.

    x runs along CA-CA, y to the side of O. The three bonds keep their lengths; the two angles between
    them open or close together until the ends are as far apart as asked, which a few Newton steps
    find. What angles cannot reach (under 1.9 or over 4.3 A) is left to the C-N bond.
    """
    cis = distance < CIS
    turn = np.zeros_like(distance)

    def ends(turn: np.ndarray) -> np.ndarray:
        a, b = CA_C_N + turn, C_N_CA + turn
        c, n = np.zeros((len(turn), 2)) + [CA_C, 0.0], np.zeros((len(turn), 2))
        n[:, 0], n[:, 1] = CA_C - C_N * np.cos(a), -C_N * np.sin(a)
        heading = np.pi - a + np.where(cis, 1, -1) * (np.pi - b)
        ca = n + N_CA * np.stack([np.cos(heading), -np.sin(heading)], 1)
        return np.stack([c, n, ca], 1)

    step = 1e-4
    for _ in range(6):
        here = np.linalg.norm(ends(turn)[:, 2], axis=-1)
        slope = (np.linalg.norm(ends(turn + step)[:, 2], axis=-1) - here) / step
        turn = np.clip(turn + (distance - here) / np.maximum(slope, 0.05), -0.7, 0.6)
    c, n, ca = ends(turn).transpose(1, 0, 2)
    at_c = CA_C_O - turn / 2
    o = c + C_O * np.stack([-np.cos(at_c), np.sin(at_c)], 1)
    x = unit(ca)
    rotation = np.stack([x, np.stack([-x[:, 1], x[:, 0]], 1)], 1)
    return np.asarray(np.einsum("mij,mkj->mki", rotation, np.stack([c, o, n], 1)))


@functools.cache
def _table() -> tuple[object, np.ndarray]:
    """The search tree over the table's windows and the turn of each one's peptide plane."""
    from scipy.spatial import cKDTree

    if not TABLE.is_file():
        raise DataError("the table of peptide planes is missing", file=TABLE, fix="reinstall molgen")
    with np.load(TABLE, allow_pickle=False) as file:
        shapes, turns = file["shapes"].astype(np.float64), file["turns"].astype(np.float64)
    return cKDTree(features(shapes)), turns


def rebuild(traces: Iterable[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    r"""Backbones `(N, 4, 3)` in Angstrom from CA traces `(N, 3)`, each with a distance per residue `(N,)`.

    Each peptide unit is planar with mean bond lengths and turns about its CA-CA axis by the mean of
    the eight table entries with the nearest geometry of six consecutive CA, the nearest with most
    weight. The distance is the RMS over the two adjacent units of the mean way to the eight entries
    (Angstrom, `features`): .54 in the middle and under 1.05 for 99 % of real residues, 1.0 in the
    middle for mirror images. CA atoms stay as they are, even where they are not finite.

    Example:
        >>> from molgen.modalities.protein.geometry import from_internal
        >>> helix = from_internal(np.tile(np.radians([91.0, 50.0]), (12, 1)))
        >>> atoms, distance = rebuild([helix])[0]
        >>> atoms.shape, bool(distance.max() < 0.5)
        ((12, 4, 3), True)
    """
    chains = [np.asarray(trace, np.float64) for trace in traces]
    if not chains:
        return []
    tree, turns = _table()
    window = np.concatenate([windows(chain) for chain in chains])
    points = features(shape(window))
    known = np.isfinite(points).all(1)
    found, index = tree.query(np.where(known[:, None], points, 0.0), k=NEIGHBOURS)  # type: ignore[attr-defined]
    found[~known] = np.inf
    weight = 1 / (np.minimum(found, 99.0) ** 2 + 0.2**2)
    turn = np.angle((np.exp(1j * turns[index]) * weight).sum(1))
    flat = plane(np.linalg.norm(window[:, 3] - window[:, 2], axis=-1))
    sides = np.stack([np.ones_like(turn), np.cos(turn), np.sin(turn)], 1)[:, None]
    atoms = window[:, None, 2] + np.einsum("mki,mij->mkj", flat[..., [0, 1, 1]] * sides, frames(window))
    out, start = [], 0
    for chain in chains:
        unit_atoms, way = atoms[start : start + len(chain) + 1], found[start : start + len(chain) + 1].mean(1)
        start += len(chain) + 1
        backbone = np.stack([unit_atoms[:-1, 2], chain, unit_atoms[1:, 0], unit_atoms[1:, 1]], 1)
        out.append((backbone, np.sqrt((way[:-1] ** 2 + way[1:] ** 2) / 2)))
    return out


def build_table(
    backbones: Iterable[np.ndarray], entries: int = 16000, cell: float = 0.9
) -> dict[str, np.ndarray]:
    """The table from real backbones `(N, 4, 3)`: the mean geometries of the fullest cells of feature space.

    Averaging over cells spends entries on rare geometries rather than on a hundred thousand helices.

    Arguments:
        backbones: complete chains.
        entries: the largest number of entries.
        cell: edge of a cell in Angstrom.

    Returns: `shapes` `(entries, 7)` and `turns` `(entries,)`, angles in radians.

    Example:
        >>> chain = np.arange(20)[:, None, None] * 2.2 + np.random.default_rng(0).normal(size=(20, 4, 3)) / 5
        >>> {name: array.shape for name, array in build_table([chain], entries=4).items()}
        {'shapes': (4, 7), 'turns': (4,)}
    """
    shapes, turns = [], []
    for backbone in backbones:
        if len(backbone) < 6:
            continue
        window = windows(backbone[:, 1])[3:-3]  # only windows of six real residues
        side = np.einsum("mij,mj->mi", frames(window), backbone[2:-3, 3] - window[:, 2])
        trans = np.abs(np.linalg.norm(window[:, 3] - window[:, 2], axis=-1) - 3.8) < 0.2
        shapes.append(shape(window)[trans])
        turns.append(np.arctan2(side[:, 2], side[:, 1])[trans])
    every = np.column_stack([np.concatenate(shapes), np.concatenate(turns)])
    cells = np.floor(features(every[:, :7]) / cell).astype(np.int64)
    _, owner, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), 8), np.complex128)
    np.add.at(total, owner.ravel(), np.exp(1j * every))
    mean = np.angle(total)[np.argsort(-count, kind="stable")[:entries]]
    return {"shapes": mean[:, :7].astype(np.float16), "turns": mean[:, 7].astype(np.float16)}
