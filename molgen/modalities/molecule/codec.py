"""Molecules to arrays and back: the canonical order of atoms, and nothing repaired on the way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molgen.core.errors import DataError

Mol = Chem.Mol
Vocabulary = Sequence[tuple[str, int]]
"""Element and formal charge of every class of atoms."""

BONDS = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
_TABLE = Chem.GetPeriodicTable()


def positions_of(mol: Mol) -> NDArray[np.float64]:
    """Coordinates of the only conformer, `(n, 3)`, in Angstrom; `DataError` unless they are finite and 3D."""
    if not isinstance(mol, Mol):
        raise DataError(f"a record of type {type(mol).__name__}, expected rdkit.Chem.Mol", fix="remove it")
    if mol.GetNumConformers() == 0:
        raise DataError("molecule without coordinates", fix="give it a conformer, e.g. with EmbedMolecule")
    xyz: NDArray[np.float64] = mol.GetConformer().GetPositions()
    if not np.isfinite(xyz).all():
        raise DataError("coordinates that are not finite numbers", fix="remove the record")
    return xyz


def bond_orders(mol: Mol) -> NDArray[np.uint8]:
    """Kekulised bond orders 0-3, symmetric `(n, n)`; `DataError` for any other kind of bond."""
    orders: NDArray[np.float64] = Chem.GetAdjacencyMatrix(mol, useBO=True)
    rounded = orders.astype(np.uint8)
    if (rounded != orders).any() or (rounded > 3).any():
        raise DataError("a bond that is neither single, double nor triple", fix="kekulise the molecule")
    return rounded


def canonical(mol: Mol) -> tuple[list[int], NDArray[np.uint8]]:
    r"""The canonical order of the atoms, and the bond orders in that order.

    Heavy atoms come as RDKit writes them in the canonical SMILES (without stereo marks), each hydrogen
    directly after its heavy atom. Two hydrogens of one atom $c$ are sorted by the handedness
    $(h_1 - c) \times (h_2 - c) \cdot (x - c) > 0$, with $x$ the first heavy neighbour in this order;
    three run around $x$ in the same sense. Aromatic rings are kekulised as in the parsed canonical SMILES, so
    the result does not depend on the order in which the atoms came. This order is a modelling
    choice: it lets a network tell sites apart, and symmetric atoms keep the order they came in.

    Arguments:
        mol: explicit hydrogens, with or without a conformer; unsanitised is fine.

    Errors:
        `DataError` for bonds that are neither single, double, triple nor aromatic.

    Example:
        >>> canonical(Chem.AddHs(Chem.MolFromSmiles("OC")))[0]
        [1, 3, 4, 5, 0, 2]
    """
    whole = Chem.Mol(mol)
    tidy = Chem.SanitizeMol(whole, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    if not tidy:
        whole = Chem.Mol(mol)
        whole.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(whole)
    numbers = np.array([atom.GetAtomicNum() for atom in whole.GetAtoms()], dtype=np.int64)
    heavy = np.flatnonzero(numbers > 1)
    order: list[int] = []
    smiles = ""
    if len(heavy):
        # Only the heavy skeleton decides; RemoveAllHs keeps hydrogen counts as properties of the atoms.
        skeleton = Chem.RemoveAllHs(whole, sanitize=False)
        smiles = Chem.MolToSmiles(skeleton, isomericSmiles=False)
        order = [int(heavy[i]) for i in skeleton.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]]
    aromatic = tidy and any(bond.GetIsAromatic() for bond in whole.GetBonds())
    if aromatic:
        Chem.Kekulize(whole, clearAromaticFlags=True)
    bonds = bond_orders(whole)
    if aromatic:
        parsed = Chem.MolFromSmiles(smiles)
        if parsed is not None and parsed.GetNumAtoms() == len(order):
            Chem.Kekulize(parsed, clearAromaticFlags=True)
            bonds[np.ix_(order, order)] = bond_orders(parsed)
    full: list[int] = []
    xyz = mol.GetConformer().GetPositions() if mol.GetNumConformers() else None
    rank = {atom: i for i, atom in enumerate(order)}
    taken = set(order)
    for atom in order:
        near = np.flatnonzero(bonds[atom])
        hydrogens = [int(i) for i in near if numbers[i] <= 1 and int(i) not in taken]
        if xyz is not None and 2 <= len(hydrogens) <= 3:
            others = [int(i) for i in near if numbers[i] > 1]
            hydrogens = _handed(hydrogens, atom, min(others, key=rank.__getitem__, default=None), xyz)
        full += [atom, *hydrogens]
        taken.update(hydrogens)
    full += [i for i in range(len(numbers)) if i not in taken]
    return full, bonds[np.ix_(full, full)]


def _handed(hydrogens: list[int], centre: int, axis: int | None, xyz: NDArray[np.float64]) -> list[int]:
    """The last two hydrogens swapped if needed, so that they turn the same way round in every molecule."""
    if axis is None:
        return hydrogens
    c = xyz[centre]
    a, b, x = xyz[hydrogens[-2]] - c, xyz[hydrogens[-1]] - c, xyz[axis] - c
    if len(hydrogens) == 3:  # seen along x, the sense of all three; b - a does not depend on the tilt
        first = xyz[hydrogens[0]] - c
        a, b = a - first, b - first
    turn = float(
        (a[1] * b[2] - a[2] * b[1]) * x[0]
        + (a[2] * b[0] - a[0] * b[2]) * x[1]
        + (a[0] * b[1] - a[1] * b[0]) * x[2]
    )
    return hydrogens if turn > 0 else [*hydrogens[:-2], hydrogens[-1], hydrogens[-2]]


def kinds(mol: Mol) -> list[tuple[str, int]]:
    """Element and formal charge of every atom, in the order they are stored."""
    return [(atom.GetSymbol(), atom.GetFormalCharge()) for atom in mol.GetAtoms()]


def assemble(
    atoms: Sequence[tuple[str, int]], bonds: NDArray[Any], xyz: NDArray[np.floating] | None = None
) -> Mol:
    """An unsanitised molecule from atoms, bond orders and coordinates, exactly as given.

    No hydrogens are implied: an atom with too few bonds stays so.

    Arguments:
        atoms: element and formal charge of each of `n` atoms.
        bonds: orders 0-3, `(n, n)`; the upper triangle is read.
        xyz: coordinates `(n, 3)` in Angstrom, or None.

    Example:
        >>> mol = assemble([("O", -1), ("H", 0)], np.array([[0, 1], [1, 0]]), np.zeros((2, 3)))
        >>> Chem.MolToSmiles(mol)
        '[H][O-]'
    """
    mol = Chem.RWMol()
    for symbol, charge in atoms:
        atom = Chem.Atom(symbol)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for i, j in np.argwhere(np.triu(bonds, 1)).tolist():
        mol.AddBond(i, j, BONDS[int(bonds[i, j])])
    if xyz is not None:
        conformer = Chem.Conformer(len(atoms))
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(xyz, dtype=np.float64))
        mol.AddConformer(conformer, assignId=True)
    return mol.GetMol()


def symbol_of(number: int) -> str:
    """The element symbol of an atomic number."""
    return str(_TABLE.GetElementSymbol(number))


def number_of(symbol: str) -> int:
    """The atomic number of an element symbol; `DataError` for an unknown one."""
    try:
        return int(_TABLE.GetAtomicNumber(symbol))
    except RuntimeError:
        raise DataError(f"unknown element {symbol!r}", fix="use an element symbol such as C or Cl") from None
