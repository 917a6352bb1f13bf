"""Families by kinds of data: the first samples of every trained model, without selection."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import CELLS
from benchmarks.drawing.shelf import MissingWeights, Shelf
from benchmarks.drawing.style import FAMILIES, GROUND, INK, MODALITIES, SOFT, Sheet

_SAMPLES = {"image": 8, "smiles": 2, "graph": 2, "molecule": 2, "protein": 2}
_COLUMNS = {"image": 4}
_LEFT, _WIDE, _HIGH, _TOP = 142, 150, 92, 104


def draw(shelf: Shelf, seed: int) -> Sheet:
    """A row for each family; a cell without weights is marked, and a variant is named."""
    sheet = Sheet(
        _TOP + len(FAMILIES) * _HIGH + 10,
        "Seven families, five kinds of data",
        "the first samples of each model, neither chosen nor corrected; what is no molecule is marked red",
    )
    for column, kind in enumerate(MODALITIES):
        x = _LEFT + (column + 0.5) * _WIDE
        sheet.text(x, _TOP - 18, MODALITIES[kind], 13, INK, weight="bold")
    found = 0
    for row, (family, (name, colour)) in enumerate(FAMILIES.items()):
        y = _TOP + row * _HIGH
        sheet.rectangle(12, y + 6, 4, _HIGH - 12, colour)
        sheet.head(24, y + _HIGH / 2, name, colour)
        for column, kind in enumerate(MODALITIES):
            x = _LEFT + column * _WIDE
            if cell := there(shelf, family, kind):
                options = dict(CELLS[cell].sample) if cell in CELLS else {}
                tiles(sheet, shelf.load(cell), options, seed, (x, y))
                variant = cell.removeprefix(f"{family}-{kind}").lstrip("-")
                sheet.text(x + _WIDE / 2, y + 4, variant, 9, SOFT)
                found += 1
            else:
                sheet.rectangle(x + 4, y + 4, _WIDE - 8, _HIGH - 8, GROUND)
                sheet.text(x + _WIDE / 2, y + _HIGH / 2, "no weights here", 12, SOFT)
    if not found:
        raise MissingWeights("diffusion-image")
    return sheet


def there(shelf: Shelf, family: str, kind: str) -> str | None:
    """The model of a family on a kind of data that has weights, variants last; None if there is none."""
    variants = [c.name for c in CELLS.values() if c.shipped and (c.family, c.modality) == (family, kind)]
    return next(filter(shelf.has, [f"{family}-{kind}", *variants]), None)


def tiles(sheet: Sheet, model: Any, options: dict[str, Any], seed: int, place: tuple[float, float]) -> None:
    """The first samples of a model, drawn by its modality, side by side in a cell."""
    kind = model.modality.name
    count = _SAMPLES.get(kind, 2)
    columns = _COLUMNS.get(kind, count)
    width, height = (_WIDE - 8) / columns, (_HIGH - 8) / (count // columns)
    for k, sample in enumerate(model.sample(count, seed=seed, **options)):
        row, column = divmod(k, columns)
        if kind == "protein":
            left, top = place[0] + 4 + column * width, place[1] + 4 + row * height
            _ribbon(sheet.axes(left, top, width, height), sample)
            continue
        picture = pictured(model.modality, sample)
        high, wide = picture.shape[:2]
        scale = min((width - 4) / wide, (height - 4) / high)
        x = place[0] + 4 + (column + 0.5) * width - scale * wide / 2
        y = place[1] + 4 + (row + 0.5) * height - scale * high / 2
        sheet.picture(x, y, scale * wide, picture, line=0.6 * (kind == "image"), smooth=kind != "image")


def pictured(modality: Any, sample: Any) -> np.ndarray:
    """One sample as its modality draws it, without margins, RGB from 0 to 1; digits as ink on paper."""
    from PIL import Image

    if isinstance(sample, np.ndarray):
        grey = 1 - np.asarray(sample[..., 0], float) / 255
        return np.repeat(grey[..., None], 3, -1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.png"
        modality.plot([sample], path)
        with Image.open(path) as file:
            image = np.asarray(file.convert("RGB"), float) / 255
    dark = np.any(image < 0.98, axis=2)
    rows, columns = np.flatnonzero(np.any(dark, axis=1)), np.flatnonzero(np.any(dark, axis=0))
    if not len(rows):
        return image
    return np.asarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _ribbon(axes: Any, sample: Any) -> None:
    """A backbone as its modality draws it, without caption and legend: helices red, strands blue."""
    from matplotlib.collections import PolyCollection

    from molgen.modalities.protein.backbone import coordinates
    from molgen.modalities.protein.plot import ribbon, seen

    view = seen(coordinates(sample))
    axes.set_axis_off()
    axes.set_aspect("equal")
    if len(view) < 4:
        return
    quads, colours = ribbon(view)
    axes.add_collection(PolyCollection(list(quads), facecolors=colours, edgecolors=colours, linewidths=0.2))
    reach = float(np.abs(view[:, 1, :2]).max()) + 2.5
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
