"""Which atoms have the bonds they should have: by distances alone, and by the bonds that came with them.

Source: Hoogeboom et al., Equivariant Diffusion for Molecule Generation in 3D (arXiv:2203.17003), for the
table of typical bond lengths and its margins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molgen.modalities.molecule.codec import BONDS, Mol

LENGTHS: tuple[dict[str, int], ...] = (
    {
        "HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92, "CC": 154, "CN": 147, "CO": 143, "CF": 135,
        "NN": 145, "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142,
    },
    {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121},
    {"CC": 120, "CN": 116, "CO": 113, "NN": 110},
)  # fmt: skip
"""Typical lengths of single, double and triple bonds in pm."""

MARGINS = (10, 5, 3)
"""What a distance may exceed them by, in pm."""

VALENCE = {"H": 1, "C": 4, "N": 3, "O": 2, "F": 1}
"""What the orders of an atom's bonds sum to by the table, which knows no charges."""

CHARGED: dict[tuple[str, int], tuple[int, ...]] = {
    ("H", 0): (1,), ("H", 1): (0,), ("H", -1): (0,),
    ("B", 0): (3,), ("B", -1): (4,),
    ("C", 0): (4,), ("C", 1): (3,), ("C", -1): (3,),
    ("N", 0): (3,), ("N", 1): (4,), ("N", -1): (2,),
    ("O", 0): (2,), ("O", 1): (3,), ("O", -1): (1,),
    ("F", 0): (1,), ("F", -1): (0,),
    ("Si", 0): (4,), ("P", 0): (3, 5), ("P", 1): (4,),
    ("S", 0): (2, 4, 6), ("S", 1): (3,), ("S", -1): (1,),
    ("Cl", 0): (1,), ("Cl", -1): (0,), ("Br", 0): (1,), ("Br", -1): (0,), ("I", 0): (1,), ("I", -1): (0,),
}  # fmt: skip
"""What the orders of an atom's bonds may sum to, given its formal charge."""

_NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
_PAIRS = 1 << 20  # of atoms whose distances are held at once


def table_orders(numbers: NDArray[Any], xyz: NDArray[Any]) -> NDArray[np.uint8]:
    r"""Bond orders 0-3 by the table, for padded molecules `(B, N, N)`.

    A pair is bonded where $d_{ij} < l_1 + 10$ pm, doubly where also $d_{ij} < l_2 + 5$ pm, and triply where
    also $d_{ij} < l_3 + 3$ pm, with $l_k$ the typical lengths for its elements. The thresholds are nested, so
    the order is how many of them hold. Elements other than H, C, N, O, F have no bonds.

    Arguments:
        numbers: atomic numbers `(B, N)`, 0 for padding.
        xyz: coordinates `(B, N, 3)` in Angstrom; what is not finite is bonded to nothing.

    Example:
        >>> nitrogen = np.array([[[0, 0, 0], [0, 0, 1.098]]])
        >>> table_orders(np.array([[7, 7]]), nitrogen)[0].tolist()
        [[0, 3], [3, 0]]
    """
    kinds = np.where(numbers < len(_KIND), _KIND[numbers.clip(0, len(_KIND) - 1)], 0)
    apart = xyz[:, :, None] - xyz[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        squared = (apart * apart).sum(-1)
    squared[:, np.arange(squared.shape[1]), np.arange(squared.shape[1])] = np.inf
    limits = _LIMITS[:, kinds[:, :, None], kinds[:, None]]
    orders: NDArray[np.uint8] = (squared < limits).sum(0).astype(np.uint8)
    return orders


def by_table(
    numbers: Sequence[NDArray[Any]], xyz: Sequence[NDArray[Any]]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Per molecule the bond orders `(n, n)` by the table, and which atoms `(n,)` are stable with them.

    Arguments:
        numbers: atomic numbers of each molecule.
        xyz: coordinates of each molecule in Angstrom, `(n, 3)`.

    Example:
        >>> water = np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
        >>> [stable.tolist() for _, stable in by_table([np.array([8, 1, 1])], [water])]
        [[True, True, True]]
    """
    start = 0
    while start < len(numbers):
        widest, stop = max(len(numbers[start]), 1), start + 1
        while stop < len(numbers):
            wider = max(widest, len(numbers[stop]))
            if wider * wider * (stop + 1 - start) > _PAIRS:
                break
            widest, stop = wider, stop + 1
        z = np.zeros((stop - start, widest), dtype=np.int64)
        r = np.full((stop - start, widest, 3), np.nan)
        for row, i in enumerate(range(start, stop)):
            z[row, : len(numbers[i])], r[row, : len(numbers[i])] = numbers[i], xyz[i]
        orders = table_orders(z, r)
        wanted = np.where(z < len(_WANTED), _WANTED[z.clip(0, len(_WANTED) - 1)], 0)
        stable = (orders.sum(-1) == wanted) & (wanted > 0)
        for row, i in enumerate(range(start, stop)):
            n = len(numbers[i])
            yield orders[row, :n, :n], stable[row, :n]
        start = stop


def by_bonds(mol: Mol) -> NDArray[np.bool_]:
    """Which atoms `(n,)` have a valence, by the molecule's own bonds, that their formal charge allows.

    Arguments:
        mol: explicit hydrogens; aromatic bonds are kekulised first, and no atom of a molecule with
            aromatic bonds that cannot be is stable.

    Example:
        >>> by_bonds(Chem.AddHs(Chem.MolFromSmiles("[NH4+]"))).all()
        np.True_
    """
    orders = Chem.GetAdjacencyMatrix(mol, useBO=True, force=True)
    if (orders == 1.5).any():
        mol = Mol(mol)
        try:
            with rdBase.BlockLogs():
                Chem.Kekulize(mol, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            return np.zeros(mol.GetNumAtoms(), dtype=bool)
        orders = Chem.GetAdjacencyMatrix(mol, useBO=True, force=True)
    return np.array(
        [
            total in CHARGED.get((atom.GetSymbol(), atom.GetFormalCharge()), ())
            for atom, total in zip(mol.GetAtoms(), orders.sum(-1).tolist(), strict=True)
        ],
        dtype=bool,
    )


def largest_fragment(numbers: NDArray[Any], orders: NDArray[Any]) -> str | None:
    """The canonical SMILES of the largest fragment with these bonds; None if RDKit does not sanitise all.

    Missing valences are filled with implicit hydrogens and there are no charges, as in EDM.

    Arguments:
        numbers: atomic numbers `(n,)`.
        orders: bond orders 0-3, symmetric `(n, n)`.

    Example:
        >>> largest_fragment(np.array([8, 1, 2]), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]))
        '[H]O'
    """
    mol = Chem.RWMol()
    for number in numbers.tolist():
        mol.AddAtom(Chem.Atom(int(number)))
    for i, j in np.argwhere(np.triu(orders, 1)).tolist():
        mol.AddBond(i, j, BONDS[int(orders[i, j])])
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError):
        return None
    parts: Any = Chem.GetMolFrags(mol)
    if not parts:
        return None
    largest = max(parts, key=len)
    return str(Chem.MolFragmentToSmiles(mol, largest))


def _limits() -> NDArray[np.float64]:
    """Squared thresholds in Angstrom, `(3, kinds, kinds)`; kind 0 is padding and all other elements."""
    symbols = list(_NUMBERS)
    out = np.zeros((3, len(symbols) + 1, len(symbols) + 1))
    for k, (lengths, margin) in enumerate(zip(LENGTHS, MARGINS, strict=True)):
        for pair, length in lengths.items():
            i, j = symbols.index(pair[0]) + 1, symbols.index(pair[1]) + 1
            out[k, i, j] = out[k, j, i] = ((length + margin) / 100) ** 2
    return out


_KIND = np.zeros(10, dtype=np.int64)
_WANTED = np.zeros(10, dtype=np.int64)
for _kind, (_symbol, _number) in enumerate(_NUMBERS.items(), 1):
    _KIND[_number], _WANTED[_number] = _kind, VALENCE[_symbol]
_LIMITS = _limits()
