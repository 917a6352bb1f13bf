"""Pictures of molecules: a grid of structural formulas, drawn by RDKit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import Mol, rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from molgen.core.errors import DataError
from molgen.core.files import atomic
from molgen.modalities.chemistry.parse import sanitised, text, unsanitised


def save_grid(records: Sequence[Any], path: Path, columns: int = 8, cell: int = 180, limit: int = 64) -> None:
    """Draws the first molecules to a PNG; those that RDKit does not sanitise are drawn as they stand, marked in red.

    Arguments:
        records: molecules or SMILES.
        path: the PNG.
        columns: molecules in a row.
        cell: edge of a cell in pixels.
        limit: how many molecules are drawn at most.

    Errors: `DataError` if there is no record.
    """
    some = list(records[:limit])
    if not some:
        raise DataError("no molecule to draw", fix="give at least one")
    columns = min(columns, len(some))
    rows = -(-len(some) // columns)
    mols, legends, marked = [], [], []
    for record in some:
        clean = sanitised(record)
        mol = (unsanitised(record) if isinstance(record, str) else record) if clean is None else clean
        mols.append(_laid_out(mol))
        bad = clean is None
        marked.append(list(range(mol.GetNumAtoms())) if bad else [])
        legends.append(_short(text(record)) if bad else "")
    drawer = rdMolDraw2D.MolDraw2DCairo(columns * cell, rows * cell, cell, cell)
    options = drawer.drawOptions()
    options.prepareMolsBeforeDrawing = False
    options.legendFontSize = 14
    options.padding = 0.1
    with rdBase.BlockLogs():
        drawer.DrawMolecules(mols, legends=legends, highlightAtoms=marked)
        drawer.FinishDrawing()
    with atomic(path) as temporary:
        temporary.write_bytes(drawer.GetDrawingText())


def _laid_out(mol: Mol) -> Mol:
    out = Mol(mol)
    out.RemoveAllConformers()
    with rdBase.BlockLogs():
        out.UpdatePropertyCache(strict=False)
        try:
            Chem.Kekulize(out, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            pass  # an aromatic ring without a Kekule structure is drawn as it stands
        if out.GetNumAtoms():
            Chem.FastFindRings(out)
            rdDepictor.Compute2DCoords(out)
    return out


def _short(smiles: str) -> str:
    return smiles if len(smiles) <= 24 else smiles[:21] + "..."
