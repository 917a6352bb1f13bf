"""What strings and graphs of molecules share: properties, data sets, metrics, pictures."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from molgen.core.conditions import Condition
from molgen.core.modality import Modality
from molgen.core.sizes import Sizes


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
