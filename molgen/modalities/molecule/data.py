"""Data sets of 3D molecules: QM9, whose molecules are built when they are asked for, and a small embedded set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molgen.core.data import DataSource, Records
from molgen.core.errors import ConfigError
from molgen.core.files import load_arrays
from molgen.modalities.molecule.codec import Mol

LABELS = ("homo", "lumo", "gap", "mu", "alpha", "cv")
SPLITS = {"train": 1, "valid": 2, "test": 3}


class Geometries(Sequence[Mol]):
    """Molecules of QM9 as a lazy sequence: each is built from its SMILES and coordinates on access.

    Arguments:
        smiles: one per molecule.
        z: atomic numbers of all molecules, concatenated.
        xyz: coordinates of all molecules in Angstrom, concatenated, `(sum n, 3)`.
        start: first atom of each molecule.
        count: atoms of each molecule.
        ordered: whether the heavy atoms stand in the order of the SMILES.
    """

    def __init__(
        self,
        smiles: Sequence[bytes] | NDArray[Any],
        z: NDArray[Any],
        xyz: NDArray[Any],
        start: NDArray[np.int64],
        count: NDArray[Any],
        ordered: NDArray[np.bool_],
    ) -> None:
        self.smiles, self.z, self.xyz = smiles, z, xyz
        self.start, self.count, self.ordered = start, count, ordered

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, index: int) -> Mol: ...
    @overload
    def __getitem__(self, index: slice) -> Geometries: ...
    def __getitem__(self, index: Any) -> Any:
        """The molecule, or a lazy part for a slice or an index array."""
        if not isinstance(index, (int, np.integer)):
            smiles = np.asarray(self.smiles)[index]
            return Geometries(
                smiles, self.z, self.xyz, self.start[index], self.count[index], self.ordered[index]
            )
        a, n = int(self.start[index]), int(self.count[index])
        mol = attach(
            self.smiles[index].decode(), self.z[a : a + n], self.xyz[a : a + n], bool(self.ordered[index])
        )
        if mol is None:
            raise IndexError(index)
        return mol


def attach(smiles: str, z: NDArray[Any], xyz: NDArray[Any], ordered: bool = False) -> Mol | None:
    """A molecule with the graph of a SMILES and given coordinates; None if they do not fit together.

    Arguments:
        smiles: the graph.
        z: atomic numbers, `(n,)`.
        xyz: coordinates in Angstrom, `(n, 3)`.
        ordered: the heavy atoms stand in the order of the SMILES; otherwise they are matched by
            connectivity.
    """
    xyz = np.asarray(xyz, dtype=np.float64)
    skeleton = Chem.MolFromSmiles(smiles)
    if skeleton is None:
        return None
    heavy = np.flatnonzero(z > 1)
    mol = Chem.AddHs(skeleton)
    if len(heavy) != skeleton.GetNumAtoms() or mol.GetNumAtoms() != len(z):
        return None
    for match in [np.arange(len(heavy))] if ordered else _matches(skeleton, z[heavy], xyz[heavy]):
        order = _complete(mol, heavy[match], np.flatnonzero(z == 1), xyz)
        if order is not None:
            conformer = Chem.Conformer(len(z))
            conformer.Set3D(True)
            conformer.SetPositions(np.ascontiguousarray(xyz[order]))
            mol.AddConformer(conformer, assignId=True)
            return mol
    return None


def _complete(
    mol: Mol, heavy: NDArray[Any], hydrogens: NDArray[Any], xyz: NDArray[np.float64]
) -> NDArray[np.int64] | None:
    """Heavy atoms and then the hydrogens in the order of AddHs, each beside its nearest heavy atom."""
    if not len(hydrogens):
        return heavy
    near = ((xyz[hydrogens, None] - xyz[heavy]) ** 2).sum(-1).argmin(1)
    # AddHs appends hydrogens parent by parent, so the same stable order of ours fits atom by atom.
    wanted = [mol.GetAtomWithIdx(i).GetNeighbors()[0].GetIdx() for i in range(len(heavy), mol.GetNumAtoms())]
    pick = np.argsort(near, kind="stable")
    return np.concatenate([heavy, hydrogens[pick]]) if near[pick].tolist() == wanted else None


def _matches(skeleton: Mol, z: NDArray[Any], xyz: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """The ways to lay a graph over a cloud of heavy atoms, by elements and connectivity alone."""
    table = Chem.GetPeriodicTable()
    radius = np.array([table.GetRcovalent(int(number)) for number in z])
    distance = np.sqrt(((xyz[:, None] - xyz) ** 2).sum(-1))
    plain = Chem.RWMol()
    for atom in skeleton.GetAtoms():
        plain.AddAtom(Chem.Atom(atom.GetAtomicNum()))
    for bond in skeleton.GetBonds():
        plain.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    for slack in (1.25, 1.2, 1.15, 1.3):
        near = np.triu(distance < slack * (radius[:, None] + radius), 1)
        if near.sum() != skeleton.GetNumBonds():
            continue
        cloud = Chem.RWMol()
        for number in z:
            cloud.AddAtom(Chem.Atom(int(number)))
        for i, j in np.argwhere(near).tolist():
            cloud.AddBond(i, j, Chem.BondType.SINGLE)
        for match in cloud.GetSubstructMatches(plain, uniquify=False, maxMatches=256):
            yield np.array(match, dtype=np.int64)


def load_qm9(split: str) -> Records:
    """A split of QM9 with geometries (B3LYP) and quantum-chemical labels in the data set's raw units.

    Bond orders come from the data set's SMILES, laid over the coordinates by atom order or else by
    connectivity; the few molecules that fit neither way are left out.

    Arguments:
        split: ``"train"``, ``"valid"`` or ``"test"``, the split of Anderson et al. (2019) that EDM uses.

    Source: Ramakrishnan et al., Scientific Data 1, 140022 (2014).
    """
    if split not in SPLITS:
        raise ConfigError.unknown("split", split, SPLITS)
    arrays = load_arrays(qm9_file())
    count = arrays["n_atoms"].astype(np.int64)
    start = np.cumsum(count) - count
    rows = np.flatnonzero((count > 0) & (arrays["split"] == SPLITS[split]))
    ordered = arrays["smiles_order"].astype(bool)
    fits = np.ones(len(count), dtype=bool)
    for row in rows[~ordered[rows]]:
        part = slice(start[row], start[row] + count[row])
        fits[row] = attach(arrays["smiles"][row].decode(), arrays["z"][part], arrays["pos"][part]) is not None
    rows = rows[fits[rows]]
    items = Geometries(
        arrays["smiles"][rows], arrays["z"], arrays["pos"], start[rows], count[rows], ordered[rows]
    )
    return Records(items, {name: arrays[name][rows] for name in LABELS}, f"qm9/{split}")


def qm9_file() -> Path:
    """The converted file in the data folder, downloaded and converted first if need be."""
    from molgen.modalities.chemistry.qm9 import find

    return find()


DATASETS = {
    "qm9": DataSource(
        "qm9",
        load_qm9,
        130_831,
        "Ramakrishnan et al. 2014, figshare 3195389; geometries without fluorine in some copies",
        "CC0",
        ("qm9/qm9.npz",),
    ),
}
