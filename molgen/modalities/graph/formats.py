"""The files of the graph modality: those of SMILES, and `.sdf`, of which only the graph is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rdkit import rdBase
from rdkit.Chem import Mol, rdDepictor

from molgen.core.errors import DataError
from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.modalities.chemistry.formats import (
    LINES,
    TABLES,
    OnError,
    read_raw,
    read_records,
    write_lines,
    write_table,
)
from molgen.modalities.chemistry.parse import flat, parse, sanitised, unsanitised
from molgen.modalities.chemistry.plot import save_grid
from molgen.modalities.molecule import sdf

SDF = (".sdf", ".sdf.gz")


def read_smiles(path: Path, on_error: OnError) -> Records:
    """The molecules of a file of SMILES, as flat graphs."""
    return read_records(path, on_error, lambda smiles: flat(parse(smiles)))


def read_sdf(path: Path, on_error: OnError) -> Records:
    """The molecules of an SDF as flat graphs: coordinates, hydrogens and stereochemistry are left out."""
    found = sdf.read_sdf(path, on_error)
    return Records([graph_of(mol) for mol in found.items], found.labels, found.name)


def graph_of(mol: Mol) -> Mol:
    """The molecule without conformers and, where RDKit sanitises it, flat.

    Example:
        >>> from rdkit import Chem
        >>> graph_of(Chem.AddHs(Chem.MolFromSmiles("CO"))).GetNumAtoms()
        2
    """
    clean = sanitised(mol)
    out = Mol(mol) if clean is None else flat(clean)
    out.RemoveAllConformers()
    return out


def read_samples(path: Path) -> Records:
    """Every record of a file, in order, molecules or not, for scores."""
    if path.name.lower().endswith(SDF):

        def stop(error: DataError) -> None:
            raise error

        return read_sdf(path, stop)
    found = read_raw(path)
    return Records([unsanitised(smiles) for smiles in found.items], found.labels, found.name)


def write_sdf(path: Path, records: Sequence[Mol]) -> None:
    """A V2000 record per molecule, sanitised or not, with a layout in the plane."""

    def flattened(record: Mol) -> Mol:
        mol = Mol(record)
        with rdBase.BlockLogs():
            mol.UpdatePropertyCache(strict=False)
            rdDepictor.Compute2DCoords(mol)
        return mol

    sdf.write_sdf(path, records, flattened)


def _picture(path: Path, records: Sequence[Mol]) -> None:
    save_grid(records, path)


FORMATS = (
    Format(LINES, read_smiles, write_lines),
    Format(TABLES, read_smiles, write_table),
    Format(SDF, read_sdf, write_sdf),
    Format((".png",), None, _picture),
)
