"""Secondary structure and hydrogen bonds of backbones, by Kabsch and Sander's energy as `pydssp` has it."""

from __future__ import annotations

import numpy as np

COIL, HELIX, STRAND = 0, 1, 2
PARALLEL, ANTIPARALLEL = 1, 2


def assign(coords: np.ndarray) -> np.ndarray:
    """Per residue `COIL`, `HELIX` (of any pitch) or `STRAND` (in a bridge), `(N,)`.

    Arguments:
        coords: backbone `(N, 4, 3)` in Angstrom, atoms N, CA, C, O.

    Source: Kabsch and Sander (1983); Minami, pydssp.

    Example:
        >>> assign(np.zeros((3, 4, 3))).tolist()  # too short for a hydrogen bond
        [0, 0, 0]
    """
    from pydssp import pydssp_numpy

    if len(coords) < 6:
        return np.zeros(len(coords), np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):  # atoms that coincide
        return np.asarray(pydssp_numpy.assign(np.asarray(coords, np.float64)).argmax(-1))


def contents(coords: np.ndarray) -> dict[str, float]:
    """The shares of residues in helices and in strands, of a backbone `(N, 4, 3)`."""
    classes = assign(coords)
    n = max(len(classes), 1)
    return {"helix": float((classes == HELIX).sum() / n), "strand": float((classes == STRAND).sum() / n)}


def hydrogen_bonds(coords: np.ndarray) -> int:
    """Number of pairs of N-H and C=O, at least two residues apart, with an energy under -0.5 kcal/mol."""
    return int(_bonds(coords).sum()) if len(coords) >= 6 else 0


def bridges(coords: np.ndarray) -> np.ndarray:
    """Residues that are paired in beta sheets: 0, `PARALLEL` or `ANTIPARALLEL`, symmetric `(N, N)` uint8.

    With b(i, j) a hydrogen bond from C=O of i to N-H of j, residues are paired in parallel where b(i-1, j)
    and b(j, i+1), or the same with i and j exchanged; antiparallel where b(i, j) and b(j, i), or b(i-1, j+1)
    and b(j-1, i+1).

    Source: Kabsch and Sander, Dictionary of Protein Secondary Structure (1983).

    Example:
        >>> bridges(np.zeros((3, 4, 3))).tolist()
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    """
    n = len(coords)
    out = np.zeros((n, n), np.uint8)
    if n < 6:
        return out
    bonds = np.pad(_bonds(coords).T, 1)

    def moved(a: int, b: int) -> np.ndarray:
        """Whether there is a bond (i + a, j + b)."""
        return bonds[1 + a : n + 1 + a, 1 + b : n + 1 + b]

    parallel = moved(-1, 0) & moved(0, 1).T
    out[parallel | parallel.T] = PARALLEL
    out[(moved(0, 0) & moved(0, 0).T) | (moved(-1, 1) & moved(-1, 1).T)] = ANTIPARALLEL
    # The ends of the chain lack a neighbour to judge by.
    out[[0, -1]] = 0
    out[:, [0, -1]] = 0
    return out


def _bonds(coords: np.ndarray) -> np.ndarray:
    """Whether N-H of i is bonded to C=O of j, `(N, N)`."""
    from pydssp import pydssp_numpy

    with np.errstate(divide="ignore", invalid="ignore"):  # atoms that coincide
        return np.asarray(pydssp_numpy.get_hbond_map(np.asarray(coords, np.float64)) > 0)


def segments(classes: np.ndarray, shortest: tuple[int, int] = (3, 2)) -> list[tuple[int, int, int]]:
    """Runs of one class as `(class, first, last)`, inclusive, helices and strands of these lengths or more.

    Example:
        >>> segments(np.array([0, 1, 1, 1, 0, 2, 0, 2, 2]))
        [(1, 1, 3), (2, 7, 8)]
    """
    edges = np.flatnonzero(np.diff(classes)) + 1
    runs = zip([0, *edges], [*edges, len(classes)], strict=True)
    least = {HELIX: shortest[0], STRAND: shortest[1]}
    return [
        (int(classes[a]), int(a), int(b - 1))
        for a, b in runs
        if len(classes) and classes[a] in least and b - a >= least[int(classes[a])]
    ]


def sheets(ca: np.ndarray, strands: list[tuple[int, int]]) -> list[list[tuple[int, int, int]]]:
    """Strands grouped to sheets: two strands whose CA come within 6 A of each other lie in one.

    Arguments:
        ca: the trace, `(N, 3)` in Angstrom.
        strands: first and last residue of each, inclusive.

    Returns: per sheet its strands as `(first, last, sense)`, where sense is 0 for the first, else 1 or -1
    for parallel or antiparallel to the one before, as in PDB files.
    """
    if not strands:
        return []
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    parts = [ca[a : b + 1] for a, b in strands]
    touching = np.array([[float(cdist(x, y).min()) < 6.0 for y in parts] for x in parts])
    count, owner = connected_components(touching)
    out = []
    for group in range(count):
        rows: list[tuple[int, int, int]] = []
        before = None
        for (a, b), mine in zip(strands, owner, strict=True):
            if mine == group:
                along = ca[b] - ca[a]
                sense = 0 if before is None else 1 if float(along @ before) > 0 else -1
                rows.append((a, b, sense))
                before = along
        out.append(rows)
    return out
