"""Data sets of 3D molecules: QM9, whose molecules are built when asked for, and a small embedded one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, final, overload

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.io.data import DataSource
from molgen.io.files import load_arrays, save_arrays
from molgen.modalities.chemistry.data import gdb6
from molgen.modalities.chemistry.properties import LABELS
from molgen.modalities.chemistry.qm9 import FILE, find
from molgen.modalities.molecule.codec import Mol

SPLITS = {"train": 1, "valid": 2, "test": 3}


@final
class Geometries(Sequence[Mol]):
    """Molecules of QM9 as a lazy sequence: each is built from its SMILES and coordinates on access.

    Arguments:
        smiles: one per molecule, as bytes.
        z: atomic numbers of all molecules, concatenated.
        xyz: coordinates of all molecules in Angstrom, concatenated, `(sum n, 3)`.
        start: first atom of each molecule.
        count: atoms of each molecule.
        ordered: whether the heavy atoms stand in the order of the SMILES.
    """

    def __init__(
        self,
        smiles: NDArray[np.bytes_],
        z: NDArray[Any],
        xyz: NDArray[Any],
        start: NDArray[np.int64],
        count: NDArray[Any],
        ordered: NDArray[np.bool_],
    ) -> None:
        self.smiles, self.z, self.xyz = smiles, z, xyz
        self.start, self.sizes, self.ordered = start, count, ordered

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, index: int) -> Mol: ...
    @overload
    def __getitem__(self, index: slice) -> Geometries: ...
    def __getitem__(self, index: Any) -> Any:
        """The molecule, or a lazy part for a slice or an index array."""
        if not isinstance(index, (int, np.integer)):
            smiles = self.smiles[index]
            return Geometries(
                smiles, self.z, self.xyz, self.start[index], self.sizes[index], self.ordered[index]
            )
        a, n = int(self.start[index]), int(self.sizes[index])
        mol = attach(
            self.smiles[index].decode(), self.z[a : a + n], self.xyz[a : a + n], bool(self.ordered[index])
        )
        if mol is None:
            # An IndexError would end a loop over the molecules unnoticed.
            what = f"coordinates that do not fit {self.smiles[index].decode()}"
            raise DataError(what, record=int(index) + 1, fix="fetch the data set again")
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
    arrays = load_arrays(find())
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


GDB6 = Path(__file__).parent / "assets" / "gdb6_conformers.npz"  # `gdb6.npz` would be statistics
_UNIT = 1e-3  # Angstrom; the embedded coordinates are whole multiples of it


@lru_cache(maxsize=3)
def load_gdb6(split: str) -> Records:
    """The embedded molecules of up to six heavy atoms, with conformers made by RDKit; no download.

    Arguments:
        split: ``"train"``, ``"valid"`` or ``"test"``.
    """
    if split not in SPLITS:
        raise ConfigError.unknown("split", split, SPLITS)
    arrays = load_arrays(GDB6)
    smiles = arrays["smiles"]
    places = np.flatnonzero(np.isin(smiles, [s.encode() for s in gdb6(split).items]))
    sizes = arrays["sizes"].astype(np.int64)
    start = np.cumsum(sizes) - sizes
    xyz = arrays["xyz"] * _UNIT
    items = Geometries(
        smiles[places], arrays["z"], xyz, start[places], sizes[places], np.ones(len(places), dtype=bool)
    )
    return Records(items, name=f"gdb6/{split}")


def write_gdb6(path: Path = GDB6) -> None:
    """Makes the embedded conformers again and writes them: three minutes.

    One conformer each by ETKDG with a fixed seed, relaxed with the MMFF94 force field where it has
    parameters; molecules that it cannot embed are left out.

    Source: Riniker and Landrum, Better Informed Distance Geometry (2015).
    """
    mols = {smiles: conformer(smiles) for split in SPLITS for smiles in gdb6(split).items}
    found = {smiles: mol for smiles, mol in mols.items() if mol is not None}
    z = [atom.GetAtomicNum() for mol in found.values() for atom in mol.GetAtoms()]
    xyz = np.concatenate([mol.GetConformer().GetPositions() for mol in found.values()])
    arrays = {
        "smiles": np.array([smiles.encode() for smiles in found]),
        "sizes": np.array([mol.GetNumAtoms() for mol in found.values()], np.uint8),
        "z": np.array(z, np.uint8),
        "xyz": np.rint(xyz / _UNIT).astype(np.int16),
    }
    save_arrays(path, arrays)


def conformer(smiles: str, seed: int = 0) -> Mol | None:
    """The molecule of a SMILES with hydrogens and one conformer; None if RDKit cannot embed it.

    Arguments:
        smiles: the graph.
        seed: of the embedding, so that the same SMILES always has the same coordinates.

    Example:
        >>> conformer("CO").GetConformer().GetPositions().shape
        (6, 3)
    """
    with rdBase.BlockLogs():
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if mol.GetNumAtoms() == 1 or rdDistGeom.EmbedMolecule(mol, randomSeed=seed + 1) != 0:
            return None
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return mol


DATASETS = {
    "qm9": DataSource(
        "qm9",
        load_qm9,
        130_831,
        "Ramakrishnan et al. 2014, https://ndownloader.figshare.com/files/3195389",
        "CC0",
        (FILE,),
    ),
    "gdb6": DataSource(
        "gdb6", load_gdb6, 3_485, "enumerated and embedded with RDKit, ships with molgen", "CC0"
    ),
}
