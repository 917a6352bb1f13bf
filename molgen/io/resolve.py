"""What a user may give as data: a data set's name, a path, or domain objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molgen.core.errors import ConfigError, DataError
from molgen.core.modality import Format, Modality
from molgen.core.records import Records
from molgen.io.memory import is_frame, is_pyg, pyg_labels


def resolve(
    modality: Modality, data: str | Path | Iterable[Any], split: str = "train", skip_invalid: bool = False
) -> Records:
    """Records from a data set's name, a path, a sequence of domain objects, an array, a frame, PyG graphs.

    Arguments:
        modality: gives the data sets and the formats.
        data: what the user gave.
        split: of a named data set.
        skip_invalid: count and report bad records of a file instead of stopping at the first.

    Errors: `ConfigError` for an unknown name, `DataError` for a bad file.
    """
    if isinstance(data, Records):
        return data
    if not isinstance(data, (str, Path)):
        return _in_memory(modality, data)
    if isinstance(data, str) and data in modality.datasets:
        return modality.datasets[data].load(split)
    path = Path(data)
    looks_like_path = path.suffix or "/" in str(data) or path.exists()
    if not looks_like_path:
        raise ConfigError.unknown(f"data set of {modality.name}", data, modality.datasets)
    return read(modality, path, skip_invalid)


def _in_memory(modality: Modality, data: Any) -> Records:
    """Records from what the user holds: arrays and tensors, frames, PyG data sets, or domain objects."""
    if is_frame(data):
        return modality.from_frame(data)
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu().numpy()
    if isinstance(data, np.ndarray) and data.dtype != object:
        return modality.from_array(data)
    if hasattr(data, "to_data_list"):  # graphs that PyG has joined to one
        data = data.to_data_list()
    try:
        items = list(data)
    except TypeError:
        raise DataError(
            f"data of type {type(data).__name__}, expected a data set's name, a path, a sequence of "
            f"{modality.name} records, an array, a pandas frame or a PyG data set"
        ) from None
    if not items or not is_pyg(items[0]):
        return Records(items, name="data in memory")
    return Records(numbered(modality.from_pyg, items), pyg_labels(items), "PyG data in memory")


def numbered(convert: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """Every item converted; the first bad one raises its `DataError` with its number."""
    found = []
    for i, item in enumerate(items):
        try:
            found.append(convert(item))
        except DataError as error:
            raise error.at(record=i + 1) if error.record is None else error from None
    return found


def read(modality: Modality, path: Path, skip_invalid: bool = False) -> Records:
    """Reads a file or folder in one of the modality's formats."""
    reader = format_of(modality, path, "read").read
    bad: list[DataError] = []

    def on_error(error: DataError) -> None:
        if not skip_invalid:
            more = DataError(error.problem, file=error.file, record=error.record, fix=error.fix)
            raise more
        bad.append(error)

    if reader is None:
        raise ConfigError(f"{path}: {modality.name} only writes this format")
    records = reader(path, on_error)
    if bad:
        from molgen.io.console import warn

        warn(f"{path}: skipped {len(bad)} of {len(bad) + len(records)} records; the first: {bad[0]}")
    if len(records) == 0:
        raise DataError("no records", file=path, fix=f"give a file with at least one {modality.name}")
    return records


def write(modality: Modality, path: Path, records: Sequence[Any]) -> None:
    """Writes records in the format that the path's suffix names."""
    writer = format_of(modality, path, "write").write
    if writer is not None:
        writer(path, records)


def format_of(modality: Modality, path: Path, verb: str) -> Format:
    """The modality's format for a path; `ConfigError` with the suffixes there are."""
    name = path.name.lower()
    folder = path.is_dir() or (verb == "write" and not path.suffix)
    able = [f for f in modality.formats if getattr(f, verb) is not None]
    for form in able:
        for suffix in form.suffixes:
            if folder if suffix == "/" else (not folder and name.split(":")[0].endswith(suffix)):
                return form
    choices = [s if s != "/" else "a folder" for f in able for s in f.suffixes]
    raise ConfigError(f"{path}: {modality.name} cannot {verb} this format; choices: {', '.join(choices)}")
