"""Files of molecules, scores and graphs of PyG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.io.formats import format_of
from molgen.modalities.chemistry.toolkit import ConstitutionToolkit
from molgen.modalities.graph.modality import GraphModality, checked


@final
class GraphToolkit(ConstitutionToolkit[GraphModality]):
    """Files, data sets, scores and pictures of `GraphModality`."""

    @property
    def formats(self) -> Sequence[Format]:
        from molgen.modalities.graph.formats import FORMATS

        return FORMATS

    def read_samples(self, path: Path) -> Records:
        from molgen.modalities.graph.formats import read_samples

        format_of(self.modality, path, "read")
        return read_samples(path)

    def to_pyg(self, record: Any) -> Any:
        from molgen.modalities.chemistry.pyg import to_pyg

        return to_pyg(checked(record))

    def from_pyg(self, data: Any) -> Any:
        from molgen.modalities.chemistry.pyg import constitution

        return constitution(data)
