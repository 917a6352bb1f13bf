"""What strings and graphs of molecules share: data sets, scores, pictures."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from molgen.core.call import called
from molgen.io.data import DataSource
from molgen.io.toolkit import Toolkit
from molgen.modalities.chemistry.modality import ConstitutionModality

M = TypeVar("M", bound=ConstitutionModality)


class ConstitutionToolkit(Toolkit[M], ABC):
    """Data sets, scores and pictures of molecules without coordinates."""

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        from molgen.modalities.chemistry.data import datasets

        return datasets(self.modality.form)

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        from molgen.modalities.chemistry.metrics import evaluate

        return called(f"scoring option of {self.modality.name}", evaluate, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        from rdkit.Chem import Mol

        from molgen.modalities.chemistry.parse import sanitised

        return isinstance(record, (str, Mol)) and sanitised(record) is not None

    def plot(self, records: Sequence[Any], path: Path) -> None:
        from molgen.modalities.chemistry.plot import save_grid

        save_grid(records, path)
