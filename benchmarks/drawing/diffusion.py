"""Noising and denoising step by step: images, and a molecule by the same rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.drawing.shelf import Shelf, examples, grey
from benchmarks.drawing.style import FAINT, FAMILIES, INK, SOFT, WIDTH, Sheet
from molgen.core.rng import SampleRandom
from molgen.core.solvers import SOLVERS, ReverseProcess, State

_TIMES = (0.0, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
_STEPS = 40  # of the solver; all times above are on its grid
_MOLECULE = (0.0, 0.08, 0.16, 0.25, 0.333, 0.5, 0.75, 1.0)
"""Of a molecule, whose places resolve in the last third of the way."""
_LEFT, _TILE, _GAP = 140, 82, 12


def draw(shelf: Shelf, seed: int) -> Sheet:
    """Columns are times; rows are noised images, denoised images, and the predictions of the network."""
    model, other = shelf.load("diffusion-image"), shelf.load("diffusion-molecule")
    name, colour = FAMILIES["diffusion"]
    sheet = Sheet(
        668,
        f"{name}: noise comes step by step, and goes step by step",
        r"training: $D_\theta(x_t, t) \approx x_0$;  sampling: from $\sigma = 99$ towards $D_\theta$",
        colour,
    )
    path = trajectory(model, _STEPS, seed, {"digit": 4.0})
    x0 = model.encode(examples(model, "mnist", 10)[5:6]).values["image"]
    field = model.view.fields["image"]
    rng = SampleRandom(seed, [0])
    white = rng.normal(torch.ones(1, 28, 28, dtype=torch.bool), (28, 28, 1))
    rows = (112, 252, 372)
    for column, t in enumerate(_TIMES):
        x = _LEFT + column * (_TILE + _GAP)
        sigma = float(field.schedule.sigma(torch.tensor(t)))
        limits = (-255 * sigma, 255 + 255 * sigma)
        state, params = path[round((1 - t) * _STEPS)]
        sheet.text(x + _TILE / 2, rows[0] - 13, rf"$\sigma = {sigma:.2g}$", 12, SOFT)
        sheet.picture(x, rows[0], _TILE, grey((x0 + sigma * white)[0]), limits)
        sheet.picture(x, rows[1], _TILE, grey(state["image"][0]), limits)
        if column:
            sheet.arrow((x + _TILE / 2, rows[1] + _TILE + 3), (x + _TILE / 2, rows[2] - 3), colour)
            sheet.picture(x, rows[2], _TILE, grey(params["image"][0]), edge=colour, line=1.2)
            for row, way in ((0, 1), (1, -1)):
                y = rows[row] + _TILE / 2
                start, end = ((x - _GAP + 1, y), (x - 1, y))[::way]
                sheet.arrow(start, end, INK if row == 0 else colour)
    words = "the sample:\nno noise is left"
    sheet.text(_LEFT + _TILE / 2, rows[2] + _TILE / 2, words, 12, SOFT, linespacing=1.4)
    _labels(sheet, rows, colour)
    _molecule(sheet, other, seed, 512, colour)
    return sheet


def _labels(sheet: Sheet, rows: tuple[int, int, int], colour: str) -> None:
    middle = _TILE / 2
    words = (
        ("noising", r"$x_t = x_0 + \sigma(t)\,\varepsilon$", INK),
        ("denoising", r"$\frac{dx}{d\sigma} = \frac{x - D_\theta}{\sigma}$", colour),
        ("the network's\nestimate", r"$D_\theta(x_t, t)$", colour),
    )
    for y, (title, formula, ink) in zip(rows, words, strict=True):
        big = 16 if "frac" in formula else 12
        sheet.head(16, y + middle - 14, title, ink)
        sheet.text(16, y + middle + 14, formula, big, SOFT, "left")
    sheet.line([16, WIDTH - 16], [rows[0] + _TILE + 28] * 2)


def trajectory(
    model: Any, steps: int, seed: int, condition: dict[str, float], solver: str = "euler", count: int = 1
) -> list[tuple[State, State]]:
    """Every state of a diffusion model's sampler and the estimate of the data there, from noise to data."""
    fields = model.view.fields
    mask = model.modality.make_mask(model.modality.draw_sizes(seed, range(count)))
    rng = SampleRandom(seed, range(count))
    labels = {k: torch.full((count,), v) for k, v in condition.items()}
    denoise = model._denoise(mask, labels, 1.0)
    seen: list[tuple[State, State]] = []

    def watched(x: State, t: torch.Tensor) -> State:
        params: State = denoise(x, t)
        seen.append((x, params))
        return params

    with torch.no_grad():
        start = {k: f.prior(mask, rng) for k, f in fields.items()}
        times = torch.linspace(1, 0, steps + 1)[:, None].expand(-1, count)
        end = SOLVERS[solver](ReverseProcess(watched, fields, mask, rng), start, times)
    return [*seen, (end, seen[-1][1])]


# ---------------------------------------------------------------------- the molecule


def _molecule(sheet: Sheet, model: Any, seed: int, top: int, colour: str) -> None:
    """States of a molecule's sampler: bonds and elements resolve first, then positions."""
    steps = model.options.steps
    path = trajectory(model, steps, seed + 3, {}, "ancestral")
    final = path[-1][0]
    turn = _turn(final["positions"][0].numpy())
    sheet.line([16, WIDTH - 16], [top - 30] * 2)
    sheet.head(16, top + 46, "the same on\na molecule", colour, linespacing=1.3)
    sheet.text(16, top + 96, "kinds and bonds\nfirst, then places", 12, SOFT, "left", linespacing=1.4)
    for column, t in enumerate(_MOLECULE):
        state = path[round((1 - t) * steps)][0]
        x = _LEFT + column * (_TILE + _GAP)
        balls(sheet.axes(x - 6, top - 8, _TILE + 12, 124), model, state, turn)
        sheet.text(x + _TILE / 2, top + 132, f"t = {t:.2g}", 12, SOFT)
        if column:
            sheet.arrow((x - 1, top + 132), (x - _GAP + 1, top + 132), colour)


def _turn(xyz: np.ndarray) -> np.ndarray:
    """The rotation that shows a geometry from its flattest side."""
    axes = np.linalg.svd(xyz - xyz.mean(0), full_matrices=True)[2]
    axes *= np.sign(axes[np.arange(3), np.abs(axes).argmax(1)])[:, None]
    return np.asarray(axes[[1, 0, 2]].T)


def balls(axes: Any, model: Any, state: State, turn: np.ndarray) -> None:
    """Atoms at their positions; masked ones are grey rings."""
    from matplotlib.patches import Circle

    from molgen.modalities.molecule.plot import COLOURS

    xyz = state["positions"][0].numpy() @ turn
    kinds, bonds = state["atoms"][0].tolist(), state["bonds"][0].numpy()
    half = max(1.2 * float(np.abs(xyz[:, 0]).max()), 0.92 * float(np.abs(xyz[:, 1]).max()), 3.0)
    unit = half / 3.4  # distant atoms are drawn larger to be visible
    axes.set_xlim(-half, half)
    axes.set_ylim(-1.32 * half, 1.32 * half)
    axes.set_aspect("equal")
    axes.set_axis_off()
    for i, j in np.argwhere(np.triu((bonds > 0) & (bonds < model.view.fields["bonds"].classes), 1)):
        width = (0.0, 1.6, 3.2, 4.4)[min(int(bonds[i, j]), 3)]
        axes.plot(*xyz[[i, j], :2].T, color="#8a9099", linewidth=width, zorder=1, solid_capstyle="round")
    for place, i in enumerate(np.argsort(xyz[:, 2]).tolist()):
        known = kinds[i] < model.view.fields["atoms"].classes
        symbol = model.modality.atoms[kinds[i]][0] if known else ""
        radius = unit * (0.30 if symbol == "H" else 0.44)
        fill = COLOURS.get(symbol, "#d070d0") if known else "#ffffff"
        circle = Circle(xyz[i, :2], radius, facecolor=fill, edgecolor=INK if known else FAINT, linewidth=0.6)
        circle.set_zorder(2 + place)
        axes.add_patch(circle)
