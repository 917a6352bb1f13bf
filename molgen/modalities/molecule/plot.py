"""Pictures of 3D molecules: balls and sticks, painted from back to front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import Mol

from molgen.core.errors import DataError
from molgen.io.files import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "H": "#f4f4f4",
    "C": "#505050",
    "N": "#3050f8",
    "O": "#e8120c",
    "F": "#70c840",
    "S": "#e6c619",
    "Cl": "#1fc01f",
    "P": "#ff8000",
    "Br": "#a62929",
}
"""The colours of Corey, Pauling and Koltun."""

_RADII = {"H": 0.26}  # in Angstrom; heavier atoms 0.40
_STICK, _GAP = 0.10, 0.13  # half width of a stick, distance of the sticks of a multiple bond
_LIGHT = (-0.35, 0.45)  # where a ball shines, in radii from its centre


def save_grid(records: Sequence[Mol], path: Path, columns: int = 8, cell: int = 200, limit: int = 64) -> None:
    """Draws the first molecules to a PNG, each seen along its shortest axis, with its generated bonds.

    Arguments:
        records: molecules with a conformer.
        path: the PNG.
        columns: molecules in a row.
        cell: edge of a cell in pixels.
        limit: how many molecules are drawn at most.

    Errors: `DataError` if there is no molecule.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    some = list(records[:limit])
    if not some:
        raise DataError("no molecule to draw", fix="give at least one")
    columns = min(columns, len(some))
    rows = -(-len(some) // columns)
    dpi = 100
    figure = Figure(figsize=(columns * cell / dpi, rows * cell / dpi), dpi=dpi, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for i, mol in enumerate(some):
        row, column = divmod(i, columns)
        axes = figure.add_axes((column / columns, 1 - (row + 1) / rows, 1 / columns, 1 / rows))
        _draw(axes, mol)
    with atomic(path) as temporary, temporary.open("wb") as file:
        canvas.print_png(file)  # type: ignore[no-untyped-call]


def _draw(axes: Axes, mol: Mol) -> None:
    axes.set_axis_off()
    axes.set_aspect("equal")
    if mol.GetNumAtoms() == 0 or mol.GetNumConformers() == 0:
        return
    xyz = np.nan_to_num(turned(mol.GetConformer().GetPositions()))
    half = max(float(np.abs(xyz[:, :2]).max()) + 0.6, 2.0)
    axes.set_xlim(-half, half)
    axes.set_ylim(-half, half)
    span = max(float(np.ptp(xyz[:, 2])), 2.0)  # what is flat stands at one depth
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    # Nearer things are painted later, and a little less pale.
    depth = 1 - (xyz[:, 2].max() - xyz[:, 2]) / span
    things: list[tuple[float, Any]] = []
    for bond in _kekulised(mol).GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        order = max(1, round(bond.GetBondTypeAsDouble()))
        middle = (xyz[i] + xyz[j]) / 2
        for a in (i, j):
            z = float((xyz[a, 2] + middle[2]) / 2) - 0.05
            things.append((z, ("bond", xyz[a], middle, order, COLOURS.get(symbols[a], "#d070d0"), depth[a])))
    for i, symbol in enumerate(symbols):
        things.append((float(xyz[i, 2]), ("atom", xyz[i], symbol, depth[i])))
    for place, (_, thing) in enumerate(sorted(things, key=lambda item: item[0])):
        (_stick if thing[0] == "bond" else _ball)(axes, place, *thing[1:])


def _kekulised(mol: Mol) -> Mol:
    """A copy with single and double bonds instead of aromatic ones, where that can be."""
    out = Chem.Mol(mol)
    with rdBase.BlockLogs():
        try:
            Chem.Kekulize(out, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            return mol
    return out


def _ball(axes: Axes, place: int, centre: NDArray[Any], symbol: str, depth: float) -> None:
    from matplotlib.patches import Circle

    radius = _RADII.get(symbol, 0.40)
    colour = _paled(COLOURS.get(symbol, "#d070d0"), depth)
    edge = _paled("#303030", depth)
    x, y = (float(c) for c in centre[:2])
    axes.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor=edge, linewidth=0.7, zorder=place))
    shine = (x + _LIGHT[0] * radius, y + _LIGHT[1] * radius)
    axes.add_patch(Circle(shine, radius * 0.28, facecolor="white", alpha=0.45, linewidth=0, zorder=place))


def _stick(
    axes: Axes, place: int, a: NDArray[Any], b: NDArray[Any], order: int, colour: str, depth: float
) -> None:
    from matplotlib.patches import Polygon

    along = b[:2] - a[:2]
    length = float(np.linalg.norm(along))
    if length < 1e-6:
        return
    across = np.array([-along[1], along[0]]) / length
    half = _STICK if order == 1 else _STICK * 0.6
    for k in range(order):
        shift = across * _GAP * 1.3 * (k - (order - 1) / 2)
        corners = (
            np.array([a[:2], b[:2], b[:2], a[:2]]) + shift + np.outer([half, half, -half, -half], across)
        )
        axes.add_patch(
            Polygon(
                corners,
                facecolor=_paled(colour, depth),
                edgecolor=_paled("#303030", depth),
                linewidth=0.4,
                zorder=place,
            )
        )


def _paled(colour: str, depth: float) -> tuple[float, float, float]:
    """The colour, up to a third whiter the farther back it is (depth 0)."""
    fade = 0.35 * (1 - float(depth))
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part + (1 - part) * fade for part in parts)
    return red, green, blue


def turned(xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates turned so that the molecule is widest across and flattest along the line of sight.

    A rotation, never a mirror image.

    Example:
        >>> turned(np.array([[0.0, 0, -1], [0, 0, 1]])).round(3).tolist()
        [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    centred = np.nan_to_num(xyz - xyz.mean(0))
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    # The sign of an axis is a matter of chance; the first large entry decides it.
    for k in range(3):
        axes[k] *= np.sign(axes[k, np.abs(axes[k]).argmax()]) or 1.0
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    out: NDArray[np.float64] = centred @ axes.T
    return out
