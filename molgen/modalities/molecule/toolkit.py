"""Files of molecules in space, data sets, scores, pictures and viewers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from molgen.core.call import called
from molgen.core.errors import DataError
from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.io.data import DataSource
from molgen.io.formats import format_of
from molgen.io.samples import Solid
from molgen.io.toolkit import Toolkit
from molgen.modalities.molecule.codec import Mol, positions_of
from molgen.modalities.molecule.modality import MoleculeModality


@final
class MoleculeToolkit(Toolkit[MoleculeModality]):
    """Files, data sets, scores and pictures of `MoleculeModality`."""

    @property
    def formats(self) -> Sequence[Format]:
        from molgen.modalities.molecule.formats import FORMATS

        return FORMATS

    def read_samples(self, path: Path) -> Records:
        from molgen.modalities.molecule.formats import read_samples

        format_of(self.modality, path, "read")
        return read_samples(path)

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        from molgen.modalities.molecule.data import DATASETS

        return DATASETS

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        from molgen.modalities.molecule.metrics import evaluate

        return called(f"scoring option of {self.modality.name}", evaluate, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        from molgen.modalities.molecule.metrics import is_valid

        return is_valid(record)

    def plot(self, records: Sequence[Any], path: Path) -> None:
        from molgen.modalities.molecule.plot import save_grid

        save_grid(records, path)

    def to_3d(self, record: Any) -> Solid | None:
        from molgen.modalities.molecule.sdf import mol_block

        try:
            return Solid(mol_block(record), "sdf", {"stick": {"radius": 0.12}, "sphere": {"scale": 0.22}})
        except DataError:  # larger than the format holds
            return None

    def to_pyg(self, record: Any) -> Any:
        from molgen.modalities.chemistry.pyg import to_pyg

        positions_of(record)  # refuses what has no coordinates
        return to_pyg(record)

    def from_pyg(self, data: Any) -> Mol:
        from molgen.modalities.chemistry.pyg import from_pyg

        mol = from_pyg(data)
        positions_of(mol)  # refuses graphs without coordinates
        return mol
