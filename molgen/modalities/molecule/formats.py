"""The files of 3D molecules: `.sdf` and `.xyz`, also `.gz`, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from molgen.core.errors import DataError
from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.modalities.molecule.codec import Mol
from molgen.modalities.molecule.plot import save_grid
from molgen.modalities.molecule.sdf import OnError, read_sdf, write_sdf
from molgen.modalities.molecule.xyz import read_xyz, write_xyz

__all__ = ["FORMATS", "read", "read_samples", "read_sdf", "read_xyz", "write_sdf", "write_xyz"]

SDF = (".sdf", ".sdf.gz")
XYZ = (".xyz", ".xyz.gz")


def read(path: Path, on_error: OnError) -> Records:
    """The molecules of an SDF with 3D coordinates and explicit hydrogens."""
    return read_sdf(path, on_error, geometry=True)


def read_samples(path: Path) -> Records:
    """Every record of a file, in order, molecules or not, for scores."""

    def stop(error: DataError) -> None:
        raise error

    if path.name.lower().endswith(XYZ):
        return read_xyz(path, stop, geometry=False)
    return read_sdf(path, stop)


def _picture(path: Path, records: Sequence[Mol]) -> None:
    save_grid(records, path)


FORMATS = (
    Format(SDF, read, write_sdf),
    Format(XYZ, read_xyz, write_xyz),
    Format((".png",), None, _picture),
)
