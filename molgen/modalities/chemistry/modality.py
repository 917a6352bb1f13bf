"""What strings and graphs of molecules share: properties, data sets, metrics, pictures."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from molgen.core.conditions import Condition
from molgen.core.modality import Modality
from molgen.core.options import called
from molgen.core.sizes import Sizes
from molgen.io.data import DataSource


class ConstitutionModality(Modality, ABC):
    """Molecules by their constitution, without coordinates.

    Attributes:
        form: how the data sets give each molecule.
        sizes: histogram of the number of sites.
        properties: mean and standard deviation of every property and label that can be a condition.
    """

    form: ClassVar[Literal["smiles", "graph"]]
    sizes: Sizes
    properties: Mapping[str, tuple[float, float]]

    def log_size(self, n: int) -> float:
        return self.sizes.log(n)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        from molgen.modalities.chemistry.properties import scalars

        return scalars(self.properties)

    def measure(self, record: Any, name: str) -> float:
        from molgen.modalities.chemistry.properties import measure

        return measure(record, name)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        from molgen.modalities.chemistry.data import datasets

        return datasets(self.form)

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        from molgen.modalities.chemistry.metrics import evaluate

        return called(f"scoring option of {self.name}", evaluate, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        from rdkit.Chem import Mol

        from molgen.modalities.chemistry.parse import sanitised

        return isinstance(record, (str, Mol)) and sanitised(record) is not None

    def plot(self, records: Sequence[Any], path: Path) -> None:
        from molgen.modalities.chemistry.plot import save_grid

        save_grid(records, path)
