"""Records in memory that are no domain objects yet: pandas frames, read without importing pandas."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from molgen.core.errors import DataError
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.io.formats import read


def from_frame(modality: Modality, frame: Any) -> Records:
    """The records of a frame: as its CSV is read where the modality reads CSV, else its rows as arrays.

    Errors: `DataError` for columns that are not numbers where the modality reads no CSV, and those of the
        reader, which name the row as a line below the header.
    """
    name = "frame in memory"
    if any(".csv" in form.suffixes and form.read is not None for form in modality.formats):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.csv"
            frame.to_csv(path, index=False)
            try:
                found = read(modality, path)
            except DataError as error:
                raise DataError(error.problem, file=name, record=error.record, fix=error.fix) from None
        return Records(found.items, found.labels, name)
    odd = [
        str(column)
        for column, kind in zip(frame.columns, frame.dtypes, strict=True)
        if kind.kind not in "biuf"
    ]
    if odd:
        raise DataError(
            f"column {odd[0]!r} holds no numbers, and {modality.name} reads no CSV",
            file=name,
            fix=f"drop it, or give a list of {modality.name} records",
        )
    return Records(list(np.asarray(frame.to_numpy())), name=name)


def is_frame(data: Any) -> bool:
    """Whether this is a table of pandas, or of what looks like it."""
    return all(hasattr(data, verb) for verb in ("columns", "dtypes", "to_csv", "to_numpy"))


def is_pyg(record: Any) -> bool:
    """Whether this is a graph of PyG."""
    return any(
        base.__module__.startswith("torch_geometric.data") and base.__name__ == "Data"
        for base in type(record).__mro__
    )


def pyg_labels(graphs: list[Any]) -> dict[str, np.ndarray]:
    """The graphs' targets `y`, one label each: ``y``, or ``y0``, ``y1``, ...; none where sizes differ."""
    rows = [
        np.asarray(graph.y, np.float64).ravel() for graph in graphs if getattr(graph, "y", None) is not None
    ]
    if len(rows) < len(graphs) or len({len(row) for row in rows}) != 1 or not len(rows[0]):
        return {}
    table = np.stack(rows)
    if table.shape[1] == 1:
        return {"y": table[:, 0]}
    return {f"y{k}": table[:, k] for k in range(table.shape[1])}
