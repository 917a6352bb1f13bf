"""Files that every modality has: the arrays of its fields in `.npz`, or as lists in `.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import DataError
from molgen.core.modality import Format, Modality, View
from molgen.core.records import Records
from molgen.io.files import atomic, load_arrays, read_lines, save_arrays

OnError = Callable[[DataError], None]
_SHAPES = "shape/"
"""An array of shapes `(n, axes)` beside the values of all samples in a row."""


def formats(modality: Modality) -> Sequence[Format]:
    """The two formats of a modality, which hold its first view."""
    from molgen.core.modality import Format

    return (
        Format((".npz",), partial(read_npz, modality), partial(write_npz, modality)),
        Format((".json",), partial(read_json, modality), partial(write_json, modality)),
    )


def write_npz(modality: Modality, path: Path, records: Sequence[Any]) -> None:
    """Per field all values in a row, and the shape of each sample's array."""
    view = _view(modality)
    samples = _samples(modality, records)
    arrays = {}
    for name in view.fields:
        values = [sample[name] for sample in samples]
        arrays[name] = np.concatenate([value.ravel() for value in values]) if values else np.zeros(0)
        arrays[_SHAPES + name] = np.array([value.shape for value in values])
    save_arrays(path, arrays)


def read_npz(modality: Modality, path: Path, on_error: OnError) -> Records:
    """What `write_npz` wrote; or one array of records `(n, ...)` under any single name."""
    arrays = load_arrays(path)
    view = _view(modality)
    if len(arrays) == 1 and set(arrays) != set(view.fields):
        found = modality.from_array(next(iter(arrays.values())))
        return _good(modality, path, found.items, on_error)
    missing = [key for name in view.fields for key in (name, _SHAPES + name) if key not in arrays]
    if missing:
        raise DataError(
            f"no array {missing[0]!r} among {', '.join(arrays)}",
            file=path,
            fix="give a file that molgen wrote, or one array with a row per record",
        )
    columns = {}
    for name in view.fields:
        shapes = arrays[_SHAPES + name]
        counts = shapes.prod(1) if shapes.ndim == 2 else np.zeros(0, np.int64)
        if counts.sum() != arrays[name].size or (shapes < 0).any():
            raise DataError(f"array {name!r} does not fill its shapes", file=path, fix="write the file again")
        parts = np.split(arrays[name].ravel(), np.cumsum(counts)[:-1]) if len(counts) else []
        columns[name] = [part.reshape(shape) for part, shape in zip(parts, shapes.tolist(), strict=True)]
    if len({len(column) for column in columns.values()}) != 1:
        raise DataError("fields of different numbers of records", file=path, fix="write the file again")
    samples = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _decoded(modality, path, samples, on_error)


def write_json(modality: Modality, path: Path, records: Sequence[Any]) -> None:
    """A list with an object for each record: per field its numbers as nested lists, a record a line."""
    lines = [
        json.dumps({name: value.tolist() for name, value in sample.items()})
        for sample in _samples(modality, records)
    ]
    with atomic(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def read_json(modality: Modality, path: Path, on_error: OnError) -> Records:
    """What `write_json` wrote."""
    try:
        rows = json.loads("\n".join(line for _, line in read_lines(path)))
    except json.JSONDecodeError as error:
        raise DataError(
            f"not JSON ({error.msg})", file=path, record=f"line {error.lineno}", fix="write it again"
        ) from None
    if not isinstance(rows, list):
        raise DataError(f"a {type(rows).__name__}, expected a list of records", file=path, fix="write a list")
    return _decoded(modality, path, rows, on_error)


# --------------------------------------------------------------------------- parts


def _view(modality: Modality) -> View:
    return next(iter(modality.views.values()))


def _samples(modality: Modality, records: Sequence[Any]) -> list[Sample]:
    samples = []
    for i, record in enumerate(records):
        try:
            samples.append(modality.encode(record, _view(modality).name))
        except DataError as error:
            raise error.at(record=i + 1) if error.record is None else error from None
    return samples


def _decoded(modality: Modality, path: Path, rows: Sequence[Any], on_error: OnError) -> Records:
    view, items = _view(modality), []
    for i, row in enumerate(rows):
        try:
            items.append(modality.decode(_sample(view, row), view.name))
        except DataError as error:
            on_error(error.at(file=path, record=i + 1))
    return Records(items, name=path.name)


def _sample(view: View, row: Any) -> Sample:
    """A row as arrays of the fields' kinds; `DataError` unless all agree on the number of sites."""
    if not isinstance(row, dict) or set(row) != set(view.fields):
        got = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise DataError(
            f"fields {got}, expected {', '.join(view.fields)}", fix="write one number list a field"
        )
    sample = {}
    for name, f in view.fields.items():
        try:
            value: np.ndarray = np.asarray(row[name], np.int64 if f.num_classes else np.float32)
        except (ValueError, TypeError, OverflowError):
            raise DataError(
                f"field {name!r} is no array of numbers", fix="write nested lists of one length"
            ) from None
        if value.ndim == 0 or (f.num_classes and value.min(initial=0) < 0) or not np.isfinite(value).all():
            raise DataError(f"field {name!r} holds what is no value of it", fix="remove the record")
        sample[name] = value
    if len({len(value) for value in sample.values()}) != 1:
        raise DataError("fields of different numbers of sites", fix="remove the record")
    return sample


def _good(modality: Modality, path: Path, records: Sequence[Any], on_error: OnError) -> Records:
    items, name = [], _view(modality).name
    for i, record in enumerate(records):
        try:
            modality.encode(record, name)
        except DataError as error:
            on_error(error.at(file=path, record=i + 1))
        else:
            items.append(record)
    return Records(items, name=path.name)
