"""Pixels in their context and the density of the next one; completions; the cost of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.drawing.shelf import MissingWeights, Shelf, examples
from benchmarks.drawing.style import FAMILIES, INK, SOFT, WIDTH, Sheet, tint
from molgen.core.capabilities import Entries

_ROWS = ((6, 9), (12, 15), (18, 22))
"""Where the three pixels are looked for: the one whose density is widest in each band of rows."""
_COMPLETIONS = 7
_NEXT = "#d1242f"
"""The colour of the next pixel."""


def draw(shelf: Shelf, seed: int) -> Sheet:
    """Three moments of generating one digit, its log p for each pixel, and completions of its first half."""
    model = _model(shelf)
    name, colour = FAMILIES["autoregressive"]
    sheet = Sheet(
        716,
        f"{name}: one pixel after the other, each given all before it",
        r"$\log p(x) = \Sigma_t \log p_\theta(x_t\,|\,x_1 \ldots x_{t-1})$, exact; writing takes 784 steps",
        colour,
    )
    records = examples(model, "mnist", 10)
    record = records[3]
    levels, mass = densities(model, records[3:4])
    entropy = -(mass * np.log(mass.clip(1e-30))).sum(1).reshape(28, 28)
    truth = _chosen(model, records[3:4], mass)
    for column, (first, last) in enumerate(_ROWS):
        band = entropy[first:last]
        row, place = np.unravel_index(int(band.argmax()), band.shape)
        _moment(sheet, record, mass, levels, truth, (first + int(row), int(place)), 36 + column * 330, colour)
        if column:
            x = 36 + column * 330
            sheet.arrow((x - 148, 182), (x - 14, 182), SOFT, width=1.6)
            sheet.text(x - 81, 168, "write on", 12, SOFT)
    sheet.text(283, 330, "dashed: what\nfollowed", 11, _NEXT, linespacing=1.4)
    _completions(sheet, model, record, seed, colour)
    _surprise(sheet, model, record, np.log(mass[np.arange(784), truth]), colour)
    return sheet


def _model(shelf: Shelf) -> Any:
    """The model of grey images, else the one of binary images."""
    for name in ("autoregressive-image", "autoregressive-image-binary"):
        if shelf.has(name):
            return shelf.load(name)
    raise MissingWeights("autoregressive-image")


@torch.no_grad()
def densities(model: Any, records: Any) -> tuple[np.ndarray, np.ndarray]:
    """The grey levels of a pixel, and the probability of each at every pixel of one image."""
    batch = model.encode(records)
    ((name, f),) = model.view.fields.items()
    raw = model.trained(batch.values, batch.mask, model.labels(batch))[name][0]
    own = Entries.of(f)
    values = torch.arange(f.num_classes) if f.num_classes else torch.linspace(-1, 1, f.levels)
    columns = [own.conditional(raw).log_prob(torch.full((len(raw),), v).to(values)) for v in values.tolist()]
    levels = np.linspace(0, 255, len(values))
    return levels, torch.stack(columns, 1).double().exp().numpy()


def _chosen(model: Any, records: Any, mass: np.ndarray) -> np.ndarray:
    """The index of the level of each pixel of one image."""
    grey = np.asarray(records[0])[..., 0].ravel().astype(float)
    return np.asarray(np.rint(grey / 255 * (mass.shape[1] - 1)), int)


def _moment(
    sheet: Sheet,
    record: Any,
    mass: np.ndarray,
    levels: np.ndarray,
    truth: np.ndarray,
    place: tuple[int, int],
    x: float,
    colour: str,
) -> None:
    """The image up to a pixel, and below it the density of that pixel."""
    size, y = 168, 100
    row, column = place
    site = row * 28 + column
    image = np.asarray(record)[..., 0] / 255
    shown = np.repeat((1 - image)[..., None], 3, -1)
    later = np.arange(784).reshape(28, 28) >= site
    shown[later] = tint(colour, 0.16)
    cell = size / 28
    sheet.picture(x, y, size, shown, edge=colour, line=1.2)
    sheet.rectangle(x + column * cell, y + row * cell, cell, cell, "#ffffff", _NEXT, 1.6, zorder=4)
    axes = sheet.axes(x, y + size + 44, size, 84)
    bins = min(32, len(levels))
    share = mass[site].reshape(bins, -1).sum(1)
    axes.bar(np.arange(bins), share, width=0.86, color=tint(colour, 0.75), linewidth=0)
    true = int(truth[site]) * bins // len(levels)
    axes.axvline(true, color=_NEXT, linewidth=1.4, linestyle=(0, (3, 2)))
    axes.set_xlim(-0.8, bins - 0.2)
    axes.set_xticks([0, bins - 1], ["paper", "ink"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    sheet.arrow((x + (column + 0.5) * cell, y + (row + 1) * cell + 2), (x + size / 2, y + size + 26), _NEXT)
    sheet.text(x + size / 2, y + size + 36, rf"$p(x_{{{site + 1}}}\,|\,x_1 \ldots x_{{{site}}})$", 13)


def _completions(sheet: Sheet, model: Any, record: Any, seed: int, colour: str) -> None:
    """A first half, and several second halves."""
    y, size, gap, left = 480, 92, 12, 36
    sheet.line([16, WIDTH - 16], [y - 48] * 2)
    sheet.head(left, y - 18, "the upper half is given, the lower half is written", INK)
    half = np.asarray(record).copy()
    shown = np.repeat(1 - half.astype(float) / 255, 3, -1)
    shown[14:] = tint(colour, 0.16)
    sheet.picture(left, y, size, shown, edge=INK, line=1.2)
    for k, image in enumerate(model.complete(record, n=_COMPLETIONS, seed=seed, sites=14 * 28)):
        x = left + (k + 1) * (size + gap) + 12
        sheet.picture(x, y, size, np.asarray(image), edge=colour)
        sheet.line([x, x + size], [y + size / 2] * 2, colour)
    sheet.arrow((left + size + 3, y + size / 2), (left + size + gap + 9, y + size / 2), colour)


def _surprise(sheet: Sheet, model: Any, record: Any, log_p: np.ndarray, colour: str) -> None:
    """The nats of each pixel, beside the image."""
    y, size, left = 598, 92, 36
    nats = -log_p.reshape(28, 28)
    sheet.picture(left, y, size, np.asarray(record))
    sheet.arrow((left + size + 4, y + size / 2), (left + size + 30, y + size / 2), SOFT)
    sheet.picture(left + size + 34, y, size, nats, (0, float(np.quantile(nats, 0.99))), "magma_r")
    x = left + 2 * size + 56
    bits = nats.sum() / 784 / np.log(2)
    sheet.head(x, y + 26, "what each pixel costs, dark: a surprise", INK)
    words = f"the sum, {nats.sum():,.0f} nats, is $-\\log p$ of this test digit: {bits:.2f} bits a pixel"
    sheet.text(x, y + 50, words, 12, SOFT, "left")
    sheet.text(x, y + 70, "the way of a stroke is known, its edges are not", 12, SOFT, "left")
