"""Molecules from the graphs of PyG, by the names that its data sets use."""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import Mol

from molgen.core.errors import DataError
from molgen.modalities.chemistry.parse import canonical, flat, parse, sanitised

_KINDS = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)


def from_pyg(graph: Any) -> Mol:
    """A molecule with the atoms, bonds and coordinates of a graph, sanitised where RDKit agrees.

    Arguments:
        graph: a `torch_geometric.data.Data` with `z` `(n,)`, elements; `edge_index` `(2, e)` and `edge_attr`
            `(e, 4)`, one column each for single, double, triple and aromatic bonds; perhaps `pos` `(n, 3)` in
            Angstrom and `formal_charge` `(n,)`.

    Errors: `DataError` naming the tensor that is missing.
    """
    z, bonds = _array(graph, "z").astype(int), _array(graph, "edge_attr")
    ends = _array(graph, "edge_index").astype(int)
    if bonds.ndim != 2 or bonds.shape[1] < len(_KINDS) or ends.shape != (2, len(bonds)):
        raise DataError(
            f"edge_attr of shape {bonds.shape}, expected (edges, 4): single, double, triple, aromatic",
            fix="one-hot encode the bonds in this order",
        )
    charges = np.zeros(len(z), int) if getattr(graph, "formal_charge", None) is None else graph.formal_charge
    mol = Chem.RWMol()
    for number, charge in zip(z.tolist(), np.asarray(charges).tolist(), strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(int(charge))
        mol.AddAtom(atom)
    for (i, j), kind in zip(ends.T.tolist(), bonds[:, : len(_KINDS)].argmax(1).tolist(), strict=True):
        if i < j:
            mol.AddBond(i, j, _KINDS[kind])
            if _KINDS[kind] is Chem.BondType.AROMATIC:
                for end in (i, j):
                    mol.GetAtomWithIdx(end).SetIsAromatic(True)
    if getattr(graph, "pos", None) is not None:
        conformer = Chem.Conformer(len(z))
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(_array(graph, "pos"), np.float64))
        mol.AddConformer(conformer, assignId=True)
    clean = sanitised(mol.GetMol())
    return mol.GetMol() if clean is None else clean


def constitution(graph: Any) -> Mol:
    """The molecule of a graph without coordinates and hydrogens: of its `smiles` where it has one."""
    smiles = getattr(graph, "smiles", None)
    if isinstance(smiles, str):
        return flat(parse(smiles))
    mol = from_pyg(graph)
    canonical(mol)  # refuses what RDKit does not sanitise, and says so
    return flat(mol)


def _array(graph: Any, name: str) -> np.ndarray:
    tensor = getattr(graph, name, None)
    if tensor is None:
        raise DataError(f"a graph of PyG without {name}", fix="give graphs with z, edge_index and edge_attr")
    return np.asarray(tensor)
