"""Files of strings, scores and graphs of PyG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.io.formats import format_of
from molgen.modalities.chemistry.toolkit import ConstitutionToolkit
from molgen.modalities.smiles.modality import SmilesModality


@final
class SmilesToolkit(ConstitutionToolkit[SmilesModality]):
    """Files, data sets, scores and pictures of `SmilesModality`."""

    @property
    def formats(self) -> Sequence[Format]:
        from molgen.modalities.smiles.formats import FORMATS

        return FORMATS

    def read_samples(self, path: Path) -> Records:
        from molgen.modalities.chemistry.formats import read_raw as read_samples

        format_of(self.modality, path, "read")
        return read_samples(path)

    def to_pyg(self, record: Any) -> Any:
        """The graph of the molecule, with the string as `smiles`; `DataError` if there is none."""
        from molgen.modalities.chemistry.parse import parse
        from molgen.modalities.chemistry.pyg import to_pyg

        graph = to_pyg(parse(record))
        graph.smiles = record
        return graph

    def from_pyg(self, data: Any) -> str:
        from molgen.modalities.chemistry.parse import canonical
        from molgen.modalities.chemistry.pyg import constitution

        return canonical(constitution(data))
