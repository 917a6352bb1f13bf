"""Quality against the time for a sample, for all families, from the measured results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import ASIDE, CELLS
from benchmarks.drawing.shelf import Shelf
from benchmarks.drawing.style import FAMILIES, INK, MODALITIES, SOFT, Sheet
from benchmarks.store import RESULTS
from molgen.core.errors import DataError

Measured = Mapping[str, Any]


def _score(name: str) -> Callable[[Measured, Sequence[Measured]], float | None]:
    return lambda scores, _: scores.get(name)


def _over_floor(name: str) -> Callable[[Measured, Sequence[Measured]], float | None]:
    """A distance to test records over that of training records, the least that was measured: fewer samples
    have a larger distance and a larger floor, and the ratio of the two would be too favourable.
    """

    def ratio(scores: Measured, others: Sequence[Measured]) -> float | None:
        floors = [s[f"floor/{name}"] for s in others if s.get(f"floor/{name}")]
        value = scores.get(name)
        return value / min(floors) if value and floors else None

    return ratio


_PLOTS: dict[str, tuple[str, str, Callable[[Measured, Sequence[Measured]], float | None], bool]] = {
    "image": ("MNIST", "Frechet distance / floor", _over_floor("frechet"), True),
    "smiles": ("QM9", "valid x unique", _score("valid_x_unique"), False),
    "graph": ("QM9", "FCD", _score("fcd"), True),
    "molecule": ("QM9", "stable atoms", _score("atom_stable"), False),
    "protein": ("PDB, 64-128 residues", "Frechet distance / floor", _over_floor("frechet"), True),
}
"""By modality: data, what is measured, how, and whether less of it is better (and the scale logarithmic)."""


def draw(shelf: Shelf, seed: int, results: Path = RESULTS) -> Sheet:
    """A plot for each kind of data: families as points, one a model."""
    measured = rows(results)
    if not measured:
        raise DataError("no scores", file=results, fix="run python -m benchmarks score CELL")
    sheet = Sheet(
        640,
        "How good a sample is, and how long it takes",
        "better is up, faster is left; the models of the tables, on the machine that they name",
    )
    width, height = 226, 178
    for place, (kind, (data, label, value, less)) in enumerate(_PLOTS.items()):
        row, column = divmod(place, 3)
        x, y = 66 + column * 292, 118 + row * 272
        axes = sheet.axes(x, y, width, height)
        sheet.text(x + width / 2, y - 20, f"{MODALITIES[kind]} ({data})", 13, INK, weight="bold")
        _points(axes, [r for r in measured if r["modality"] == kind], value, less)
        axes.set_ylabel(label)
        axes.set_xlabel("seconds a sample")
    x, y = 66 + 2 * 292, 118 + 272
    for k, (name, colour) in enumerate(FAMILIES.values()):
        sheet.page.plot([x + 8], [y + 14 + 25 * k], marker="o", markersize=8, color=colour)
        sheet.text(x + 24, y + 14 + 25 * k, name, 13, INK, "left")
    return sheet


def rows(folder: Path) -> list[dict[str, Any]]:
    """The scores of shipped models: family, modality, scores and seconds a sample."""
    found = []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        cell = CELLS.get(result.get("cell", "")) if isinstance(result, dict) else None
        if cell is None or not cell.shipped or cell.data in ASIDE or result.get("kind", "scores") != "scores":
            continue
        if path.stem != cell.name:  # has other settings than the cell
            continue
        if not isinstance(result.get("scores"), dict) or not result.get("samples_per_second"):
            continue
        seconds = 1 / result["samples_per_second"]
        about = {"cell": cell.name, "family": cell.family, "modality": cell.modality}
        found.append({**about, "variant": cell.variant, "scores": result["scores"], "seconds": seconds})
    return found


def _points(axes: Any, found: list[dict[str, Any]], value: Callable[..., float | None], less: bool) -> None:
    axes.set_xscale("log")
    axes.grid(True)
    seconds = [r["seconds"] for r in found]
    others = [r["scores"] for r in found]
    known = [(r, value(r["scores"], others)) for r in found]
    if less:
        axes.set_yscale("log")
        axes.margins(y=0.15)  # room for names under points
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.invert_yaxis()
    else:
        axes.set_ylim(-0.04, 1.04)
    for r, y in known:
        if y is not None:
            ink = FAMILIES[r["family"]][1]
            axes.plot([r["seconds"]], [y], marker="o", markersize=8, color=ink, markeredgecolor="white")
            if r["variant"]:
                axes.annotate(
                    r["variant"],
                    (r["seconds"], y),
                    (0, -13),
                    textcoords="offset points",
                    fontsize=7.5,
                    ha="center",
                    color=SOFT,
                )
    if seconds:
        axes.set_xlim(min(seconds) / 2.5, max(seconds) * 2.5)
