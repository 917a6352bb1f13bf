"""Between molecules and two arrays: kinds of heavy atoms, and bond orders of the kekulised graph.

Atoms stand in the order of RDKit's canonical SMILES, and the molecule is kekulised in that order, so equal
molecules give equal arrays. The order is a modelling choice: neighbours in the array are mostly neighbours
in the molecule, which a network with positions can use. Hydrogens follow from the valences; stereochemistry
and isotopes are dropped.
"""

from __future__ import annotations

import re

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Mol

from molgen.core.errors import DataError
from molgen.modalities.chemistry.parse import flat, sanitised, text

_TYPES = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
_ORDERS = {bond: order for order, bond in _TYPES.items()}
_KIND = re.compile(r"([A-Z][a-z]?)(H\d+)?([+-]\d*)?")


def kind_of(atom: Chem.Atom, hydrogens: int | None = None) -> str:
    """Element and charge of an atom, e.g. ``"N+"``; with hydrogens that no valence implies, ``"CH2"``."""
    charge = atom.GetFormalCharge()
    size = "" if abs(charge) < 2 else str(abs(charge))
    head = str(atom.GetSymbol()) + ("" if hydrogens is None else f"H{hydrogens}")
    return head + ("" if charge == 0 else ("+" if charge > 0 else "-") + size)


def split_kind(kind: str) -> tuple[str, int, int | None]:
    """Element, charge and number of hydrogens of a kind; None where the valence implies them.

    Example:
        >>> split_kind("N+"), split_kind("Fe+2"), split_kind("CH2")
        (('N', 1, None), ('Fe', 2, None), ('C', 0, 2))
    """
    match = _KIND.fullmatch(kind)
    if match is None:
        raise DataError(f"{kind!r} is not an element with a charge", fix="write e.g. C, N+ or O-")
    sign = match[3] or ""
    charge = 0 if not sign else int(sign if len(sign) > 1 else sign + "1")
    return match[1], charge, None if match[2] is None else int(match[2][1:])


def arrange(mol: Mol) -> Mol:
    """The flat, kekulised molecule with its atoms in the order of its canonical SMILES.

    Arguments:
        mol: a molecule, sanitised or not; not changed.

    Example:
        >>> [kind_of(atom) for atom in arrange(Chem.MolFromSmiles("OC(C)=O")).GetAtoms()]
        ['C', 'C', 'O', 'O']
    """
    clean = sanitised(mol)
    if clean is None:
        raise DataError(f"a molecule that RDKit does not sanitise: {text(mol)}", fix="correct or remove it")
    clean = flat(clean)
    with rdBase.BlockLogs():
        Chem.MolToSmiles(clean)
        order = clean.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]
        clean = Chem.RenumberAtoms(clean, list(order))
        Chem.Kekulize(clean, clearAromaticFlags=True)
    return clean


def to_arrays(mol: Mol) -> tuple[list[str], np.ndarray]:
    """Kinds of the atoms and symmetric bond classes `(N, N)`, in canonical order.

    Errors: `DataError` for bonds of other orders.

    Example:
        >>> kinds, bonds = to_arrays(Chem.MolFromSmiles("C#N"))
        >>> kinds, bonds.tolist()
        (['C', 'N'], [[0, 3], [3, 0]])
    """
    arranged = arrange(mol)
    n = arranged.GetNumAtoms()
    bonds = np.zeros((n, n), np.uint8)
    for bond in arranged.GetBonds():
        order = _ORDERS.get(bond.GetBondType())
        if order is None:
            raise DataError(
                f"a bond of type {bond.GetBondType()} in {text(mol)}, expected single, double or triple",
                fix="leave the molecule out",
            )
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[i, j] = bonds[j, i] = order
    atoms = list(arranged.GetAtoms())
    kinds = [kind_of(atom) for atom in atoms]
    if any(atom.GetNoImplicit() or atom.GetNumRadicalElectrons() for atom in atoms):
        # Only atoms in brackets can have hydrogens other than those that the valence implies.
        given = [atom.GetTotalNumHs() for atom in atoms]
        implied = [atom.GetTotalNumHs() for atom in to_mol(kinds, bonds).GetAtoms()]
        kinds = [
            kind if h == n else kind_of(atom, h)
            for kind, atom, h, n in zip(kinds, atoms, given, implied, strict=True)
        ]
    return kinds, bonds


def to_mol(kinds: list[str], bonds: np.ndarray) -> Mol:
    """The molecule of these arrays, sanitised where RDKit agrees, else as it stands; nothing is repaired.

    Arguments:
        kinds: `(N,)` of each atom.
        bonds: `(N, N)` classes; the upper triangle is read.

    Example:
        >>> Chem.MolToSmiles(to_mol(["C", "C", "O"], np.array([[0, 1, 0], [0, 0, 2], [0, 0, 0]])))
        'CC=O'
        >>> to_mol(["F", "F", "F"], np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])).GetNumAtoms()
        3
    """
    raw = Chem.RWMol()
    for kind in kinds:
        element, charge, hydrogens = split_kind(kind)
        atom = Chem.Atom(element)
        atom.SetFormalCharge(charge)
        if hydrogens is not None:
            atom.SetNoImplicit(True)
            atom.SetNumExplicitHs(hydrogens)
        raw.AddAtom(atom)
    upper = np.triu(bonds, 1)
    for i, j in zip(*map(np.ndarray.tolist, upper.nonzero()), strict=True):
        raw.AddBond(i, j, _TYPES[min(int(upper[i, j]), 3)])
    mol = raw.GetMol()
    clean = sanitised(mol)
    if clean is not None:
        return clean
    mol.UpdatePropertyCache(strict=False)
    return mol
