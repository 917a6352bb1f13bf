"""Trained models and data for figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from benchmarks.cells import CELLS
from molgen.core.errors import MolgenError
from molgen.core.records import Records


@final
class MissingWeights(MolgenError):
    """Weights that a figure or a benchmark needs are missing."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there are no weights {name!r}; train them: python -m benchmarks train {name}")
        self.name = name


@final
class Shelf:
    """Trained models by name, from a folder if they are there, else from the output of training.

    Arguments:
        folder: of `NAME.safetensors`; None for the output of training alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._loaded: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        """The file of a model; `MissingWeights` if there is none."""
        own = [] if self.folder is None else [self.folder / f"{name}.safetensors"]
        for path in (*own, *([CELLS[name].weights] if name in CELLS else [])):
            if path.is_file():
                return path
        raise MissingWeights(name)

    def has(self, name: str) -> bool:
        """Whether a model exists."""
        try:
            self.path(name)
        except MissingWeights:
            return False
        return True

    def load(self, name: str) -> Any:
        """A model; `MissingWeights` if there is none."""
        if name not in self._loaded:
            from molgen.api import load

            self._loaded[name] = load(self.path(name))
        return self._loaded[name]


def examples(model: Any, data: str, count: int, split: str = "test") -> Records:
    """The first records of a data set with their labels, alternating classes.

    Errors: `DataError` if the data set is missing.
    """
    records: Records = model.modality.datasets[data].load(split)
    order = np.arange(len(records))
    if records.labels:
        labels = np.asarray(next(iter(records.labels.values())))
        turn = np.zeros(len(labels), int)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            turn[own] = np.arange(len(own))
        order = np.lexsort((labels, turn))
    some: Records = records[order[:count]]
    return some


def grey(values: Tensor) -> np.ndarray:
    """The reals of an image, -1 to 1, as grey levels, 0 to 255, values outside are kept."""
    return (values.detach().to(torch.float64).numpy()[..., 0] + 1) * 127.5
