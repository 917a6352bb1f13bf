"""Molecules to the graphs of PyG and back, by the names that its data sets use."""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import Mol

from molgen.core.errors import DataError
from molgen.modalities.chemistry.parse import canonical, flat, parse, sanitised

_KINDS = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)


def to_pyg(mol: Mol) -> Any:
    """The graph of a molecule: a `torch_geometric.data.Data` with a node for each atom that it has.

    Hydrogens that are no atoms are counted as RDKit counts them, so that `from_pyg` gives the molecule back.
    Stereochemistry and isotopes stay behind.

    Arguments:
        mol: a molecule, sanitised or not.

    Errors: `DataError` for bonds that are neither single, double, triple nor aromatic.

    Returns: `z`, `formal_charge`, `explicit_hydrogens` and `no_implicit`, `(n,)` each; `edge_index` `(2, e)`
    with both directions of each bond, `edge_attr` `(e, 4)`, and with a conformer `pos` `(n, 3)` in Angstrom,
    in float64.

    Example:
        >>> graph = to_pyg(Chem.MolFromSmiles("C#N"))
        >>> graph.z.tolist(), graph.edge_index.tolist(), graph.edge_attr[0].tolist()
        ([6, 7], [[0, 1], [1, 0]], [0.0, 0.0, 1.0, 0.0])
    """
    import torch
    from torch_geometric.data import Data

    atoms, ends, kinds = list(mol.GetAtoms()), [], []
    for bond in mol.GetBonds():
        if bond.GetBondType() not in _KINDS:
            raise DataError(
                f"a bond of type {bond.GetBondType()}, expected single, double, triple or aromatic",
                fix="leave the molecule out",
            )
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        ends += [(i, j), (j, i)]
        kinds += [_KINDS.index(bond.GetBondType())] * 2
    graph = Data(
        z=torch.tensor([atom.GetAtomicNum() for atom in atoms], dtype=torch.long),
        edge_index=torch.tensor(ends, dtype=torch.long).reshape(-1, 2).T.contiguous(),
        edge_attr=torch.eye(len(_KINDS))[torch.tensor(kinds, dtype=torch.long)],
        formal_charge=torch.tensor([atom.GetFormalCharge() for atom in atoms], dtype=torch.long),
        explicit_hydrogens=torch.tensor([atom.GetNumExplicitHs() for atom in atoms], dtype=torch.long),
        no_implicit=torch.tensor([atom.GetNoImplicit() for atom in atoms], dtype=torch.bool),
        num_nodes=len(atoms),
    )
    if mol.GetNumConformers():
        graph.pos = torch.from_numpy(np.array(mol.GetConformer().GetPositions(), np.float64))
    return graph


def from_pyg(graph: Any) -> Mol:
    """A molecule with the atoms, bonds and coordinates of a graph, sanitised where RDKit agrees.

    Of a graph that `to_pyg` made nothing is changed: what RDKit would alter to sanitise it, stays as it is.

    Arguments:
        graph: a `torch_geometric.data.Data` with `z` `(n,)`, elements; `edge_index` `(2, e)` and `edge_attr`
            `(e, 4)`, one column each for single, double, triple and aromatic bonds; perhaps `pos` `(n, 3)` in
            Angstrom, `formal_charge` `(n,)`, and the hydrogens as `to_pyg` tells them.

    Errors: `DataError` naming the tensor that is missing.
    """
    z, bonds = _array(graph, "z").astype(int), _array(graph, "edge_attr")
    ends = _array(graph, "edge_index").astype(int)
    if bonds.ndim != 2 or bonds.shape[1] < len(_KINDS) or ends.shape != (2, len(bonds)):
        raise DataError(
            f"edge_attr of shape {bonds.shape}, expected (edges, 4): single, double, triple, aromatic",
            fix="one-hot encode the bonds in this order",
        )
    mol, told = Chem.RWMol(), _told(graph)
    charges = _array(graph, "formal_charge", np.zeros(len(z)))
    hydrogens = _array(graph, "explicit_hydrogens", np.zeros(len(z)))
    bare = _array(graph, "no_implicit", np.zeros(len(z)))
    for number, charge, count, alone in zip(z.tolist(), charges, hydrogens, bare, strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(int(charge))
        atom.SetNumExplicitHs(int(count))
        atom.SetNoImplicit(bool(alone))
        mol.AddAtom(atom)
    for (i, j), kind in zip(ends.T.tolist(), bonds[:, : len(_KINDS)].argmax(1).tolist(), strict=True):
        if i < j:
            mol.AddBond(i, j, _KINDS[kind])
            if _KINDS[kind] is Chem.BondType.AROMATIC:
                mol.GetBondBetweenAtoms(i, j).SetIsAromatic(True)
                for end in (i, j):
                    mol.GetAtomWithIdx(end).SetIsAromatic(True)
    if getattr(graph, "pos", None) is not None:
        conformer = Chem.Conformer(len(z))
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(_array(graph, "pos"), np.float64))
        mol.AddConformer(conformer, assignId=True)
    raw = mol.GetMol()
    clean = sanitised(raw)
    if clean is not None and not (told and _facts(clean) != _facts(raw)):
        return clean
    raw.UpdatePropertyCache(strict=False)
    return raw


def constitution(graph: Any) -> Mol:
    """The molecule of a graph without coordinates and hydrogens: of its `smiles` where it has one."""
    smiles = getattr(graph, "smiles", None)
    if isinstance(smiles, str):
        return flat(parse(smiles))
    mol = from_pyg(graph)
    if _told(graph) and not mol.GetNumConformers():
        return mol
    canonical(mol)  # refuses what RDKit does not sanitise, and says so
    return flat(mol)


def _told(graph: Any) -> bool:
    """Whether a graph says of every atom what hydrogens it has besides."""
    return getattr(graph, "explicit_hydrogens", None) is not None


def _facts(mol: Mol) -> list[Any]:
    """What sanitising may change."""
    charges = [atom.GetFormalCharge() for atom in mol.GetAtoms()]
    return [*charges, *(bond.GetBondType() for bond in mol.GetBonds())]


def _array(graph: Any, name: str, default: np.ndarray | None = None) -> np.ndarray:
    tensor = getattr(graph, name, None)
    if tensor is None and default is not None:
        return default
    if tensor is None:
        raise DataError(f"a graph of PyG without {name}", fix="give graphs with z, edge_index and edge_attr")
    return np.asarray(tensor)
