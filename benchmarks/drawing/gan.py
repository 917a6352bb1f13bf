"""A generator against its critic over training: both are trained for this figure, on embedded digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawing.shelf import Shelf, grey
from benchmarks.drawing.style import FAMILIES, INK, SOFT, WIDTH, Sheet, tint
from molgen.core.rng import SampleRandom

STEPS = 1500
_MOMENTS = (0.0, 0.02, 0.06, 0.2, 0.5, 1.0)
"""Shares of the training at which both players are looked at."""
_OPTIONS: Mapping[str, Any] = {"trunk_options": {"width": 32, "multipliers": [1], "attention": [True]}}
_SIDE, _JUDGED = 4, 256
_DATA = "#3b6fb5"


@dataclass
class History:
    """The history of a training.

    Arguments:
        balance: share of pairs of a record and a sample that the critic ranks correctly, at every step.
        moments: by step, samples of fixed noise `(n, H, W)`, and the critic's scores of data and samples.
    """

    balance: list[float] = field(default_factory=list)
    moments: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)


def draw(shelf: Shelf, seed: int) -> Sheet:
    """The game, then samples of the same noise, scores, and the accuracy of the critic over training."""
    model, history, real = trained(seed)
    name, colour = FAMILIES["gan"]
    sheet = Sheet(
        716,
        f"{name}: a generator learns from a critic that learns to see through it",
        r"critic: minimise $f(C(x) - C(G(z)))$;  generator: $f(C(G(z)) - C(x))$;  $f(u) = \log(1 + e^{-u})$",
        colour,
    )
    _game(sheet, model, real, seed, colour)
    top, size, gap, left = 296, 116, 20, 92
    sheet.line([16, WIDTH - 16], [top - 44] * 2)
    sheet.text(left - 6, top - 15, "step", 12, SOFT, "right")
    words = (("samples of", top + 48), ("fixed noise", top + 64))
    for word, y in words:
        sheet.text(16, y, word, 12, INK, "left")
    for column, (step, (images, ours, theirs)) in enumerate(history.moments.items()):
        x = left + column * (size + gap)
        sheet.text(x + size / 2, top - 15, f"{step:,}", 12, SOFT)
        sheet.picture(x, top, size, _tiles(images), edge=colour)
        _scores(sheet, ours, theirs, (x, top + size + 14, size, 72), colour)
        if column:
            sheet.arrow((x - gap + 2, top + size / 2), (x - 2, top + size / 2), colour)
    sheet.text(16, top + size + 36, "scores $C$ of", 12, INK, "left")
    sheet.text(16, top + size + 52, "data", 12, _DATA, "left", "bold")
    sheet.text(16, top + size + 68, "samples", 12, colour, "left", "bold")
    axes = sheet.axes(left, top + size + 130, 6 * size + 5 * gap, 126)
    _balance(axes, history, colour)
    return sheet


def trained(seed: int, steps: int = STEPS) -> tuple[Any, History, Tensor]:
    """A model trained on scikit-learn's digits, its history, and digits as reals."""
    from molgen.io.resolve import resolve
    from molgen.models.gan import GANModel

    model, history = GANModel("image", **_OPTIONS), History()
    records = resolve(model.modality, "digits", "train")
    model.fit(
        records,
        max_steps=steps,
        batch_size=32,
        lr=5e-4,
        seed=seed,
        trainer={"callbacks": [_watch(model, history, records[:_JUDGED], seed, steps)]},
        progress=False,
    )
    return model, history, model.encode(records[:_JUDGED]).values["image"]


def _watch(model: Any, history: History, data: Any, seed: int, steps: int) -> Any:
    """A callback that writes the history."""
    from pytorch_lightning.callbacks import Callback

    moments = {max(1, round(share * steps)) for share in _MOMENTS}

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            history.balance.append(float(model.logged["balance"]))
            if module.global_step in moments:
                history.moments[module.global_step] = judged(model, module, data, seed)

    return Watch()


@torch.no_grad()
def judged(model: Any, module: Any, data: Any, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples of fixed noise by the averaged generator; scores of the critic as in training."""
    batch = model.encode(data)
    rng, mask = SampleRandom(seed, range(len(batch))), batch.mask
    fake = module.average.generate(mask, {}, rng)
    level = model.options.instance_noise * rng.uniform(mask, ()) ** 2
    images = grey(fake["image"][: _SIDE**2])
    ours, theirs = (
        module.network.judge(model._blurred(module.network, x, level, mask, rng), mask, {}).numpy()
        for x in (model.relaxed(batch), fake)
    )
    middle = (ours.mean() + theirs.mean()) / 2  # only differences count
    return images, ours - middle, theirs - middle


# ---------------------------------------------------------------------- drawing


def _tiles(images: np.ndarray) -> np.ndarray:
    apart = np.pad(images, ((0, 0), (1, 1), (1, 1)))  # a white margin, or digits would touch
    _, height, width = apart.shape
    square = apart.reshape(_SIDE, _SIDE, height, width)
    return np.asarray(square.transpose(0, 2, 1, 3).reshape(_SIDE * height, _SIDE * width))


def _game(sheet: Sheet, model: Any, real: Tensor, seed: int, colour: str) -> None:
    """Noise, generator, sample, record, critic, and the objectives of both networks."""
    mask = torch.ones(1, *real.shape[1:3], dtype=torch.bool)
    white = SampleRandom(seed, [2]).normal(mask, tuple(real.shape[1:]))
    sample = np.asarray(model.sample(3, seed=seed)[2])[..., 0]
    size, y = 66, 92
    low = y + size + 16
    sheet.picture(20, y, size, white[0, ..., 0].numpy(), (-3, 3))
    sheet.text(20 + size + 6, y - 8, "noise $z$", 12, SOFT, "right")
    sheet.arrow((20 + size + 4, y + size / 2), (128, y + size / 2), INK)
    sheet.box(130, y - 6, 130, size + 12, "generator $G$", narrows=-0.4)
    sheet.arrow((264, y + size / 2), (300, y + size / 2), INK)
    sheet.picture(302, y, size, sample, (0, 255), edge=colour, line=1.4)
    sheet.text(302 + size / 2, y - 9, "sample $G(z)$", 12, colour)
    sheet.picture(302, low, size, grey(real[3:4])[0], edge=_DATA, line=1.4)
    sheet.text(294, low + size / 2, "datum $x$", 12, _DATA, "right")
    middle = (y + low + size) / 2
    sheet.arrow((302 + size + 4, y + size / 2), (436, middle - 16), INK)
    sheet.arrow((302 + size + 4, low + size / 2), (436, middle + 16), INK)
    sheet.box(440, middle - 56, 130, 112, "critic $C$", narrows=0.4)
    sheet.arrow((574, middle), (606, middle), INK)
    sheet.text(612, middle, "$C(x) - C(G(z))$", 14, INK, "left")
    sheet.arrow((742, middle - 12), (742, middle - 40), _DATA, width=2)
    sheet.text(754, middle - 30, "the critic\nwants it large", 12, _DATA, "left", linespacing=1.3)
    sheet.arrow((742, middle + 12), (742, middle + 40), colour, width=2)
    sheet.text(754, middle + 30, "the generator\nwants it small", 12, colour, "left", linespacing=1.3)


def _scores(
    sheet: Sheet, ours: np.ndarray, theirs: np.ndarray, place: tuple[float, float, float, float], colour: str
) -> None:
    axes = sheet.axes(*place)
    reach = max(1.0, 1.05 * float(np.abs(np.concatenate([ours, theirs])).max()))
    edges = np.linspace(-reach, reach, 36)
    for scores, ink in ((ours, _DATA), (theirs, colour)):
        counts, _ = np.histogram(scores, edges, density=True)
        axes.stairs(counts, edges, fill=True, color=tint(ink, 0.45))
        axes.stairs(counts, edges, color=ink, linewidth=1)
    axes.set_yticks([])
    axes.set_xticks([0])
    axes.spines["left"].set_visible(False)


def _balance(axes: Any, history: History, colour: str) -> None:
    """The share of pairs that the critic ranks correctly, at each step and smoothed."""
    share = np.array(history.balance)
    steps = np.arange(1, len(share) + 1)
    width = max(len(share) // 40, 1)
    kernel = np.ones(width) / width
    padded = np.pad(share, (width // 2, width - 1 - width // 2), mode="edge")
    axes.plot(steps, share, color=tint(colour, 0.22), linewidth=0.6)
    axes.plot(steps, np.convolve(padded, kernel, "valid"), color=colour, linewidth=2)
    axes.axhline(0.5, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(steps[-1], 0.47, "a guess", fontsize=8, color=INK, ha="right", va="top")
    axes.set_ylim(0.2, 1.02)
    axes.set_xlim(0, len(share))
    axes.grid(True, axis="y")
    axes.set_xlabel("step of training")
    axes.set_ylabel("pairs that the critic\ntells apart")
