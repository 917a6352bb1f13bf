"""What a user may give as data: a data set's name, a path, or domain objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molgen.core.errors import ConfigError, DataError
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.io.formats import read
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
        found: Records = modality.datasets[data].load(split)
        return found
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
