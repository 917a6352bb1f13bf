"""The demonstration: every modality from shipped weights, then a small model trained from nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from molgen.api import list_weights, load, save_json, score_lines
from molgen.core.errors import MolgenError, UnsupportedError
from molgen.core.modality import Modality
from molgen.io.files import check_writable
from molgen.io.formats import write

COUNTS = {"image": 25, "smiles": 64, "graph": 36, "molecule": 12, "protein": 4}
"""Samples drawn of each modality; 32 of one that is not named here."""


def run(out: Path, seconds: int = 60, echo: Callable[[str], None] = print) -> None:
    """Draws from all shipped weights into a folder, prints the scores, and trains a small model.

    Arguments:
        out: the folder; made if it is not there, files of the same names are replaced.
        seconds: how long the small model trains.
        echo: takes each line of the report.
    """
    begun = time.monotonic()
    check_writable(out / "scores.json")
    out.mkdir(parents=True, exist_ok=True)
    scores = {}
    for name, header in list_weights().items():
        scores[name] = _shipped(name, header, out, echo)
    scores["trained here"] = _trained(out, seconds, echo)
    save_json(out / "scores.json", scores)
    echo(f"All files are in {out}, made in {(time.monotonic() - begun) / 60:.1f} minutes.")


def _shipped(
    name: str, header: Mapping[str, Any], out: Path, echo: Callable[[str], None]
) -> dict[str, float]:
    """Samples, files, picture and scores of one of the shipped models."""
    model = load(name)
    count = COUNTS.get(model.modality.name, 32)
    begun = time.monotonic()
    records = model.sample(count, seed=0)
    spent = time.monotonic() - begun
    files = _files(model.modality, records, out, name)
    echo(f"{name}: {count} samples in {spent:.1f} s -> {', '.join(files)}")
    runs = header.get("history", {}).get("runs", [])
    trained_on = str(runs[-1].get("data", "")).split("/")[0] if runs else None
    try:
        scores = model.evaluate(records, reference=trained_on or None)
    except UnsupportedError as error:
        echo(f"  {error}")
        return {}
    _report(scores, echo)
    return scores


def _trained(out: Path, seconds: int, echo: Callable[[str], None]) -> dict[str, float]:
    """The whole loop on embedded data: fit, save, load, sample, evaluate."""
    from molgen.models.diffusion import DiffusionModel

    echo(f"Training a small model of SMILES on the embedded molecules for {seconds} s ...")
    model = DiffusionModel("smiles", trunk_options={"width": 96, "depth": 3, "heads": 4})
    model.fit("gdb6", max_time=f"{seconds}s", batch_size=128, seed=0)
    model.save(out / "small.safetensors")
    again = load(out / "small.safetensors")
    records = again.sample(200, seed=0, steps=25)
    files = _files(again.modality, records, out, "small")
    echo(f"small: {again.history['steps']:,} steps; 200 samples -> small.safetensors, {', '.join(files)}")
    scores = again.evaluate(records, reference="gdb6")
    _report(scores, echo)
    return scores


def _files(modality: Modality, records: list[Any], out: Path, name: str) -> list[str]:
    """Writes records in the modality's preferred format, and draws them; the names of the files."""
    formats = [f for f in modality.formats if f.write is not None and "/" not in f.suffixes]
    made = []
    if formats:
        made.append(name + formats[0].suffixes[0])
        write(modality, out / made[0], records)
    picture = f"{name}.png"
    if picture not in made:
        try:
            modality.plot(records, out / picture)
            made.append(picture)
        except UnsupportedError:
            pass  # a plugin without pictures
    if not made:
        raise MolgenError(f"modality {modality.name!r} writes no files")
    return made


def _report(scores: Mapping[str, float], echo: Callable[[str], None]) -> None:
    for line in score_lines(scores):
        echo("  " + line)
