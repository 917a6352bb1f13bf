"""Pictures of molecules: a grid of structural formulas, drawn by RDKit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Mol, rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from molgen.core.errors import DataError
from molgen.io.files import atomic
from molgen.modalities.chemistry.parse import sanitised, text, unsanitised

_CLOSE = 0.1
"""Distance of two atoms, where a bond is 1.5 long, below which a drawing takes them for one."""


def save_grid(
    records: Sequence[Mol | str], path: Path, columns: int = 8, cell: int = 180, limit: int = 64
) -> None:
    """Draws the first molecules to a PNG; those that RDKit does not sanitise are drawn as they stand,
    marked in red.

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
    mols, legends = [], []
    marked: list[list[int]] = []
    for record in some:
        clean = sanitised(record)
        if clean is not None:
            mols.append(_laid_out(clean))
            marked.append([])
            legends.append("")
            continue
        line = text(record)
        mol = _laid_out(unsanitised(record) if isinstance(record, str) else record)
        if not mol.GetNumAtoms():
            mol = _written(line)
        mols.append(mol)
        marked.append(list(range(mol.GetNumAtoms())))
        legends.append("" if mol.HasProp("text") else _short(line))
    drawer = rdMolDraw2D.MolDraw2DCairo(columns * cell, rows * cell, cell, cell)
    options = drawer.drawOptions()
    options.prepareMolsBeforeDrawing = False  # type: ignore[assignment]
    options.legendFontSize = 14  # type: ignore[assignment]
    options.padding = 0.1  # type: ignore[assignment]
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
            _part(out)
    return out


def _part(mol: Mol) -> None:
    """Moves atoms apart that the layout of a crowded cage puts on one another: no bond can be drawn there."""
    conformer = mol.GetConformer()
    xy = conformer.GetPositions()[:, :2]
    near = np.linalg.norm(xy[:, None] - xy[None], axis=-1) < _CLOSE
    for i in np.flatnonzero(np.tril(near, -1).any(1)).tolist():
        x, y = xy[i] + 2 * _CLOSE * np.array([np.cos(i), np.sin(i)])
        conformer.SetAtomPosition(i, (float(x), float(y), 0.0))


def _written(line: str) -> Mol:
    """A stand-in for what is no graph at all: the text itself."""
    mol = Chem.MolFromSmiles("*")
    mol.GetAtomWithIdx(0).SetProp("atomLabel", _short(line) or "(empty)")
    mol.SetProp("text", line)
    rdDepictor.Compute2DCoords(mol)
    return mol


def _short(smiles: str) -> str:
    return smiles if len(smiles) <= 24 else smiles[:21] + "..."
