"""Data to noise through the layers of a flow, and noise back to data through the same layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.drawing.shelf import Shelf, examples
from benchmarks.drawing.style import CLASSES, FAMILIES, INK, SOFT, WIDTH, Sheet, tint
from molgen.core.rng import SampleRandom
from molgen.core.solvers import State
from molgen.models.flow.bijections import Coupling, FlowContext

_SHOWN = (0, 2, 4, 6, 8)
"""Numbers of layers after which states are shown."""
_MANY, _LEFT, _TILE, _GAP = 200, 142, 92, 34


def draw(shelf: Shelf, seed: int) -> Sheet:
    """Digits at some depths of the flow, correlations of neighbours there, samples, and a coupling."""
    model = shelf.load("flow-image-coupling")
    name, colour = FAMILIES["flow"]
    sheet = Sheet(
        840,
        f"{name}: a bijection carries data to noise, and noise back to data",
        r"$\log p(x) = \log N(z; 0, I) + \log\,|\det \partial z / \partial x|$, both read off in one pass",
        colour,
    )
    records = examples(model, "mnist", _MANY)
    z, volume = model.forward(records, seed=seed)
    reals = inverse(model, z["image"])
    states = [depth(model, reals, layers) for layers in _SHOWN]
    white = SampleRandom(seed, range(2)).normal(torch.ones(2, 28, 28, dtype=torch.bool), (28, 28, 1))
    drawn = model.inverse({"image": white}, [784] * 2)
    back = [depth(model, inverse(model, white), layers) for layers in _SHOWN]
    top, step = 112, _TILE + 8
    joint, low = top + 2 * step + 6, top + 3 * step + 40
    digits = (4, 7)
    for column in range(len(_SHOWN) + 1):
        x = _LEFT + column * (_TILE + _GAP)
        layers = _SHOWN[max(column - 1, 0)]
        word = "data $x$" if column == 0 else "as reals" if layers == 0 else f"after {layers} layers"
        word = "latent $z$" if layers == _SHOWN[-1] else word
        sheet.text(x + _TILE / 2, top - 12, word, 12, SOFT if 1 < column < len(_SHOWN) else INK)
        for k in range(2):
            if column == 0:
                sheet.picture(x, top + k * step, _TILE, np.asarray(records[digits[k]]))
                sheet.picture(x, low + k * step, _TILE, np.asarray(drawn[k]))
            else:
                sheet.picture(x, top + k * step, _TILE, _levels(states[column - 1][digits[k]]), (-3, 3))
                sheet.picture(x, low + k * step, _TILE, _levels(back[column - 1][k]), (-3, 3))
        if column:
            _neighbours(sheet, states[column - 1], x, joint, colour)
            for y, ink, way in ((top, INK, 1), (low, colour, -1)):
                start, end = ((x - _GAP + 4, y + _TILE / 2), (x - 4, y + _TILE / 2))[::way]
                sheet.arrow(start, end, ink, width=1.6)
    sheet.head(16, top + 84, "data to latent", INK)
    sheet.text(16, top + 104, "test digits", 12, SOFT, "left")
    words = f"a value against\nits right neighbour,\n{_MANY} digits: bound\nat first, free at last"
    sheet.text(16, joint + 46, words, 12, SOFT, "left", linespacing=1.5)
    sheet.head(16, low + 84, "latent to data", colour)
    sheet.text(16, low + 110, "$z \\sim N(0, I)$:\nnew digits", 12, SOFT, "left", linespacing=1.5)
    again = model.inverse(z, [784] * _MANY)
    wrong = int(sum((np.asarray(a) != np.asarray(b)).sum() for a, b in zip(records, again, strict=True)))
    log_z = float((-0.5 * z["image"] ** 2 - 0.5 * np.log(2 * np.pi)).flatten(1).sum(1).mean())
    bits = -(log_z + float(volume.mean())) / (784 * np.log(2))
    _coupling(
        sheet,
        model,
        reals[digits[0] : digits[0] + 1],
        low + 2 * step + 26,
        colour,
        (
            f"there and back: {wrong:,} of {784 * _MANY:,} pixels changed",
            rf"mean $\log N(z)$ {log_z:,.0f} nats, mean log-volume {float(volume.mean()):+,.0f} nats:",
            f"{bits:.2f} bits per pixel at most",
        ),
    )
    return sheet


# ---------------------------------------------------------------------- the flow, layer by layer


def couplings(model: Any) -> list[Coupling]:
    """The stacks of layers of a flow, from data to noise."""
    return [module for module in model.trained.modules() if isinstance(module, Coupling)]


def _sites(model: Any, count: int) -> FlowContext:
    mask = model.modality.make_mask([784] * count)
    labels = {c.name: torch.full((count,), c.missing()) for c in model.conditions}
    sites: FlowContext = model._sites(mask, labels)
    return sites


@torch.no_grad()
def inverse(model: Any, z: Tensor) -> Tensor:
    """Noise to the reals of images."""
    out: Tensor = model.trained.inverse({"image": z}, _sites(model, len(z)))["image"]
    return out


@torch.no_grad()
def depth(model: Any, reals: Tensor, layers: int) -> Tensor:
    """Reals after the first layers of the flow only, at the positions of their pixels."""
    stacks = couplings(model)
    whole = [stack.layers for stack in stacks]
    try:
        for stack in stacks:
            stack.layers = min(layers, stack.layers)
            layers -= stack.layers
        state, _ = model.trained({"image": reals}, _sites(model, len(reals)))
    finally:
        for stack, count in zip(stacks, whole, strict=True):
            stack.layers = count
    out: Tensor = state["image"]
    return out


def _levels(reals: Tensor) -> np.ndarray:
    return np.asarray(reals[..., 0].numpy())


def _neighbours(sheet: Sheet, reals: Tensor, x: float, y: float, colour: str) -> None:
    """The joint histogram of each value and the one to its right, and their correlation."""
    from matplotlib.colors import LinearSegmentedColormap

    a, b = reals[:, :, :-1].numpy().ravel(), reals[:, :, 1:].numpy().ravel()
    edges = np.linspace(-3.2, 3.2, 41)
    counts = np.histogram2d(b, a, [edges, edges])[0][::-1]
    shades = LinearSegmentedColormap.from_list("shades", [tint(colour, share) for share in (0.0, 0.5, 1.0)])
    sheet.picture(x, y, _TILE, counts, (0, float(counts.max())), shades)
    sheet.text(x + _TILE / 2, y + _TILE + 11, f"correlation {np.corrcoef(a, b)[0, 1]:.2f}", 11, SOFT)


# ---------------------------------------------------------------------- one coupling


def _coupling(sheet: Sheet, model: Any, reals: Tensor, y: float, colour: str, notes: tuple[str, ...]) -> None:
    """A drawing of one layer, and splines that the network predicts for some reals of a digit."""
    sheet.line([16, WIDTH - 16], [y - 18] * 2)
    sheet.head(16, y, "a layer: half of the values goes through splines that the other half shapes", INK)
    a, b = y + 48, y + 120
    sheet.text(16, a, "$x_A$", 15, INK, "left")
    sheet.text(16, b, "$x_B$", 15, INK, "left")
    sheet.arrow((44, a), (196, a), SOFT)
    sheet.arrow((44, b), (84, b), SOFT)
    sheet.box(86, b - 20, 70, 40, "spline", colour)
    sheet.box(86, a + 12, 70, 26, "network", colour, size=12)
    sheet.arrow((121, a), (121, a + 12), colour)
    sheet.arrow((121, a + 38), (121, b - 20), colour)
    sheet.arrow((156, b), (196, b), SOFT)
    sheet.text(204, a, "$x_A$", 15, INK, "left")
    sheet.text(204, b, "$y_B$", 15, INK, "left")
    axes = sheet.axes(276, y + 36, 110, 108)
    for k, (xs, ys) in enumerate(splines(model, reals)):
        axes.plot(xs, ys, color=CLASSES[k], linewidth=1.4)
    axes.plot([-5, 5], [-5, 5], color=SOFT, linewidth=0.7, linestyle=(0, (3, 3)))
    axes.set_xlim(-3, 3)
    axes.set_ylim(-4, 4)
    axes.set_xticks([-2, 0, 2])
    axes.set_yticks([-3, 0, 3])
    axes.set_title("$y_B$ of $x_B$", fontsize=9)
    sheet.text(424, y + 40, "splines of six pixels of the first digit above:", 12, SOFT, "left")
    sheet.text(424, y + 58, "monotone, so that they have an inverse and a slope", 12, SOFT, "left")
    for k, line in enumerate(notes):
        sheet.text(424, y + 92 + 20 * k, line, 12, INK, "left")


@torch.no_grad()
def splines(model: Any, reals: Tensor, count: int = 6) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """The maps of the second layer for some reals, from the least linear to the most linear."""
    stack = couplings(model)[0]
    found: dict[str, Tensor] = {}

    def caught(module: nn.Module, args: Any, raw: State) -> None:
        found["raw"], found["seen"] = raw["image"], args[1]["image"]

    handle = stack.conditioner.register_forward_hook(caught)
    whole = stack.layers
    try:
        depth(model, reals, 2)
    finally:
        handle.remove()
        stack.layers = whole
    raw = found["raw"][~found["seen"]]
    grid = torch.linspace(-4, 4, 161)
    ys, _ = stack.transform(grid.expand(len(raw), -1), raw[:, None].expand(-1, len(grid), -1))
    bend = (ys - grid).std(1)
    spread = bend.argsort(descending=True)[:: max(len(bend) // count, 1)][:count]
    return [(grid.numpy(), ys[i].numpy()) for i in spread.tolist()]
