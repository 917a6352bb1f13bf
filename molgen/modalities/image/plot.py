"""Pictures of images: a grid of tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molgen.io.files import atomic
from molgen.modalities.image.codec import picture, stacked


def grid(records: Sequence[np.ndarray], columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Images side by side, row by row, on a mid-grey ground.

    Arguments:
        records: images of one shape `(H, W, C)`, uint8, at least one.
        columns: tiles per row; a nearly square picture by default.
        gap: ground between tiles, in pixels.

    Example:
        >>> grid([np.zeros((2, 2, 1), np.uint8)] * 3, columns=2).shape
        (5, 5, 1)
    """
    images = stacked(records)
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n * height / width))
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def save_grid(
    records: Sequence[np.ndarray], path: Path, limit: int | None = 100, columns: int | None = None
) -> None:
    """Writes a grid of the first `limit` images (None: all) as PNG, small ones enlarged by a whole factor."""
    canvas = grid(records[:limit], columns)
    factor = max(1, 560 // max(canvas.shape[:2]))
    canvas = canvas.repeat(factor, 0).repeat(factor, 1)
    image = picture(canvas)
    with atomic(path) as temporary:
        image.save(temporary, format="PNG")
