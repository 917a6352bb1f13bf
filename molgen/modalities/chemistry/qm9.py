"""QM9 from its official files: one archive of 133,885 small text files, converted once to `qm9.npz`.

Each file of `dsgdb9nsd.xyz.tar.bz2` holds the number of atoms; a line of properties; a line per atom
(element, three coordinates in Angstrom, a Mulliken charge); the frequencies; two SMILES (of GDB-17, and of
the relaxed geometry); two InChIs. Numbers may be written as Fortran does, ``1.2*^-5``.

Source: Ramakrishnan et al., Quantum chemistry structures and properties of 134 kilo molecules, Scientific
Data 1, 140022 (2014).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molgen.core.errors import DataError
from molgen.io.console import bar
from molgen.io.data import data_folder, find_or_download
from molgen.io.files import read_bytes, save_arrays

FILE = "qm9/qm9.npz"
ARCHIVE = "qm9/dsgdb9nsd.xyz.tar.bz2"
UNCHARACTERIZED = "qm9/uncharacterized.txt"
ADDRESSES = {
    ARCHIVE: "https://ndownloader.figshare.com/files/3195389",
    UNCHARACTERIZED: "https://ndownloader.figshare.com/files/3195404",
}
MOLECULES, DROPPED, TRAIN = 133_885, 3_054, 100_000

_COLUMNS = {"mu": 3, "alpha": 4, "homo": 5, "lumo": 6, "gap": 7, "cv": 14}
"""Where they stand after tag and number: A B C mu alpha homo lumo gap r2 zpve U0 U H G Cv."""
_FIX = "fetch the file again"


@final
@dataclass(frozen=True)
class Entry:
    """One molecule of the archive."""

    index: int
    smiles: str
    z: NDArray[np.uint8]
    xyz: NDArray[np.float64]
    properties: dict[str, float]


def find() -> Path:
    """Path of `qm9.npz` in the data folder; downloads and converts the official files first if need be."""
    path = data_folder() / FILE
    if not path.is_file():
        # The small file first, so that a dead link is known before half a gigabyte comes.
        dropped = find_or_download(UNCHARACTERIZED, [ADDRESSES[UNCHARACTERIZED]])
        convert_qm9(find_or_download(ARCHIVE, [ADDRESSES[ARCHIVE]]), dropped, path)
    return path


def convert_qm9(archive: Path, uncharacterized: Path, out: Path, molecules: int = MOLECULES) -> None:
    """Converts the official files to one `.npz`, atomically.

    Arguments:
        archive: `dsgdb9nsd.xyz.tar.bz2`.
        uncharacterized: `uncharacterized.txt`, or the same with `.gz`.
        out: the file to write.
        molecules: how many the archive must hold.

    Errors: `DataError` for a damaged archive or member, and for another number of molecules.
    """
    dropped = read_uncharacterized(uncharacterized)
    entries = sorted(_read_archive(archive, molecules), key=lambda entry: entry.index)
    if len(entries) != molecules:
        raise DataError(f"{len(entries)} molecules, expected {molecules}", file=archive, fix=_FIX)
    index = np.array([entry.index for entry in entries], np.int32)
    excluded = np.isin(index, list(dropped))
    if molecules == MOLECULES and excluded.sum() != DROPPED:
        raise DataError(
            f"{excluded.sum()} uncharacterised molecules, expected {DROPPED}", file=uncharacterized, fix=_FIX
        )
    arrays: dict[str, NDArray[Any]] = {
        "gdb_index": index,
        "smiles": np.array([entry.smiles.encode() for entry in entries]),
        "uncharacterized": excluded,
        "split": split_of(excluded),
        "n_atoms": np.array([len(entry.z) for entry in entries], np.uint8),
        "smiles_order": np.array([in_smiles_order(entry.smiles, entry.z, entry.xyz) for entry in entries]),
        "z": np.concatenate([entry.z for entry in entries]),
        "pos": np.concatenate([entry.xyz for entry in entries]).astype(np.float32),
    }
    for name in _COLUMNS:
        arrays[name] = np.array([entry.properties[name] for entry in entries], np.float32)
    save_arrays(out, arrays)


def split_of(excluded: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The split of Cormorant and EDM: 0 for the excluded, 1 train, 2 valid, 3 test.

    The characterised molecules, in the order of their numbers, are permuted by
    `numpy.random.RandomState(0)`; the first 100,000 are for training, the last tenth (rounded down) for
    testing, those between for validation. On all of QM9 this gives 100,000, 17,748 and 13,083. Smaller sets
    keep the ratio of training to the rest.

    Source: Anderson et al., Cormorant (2019); Hoogeboom et al., Equivariant Diffusion for Molecule
    Generation in 3D (2022).

    Arguments:
        excluded: which molecules are left out, `(n,)`.

    Example:
        >>> np.bincount(split_of(np.zeros(130_831, bool))).tolist()
        [0, 100000, 17748, 13083]
    """
    rows = np.flatnonzero(~excluded)
    n = len(rows)
    train = TRAIN if n > TRAIN else int(n * TRAIN / (MOLECULES - DROPPED))
    test = int(0.1 * n)
    order = rows[np.random.RandomState(0).permutation(n)]
    split = np.zeros(len(excluded), np.uint8)
    split[order[:train]] = 1
    split[order[train : n - test]] = 2
    split[order[n - test :]] = 3
    return split


def read_uncharacterized(path: Path) -> set[int]:
    """The numbers in the first column of the list; lines of prose and rules are passed over.

    Arguments:
        path: the list, `.gz` or not.
    """
    words = [line.split() for line in read_bytes(path).decode("latin-1").splitlines()]
    found = {int(w[0]) for w in words if w and w[0].isdigit()}
    if not found:
        raise DataError("no number of a molecule in this list", file=path, fix=_FIX)
    return found


def parse_entry(text: str) -> Entry:
    r"""One file of the archive.

    Arguments:
        text: its contents.

    Errors: `DataError` naming the line.

    Example:
        >>> lines = ["1", "gdb 7 " + "1.0 " * 15, "C 0.0 1.5*^-2 0.0 0.0", "3000.0", "C C", "InChI InChI"]
        >>> entry = parse_entry("\n".join(lines))
        >>> entry.index, entry.smiles, entry.xyz.tolist()
        (7, 'C', [[0.0, 0.015, 0.0]])
    """
    lines = text.splitlines()
    line = 0
    try:
        n = int(lines[0])
        line = 1
        words = lines[1].split()
        index, values = int(words[1]), [_number(w) for w in words[2:17]]
        z, xyz = np.zeros(n, np.uint8), np.zeros((n, 3))
        table = Chem.GetPeriodicTable()
        for i in range(n):
            line = i + 2
            words = lines[line].split()
            z[i] = table.GetAtomicNumber(words[0])
            xyz[i] = [_number(w) for w in words[1:4]]
        line = n + 3
        smiles = lines[line].split()[0]
        return Entry(index, smiles, z, xyz, {k: values[i] for k, i in _COLUMNS.items()})
    except (IndexError, ValueError, RuntimeError):
        raise DataError("not an entry of QM9", record=f"line {line + 1}", fix=_FIX) from None


def in_smiles_order(smiles: str, z: NDArray[Any], xyz: NDArray[Any]) -> bool:
    """Whether heavy atoms stand in the order of the SMILES, and bonds and hydrogen counts agree with the
    geometry.

    Two atoms are taken as bonded under 1.15 times the sum of their covalent radii.

    Arguments:
        smiles: the graph.
        z: atomic numbers, `(n,)`.
        xyz: coordinates in Angstrom, `(n, 3)`.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    heavy = np.flatnonzero(z != 1)
    if mol is None or [a.GetAtomicNum() for a in mol.GetAtoms()] != z[heavy].tolist():
        return False
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(int(a)) for a in z])
    reach = 1.15 * (radii[:, None] + radii[None])
    near = ((xyz[:, None] - xyz[None]) ** 2).sum(-1) < reach**2
    bonded = near[np.ix_(heavy, heavy)] & ~np.eye(len(heavy), dtype=bool)
    hydrogens = near[np.ix_(heavy, np.flatnonzero(z == 1))].sum(1)
    return bool(
        (bonded == (Chem.GetAdjacencyMatrix(mol) > 0)).all()
        and hydrogens.tolist() == [a.GetTotalNumHs() for a in mol.GetAtoms()]
    )


def _number(word: str) -> float:
    return float(word.replace("*^", "e"))


def _read_archive(path: Path, molecules: int) -> Iterator[Entry]:
    try:
        with bar(molecules, "converting QM9") as advance, tarfile.open(path, "r|*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".xyz") else None
                if file is not None:
                    try:
                        yield parse_entry(file.read().decode("latin-1"))
                    except DataError as error:
                        raise error.at(file=path, record=f"{member.name}, {error.record}") from None
                    advance(1)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"not a sound tar.bz2 archive ({error})", file=path, fix=_FIX) from None
