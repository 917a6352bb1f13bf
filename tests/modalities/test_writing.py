"""Writers of molecules take samples as they are drawn, and let go of those that are written."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit.Chem import Mol

from molgen.core.records import Records
from molgen.core.registry import get_modality
from molgen.io.drawn import Drawn
from molgen.io.formats import read, write

_BATCH, _BATCHES = 300, 6


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("graph", suffix) for suffix in (".smi", ".csv", ".sdf")]
    + [("molecule", suffix) for suffix in (".sdf", ".xyz")],
)
def test_what_is_drawn_is_written_and_let_go(name: str, suffix: str, tmp_path: Path) -> None:
    """When the last batch is asked for, most of the file is there and only one batch before it lives."""
    modality = get_modality(name)
    model: Any = modality.datasets["gdb6"].load("train")[-1]
    living: weakref.WeakSet[Mol] = weakref.WeakSet()
    found: list[int] = []

    def stream() -> Iterator[list[Mol]]:
        for _ in range(_BATCHES):
            found[:] = [len(living), sum(file.stat().st_size for file in tmp_path.iterdir())]
            batch = [Mol(model) for _ in range(_BATCH)]
            living.update(batch)
            yield batch

    path = tmp_path / f"out{suffix}"
    write(modality, path, Drawn(_BATCH * _BATCHES, stream))
    held, written = found
    assert held <= _BATCH and written > 0.5 * path.stat().st_size
    assert len(read(modality, path)) == _BATCH * _BATCHES


def test_labels_of_graphs_come_back_from_an_sdf(tmp_path: Path) -> None:
    modality = get_modality("graph")
    records = modality.datasets["gdb6"].load("train")[:3]
    path = tmp_path / "out.sdf"
    write(modality, path, Records(records.items, {"weight": np.array([1.0, 2.5, np.nan])}))
    np.testing.assert_array_equal(read(modality, path).labels["weight"], [1.0, 2.5, np.nan])
