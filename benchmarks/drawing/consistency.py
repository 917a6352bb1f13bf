"""Every point of one trajectory is mapped to its clean end, so that one step is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawing.diffusion import trajectory
from benchmarks.drawing.shelf import Shelf, grey
from benchmarks.drawing.style import FAMILIES, INK, SOFT, Sheet

_STEPS, _DIGIT, _MANY = 40, 3.0, 16
_TIMES = (1.0, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.0)
_LEFT, _TILE, _GAP = 140, 82, 12


def draw(shelf: Shelf, seed: int) -> Sheet:
    """A trajectory, its points mapped by f and by the denoiser, and the distance of both from its end."""
    model, teacher = shelf.load("consistency-image"), shelf.load("diffusion-image")
    name, colour = FAMILIES["consistency"]
    other = FAMILIES["diffusion"][1]
    sheet = Sheet(
        712,
        f"{name}: any point of a trajectory leads to its clean end in one step",
        r"training: $f_\theta(x_t, t) = f_\theta(x_s, s)$ for two points of a path; $f_\theta(x, 0) = x$",
        colour,
    )
    path = trajectory(teacher, _STEPS, seed, {"digit": _DIGIT}, "heun")
    path = [path[0], *path[1:-1:2], path[-1]]  # Heun's method has two evaluations a step
    rows = (112, 266, 392)
    for column, t in enumerate(_TIMES):
        x = _LEFT + column * (_TILE + _GAP)
        sigma = float(teacher.view.fields["image"].schedule.sigma(torch.tensor(t)))
        state = path[round((1 - t) * _STEPS)][0]["image"]
        sheet.text(x + _TILE / 2, rows[0] - 13, rf"$\sigma = {sigma:.2g}$", 12, SOFT)
        sheet.picture(x, rows[0], _TILE, grey(state[0]), (-255 * sigma, 255 + 255 * sigma))
        if column:
            sheet.arrow((x - _GAP + 1, rows[0] + _TILE / 2), (x - 1, rows[0] + _TILE / 2), INK)
        if t == 0:
            continue
        sheet.arrow((x + _TILE / 2, rows[0] + _TILE + 4), (x + _TILE / 2, rows[1] - 4), colour, width=1.6)
        ends = ((model, rows[1], colour), (teacher, rows[2], other))
        for network, y, ink in ends:
            sheet.picture(x, y, _TILE, grey(clean(network, state, t, _DIGIT)[0]), edge=ink, line=1.3)
    middle = _TILE / 2
    for y, title, formula, ink in (
        (rows[0], "one trajectory", "of the teacher's ODE", INK),
        (rows[1], "consistency", r"$f_\theta(x_t, t)$", colour),
        (rows[2], "diffusion", r"denoiser $D_\theta(x_t, t)$", other),
    ):
        sheet.head(16, y + middle - 11, title, ink)
        sheet.text(16, y + middle + 11, formula, 11, SOFT, "left")
    x = _LEFT + 7 * (_TILE + _GAP)
    sheet.text(x + middle, rows[0] + _TILE + 16, "the clean end", 12, INK)
    sheet.text(
        x + middle,
        (rows[1] + rows[2] + _TILE) / 2,
        "a consistency\nmodel points\nat this end;\na denoiser\nat the mean\nof all ends\nthat may be",
        12,
        SOFT,
        linespacing=1.4,
    )
    words = "it hardly saw such noise in training"
    sheet.text(_LEFT, rows[2] + _TILE + 12, words, 11, SOFT, "left")
    _distances(sheet, model, teacher, seed, colour, other)
    _few_steps(sheet, model, teacher, seed, colour, other)
    return sheet


@torch.no_grad()
def clean(model: Any, x: Tensor, t: float, digit: float) -> Tensor:
    """The clean end of images at time t, by one evaluation of a network."""
    mask = torch.ones(x.shape[:3], dtype=torch.bool)
    params = model.trained(
        {"image": x}, torch.full((len(x),), t), mask, {"digit": torch.full((len(x),), digit)}
    )
    return torch.as_tensor(params["image"])


def _distances(sheet: Sheet, model: Any, teacher: Any, seed: int, colour: str, other: str) -> None:
    """The distance of both predictions from the ends of trajectories, along them."""
    path = trajectory(teacher, _STEPS, seed + 1, {"digit": _DIGIT}, "heun", _MANY)
    path = [path[0], *path[1:-1:2], path[-1]]
    end = path[-1][0]["image"]
    schedule = teacher.view.fields["image"].schedule
    axes = sheet.axes(72, 530, 330, 136)
    for network, ink, label in ((model, colour, "consistency"), (teacher, other, "denoiser")):
        sigmas, gaps = [], []
        for k in range(0, _STEPS - 3, 2):
            t = 1 - k / _STEPS
            gap = (clean(network, path[k][0]["image"], t, _DIGIT) - end).square().mean().sqrt()
            sigmas.append(float(schedule.sigma(torch.tensor(t))))
            gaps.append(127.5 * float(gap))
        axes.plot(sigmas, gaps, color=ink, marker="o", markersize=2.6, label=label)
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_ylim(0, None)
    axes.grid(True)
    axes.set_xlabel(r"noise $\sigma$ of the point that is mapped")
    axes.set_ylabel("distance to the end\n(RMS, grey levels)")
    axes.legend(loc="upper right", title=f"{_MANY} trajectories", title_fontsize="small")


def _few_steps(sheet: Sheet, model: Any, teacher: Any, seed: int, colour: str, other: str) -> None:
    """Samples of both families from the same noise in few steps."""
    x0, size, gap = 556, 38, 4
    sheet.head(x0 - 108, 516, "samples from the same noise", INK)
    count = 8
    rows = (
        (model, 1, colour),
        (model, 2, colour),
        (teacher, 2, other),
        (teacher, teacher.options.steps, other),
    )
    for row, (network, steps, ink) in enumerate(rows):
        y = 534 + row * (size + gap)
        word = "1 step" if steps == 1 else f"{steps} steps"
        sheet.text(x0 - 108, y + size / 2 - 7, network.family, 12, ink, "left", "bold")
        sheet.text(x0 - 108, y + size / 2 + 8, word, 11, SOFT, "left")
        images = network.sample(count, seed=seed, steps=steps)
        for k, image in enumerate(images):
            sheet.picture(x0 + k * (size + gap), y, size, np.asarray(image)[..., 0], edge=ink, line=0.6)
