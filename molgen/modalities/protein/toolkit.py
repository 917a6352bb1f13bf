"""Files of backbones, data sets, scores, pictures and viewers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from molgen.core.call import called
from molgen.core.errors import DataError
from molgen.core.modality import Format
from molgen.io.data import DataSource
from molgen.io.samples import Solid
from molgen.io.toolkit import Toolkit
from molgen.modalities.protein.modality import ProteinModality


@final
class ProteinToolkit(Toolkit[ProteinModality]):
    """Files, data sets, scores and pictures of `ProteinModality`."""

    @property
    def formats(self) -> Sequence[Format]:
        from molgen.modalities.protein.formats import FORMATS

        return FORMATS

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        from molgen.modalities.protein.data import sources

        return sources()

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        from molgen.modalities.protein.metrics import evaluate

        return called(f"scoring option of {self.modality.name}", evaluate, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        """One unbroken chain without clashes; see `metrics.valid`."""
        from molgen.modalities.protein.backbone import coordinates
        from molgen.modalities.protein.metrics import valid

        try:
            return valid(coordinates(record))
        except DataError:
            return False

    def plot(self, records: Sequence[Any], path: Path) -> None:
        from molgen.modalities.protein.plot import plot

        plot(records, path)

    def to_3d(self, record: Any) -> Solid | None:
        from molgen.modalities.protein.writing import pdb_text

        try:
            return Solid(pdb_text([record]), "pdb", {"cartoon": {"color": "spectrum"}})
        except DataError:  # coordinates that the format cannot hold
            return None

    def to_pyg(self, record: Any) -> Any:
        from molgen.modalities.protein.pyg import to_pyg

        return to_pyg(record)

    def from_pyg(self, data: Any) -> Any:
        from molgen.modalities.protein.pyg import from_pyg

        return from_pyg(data)
