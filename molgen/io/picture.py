"""A picture of whatever the fields hold: curves, tokens, matrices, points, images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molgen.core.errors import DataError
from molgen.core.fields import Field
from molgen.core.modality import Modality
from molgen.io.files import atomic

_PANELS = 64  # more would take minutes to draw, and nobody could read them


def save_grid(
    modality: Modality, records: Sequence[Any], path: Path, columns: int = 4, limit: int = 16
) -> None:
    """Draws the first records to a PNG, a panel for each field of a record.

    Numbers on a line are curves, classes strips, values on pairs matrices, points their two widest
    directions, numbers on a grid images.

    Arguments:
        modality: gives the fields.
        records: domain objects; those that cannot be encoded leave an empty panel.
        path: the PNG.
        columns: records in a row.
        limit: how many records are drawn at most; fewer where they have many fields.

    Errors: `DataError` if there is no record.
    """
    view = next(iter(modality.views.values()))
    names = list(view.fields)
    some = list(records[: min(limit, max(1, _PANELS // len(names)))])
    if not some:
        raise DataError(f"no {modality.name} to draw", fix="give at least one")
    from matplotlib.figure import Figure  # without pyplot, which would keep global state

    columns = min(columns, len(some))
    rows = -(-len(some) // columns)
    figure = Figure(figsize=(2.2 * columns * len(names), 1.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns * len(names), squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for i, record in enumerate(some):
        try:
            sample = modality.encode(record, view.name)
        except DataError:
            continue
        for k, name in enumerate(names):
            _draw(panels[i * len(names) + k], view.fields[name], np.asarray(sample[name]), modality.extent)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw(panel: Any, field: Field, value: np.ndarray, extent: tuple[int, ...] | None) -> None:
    if field.stream == "point":
        centred = value - value.mean(0)
        flat = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        panel.plot(
            *np.pad(flat, ((0, 0), (0, max(0, 2 - flat.shape[1])))).T, "-o", markersize=3, linewidth=0.6
        )
        panel.set_aspect("equal")
    elif extent is not None and len(extent) == 2:
        image = value if value.ndim == 2 else value[..., :3].mean(-1)
        panel.imshow(image, cmap="gray" if not field.num_classes else "tab20")
    elif field.axes == 2:
        panel.imshow(value, cmap="viridis")
    elif field.num_classes:
        panel.imshow(np.atleast_2d(value), cmap="tab20", vmin=0, vmax=field.num_classes - 1, aspect="auto")
    else:
        panel.plot(value.reshape(len(value), -1), ".-" if len(value) < 20 else "-", linewidth=0.8)
