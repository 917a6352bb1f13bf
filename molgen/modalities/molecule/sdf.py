"""SDF files: V2000 records in and out, as they stand.

What is written comes back: kekulised bond orders, formal charges, coordinates to 1e-4 Angstrom and, by the
valence mark of the atom block, the absence of implied hydrogens. Nothing is sanitised on the way out, so a
sample that is not a molecule has its record too.

Source: Dalby et al., J. Chem. Inf. Comput. Sci. 32, 244 (1992); BIOVIA, CTfile Formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.files import read_lines, write_pieces
from molgen.modalities.chemistry.formats import numeric
from molgen.modalities.chemistry.parse import sanitised
from molgen.modalities.molecule.codec import Mol, number_of

OnError = Callable[[DataError], None]
_END, _STOP = "M  END", "$$$$"
_PROPERTIES = ("M  ", "A  ", "V  ", "G  ", "S  ")  # how the lines after the bonds begin
_QUERIES = frozenset(("*", "A", "Q", "L", "LP", "R", "R#", "D", "T", "X", "M"))  # RDKit knows what they mean
_MOST = 999  # atoms or bonds that a counts line can tell
_REMOVE = "correct or remove the record"
_LARGE = 9999.0  # Angstrom; in ten columns with four decimals


def read_sdf(path: Path, on_error: OnError, geometry: bool = False) -> Records:
    """The molecules of an SDF file, unsanitised, hydrogens kept; numeric data fields become labels.

    Arguments:
        path: the file, perhaps `.gz`.
        on_error: takes a `DataError` for each bad record, or for the file; if it returns, that is skipped.
        geometry: ask for finite 3D coordinates and explicit hydrogens as well, and sanitise where
            RDKit can.

    Errors: `DataError` for a record that breaks off, with a wrong counts line or an atom that is none.
    """
    items: list[Mol] = []
    fields: list[dict[str, str]] = []
    try:
        for number, lines in enumerate(_records(path), 1):
            try:
                mol = _parse(lines)
                items.append(checked(mol, _says_3d(lines)) if geometry else mol)
            except DataError as error:
                on_error(error.at(file=path, record=number))
                continue
            fields.append(_fields(lines))
    except DataError as error:
        if error.file is None or error.record is not None and isinstance(error.record, int):
            raise  # what `on_error` raised
        on_error(error)
    names = dict.fromkeys(name for row in fields for name in row)
    labels = numeric([{name: row.get(name, "") for name in names} for row in fields])
    return Records(items, labels, path.name)


def write_sdf(path: Path, records: Iterable[Mol], lay: Callable[[Mol], Mol] | None = None) -> None:
    """One V2000 record per molecule, in order, valid or not; labels of `Records` become data fields.

    Arguments:
        path: the file, packed if it ends in `.gz`.
        records: molecules; without a conformer the coordinates are zeros.
        lay: gives a molecule other coordinates before it is written.

    Errors: `DataError` naming the record that is no molecule, or too large for V2000.
    """
    labels: Mapping[str, NDArray[Any]] = records.labels if isinstance(records, Records) else {}

    def texts() -> Iterator[str]:
        for i, record in enumerate(records):
            if not isinstance(record, Mol):
                raise DataError(
                    f"a record of type {type(record).__name__}, expected rdkit.Chem.Mol", record=i + 1
                )
            try:
                block = mol_block(record if lay is None else lay(record))
            except DataError as error:
                raise error.at(file=path, record=i + 1) from None
            told = {name: float(values[i]) for name, values in labels.items()}
            extra = [f"> <{name}>\n{value:.7g}\n\n" for name, value in told.items() if not math.isnan(value)]
            yield f"{block}{''.join(extra)}{_STOP}\n"

    write_pieces(path, texts())


def mol_block(mol: Mol) -> str:
    """The V2000 block of a molecule as it stands: kekulised if possible, never sanitised.

    RDKit writes V3000 where there are dative bonds.

    Arguments:
        mol: at most 999 atoms and bonds; NaN coordinates are written as such.

    Example:
        >>> print(mol_block(Chem.MolFromSmiles("[OH-]")).splitlines()[3])
          1  0  0  0  0  0  0  0  0  0999 V2000
    """
    plain = Mol(mol)
    with rdBase.BlockLogs():
        plain.UpdatePropertyCache(strict=False)
        try:
            Chem.Kekulize(plain, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            plain = Mol(mol)  # an aromatic ring without a Kekule structure keeps its aromatic bonds
            plain.UpdatePropertyCache(strict=False)
    n, m = plain.GetNumAtoms(), plain.GetNumBonds()
    if max(n, m) > _MOST:
        raise DataError(f"{n} atoms and {m} bonds, V2000 holds {_MOST}", fix="write an .xyz file")
    if not plain.GetNumConformers():
        plain.AddConformer(Chem.Conformer(n))
        plain.GetConformer().Set3D(False)
    plain.SetProp("_Name", (mol.GetProp("_Name") if mol.HasProp("_Name") else "").replace("\n", " ")[:80])
    # RDKit writes V3000 where a coordinate does not fit in its columns: those are filled in afterwards.
    xyz = plain.GetConformer().GetPositions()
    odd = np.flatnonzero(~(np.abs(xyz) < _LARGE).all(1))
    plain.GetConformer().SetPositions(np.where(np.isin(np.arange(n), odd)[:, None], 0.0, xyz))
    lines = Chem.MolToMolBlock(plain, includeStereo=False, kekulize=False).split("\n")
    if "V3000" in lines[3]:
        return "\n".join(lines)
    for row in range(4 + n, 4 + n + m):  # RDKit marks double bonds without stereochemistry as cis or trans
        lines[row] = f"{lines[row][:9]}  0"
    for i in odd:
        lines[4 + i] = "".join(_coordinate(x) for x in xyz[i].tolist()) + lines[4 + i][30:]
    return "\n".join(lines)


def checked(mol: Mol, solid: bool | None = None) -> Mol:
    """A molecule as data in 3D: sanitised where RDKit can; `DataError` for what the records must have.

    Arguments:
        mol: hydrogens explicit, one conformer.
        solid: whether the source calls the coordinates 3D; None where it does not say.
    """
    if mol.GetNumAtoms() == 0:
        raise DataError("a molecule without atoms", fix=_REMOVE)
    xyz = mol.GetConformer().GetPositions()
    bad = np.flatnonzero(~np.isfinite(xyz).all(1))
    if len(bad):
        raise DataError(f"coordinates of atom {bad[0] + 1} are not finite numbers", fix=_REMOVE)
    together = len(xyz) > 1 and not np.ptp(xyz, axis=0).any()
    if solid is False or together or (solid is None and len(xyz) > 3 and not xyz[:, 2].any()):
        raise DataError(
            "coordinates in the plane, expected 3D",
            fix="make a conformer first, e.g. with RDKit's AddHs and EmbedMolecule",
        )
    clean = sanitised(mol)
    if clean is None:
        clean = mol
        with rdBase.BlockLogs():
            clean.UpdatePropertyCache(strict=False)
    implied = sum(atom.GetTotalNumHs() for atom in clean.GetAtoms())
    if implied:
        raise DataError(
            f"{implied} hydrogen{'s' * (implied > 1)} implied, expected explicit ones with coordinates",
            fix="add them, e.g. with RDKit's AddHs(mol, addCoords=True)",
        )
    return clean


# --------------------------------------------------------------------------- parts


def _records(path: Path) -> Iterator[list[str]]:
    """The lines of each record, the closing `$$$$` included where there is one."""
    lines: list[str] = []
    for _, line in read_lines(path):
        lines.append(line)
        if line.startswith(_STOP):
            yield lines
            lines = []
    if any(line.strip() for line in lines):
        yield lines


def _parse(lines: Sequence[str]) -> Mol:
    """The molecule of a record; `DataError` says what is wrong with it."""
    ends = [i for i, line in enumerate(lines) if line.startswith(_END)]
    if not ends or ends[0] < 3:
        broken = "" if lines[-1].startswith(_STOP) else " and without $$$$: the file breaks off"
        raise DataError(f"a record without {_END}{broken}", fix="restore the lines that are missing")
    if not lines[-1].startswith(_STOP) or len(ends) > 1:
        raise DataError(f"a record without $$$$ after {_END}", fix="add the line $$$$")
    block = list(lines[: ends[0] + 1])
    xyz = None if "V3000" in lines[3] else _check(block)
    with rdBase.BlockLogs():
        try:
            mol = Chem.MolFromMolBlock(
                "\n".join(block) + "\n", sanitize=False, removeHs=False, strictParsing=False
            )
        except (ValueError, RuntimeError):
            mol = None
        if mol is None:
            raise DataError("not a V2000 or V3000 record that RDKit reads", fix=_REMOVE)
    if xyz is not None and mol.GetNumConformers():
        mol.GetConformer().SetPositions(xyz)
    return mol


def _check(block: list[str]) -> NDArray[np.float64] | None:
    """Sees that counts, atoms and bonds of a V2000 block agree; the coordinates if RDKit cannot read them.

    Then, and only then, zeros stand in the block instead.
    """
    try:
        n, m = int(block[3][:3]), int(block[3][3:6])
    except ValueError:
        raise DataError(f"no counts line but {block[3][:20]!r}", fix="give V2000 records") from None
    body = block[4:-1]
    length = next((i for i, line in enumerate(body) if line.startswith(_PROPERTIES)), len(body))
    atoms = next((i for i, line in enumerate(body[:length]) if not line[31:34].strip()), length)
    if atoms != n or length - atoms < m:
        raise DataError(
            f"the counts line tells of {n} atoms and {m} bonds, there are {atoms} and {length - atoms}",
            fix="correct the counts line, or remove the record",
        )
    odd = False
    xyz = np.zeros((n, 3))
    for i, line in enumerate(body[:n]):
        symbol = line[31:34].strip()
        if symbol not in _QUERIES:
            number_of(symbol)
        words = (line[:10], line[10:20], line[20:30])
        try:
            x, y, z = float(words[0]), float(words[1]), float(words[2])
        except ValueError:
            raise DataError(f"atom {i + 1} without coordinates: {line[:30].strip()!r}", fix=_REMOVE) from None
        xyz[i] = x, y, z
        if not math.isfinite(x + y + z) or "e" in line[:30]:
            odd = True
            block[4 + i] = "    0.0000" * 3 + line[30:]
    for i, line in enumerate(body[n : n + m]):
        try:
            inside = 1 <= int(line[:3]) <= n and 1 <= int(line[3:6]) <= n and int(line[6:9]) > 0
        except ValueError:
            inside = False
        if not inside or line[:3] == line[3:6]:
            raise DataError(f"bond {i + 1} is none: {line.strip()!r}", fix=_REMOVE)
    return xyz if odd else None


def _says_3d(lines: Sequence[str]) -> bool | None:
    return {"3D": True, "2D": False}.get(lines[1][20:22].upper())


def _fields(lines: Sequence[str]) -> dict[str, str]:
    """The data fields of a record: `> <name>` and the lines after it up to a blank one."""
    found: dict[str, str] = {}
    name = None
    for line in lines:
        if line.startswith(">") and "<" in line:
            name = line[line.index("<") + 1 : line.rfind(">")]
            found[name] = ""
        elif not line.strip() or line.startswith(_STOP):
            name = None
        elif name is not None:
            found[name] = f"{found[name]}\n{line.strip()}".strip()
    return found


def _coordinate(x: float) -> str:
    """Ten columns, whatever the number."""
    text = f"{x:10.4f}"
    return text if len(text) == 10 else f"{x:10.2e}"
