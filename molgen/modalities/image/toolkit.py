"""Image files, data sets, scores and grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from molgen.core.call import called
from molgen.core.errors import DataError
from molgen.core.modality import Format
from molgen.io.data import DataSource
from molgen.io.toolkit import Toolkit
from molgen.modalities.image.codec import checked
from molgen.modalities.image.modality import ImageModality


@final
class ImageToolkit(Toolkit[ImageModality]):
    """Files, data sets, scores and pictures of `ImageModality`."""

    @property
    def formats(self) -> Sequence[Format]:
        from molgen.modalities.image.formats import FORMATS

        return FORMATS

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        from molgen.modalities.image.data import DATASETS

        return DATASETS

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        from molgen.modalities.image.metrics import evaluate

        return called(f"scoring option of {self.modality.name}", evaluate, records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        try:
            checked(record, self.modality.shape)
        except DataError:
            return False
        return True

    def plot(self, records: Sequence[Any], path: Path) -> None:
        from molgen.modalities.image.plot import save_grid

        save_grid(records, path)
