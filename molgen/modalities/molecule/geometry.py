"""Histograms of bond lengths, angles and torsions by kind, and how far two sets of molecules are apart.

Lengths are grouped by the elements and the order of the bond, angles by the element of the middle atom and
its number of neighbours, torsions by the bond they turn about. All hydrogens count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molgen.metrics.statistics import js_divergence
from molgen.modalities.molecule.codec import Mol

Counts = Mapping[str, NDArray[Any]]
"""Per term (`bond_lengths`, `angles`, `torsions`) the counts `(kinds, bins)`."""

BOND_KINDS = (
    "H-C", "H-N", "H-O", "C-C", "C=C", "C#C", "C:C", "C-N", "C=N", "C#N", "C:N", "C-O", "C=O", "C:O", "C-F",
    "N-N", "N=N", "N:N", "N-O", "N=O", "N:O",
)  # fmt: skip
"""The kinds of bonds that are compared; `:` is aromatic."""

ANGLE_KINDS = ("C2", "C3", "C4", "N2", "N3", "N4", "O2")
"""The kinds of middle atoms: element and number of neighbours."""

TORSION_KINDS = tuple(kind for kind in BOND_KINDS if not kind.startswith("H") and "#" not in kind)

EDGES = {
    "bond_lengths": np.linspace(0.6, 2.2, 801),  # Angstrom
    "angles": np.linspace(0.0, 180.0, 361),  # degrees
    "torsions": np.linspace(0.0, 180.0, 37),  # degrees without sign: mirror images count alike
}
"""Edges of the bins; what lies outside is counted in the outermost bin."""

SCORES = {
    "bond_lengths": "wasserstein/bond_lengths",
    "angles": "wasserstein/angles",
    "torsions": "js/torsions",
}
"""The score of each term."""

_SYMBOLS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
_SIGNS = {"-": 2, "=": 4, "#": 6, ":": 3}  # twice the order of the bond
_SLOTS = 6  # neighbours of an atom at most, in a molecule that RDKit sanitises
_BENT = 0.2  # Angstrom that an end of a torsion lies off its axis, at least
_BLOCK = 512  # molecules whose geometry is computed at once


def histograms(mols: Sequence[Mol], parts: int = 1) -> list[dict[str, NDArray[np.int64]]]:
    """Counts of every kind and bin.

    Arguments:
        mols: sanitised, with explicit hydrogens and a finite conformer.
        parts: how many groups of molecules are counted apart; consecutive ones lie in different groups.

    Example:
        >>> from molgen.modalities.molecule.codec import assemble
        >>> water = assemble([("O", 0), ("H", 0), ("H", 0)], np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]),
        ...                  np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]))
        >>> _ = Chem.SanitizeMol(water)
        >>> {term: int(counts.sum()) for term, counts in histograms([water])[0].items()}
        {'bond_lengths': 2, 'angles': 1, 'torsions': 0}
    """
    kinds = {"bond_lengths": BOND_KINDS, "angles": ANGLE_KINDS, "torsions": TORSION_KINDS}
    out = [
        {term: np.zeros((len(kinds[term]), len(EDGES[term]) - 1), np.int64) for term in EDGES}
        for _ in range(parts)
    ]
    for part, total in enumerate(out):
        chosen = mols[part::parts]
        for start in range(0, len(chosen), _BLOCK):
            for term, (kind, value) in _measured(chosen[start : start + _BLOCK]).items():
                known = kind >= 0
                edges = EDGES[term]
                bins = len(edges) - 1
                step = (edges[-1] - edges[0]) / bins
                column = ((value[known] - edges[0]) / step).astype(np.int64).clip(0, bins - 1)
                flat = np.bincount(kind[known] * bins + column, minlength=total[term].size)
                total[term] += flat.reshape(total[term].shape)
    return out


def distances(counts: Counts, reference: Counts) -> dict[str, float]:
    r"""How far histograms are apart, by term.

    Each kind's 1-Wasserstein distance $\int |F - G|$ (lengths in Angstrom, angles in degrees) or
    Jensen-Shannon divergence (torsions, in nats), averaged over the kinds that both have with the
    reference's frequencies as weights; NaN where they share none.

    Arguments:
        counts: of samples.
        reference: of the data.
    """
    from scipy.stats import wasserstein_distance

    scores = {}
    for term, name in SCORES.items():
        found, true = np.asarray(counts[term], np.float64), np.asarray(reference[term], np.float64)
        weight = true.sum(1)
        shared = np.flatnonzero((weight > 0) & (found.sum(1) > 0))
        edges = EDGES[term]
        apart = []
        for kind in shared:
            if term == "torsions":
                apart.append(js_divergence(found[kind], true[kind]))
            else:
                apart.append(wasserstein_distance(edges[:-1], edges[:-1], found[kind], true[kind]))
        scores[name] = float(np.average(apart, weights=weight[shared])) if apart else float("nan")
    return scores


def _measured(mols: Sequence[Mol]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Per term the kind (-1 for one that is not compared) and the value of every bond, angle, torsion."""
    numbers, xyz, pairs, orders = [np.zeros(0, np.int64)], [np.zeros((0, 3))], [np.zeros((0, 2), int)], []
    start = 0
    for mol in mols:
        n = mol.GetNumAtoms()
        numbers.append(np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64))
        xyz.append(mol.GetConformer().GetPositions())
        matrix = Chem.GetAdjacencyMatrix(mol, useBO=True)
        found = np.argwhere(matrix)  # each bond in both directions
        pairs.append(found + start)
        orders.append((2 * matrix[found[:, 0], found[:, 1]]).astype(np.int64))
        start += n
    z, r, edge = np.concatenate(numbers), np.concatenate(xyz), np.concatenate(pairs)
    order = np.concatenate([np.zeros(0, np.int64), *orders])
    a, b = edge[:, 0], edge[:, 1]
    kind = _bond_kind(BOND_KINDS)[z[a].clip(0, 9), z[b].clip(0, 9), order.clip(0, 7)]
    kind[(z[a] > 9) | (z[b] > 9)] = -1
    once = a < b
    length = np.linalg.norm(r[a] - r[b], axis=-1)
    # The neighbours of every atom, in a table: edges come sorted by their first atom.
    degree = np.bincount(a, minlength=len(z))
    slot = np.arange(len(a)) - (np.cumsum(degree) - degree)[a]
    near = np.full((len(z), _SLOTS), -1)
    fits = slot < _SLOTS
    near[a[fits], slot[fits]] = b[fits]
    turning = _bond_kind(TORSION_KINDS)[z[a].clip(0, 9), z[b].clip(0, 9), order.clip(0, 7)]
    axis = once & (turning >= 0) & (z[a] <= 9) & (z[b] <= 9)
    return {
        "bond_lengths": (kind[once], length[once]),
        "angles": _angles(z, r, near, degree),
        "torsions": _torsions(r, near, a[axis], b[axis], turning[axis]),
    }


def _angles(
    z: NDArray[np.int64], r: NDArray[np.float64], near: NDArray[Any], degree: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    table = np.full((10, _SLOTS + 1), -1)
    for i, name in enumerate(ANGLE_KINDS):
        table[_SYMBOLS[name[0]], int(name[1])] = i
    kinds = np.where(z <= 9, table[z.clip(0, 9), degree.clip(0, _SLOTS)], -1)
    kind, value = [np.zeros(0, np.int64)], [np.zeros(0)]
    for p in range(_SLOTS):
        for q in range(p + 1, _SLOTS):
            middle = np.flatnonzero((near[:, q] >= 0) & (kinds >= 0))
            u, v = r[near[middle, p]] - r[middle], r[near[middle, q]] - r[middle]
            # The angle from both its sine and its cosine, exact near 180 degrees too.
            angle = np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1))
            kind.append(kinds[middle])
            value.append(np.degrees(angle))
    return np.concatenate(kind), np.concatenate(value)


def _torsions(
    r: NDArray[np.float64], near: NDArray[Any], a: NDArray[Any], b: NDArray[Any], kinds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    kind, value = [np.zeros(0, np.int64)], [np.zeros(0)]
    for p in range(_SLOTS):
        for q in range(_SLOTS):
            i, j = near[a, p], near[b, q]
            use = np.flatnonzero((i >= 0) & (j >= 0) & (i != b) & (j != a) & (i != j))
            axis = r[b[use]] - r[a[use]]
            first, last = np.cross(r[a[use]] - r[i[use]], axis), np.cross(axis, r[j[use]] - r[b[use]])
            # Within about 10 degrees of a straight line a torsion is only noise.
            bent = np.minimum(np.linalg.norm(first, axis=-1), np.linalg.norm(last, axis=-1)) > (
                _BENT * np.linalg.norm(axis, axis=-1)
            )
            sine = np.linalg.norm(np.cross(first, last), axis=-1)
            kind.append(kinds[use][bent])
            value.append(np.degrees(np.arctan2(sine, (first * last).sum(-1)))[bent])
    return np.concatenate(kind), np.concatenate(value)


def _bond_kind(names: Sequence[str]) -> NDArray[np.int64]:
    """The kind of a bond by atomic numbers and twice the order, `(10, 10, 8)`; -1 for none."""
    out = np.full((10, 10, 8), -1)
    for i, name in enumerate(names):
        x, y, order = _SYMBOLS[name[0]], _SYMBOLS[name[2]], _SIGNS[name[1]]
        out[x, y, order] = out[y, x, order] = i
    return out
