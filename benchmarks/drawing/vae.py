"""Encoder, latent plane and decoder: codes, and paths between two of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.drawing.shelf import Shelf, examples
from benchmarks.drawing.style import CLASSES, FAMILIES, INK, SOFT, WIDTH, Sheet

_MANY, _PATH = 1000, 13
_SHOWN = (2, 4, 7, 8)
"""Digits that pass through from left to right."""


def draw(shelf: Shelf, seed: int) -> Sheet:
    """Digits encoded as distributions on the plane of codes and decoded, a path, and codes from the prior."""
    model = shelf.load("vae-image")
    name, colour = FAMILIES["vae"]
    latent = model.options.latent
    sheet = Sheet(
        626,
        f"{name}: an encoder writes a short code, a decoder reads it",
        r"$\log p(x) \geq E_{q(z|x)}[\log p(x\,|\,z)] - KL(q(z\,|\,x)\,\|\,p(z))$, raised by training",
        colour,
    )
    records = examples(model, "mnist", _MANY)
    labels = np.asarray(records.labels["digit"]).astype(int)
    mean, sd = model.encode_latent(records)
    plane = Plane(mean.numpy())
    shown = [int(np.flatnonzero(labels == d)[1]) for d in _SHOWN]
    size, top, step = 70, 88, 80
    again = model.decode_latent(mean[shown], seed=seed)
    axes = sheet.axes(322, 88, 256, 256)
    codes = plane(mean.numpy())
    reach = 1.06 * float(np.abs(codes).max())
    axes.scatter(codes[:, 0], codes[:, 1], s=5, c=[CLASSES[d] for d in labels], linewidths=0, alpha=0.65)
    for row, i in enumerate(shown):
        y = top + row * step
        ink = CLASSES[labels[i]]
        sheet.picture(20, y, size, np.asarray(records[i]), edge=ink, line=1.4)
        sheet.picture(WIDTH - 20 - size, y, size, np.asarray(again[row]), edge=ink, line=1.4)
        sheet.arrow((20 + size + 4, y + size / 2), (134, y + size / 2), ink)
        sheet.arrow((WIDTH - 134, y + size / 2), (WIDTH - 24 - size, y + size / 2), ink)
        _cloud(axes, plane, mean[i].numpy(), sd[i].numpy(), ink)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    height = 3 * step + size
    sheet.box(136, top, 118, height, "encoder\n\n" + r"$q(z\,|\,x)$", narrows=0.45)
    sheet.box(WIDTH - 254, top, 118, height, "decoder\n\n" + r"$p(x\,|\,z)$", narrows=-0.45)
    sheet.arrow((258, 216), (318, 216), colour, width=2)
    sheet.arrow((582, 216), (WIDTH - 258, 216), colour, width=2)
    sheet.text(288, 200, r"$\mu, \sigma$", 13)
    sheet.text(612, 200, "$z$", 13)
    share = plane.share * 100
    sheet.text(450, 358, f"codes of {_MANY:,} test digits: the two widest of {latent} axes", 12, SOFT)
    sheet.text(450, 376, f"({share:.0f} % of their variance), coloured by digit", 12, SOFT)
    for k, ink in enumerate(CLASSES):
        sheet.text(450 + 22 * (k - 4.5), 397, str(k), 13, ink, weight="bold")
    _journey(sheet, model, axes, plane, [records[shown[0]], records[shown[2]]], seed)
    _prior(sheet, model, seed)
    return sheet


class Plane:
    """The two principal axes of points, the first large entry of each positive."""

    def __init__(self, points: np.ndarray) -> None:
        self.centre = points.mean(0)
        _, widths, axes = np.linalg.svd(points - self.centre, full_matrices=False)
        self.axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
        self.share = float((widths[:2] ** 2).sum() / (widths**2).sum())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return np.asarray((points - self.centre) @ self.axes.T)


def _cloud(axes: Any, plane: Plane, mean: np.ndarray, sd: np.ndarray, ink: str) -> None:
    """The ellipse of one standard deviation of q(z | x) on the plane, and its centre."""
    from matplotlib.patches import Ellipse

    covariance = plane.axes @ np.diag(sd**2) @ plane.axes.T
    values, vectors = np.linalg.eigh(covariance)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    x, y = plane(mean[None])[0]
    wide, high = 2 * float(values[1]) ** 0.5, 2 * float(values[0]) ** 0.5
    fill = Ellipse((x, y), wide, high, angle=angle, facecolor=ink, alpha=0.35, zorder=4)
    axes.add_patch(fill)
    edge = Ellipse((x, y), wide, high, angle=angle, facecolor="none", edgecolor=INK, linewidth=1, zorder=5)
    axes.add_patch(edge)
    axes.plot([x], [y], marker="o", markersize=3.5, color=INK, zorder=6)


def _journey(sheet: Sheet, model: Any, axes: Any, plane: Plane, ends: list[Any], seed: int) -> None:
    """Decoded images on a path from one code to another."""
    between = model.interpolate(ends[0], ends[1], n=_PATH, seed=seed)
    codes = model.encode_latent(ends)[0]
    a, b = codes
    angle = torch.arccos(torch.clamp(a @ b / (a.norm() * b.norm()), -1, 1))
    steps = torch.linspace(0, 1, 40)[:, None]
    line = (((1 - steps) * angle).sin() * a + (steps * angle).sin() * b) / angle.sin()
    axes.plot(*plane(line.numpy()).T, color=INK, linewidth=1.4, linestyle=(0, (4, 2)), zorder=5)
    size, gap, y = 56, 8, 446
    left = (WIDTH - _PATH * size - (_PATH - 1) * gap) / 2
    sheet.line([16, WIDTH - 16], [418, 418])
    sheet.head(left, y - 9, "along the dashed path: every code in between is read as an image", INK)
    for k, image in enumerate(between):
        sheet.picture(left + k * (size + gap), y + 6, size, np.asarray(image))


def _prior(sheet: Sheet, model: Any, seed: int) -> None:
    """Digits from codes of the prior, without selection."""
    size, gap, y = 56, 8, 546
    left = (WIDTH - _PATH * size - (_PATH - 1) * gap) / 2
    sheet.head(left, y - 9, r"new codes $z \sim p(z)$: new digits, as they come", INK)
    for k, image in enumerate(model.sample(_PATH, seed=seed)):
        sheet.picture(left + k * (size + gap), y + 6, size, np.asarray(image))
