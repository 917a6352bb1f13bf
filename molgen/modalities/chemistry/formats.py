"""Files of SMILES: `.smi` and `.txt` (a SMILES and perhaps a name on each line), `.csv`, each also `.gz`.

A table is read row by row as it stands; whoever needs molecules parses them and reports the bad ones.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from rdkit.Chem import Mol

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.files import read_lines, write_pieces
from molgen.modalities.chemistry.parse import parse, sanitised, text

OnError = Callable[[DataError], None]
LINES = (".smi", ".smi.gz", ".txt", ".txt.gz")
TABLES = (".csv", ".csv.gz")
_HEADERS = ("smiles", "canonical_smiles", "isomeric_smiles", "smile", "smi", "structure")


@final
@dataclass(frozen=True)
class Row:
    """One record of a file as it stands.

    Arguments:
        line: its 1-based line.
        smiles: the string, empty where the line is.
        labels: the other columns.
    """

    line: int
    smiles: str
    labels: Mapping[str, str] = field(default_factory=dict)


def rows(path: Path) -> Iterator[Row]:
    """The records of a file of SMILES, bad ones included; blank lines at the end are none.

    Errors: `DataError` for a file that is missing, empty or damaged, and for a table without SMILES.
    """
    blank: list[Row] = []
    for row in _table(path) if path.name.lower().endswith(TABLES) else _lines(path):
        if not row.smiles:
            blank.append(row)
            continue
        yield from blank
        blank.clear()
        yield row


def read_records(path: Path, on_error: OnError, build: Callable[[str], Mol | str]) -> Records:
    """The good records of a file with their numeric labels.

    Arguments:
        path: the file.
        on_error: takes a `DataError` for each bad record; if it returns, the record is skipped.
        build: makes the domain object of a SMILES; `DataError` if it cannot.
    """
    items, labels = [], []
    for row in rows(path):
        try:
            items.append(build(row.smiles))
        except DataError as error:
            on_error(error.at(file=path, record=f"line {row.line}"))
            continue
        labels.append(row.labels)
    return Records(items, numeric(labels), path.name)


def read_strings(path: Path, on_error: OnError) -> Records:
    """SMILES as they are written in the file, each of them known to parse."""

    def build(smiles: str) -> str:
        parse(smiles)
        return smiles

    return read_records(path, on_error, build)


def read_raw(path: Path) -> Records:
    """Every record of a file, in order, molecules or not: what a score of samples has to count."""
    found = list(rows(path))
    return Records([row.smiles for row in found], numeric([row.labels for row in found]), path.name)


def numeric(rows: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
    """The columns that hold numbers only, NaN where a cell is empty.

    Example:
        >>> numeric([{"a": "1", "b": "x"}, {"a": "", "b": "2"}])
        {'a': array([ 1., nan])}
    """
    found = {}
    for name in rows[0] if rows else ():
        try:
            values = np.array([float(row.get(name) or math.nan) for row in rows])
        except ValueError:
            continue
        if np.isfinite(values).any():
            found[name] = values
    return found


def write_lines(path: Path, records: Sequence[Mol | str]) -> None:
    """One record a line, in order; what is no molecule keeps its line.

    Arguments:
        path: `.smi` or `.txt`, perhaps with `.gz`.
        records: SMILES, or molecules, which are written as canonical SMILES where RDKit sanitises them.
    """
    write_pieces(path, (f"{line}\n" for line in lines_of(records)))


def write_table(path: Path, records: Sequence[Mol | str]) -> None:
    """A table with a column `smiles`, and the labels of `Records`; what is no molecule keeps its row."""
    labels: Mapping[str, np.ndarray] = records.labels if isinstance(records, Records) else {}
    table = csv.writer(_Passing(), lineterminator="\n")

    def rows() -> Iterator[str]:
        yield table.writerow(["smiles", *labels])
        for i, line in enumerate(lines_of(records)):
            yield table.writerow([line, *(_cell(labels[name][i]) for name in labels)])

    write_pieces(path, rows())


def lines_of(records: Iterable[Mol | str]) -> Iterator[str]:
    """The line of text for each record; `DataError` for one that does not fit on a line."""
    for i, record in enumerate(records):
        if not isinstance(record, (str, Mol)):
            raise DataError(f"a record of type {type(record).__name__}, expected SMILES or Mol", record=i + 1)
        line = text(record)
        if isinstance(record, Mol):
            clean = sanitised(record)
            line = line if clean is None else text(clean)
        if "\n" in line or "\r" in line:
            raise DataError("a string with a line break", record=i + 1, fix="remove it")
        yield line


# --------------------------------------------------------------------------- parts


def _lines(path: Path) -> Iterator[Row]:
    for number, line in read_lines(path):
        words = line.split()
        if number == 1 and words and words[0].lower() in _HEADERS:
            continue
        yield Row(number, words[0] if words else "")


def _table(path: Path) -> Iterator[Row]:
    source = [line for _, line in read_lines(path)]
    delimiter = next((d for d in (",", ";", "\t") if d in source[0]), ",")
    reader = csv.reader((f"{line}\n" for line in source), delimiter=delimiter)
    try:
        header = [cell.strip() for cell in next(reader)]
        column = _column(header)
        if column is None:
            if sanitised(header[0]) is None:
                raise _no_smiles(path, header)
            column = 0
            yield Row(1, header[0])
            header = []
        for cells in reader:
            smiles = cells[column].strip() if len(cells) > column else ""
            labels = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
            labels.pop(header[column], None) if header else None
            yield Row(reader.line_num, smiles, labels)
    except csv.Error as error:
        raise DataError(f"not a table ({error})", file=path, record=f"line {reader.line_num}") from None


def _column(header: Sequence[str]) -> int | None:
    names = [name.lower() for name in header]
    return next((names.index(wanted) for wanted in _HEADERS if wanted in names), None)


def _no_smiles(path: Path, header: Sequence[str]) -> DataError:
    close = difflib.get_close_matches("smiles", [name.lower() for name in header], n=1, cutoff=0.4)
    near = [name for name in header if close and name.lower() == close[0]]
    hint = f"rename {near[0]!r} if it holds them" if near else "name the column of SMILES so"
    return DataError(
        f"no column 'smiles' among {', '.join(header[:8])}", file=path, record="line 1", fix=hint
    )


def _cell(value: float) -> str:
    number = float(value)
    return "" if math.isnan(number) else f"{number:.7g}"


@final
class _Passing:
    """A file for `csv.writer`, which gives back what its file's `write` does: the row as text."""

    def write(self, row: str) -> str:
        return row
