"""XYZ files: elements and coordinates, record after record; bonds are found from the geometry.

A record is a line with the number of atoms, a line of comment, and a line per atom: element and three
coordinates in Angstrom. Charges and bonds have no place in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.files import read_lines, write_pieces
from molgen.modalities.molecule.codec import Mol, number_of, positions_of, symbol_of
from molgen.modalities.molecule.sdf import checked

OnError = Callable[[DataError], None]
_FIX = "correct or remove the record"
_ITERATIONS = 20_000  # a cloud that is no molecule would keep RDKit busy with valences for hours


@final
@dataclass
class _Entry:
    """A record as it stands: the number announced, the comment, the atoms' lines, or what is wrong."""

    count: int
    comment: str
    lines: list[str]
    error: DataError | None = None


def read_xyz(path: Path, on_error: OnError, geometry: bool = True) -> Records:
    """The molecules of an XYZ file, with the bonds that RDKit finds for a neutral molecule.

    Arguments:
        path: the file, perhaps `.gz`.
        on_error: takes a `DataError` for each bad record, or for the file; if it returns, that is skipped.
        geometry: False keeps records with NaN, without atoms or without bonds that fit, for scores.

    Errors: `DataError` for a wrong number of atoms, an unknown element, NaN, or bonds that cannot be found.
    """
    items: list[Mol] = []
    try:
        entries = list(_entries([line for _, line in read_lines(path)]))
    except DataError as error:
        on_error(error)
        entries = []
    for number, entry in enumerate(entries, 1):
        try:
            mol = _molecule(entry)
            items.append(checked(bonded(mol), True) if geometry else _kept(mol))
        except DataError as error:
            on_error(error.at(file=path, record=number))
    return Records(items, name=path.name)


def write_xyz(path: Path, records: Iterable[Mol]) -> None:
    """One record per molecule, in order, valid or not.

    Errors: `DataError` naming the record that has no coordinates.
    """

    def texts() -> Iterator[str]:
        for i, mol in enumerate(records):
            if not isinstance(mol, Mol):
                raise DataError(
                    f"a record of type {type(mol).__name__}, expected rdkit.Chem.Mol", record=i + 1
                )
            if mol.GetNumAtoms() and not mol.GetNumConformers():
                fix = "give it a conformer, e.g. with EmbedMolecule"
                raise DataError("molecule without coordinates", file=path, record=i + 1, fix=fix)
            titled = Mol(mol)
            title = (mol.GetProp("_Name") if mol.HasProp("_Name") else "").replace("\n", " ")
            titled.SetProp("_Name", title)
            yield Chem.MolToXYZBlock(titled, precision=6) if mol.GetNumAtoms() else f"0\n{title}\n"

    write_pieces(path, texts())


def bonded(mol: Mol) -> Mol:
    """A copy with the bonds and charges of a neutral molecule there; `DataError` if there are none.

    Source: Kim and Kim, Bull. Korean Chem. Soc. 36, 1769 (2015), as RDKit has it.

    Example:
        >>> water = _molecule(_Entry(3, "", ["O 0 0 0.12", "H 0 0.76 -0.48", "H 0 -0.76 -0.48"]))
        >>> bonded(water).GetNumBonds()
        2
    """
    positions_of(mol)  # else NaN would be reported as bonds that do not fit
    found = Chem.RWMol(mol)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBonds(found, charge=0, embedChiral=False, maxIterations=_ITERATIONS)
        except (ValueError, RuntimeError):
            raise DataError(
                "no bonds of a neutral molecule fit these coordinates",
                fix="give an .sdf file with bonds and charges, with all hydrogens, or remove the record",
            ) from None
    return found.GetMol()


# --------------------------------------------------------------------------- parts


def _kept(mol: Mol) -> Mol:
    """The molecule with its bonds, or one that RDKit will refuse where none fit."""
    try:
        return bonded(mol)
    except DataError:
        out = Mol(mol)
        for atom in out.GetAtoms():
            atom.SetIsAromatic(True)  # outside a ring: so it counts as the invalid sample that it is
        return out


def _molecule(entry: _Entry) -> Mol:
    """Atoms and coordinates, no bonds."""
    if entry.error is not None:
        raise entry.error
    mol = Chem.RWMol()
    conformer = Chem.Conformer(entry.count)
    conformer.Set3D(True)
    for i, line in enumerate(entry.lines):
        words = line.split()
        symbol = symbol_of(int(words[0])) if words[0].isdigit() else words[0].capitalize()
        try:
            number_of(symbol)
            place = [float(word.replace("*^", "e")) for word in words[1:4]]
        except DataError as error:
            raise DataError(f"atom {i + 1}: {error.problem}", fix=error.fix) from None
        except ValueError:
            raise DataError(f"atom {i + 1} without coordinates: {line.strip()!r}", fix=_FIX) from None
        atom = Chem.Atom(symbol)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
        conformer.SetAtomPosition(i, place)
    if entry.comment.strip():
        mol.SetProp("_Name", entry.comment.strip())
    mol.AddConformer(conformer, assignId=True)
    return mol.GetMol()


def _entries(lines: list[str]) -> Iterator[_Entry]:
    """The records in order; after a bad one the next number of atoms on a line of its own goes on."""
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        word = lines[at].strip()
        if not word.isdigit():
            error = DataError(f"expected a number of atoms, got {word[:40]!r}", fix=_FIX)
            yield _Entry(0, "", [], error)
            at = _next(lines, at + 1)
            continue
        n, first = int(word), at + 2
        comment = lines[at + 1] if at + 1 < len(lines) else ""
        last = first
        while last < len(lines) and _is_atom(lines[last]):
            last += 1
        if last - first == n:
            yield _Entry(n, comment, lines[first:last])
            at = last
            continue
        said = f"the first line tells of {n} atom{'s' * (n != 1)}, there are {max(last - first, 0)}"
        yield _Entry(0, "", [], DataError(said, fix="correct the number, or remove the record"))
        at = _next(lines, last)


def _next(lines: list[str], at: int) -> int:
    while at < len(lines) and not lines[at].strip().isdigit():
        at += 1
    return at


def _is_atom(line: str) -> bool:
    """Whether a line begins with an element, or what might be meant for one, and three more words follow."""
    words = line.split()
    return len(words) >= 4 and (words[0].isalpha() or (words[0].isdigit() and 0 < int(words[0]) <= 118))
