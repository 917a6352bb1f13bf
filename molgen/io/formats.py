"""Reading and writing a modality's files: the format is chosen by the suffix of the path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from molgen.core.errors import ConfigError, DataError
from molgen.core.modality import Format, Modality
from molgen.core.records import Records
from molgen.io.console import warn


def read(modality: Modality, path: Path, skip_invalid: bool = False) -> Records:
    """Reads a file or folder in one of the modality's formats."""
    reader = format_of(modality, path, "read").read
    bad: list[DataError] = []

    def on_error(error: DataError) -> None:
        if not skip_invalid:
            more = DataError(error.problem, file=error.file, record=error.record, fix=error.fix)
            raise more
        bad.append(error)

    if reader is None:
        raise ConfigError(f"{path}: {modality.name} only writes this format")
    records = reader(path, on_error)
    if bad:
        warn(f"{path}: skipped {len(bad)} of {len(bad) + len(records)} records; the first: {bad[0]}")
    if len(records) == 0:
        raise DataError("no records", file=path, fix=f"give a file with at least one {modality.name}")
    return records


def write(modality: Modality, path: Path, records: Sequence[Any]) -> None:
    """Writes records in the format that the path's suffix names."""
    writer = format_of(modality, path, "write").write
    if writer is not None:
        writer(path, records)


def format_of(modality: Modality, path: Path, verb: str) -> Format:
    """The modality's format for a path; `ConfigError` with the suffixes there are."""
    name = path.name.lower()
    folder = path.is_dir() or (verb == "write" and not path.suffix)
    able = [f for f in modality.formats if getattr(f, verb) is not None]
    for form in able:
        for suffix in form.suffixes:
            if folder if suffix == "/" else (not folder and name.split(":")[0].endswith(suffix)):
                return form
    choices = [s if s != "/" else "a folder" for f in able for s in f.suffixes]
    raise ConfigError(f"{path}: {modality.name} cannot {verb} this format; choices: {', '.join(choices)}")
