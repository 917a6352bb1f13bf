"""A picture of backbones: ribbons in a grid, coloured by secondary structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from Bio.PDB.Structure import Structure

from molgen.core.errors import DataError
from molgen.io.files import atomic
from molgen.modalities.protein.backbone import coordinates
from molgen.modalities.protein.geometry import unit
from molgen.modalities.protein.secondary import COIL, HELIX, STRAND, assign, segments

COLOURS = {COIL: (0.62, 0.66, 0.70), HELIX: (0.84, 0.26, 0.30), STRAND: (0.16, 0.50, 0.73)}
NAMES = {HELIX: "helix", STRAND: "strand", COIL: "coil"}
_WIDTH = {COIL: 0.38, HELIX: 1.5, STRAND: 1.25}  # half the ribbon, in Angstrom
_FINE = 8  # pieces of ribbon per residue
_MOST = 25


def plot(records: Sequence[Structure], path: Path) -> None:
    """Draws at most 25 backbones to a PNG, each seen along its shortest axis.

    Errors: `DataError` if there is nothing to draw, or the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    chains = [coordinates(record) for record in records[:_MOST]]
    if not chains:
        raise DataError("nothing to draw", fix="give at least one backbone")
    columns = math.ceil(math.sqrt(len(chains)))
    rows = math.ceil(len(chains) / columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows + 0.35), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    views = [seen(chain) for chain in chains]
    sizes = [float(np.abs(view[:, 1, :2]).max()) if len(view) else 10.0 for view in views]
    for k, view in enumerate(views):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.set_aspect("equal")
        axes.set_axis_off()
        reach = max(sizes[k], 0.6 * max(sizes)) + 2.5  # one scale, but small folds stay legible
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        if len(view) > 3:
            quads, colours = ribbon(view)
            axes.add_collection(
                PolyCollection(list(quads), facecolors=colours, edgecolors=colours, linewidths=0.2)
            )
        axes.set_title(f"{len(view)} residues", fontsize=8, color="0.35", y=-0.02)
    handles = [Patch(color=COLOURS[kind], label=name) for kind, name in NAMES.items()]
    figure.legend(handles=handles, loc="upper center", ncols=3, frameon=False, fontsize=9)
    figure.subplots_adjust(0.01, 0.04, 0.99, 1 - 0.35 / (2.75 * rows + 0.35), 0.02, 0.08)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")


def seen(coords: np.ndarray) -> np.ndarray:
    """The atoms centred, longest axis across, shortest towards the eye, not mirrored; NaN is left off."""
    x = np.asarray(coords, np.float64)
    x = x[np.isfinite(x).all((1, 2))]
    if len(x) == 0:
        return x
    x = x - x[:, 1].mean(0)
    _, _, axes = np.linalg.svd(x[:, 1], full_matrices=len(x) < 3)
    axes[2] *= np.sign(np.linalg.det(axes)) or 1.0
    return np.asarray(x @ axes.T)


def ribbon(view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of a ribbon from back to front, each after its outline, `(M, 4, 2)`, and their colours `(M, 3)`.

    Arguments:
        view: the backbone `(N, 4, 3)` in the eye's axes, z towards it; at least four residues.
    """
    from scipy.interpolate import CubicSpline

    kinds = np.full(len(view), COIL)
    tips = np.zeros(len(view), bool)
    for kind, first, last in segments(assign(view)):
        kinds[first : last + 1] = kind
        tips[last] = kind == STRAND
    path = view[:, 1].copy()
    inner = np.flatnonzero(kinds == STRAND)
    inner = inner[(inner > 0) & (inner < len(view) - 1)]
    path[inner] = (view[inner - 1, 1] + 2 * view[inner, 1] + view[inner + 1, 1]) / 4  # pleats smoothed
    across = _across(view[:, 1])
    places = np.arange(len(view))
    fine = np.linspace(0, len(view) - 1, (len(view) - 1) * _FINE + 1)
    line, side = CubicSpline(places, path)(fine), unit(CubicSpline(places, across)(fine))
    owner = np.minimum(np.round(fine).astype(int), len(view) - 1)
    kind = kinds[owner]
    width = np.array([_WIDTH[int(k)] for k in kind])
    head = tips[owner]
    width[head] = 2.2 * (0.5 - (fine - owner)[head])  # arrow heads
    along = unit(np.gradient(line, axis=0))
    flat = np.stack([-along[:, 1], along[:, 0], np.zeros(len(along))], 1)
    side = np.where((kind == COIL)[:, None], unit(flat), side)  # coils turn to the eye: a round tube
    rims = []
    for half in (width + 0.16, width):
        one, two = line + side * half[:, None], line - side * half[:, None]
        rims.append(np.stack([one[:-1], one[1:], two[1:], two[:-1]], 1))
    depth = rims[1][..., 2].mean(1)
    light = np.abs(unit(np.cross(along, side))[:-1, 2])
    inside = np.array([COLOURS[int(k)] for k in kind[:-1]]) * (0.6 + 0.4 * light)[:, None]
    fog = 0.45 * (depth.max() - depth)[:, None] / max(float(np.ptp(depth)), 1e-6)
    order = depth.argsort(kind="stable")
    quads = np.stack([rims[0][order], rims[1][order]], 1).reshape(-1, 4, 3)
    colours = np.stack([0.45 * inside, inside], 0) * (1 - fog) + fog
    return quads[..., :2], np.clip(colours[:, order].transpose(1, 0, 2).reshape(-1, 3), 0, 1)


def _across(ca: np.ndarray) -> np.ndarray:
    """Per residue the direction of the ribbon's width: the normal of three CA, without sudden flips."""
    bonds = np.diff(ca, axis=0)
    normal = unit(np.cross(bonds[:-1], bonds[1:]))
    normal = np.concatenate([normal[:1], normal, normal[-1:]])
    for i in range(1, len(normal)):
        if normal[i] @ normal[i - 1] < 0:
            normal[i] = -normal[i]
    return normal
