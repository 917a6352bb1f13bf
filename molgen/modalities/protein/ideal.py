"""`ideal`: helix bundles and meandering sheets made by formula: the whole loop without a download."""

from __future__ import annotations

import functools

import numpy as np

from molgen.modalities.protein.geometry import BOND

RISE, TURN = 1.5, np.radians(100.0)
"""Along the axis per residue of an alpha helix (Angstrom), and about it."""

RADIUS = float(np.sqrt(BOND**2 - RISE**2) / (2 * np.sin(TURN / 2)))
ADVANCE = 3.3
"""Along the axis per residue of a strand, in Angstrom."""

_SPACING, _SHEET = 9.6, 4.9  # between axes of neighbouring helices and strands
_TWIST = 0.018  # radians by which a sheet turns per Angstrom along its strands


def helix(n: int, phase: float = 0.0) -> np.ndarray:
    """A right-handed alpha helix along z that starts at 0: CA atoms `(n, 3)` in Angstrom, 3.80 apart."""
    k = np.arange(n)
    angle = phase + TURN * k
    return np.stack([RADIUS * np.cos(angle), RADIUS * np.sin(angle), RISE * k], 1)


def bundle(lengths: list[int], loop: int = 5, phase: float = 0.0, layout: float = 0.0) -> np.ndarray:
    """Helices side by side, up and down in turn, joined by loops, `(N, 3)` in Angstrom.

    Arguments:
        lengths: residues of each helix.
        loop: residues between two helices.
        phase: the first helix's turn about its axis.
        layout: 0 for axes on a polygon to the left, 1 to the right.
    """
    side = 1.0 if layout < 0.5 else -1.0
    corner = np.zeros(2)
    heading = 0.0
    out: list[np.ndarray] = []
    bend = {2: 0.0, 3: 2 * np.pi / 3, 4: np.pi / 2}.get(len(lengths), np.pi / 3) * side
    for i, n in enumerate(lengths):
        rod = helix(n, phase + 2.1 * i) - [0.0, 0.0, RISE * (n - 1) / 2]
        if i % 2:
            rod = rod * [1.0, -1.0, -1.0]
        rod[:, :2] += corner
        if out:
            end, start = out[-1][-1], rod[0]
            out.append(_arc(end, start, loop, 1.0 if i % 2 else -1.0))
        out.append(rod)
        corner = corner + _SPACING * np.array([np.cos(heading), np.sin(heading)])
        heading += bend
    return np.concatenate(out)


def _arc(a: np.ndarray, b: np.ndarray, n: int, up: float) -> np.ndarray:
    """`n` points on half an ellipse from a to b that bulges along z, about 3.8 A apart."""
    t = np.linspace(0, np.pi, n + 2)[1:-1, None]
    width = float(np.linalg.norm(b - a)) / 2
    high = max((n + 1) * BOND / np.pi * 1.15 - width / 2, 2.0)
    return np.asarray((a + b) / 2 + (a - b) / 2 * np.cos(t) + np.array([0.0, 0.0, up * high]) * np.sin(t))


def meander(strands: int, length: int) -> np.ndarray:
    """Antiparallel strands joined by turns of two residues, left-handed twist seen across them, `(N, 3)`.

    Arguments:
        strands: their number.
        length: residues of each.
    """
    along = ADVANCE * (np.arange(length) - (length - 1) / 2)
    high = float(np.sqrt(BOND**2 - ADVANCE**2)) / 2
    zigzag = high * (-1.0) ** np.arange(length)
    out, reach = [], float(np.sqrt(BOND**2 - ((_SHEET - BOND) / 2) ** 2))
    for i in range(strands):
        way = 1 if i % 2 == 0 else -1
        x = way * along
        out.append(np.stack([x, np.full(length, _SHEET * i), zigzag[::way]], 1))
        if i + 1 < strands:
            tip = out[-1][-1]
            first = _SHEET * i + (_SHEET - BOND) / 2
            out += [np.array([[tip[0] + way * reach, y, tip[2]]]) for y in (first, first + BOND)]
    flat = np.concatenate(out)
    flat[:, 1] -= _SHEET * (strands - 1) / 2
    angle = _TWIST * flat[:, 0]
    y, z = flat[:, 1], flat[:, 2]
    turned = [flat[:, 0], y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)]
    return np.stack(turned, 1)


def hairpin(n: int) -> np.ndarray:
    """Two strands and a turn, `(n, 3)` for even n, relaxed.

    Example:
        >>> bonds = np.linalg.norm(np.diff(hairpin(24), axis=0), axis=1)
        >>> bool(np.abs(bonds - 3.8).max() < 1e-3)
        True
    """
    return relaxed([meander(2, n // 2 - 1)])[0]


def relaxed(traces: list[np.ndarray], rounds: int = 160) -> list[np.ndarray]:
    """Traces moved as little as needed to have bonds of 3.80 A, no sharp angles and no clashes.

    Every round shortens or stretches bonds, opens second neighbours to 5.2 A, and, but for the last
    rounds, pushes apart what lies nearer than 4.6 A; all traces at once.
    """
    n = max(map(len, traces))
    x = np.full((len(traces), n, 3), 1e4) + np.arange(n)[:, None] * 100.0
    real = np.arange(n)[None] < np.array([len(t) for t in traces])[:, None]
    for row, trace in zip(x, traces, strict=True):
        row[: len(trace)] = trace
    i, j = np.triu_indices(n, 3)
    for step in range(rounds):
        if step < rounds - 60 and step % 8 == 0:
            gap = x[:, j] - x[:, i]
            d = np.linalg.norm(gap, axis=-1)
            row, pair = np.nonzero((d < 4.6) & real[:, j])
            push = gap[row, pair] * (0.25 * (4.6 / np.maximum(d[row, pair], 1e-6) - 1))[:, None]
            np.add.at(x, (row, j[pair]), push)
            np.add.at(x, (row, i[pair]), -push)
        if step < rounds - 30:
            _spread(x, real, 2, 5.2, only_short=True)
        _spread(x, real, 1, BOND)
    return [row[: len(trace)] - row[: len(trace)].mean(0) for row, trace in zip(x, traces, strict=True)]


def _spread(x: np.ndarray, real: np.ndarray, apart: int, length: float, only_short: bool = False) -> None:
    """Moves residues `apart` steps from each other to a distance, in place, in groups that do not touch."""
    for start in range(2 * apart):
        a = np.arange(start, x.shape[1] - apart, 2 * apart)
        gap = x[:, a + apart] - x[:, a]
        d = np.maximum(np.linalg.norm(gap, axis=-1, keepdims=True), 1e-6)
        move = gap * (0.5 * (length / d - 1)) * real[:, a + apart, None]
        if only_short:
            move = move * (d < length)
        x[:, a + apart] += move
        x[:, a] -= move


@functools.lru_cache(1)
def traces(count: int = 240) -> tuple[np.ndarray, ...]:
    """The data set: CA traces of 40-80 residues, two bundles for every sheet; the same on every call."""
    draw = np.random.default_rng(1973)
    out: list[np.ndarray] = []
    while len(out) < count:
        if len(out) % 3 < 2:
            rods = int(draw.integers(2, 5))
            loop = int(draw.integers(4, 7))
            total = int(draw.integers(40, 81)) - loop * (rods - 1)
            share = draw.dirichlet(np.full(rods, 60.0))
            lengths = [max(int(total * part), 7) for part in share]
            out.append(bundle(lengths, loop, float(draw.uniform(0, 2 * np.pi)), float(draw.integers(0, 2))))
        else:
            length = int(draw.integers(6, 11))
            strands = int(draw.integers(-(-42 // (length + 2)), 80 // (length + 2) + 1))
            out.append(meander(strands, length))
        if not 40 <= len(out[-1]) <= 80:
            out.pop()
    return tuple(relaxed(out))
