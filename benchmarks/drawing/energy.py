"""A deep Boltzmann machine: its layers, the weights of its units, and a Gibbs chain."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawing.shelf import Shelf
from benchmarks.drawing.style import FAMILIES, INK, SOFT, WIDTH, Sheet, tint
from molgen.core.rng import SampleRandom
from molgen.nn.boltzmann import DeepBoltzmann, State

_SWEEPS = (0, 1, 2, 5, 10, 30, 100, 300, 1000)
_CHAINS, _SHOWN = 32, 2
_CELL = 4.8  # pixels of a unit


def draw(shelf: Shelf, seed: int) -> Sheet:
    """One state of all layers, the strongest weights of the first, chains from noise and their energy."""
    model = shelf.load("energy-image-dbm")
    net = cast(DeepBoltzmann, model.trained)
    name, colour = FAMILIES["energy"]
    sheet = Sheet(
        770,
        f"{name}: layers of units, and chains that walk down their energy",
        r"$p(v, h) \propto e^{-E}$,  $E = -v^T W_1 h_1 - h_1^T W_2 h_2 - h_2^T W_3 h_3 -$ biases",
        colour,
    )
    states = chain(model, seed)
    _layers(sheet, net, states[max(_SWEEPS)], colour)
    _filters(sheet, net)
    _walks(sheet, net, states, colour)
    return sheet


@torch.no_grad()
def chain(model: Any, seed: int) -> dict[int, State]:
    """States of Gibbs chains from random units, after some numbers of sweeps."""
    net = cast(DeepBoltzmann, model.trained)
    mask = model.modality.make_mask(model.modality.draw_sizes(seed, range(_CHAINS)))
    real, rng = net.visible.real(mask), SampleRandom(seed, range(_CHAINS))
    state = net.random(real, rng.uniform(mask, (net.draws,)))
    kept = {0: state}
    for sweep in range(1, max(_SWEEPS) + 1):
        state = net.sweep(state, real, rng.uniform(mask, (net.draws,)))
        if sweep in _SWEEPS:
            kept[sweep] = state
    return kept


def pixels(net: DeepBoltzmann, v: Tensor) -> np.ndarray:
    """The share of each pixel's unit "on", `(B, 28, 28)`, as grey levels."""
    return np.asarray(255 * v.reshape(-1, *net.visible.template.shape[1:]).numpy())


def _layers(sheet: Sheet, net: DeepBoltzmann, state: State, colour: str) -> None:
    """Every unit of one state: a column of layers, the visible one at the bottom."""
    columns, middle, y = 50, 150, 92.0
    for layer in range(len(state) - 1, -1, -1):
        if layer:
            units = state[layer][0].numpy()
            grid = np.zeros((-(-len(units) // columns), columns))
            grid.flat[: len(units)] = units
            label = f"$h_{layer}$: {len(units)} units"
        else:
            grid = pixels(net, state[0])[0] / 255
            label = f"$v$: {grid.size} pixels"
        width = grid.shape[1] * _CELL
        high = sheet.picture(middle - width / 2, y, width, grid, (0, 1), edge=colour, line=1.3)
        sheet.text(middle + width / 2 + 12, y + high / 2, label, 13, INK, "left")
        y += high
        if layer:
            sheet.arrow((middle, y + 3), (middle, y + 33), colour, width=1.8, both=True)
            sheet.text(middle + 12, y + 18, f"$W_{layer}$", 13, SOFT, "left")
            y += 36
    words = "one sweep draws $v, h_2$ given $h_1, h_3$,\nthen $h_1, h_3$ given $v, h_2$"
    sheet.text(middle + 14 * _CELL + 12, y - 24, words, 12, SOFT, "left", linespacing=1.5)


def _filters(sheet: Sheet, net: DeepBoltzmann) -> None:
    """Weights of the units of the first hidden layer that have the largest ones."""
    weights = net.weights[0].detach().t().reshape(-1, 28, 28).numpy()
    order = np.argsort(-np.square(weights).sum((1, 2)), kind="stable")
    left, top, size, gap = 526, 118, 62, 8
    sheet.head(left, top - 22, "what units of $h_1$ look for: columns of $W_1$", INK)
    for k, unit in enumerate(order[:20]):
        row, column = divmod(k, 5)
        most = float(np.abs(weights[unit]).max())
        x, y = left + column * (size + gap), top + row * (size + gap)
        sheet.picture(x, y, size, weights[unit], (-most, most), "RdBu_r")
    y = top + 4 * (size + gap) + 6
    sheet.text(left, y, "red: ink here turns the unit on, blue: off", 12, SOFT, "left")


def _walks(sheet: Sheet, net: DeepBoltzmann, states: dict[int, State], colour: str) -> None:
    """Chains from random pixels, and under them the energy of many."""
    top, size, left, gap = 484, 74, 92, 14
    sheet.line([16, WIDTH - 16], [top - 50] * 2)
    sheet.head(16, top - 30, "Gibbs chains from random units: probability of ink given $h_1$", INK)
    for column, sweep in enumerate(_SWEEPS):
        x = left + column * (size + gap)
        sheet.text(x + size / 2, top - 10, f"{sweep:,}", 12, SOFT)
        images = pixels(net, expected(net, states[sweep]) if sweep else states[sweep][0])
        for row in range(_SHOWN):
            sheet.picture(x, top + row * (size + 6), size, images[row])
        if column:
            sheet.arrow((x - gap + 1, top + size / 2), (x - 1, top + size / 2), colour)
    sheet.text(16, top - 10, "sweep", 12, SOFT, "left")
    bottom = top + _SHOWN * (size + 6) + 8
    axes = sheet.axes(left, bottom, len(_SWEEPS) * (size + gap) - gap, 106)
    real = net.real[:_CHAINS]
    energies = np.stack([net.energy(states[s], real).detach().numpy() for s in _SWEEPS])
    places = np.arange(len(_SWEEPS)) + 0.5 * size / (size + gap)
    for lane in energies.T:
        axes.plot(places, lane, color=tint(colour, 0.3), linewidth=0.6)
    axes.plot(places, energies.mean(1), color=colour, marker="o", markersize=4, linewidth=2)
    known = torch.split(net.chains[:_CHAINS].float(), net.sizes, 1)
    level = float(net.energy(list(known), real).detach().mean())
    axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    low, high = float(energies[1:].min()), float(energies[1:].max())
    rise = max(high - low, 1.0)
    axes.set_ylim(min(low, level) - 0.1 * rise, max(high, level) + 0.35 * rise)
    axes.set_xlim(0, len(_SWEEPS) - gap / (size + gap))
    axes.set_xticks(places, [""] * len(places))
    axes.grid(True, axis="y")
    axes.set_ylabel("energy $E$, nats")
    note = f"noise: {energies[0].mean():+,.0f}"
    axes.text(0.04, 0.9, note, fontsize=8, color=SOFT, va="top", transform=axes.transAxes)
    note = f"{_CHAINS} chains and their mean; dashed: the chains at the end of training"
    axes.text(0.995, 0.97, note, fontsize=8, color=SOFT, ha="right", va="top", transform=axes.transAxes)


@torch.no_grad()
def expected(net: DeepBoltzmann, state: State) -> Tensor:
    """The probabilities of the visible units given the layer above."""
    real = net.visible.real(net.visible.template.expand(len(state[0]), -1, -1))
    return net.mean(0, net.field(state, 0, real), real)
