"""Files of backbones: `.pdb` and `.cif` (also `.gz`), and folders of them.

Every chain of every model is a record. `file.cif:A` selects a chain, `file.cif:A:10-80` a range of its
residues by their numbers in the file (insertion codes as in `52A`), `file.cif::10-80` that range of
all chains.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from Bio.PDB.Structure import Structure

from molgen.core.errors import ConfigError, DataError
from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.io.files import atomic, read_bytes
from molgen.modalities.protein.backbone import Backbone, Number
from molgen.modalities.protein.plot import plot
from molgen.modalities.protein.reading import Content, Residue, backbone, parse_cif, parse_pdb
from molgen.modalities.protein.writing import cif_text, pdb_text

OnError = Callable[[DataError], None]
PDB = (".pdb", ".ent", ".pdb.gz", ".ent.gz")
CIF = (".cif", ".mmcif", ".cif.gz", ".mmcif.gz")
_SELECTION = re.compile(
    r"^(?P<path>.*?\.(?:pdb|ent|cif|mmcif)(?:\.gz)?):(?P<chain>[^:]*)(?::(?P<range>.*))?$", re.I
)
_RANGE = re.compile(r"^(-?\d+)([A-Za-z]?)-(-?\d+)([A-Za-z]?)$")


def read(path: Path, on_error: OnError, chain: str | None = None, residues: str | None = None) -> Records:
    """The backbones of a file.

    Arguments:
        path: the file, perhaps with a selection, see the module.
        on_error: takes a `DataError` for each chain that cannot be used; if it returns, it is skipped.
        chain: the chain's name, as the authors gave it.
        residues: first and last number, e.g. ``"10-80"``.

    Errors: `DataError` for a file that cannot be read at all, through `on_error` as well.
    """
    found = _SELECTION.match(str(path))
    if found:
        path = Path(found["path"])
        chain, residues = chain or found["chain"] or None, residues or found["range"] or None
    wanted = None if residues is None else _bounds(residues)
    items: list[Backbone] = []
    try:
        content = _content(path)
        places = _places(content, chain)
    except DataError as error:
        on_error(error.at(file=path))
        return Records(items, name=path.name)
    stem = path.name.split(".")[0]
    models = {model for model, _ in content.chains}
    for model, name in places:
        where = f"chain {name or 'without a name'}" + (f" of model {model}" if len(models) > 1 else "")
        rows = content.chains[model, name]
        try:
            if wanted is not None:
                rows = _cut(rows, *wanted)
            id_ = f"{stem}_{name}" + (f"_{model}" if len(models) > 1 else "")
            items.append(backbone(rows, id_, name, content.drawn, content.nameless))
        except DataError as error:
            on_error(error.at(file=path, record=where))
    return Records(items, name=path.name)


def read_folder(path: Path, on_error: OnError) -> Records:
    """The backbones of every PDB and mmCIF file of a folder, in the order of their names."""
    files = sorted(p for p in path.iterdir() if p.name.lower().endswith(PDB + CIF) and p.name[0] != ".")
    if not files:
        raise DataError("no .pdb or .cif files in the folder", file=path, fix="name another folder")
    items: list[Backbone] = []
    for file in files:
        items += read(file, on_error).items
    return Records(items, name=path.name)


def write(path: Path, records: Sequence[Structure]) -> None:
    """Writes one MODEL per record, in order, as the suffix says."""
    lower = path.name.lower()
    text = pdb_text(records) if lower.endswith(PDB) else cif_text(records, path.name.split(".")[0])
    data = text.encode()
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if lower.endswith(".gz") else data)


def write_folder(path: Path, records: Sequence[Structure]) -> None:
    """Writes one PDB file per record, numbered from 1."""
    width = len(str(len(records)))
    with atomic(path) as temporary:
        temporary.mkdir()
        for i, record in enumerate(records, 1):
            (temporary / f"sample_{i:0{width}}.pdb").write_text(pdb_text([record]))


def write_picture(path: Path, records: Sequence[Structure]) -> None:
    """Draws the first records to a PNG."""
    plot(records, path)


FORMATS = (
    Format(PDB, read, write),
    Format(CIF, read, write),
    Format(("/",), read_folder, write_folder),
    Format((".png",), None, write_picture),
)


def _content(path: Path) -> Content:
    raw = read_bytes(path)
    if b"\0" in raw:
        raise DataError("not a text file", fix="give PDB or mmCIF text")
    text = raw.decode("utf-8", "replace")
    content = parse_pdb(text) if path.name.lower().endswith(PDB) else parse_cif(text)
    if not content.chains:
        raise DataError("no amino acids", fix="give a file with a protein chain")
    return content


def _places(content: Content, chain: str | None) -> list[tuple[int, str]]:
    """The models and chains to read, in the order of the file."""
    places = [place for place in content.chains if chain is None or place[1] == chain]
    if not places:
        names = ", ".join(dict.fromkeys(name or "' '" for _, name in content.chains))
        raise DataError(f"no protein chain {chain!r}", fix=f"choose among {names}")
    return places


def _bounds(text: str) -> tuple[Number, Number]:
    found = _RANGE.match(text.strip())
    if found is None:
        raise ConfigError(f"residue range {text!r}: expected first-last, e.g. 10-80 or 52A-60")
    first = int(found[1]), found[2].upper() or " "
    last = int(found[3]), found[4].upper() or " "
    if first > last:
        raise ConfigError(f"residue range {text!r}: the first number is larger than the last")
    return first, last


def _cut(rows: list[Residue], first: Number, last: Number) -> list[Residue]:
    """The residues whose numbers lie in a range, by number, then insertion code."""
    inside = [row for row in rows if first <= row.number <= last]
    if not inside:
        a, b = (f"{r.number[0]}{r.number[1].strip()}" for r in (rows[0], rows[-1]))
        raise DataError("no residue in that range", fix=f"the chain runs from {a} to {b}")
    return inside
