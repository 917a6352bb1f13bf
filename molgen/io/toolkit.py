"""What surrounds a kind of data: files, data sets, scores and pictures, each with a default."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import numpy as np

from molgen.core.errors import DataError
from molgen.core.modality import Format, Modality
from molgen.core.records import Records
from molgen.io import arrays, memory
from molgen.io.data import DataSource
from molgen.io.formats import read
from molgen.io.samples import Solid

M = TypeVar("M", bound=Modality)


class Toolkit(ABC, Generic[M]):  # noqa: B024
    """Files, data sets, scores and pictures of a modality, which loads it on demand.

    A modality names its own by `Modality.toolkit_path`; a method that is not overridden works for every
    modality, through its fields.

    Arguments:
        modality: whose records are read, written, scored and drawn.

    Example:
        >>> from molgen.testing.toys import Words
        >>> Words().toolkit.is_valid("ab")
        True
    """

    def __init__(self, modality: M) -> None:
        self.modality = modality

    @property
    def formats(self) -> Sequence[Format]:
        """The file formats, in order of preference."""
        return arrays.formats(self.modality)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        """The data sets by name, the embedded one included."""
        return {}

    def from_array(self, array: np.ndarray) -> Records:
        """The records of an array in memory."""
        if array.ndim == 0:
            name = self.modality.name
            raise DataError(f"an array without axes, expected one row per {name}", fix="stack records")
        return Records(list(array), name="array in memory")

    def from_frame(self, frame: Any) -> Records:
        """The records of a pandas frame."""
        return memory.from_frame(self.modality, frame)

    def to_pyg(self, record: Any) -> Any:
        """A domain object as a `torch_geometric.data.Data`."""
        from molgen.io.pyg import to_graph  # which imports PyG

        return to_graph(self.modality, record)

    def from_pyg(self, data: Any) -> Any:
        """A domain object from a `Data`."""
        from molgen.io.pyg import from_graph

        return from_graph(self.modality, data)

    def read_samples(self, path: Path) -> Records:
        """Every record of a file in order, for scores; what is no valid object is kept and counted."""
        return read(self.modality, path)

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """The scores of records against a reference."""
        from molgen.core.call import called
        from molgen.metrics.generic import evaluate  # which imports scikit-learn

        what = f"scoring option of {self.modality.name}"
        return called(what, evaluate, self.modality, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        """Whether a record is a valid object of its domain."""
        try:
            self.modality.encode(record, next(iter(self.modality.views)))
        except DataError:
            return False
        return True

    def plot(self, records: Sequence[Any], path: Path) -> None:
        """Draws records to a PNG."""
        from molgen.io.picture import save_grid  # which imports matplotlib

        save_grid(self.modality, records, path)

    def to_3d(self, record: Any) -> Solid | None:
        """A record as a viewer of objects in space takes it; None where it is none."""
        return None


@final
class PlainToolkit(Toolkit[Modality]):
    """The toolkit of a modality that names none."""
