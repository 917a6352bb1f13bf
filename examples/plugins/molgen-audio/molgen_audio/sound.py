"""Sound: the lapped transform, notes made by formula, the pitch that is heard, a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import dct, idct
from scipy.signal import ShortTimeFFT, lfilter

from molgen.core.records import Records
from molgen.io.files import atomic

LOWEST = 110.0  # Hz, pitch 0; pitch 12 would be an octave above
_FINE = 64  # lags a sample


def mdct(blocks: np.ndarray) -> np.ndarray:
    r"""The modified discrete cosine transform of blocks `(K, M)` of a sound, `(K, M)`.

    .. math:: X_{km} = \sqrt{2 / M} \sum_n w_n x_{n + kM} \cos \frac{\pi}{M} (n + \frac12) (m + \frac12),
              \quad -\frac{M}{2} \le n < \frac{3 M}{2}, \; w_n = \sin \frac{\pi}{2 M} (n + \frac{M + 1}{2})

    Neighbours fold into each other's halves, which turns pairs of samples about a border (time-domain alias
    cancellation); at both ends nothing folds. So it is orthogonal: as many numbers come out as go in.

    Source: Princen and Bradley, Analysis/Synthesis Filter Bank Design Based on Time Domain Aliasing
    Cancellation (1986).
    """
    folded: np.ndarray = dct(_turned(blocks, 1), type=4, norm="ortho", axis=1)
    return folded


def imdct(frames: np.ndarray) -> np.ndarray:
    """The inverse of `mdct`."""
    return _turned(idct(frames, type=4, norm="ortho", axis=1), -1)


def _turned(blocks: np.ndarray, way: int) -> np.ndarray:
    """Sample i after each border and sample i before it, turned in their plane."""
    m, out = blocks.shape[1], blocks.copy()
    angle = math.pi / 4 - math.pi / (2 * m) * (np.arange(m // 2) + 0.5)
    after, before = blocks[1:, : m // 2], blocks[:-1, : (m - 1) // 2 : -1]
    out[1:, : m // 2] = np.cos(angle) * after + way * np.sin(angle) * before
    out[:-1, : (m - 1) // 2 : -1] = np.cos(angle) * before - way * np.sin(angle) * after
    return out


def tones(rate: int, n: int, count: int = 2400, seed: int = 0) -> Records:
    """Notes of four harmonics that swell and die away, label `pitch` in semitones from 0 to 11."""
    draw, t = np.random.default_rng(seed), np.arange(n) / rate
    pitches, harmonics = np.arange(count) % 12, np.arange(1, 5)[:, None]
    items = []
    for pitch in pitches:
        strength = draw.uniform(0.2, 1, (4, 1)) / harmonics
        swell = (1 - np.exp(-t / 0.01)) * np.exp(-t * draw.uniform(2, 20))
        waves = strength * np.sin(2 * math.pi * harmonics * _hertz(pitch) * t)
        items.append(_normal(swell * waves.sum(0)))
    return Records(items, {"pitch": pitches}, "tones")


def plucks(rate: int, n: int, count: int = 2400, seed: int = 0) -> Records:
    """Plucked strings, label `pitch`: a burst of noise goes round a delay line that smooths it.

    Source: Karplus and Strong, Digital Synthesis of Plucked-String and Drum Timbres (1983).
    """
    draw, pitches, items = np.random.default_rng(seed), np.arange(count) % 12, []
    for pitch in pitches:
        whole, part = divmod(rate / _hertz(pitch), 1)
        loop = np.zeros(int(whole) + 2)
        loop[0], loop[-2:] = 1, (-0.99 * (1 - part), -0.99 * part)
        burst = np.where(np.arange(n) < whole, draw.uniform(-1, 1, n), 0)
        items.append(_normal(lfilter([1.0], loop, burst)))
    return Records(items, {"pitch": pitches}, "plucks")


def pitch(x: np.ndarray, rate: int) -> tuple[float, float]:
    """Semitones above 110 Hz, in [-0.5, 11.5), and the height of that peak, at most about 1.

    The peak is the highest of the autocorrelation at lags of that octave, between samples too.
    """
    n = len(x)
    power = np.abs(np.fft.rfft(x - x.mean(), 2 * n)) ** 2
    correlation = np.fft.irfft(power, 2 * n * _FINE) * _FINE
    lags = np.arange(math.ceil(_FINE * rate / _hertz(11.499)), _FINE * rate / _hertz(-0.5)) / _FINE
    # The longer the lag, the fewer samples overlap.
    heights = correlation[(lags * _FINE).astype(int) % len(correlation)] / np.clip(1 - lags / n, 0.1, 1)
    best = int(heights.argmax())
    return 12 * math.log2(rate / lags[best] / LOWEST), float(heights[best] / max(correlation[0], 1e-12))


def spectrograms(rows: Mapping[str, Sequence[Any]], path: Path, rate: int) -> None:
    """A PNG with a spectrogram a sound, a row a name, in decibels down to 60 below each one's loudest."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    few = colormaps["magma"].resampled(20)  # so that the file is small
    rows = {name: sounds for name, sounds in rows.items() if len(sounds)}
    wide = max(map(len, rows.values()))
    figure = Figure(figsize=(1.3 * wide + 1, 1.0 * len(rows) + 0.1), layout="constrained")
    for row, (name, sounds) in zip(
        figure.subplots(len(rows), wide, squeeze=False), rows.items(), strict=True
    ):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for panel, x in zip(row, [*sounds, *[None] * (wide - len(sounds))], strict=True):
            panel.set(xticks=[], yticks=[], frame_on=False)
            if x is not None:
                window = np.hanning(max(16, min(64, len(x) // 4)))
                power = ShortTimeFFT(window, hop=max(1, len(x) // 64), fs=rate, mfft=128).spectrogram(x)
                level = 10 * np.log10(power + 1e-12)
                panel.imshow(level, origin="lower", aspect="auto", vmin=level.max() - 60, cmap=few)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=70)


def _hertz(pitch: Any) -> Any:
    return LOWEST * 2.0 ** (pitch / 12)


def _normal(x: np.ndarray) -> np.ndarray:
    """With its loudest sample at 0.8."""
    loud: np.ndarray = 0.8 * x / np.abs(x).max()
    return loud.astype(np.float32)
