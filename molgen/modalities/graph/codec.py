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
_KIND = re.compile(r"([A-Z][a-z]?)([+-]\d*)?")


def kind_of(atom: Chem.Atom) -> str:
    """Element and charge of an atom, e.g. ``"N+"`` or ``"O-"``."""
    charge = atom.GetFormalCharge()
    size = "" if abs(charge) < 2 else str(abs(charge))
    return str(atom.GetSymbol()) + ("" if charge == 0 else ("+" if charge > 0 else "-") + size)


def split_kind(kind: str) -> tuple[str, int]:
    """Element and charge of a kind.

    Example:
        >>> split_kind("N+"), split_kind("Fe+2"), split_kind("C")
        (('N', 1), ('Fe', 2), ('C', 0))
    """
    match = _KIND.fullmatch(kind)
    if match is None:
        raise DataError(f"{kind!r} is not an element with a charge", fix="write e.g. C, N+ or O-")
    sign = match[2] or ""
    return match[1], 0 if not sign else int(sign if len(sign) > 1 else sign + "1")


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

    Errors: `DataError` for radicals, hydrogens that the valences do not imply, and bonds of other orders.

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
        rebuilt = to_mol(kinds, bonds)
        given = [atom.GetTotalNumHs() for atom in atoms]
        if given != [atom.GetTotalNumHs() for atom in rebuilt.GetAtoms()]:
            raise DataError(
                f"{text(mol)} has a radical, or hydrogens that its valences do not imply",
                fix="leave the molecule out",
            )
    return kinds, bonds


def to_mol(kinds: list[str], bonds: np.ndarray) -> Mol:
    """The molecule of these arrays, sanitised where RDKit agrees, else as it stands; nothing is repaired.

    Arguments:
        kinds: `(N,)` element and charge of each atom.
        bonds: `(N, N)` classes; the upper triangle is read.

    Example:
        >>> Chem.MolToSmiles(to_mol(["C", "C", "O"], np.array([[0, 1, 0], [0, 0, 2], [0, 0, 0]])))
        'CC=O'
        >>> to_mol(["F", "F", "F"], np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])).GetNumAtoms()
        3
    """
    raw = Chem.RWMol()
    for kind in kinds:
        element, charge = split_kind(kind)
        atom = Chem.Atom(element)
        atom.SetFormalCharge(charge)
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
