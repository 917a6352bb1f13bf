"""`Samples`: a list of domain objects that notebooks show as a picture."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex, final, overload

from molgen.core.errors import DataError, MolgenError
from molgen.core.modality import Modality
from molgen.io.data import checksum, data_folder, download

SCRIPT = "https://cdn.jsdelivr.net/npm/3dmol@2.5.5/build/3Dmol-min.js"
"""The viewer; npm's package has the same file."""
_MD5 = "37e6030e325e138e35731c10bbe9e5cd"
_MOST = 9  # views share one of the few contexts for graphics that a page has, and all are turned at once
_CELL = 240


@final
@dataclass(frozen=True)
class Solid:
    """An object in space as a viewer takes it.

    Arguments:
        text: the contents of a file with one record.
        format: of the file, e.g. ``"sdf"`` or ``"pdb"``.
        style: how it is drawn, as 3Dmol.js has it, e.g. ``{"stick": {}}``.
    """

    text: str
    format: str
    style: Mapping[str, Any] = field(default_factory=lambda: {"stick": {}})


@final
class Samples(list[Any]):
    r"""Domain objects: a list in every respect, which notebooks show as a picture.

    Objects in space turn with the mouse where py3Dmol is installed (``pip install -e '.[notebook]'``); all
    others, and all without it, are drawn as `Modality.plot` draws them. The viewer's script is fetched once,
    checked, kept in the data folder and written into the notebook, which so needs no network later.

    Arguments:
        items: domain objects.
        modality: the kind of data that they are; without one they are shown as a list is.

    Example:
        >>> from molgen.core.registry import get_modality
        >>> samples = Samples(["CCO", "C", "CN"], get_modality("smiles"))
        >>> samples == ["CCO", "C", "CN"], samples[:2], type(samples[:2]).__name__
        (True, ['CCO', 'C'], 'Samples')
        >>> samples._repr_png_()[:4]
        b'\x89PNG'
    """

    modality: Modality | None = None  # of the class too, for what pickle has not filled yet

    def __init__(self, items: Iterable[Any] = (), modality: Modality | None = None) -> None:
        super().__init__(items)
        self.modality = modality

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """A record, or the `Samples` of a slice."""
        found = super().__getitem__(index)
        return Samples(found, self.modality) if isinstance(index, slice) else found

    def copy(self) -> Samples:
        """A shallow copy."""
        return self[:]

    def _repr_png_(self) -> bytes | None:
        """The modality's picture of the first ones; None where there is nothing to draw."""
        if self.modality is None or not self:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.png"
            try:
                self.modality.plot(self, path)
            except MolgenError:
                return None  # a notebook then shows the list
            return path.read_bytes()

    def _repr_html_(self) -> str | None:
        """Views of the first objects in space; None where there are none, or no viewer."""
        if self.modality is None:
            return None
        some = [self.modality.to_3d(record) for record in self[:_MOST]]
        found = [solid for solid in some if solid is not None]
        return _views(found, len(self)) if found else None


def _views(solids: list[Solid], total: int) -> str | None:
    """A grid of viewers as HTML; None without py3Dmol or the viewer's script."""
    try:
        import py3Dmol

        script = _script()
    except (ImportError, DataError):
        return None
    columns = min(3, len(solids))
    rows = math.ceil(len(solids) / columns)
    grid = py3Dmol.view(
        width=_CELL * columns, height=_CELL * rows, viewergrid=(rows, columns), linked=False, js=script
    )
    for i, solid in enumerate(solids):
        place = divmod(i, columns)
        # In a page's script, text must not end the script.
        grid.addModel(solid.text.replace("<", " "), solid.format, viewer=place)
        grid.setStyle(dict(solid.style), viewer=place)
        grid.zoomTo(viewer=place)
    more = f"<p>{len(solids)} of {total}</p>" if total > len(solids) else ""
    return f"{grid.write_html()}{more}"


def _script() -> str:
    """The viewer's script as an address that holds it whole."""
    path = data_folder() / "notebook" / SCRIPT.rsplit("/", 1)[1]
    if not path.is_file() or checksum(path) != _MD5:
        path.unlink(missing_ok=True)
        # Whoever waits for a cell's output does not wait for a server that is out of reach.
        download(SCRIPT, path, _MD5, pause=0.0, timeout=5.0, progress=False)
    return "data:text/javascript;base64," + base64.b64encode(path.read_bytes()).decode()
