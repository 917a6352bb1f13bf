"""Between records and arrays of pixels: checked, of one shape, stacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from molgen.core.errors import DataError

MIXED = "make all images one size and mode, or leave the others out with --skip-invalid"
"""What to do about images of other shapes."""


def pixels_of(record: npt.ArrayLike, number: int | None = None) -> np.ndarray:
    """The record as `(H, W, C)`; `DataError` unless it is uint8 with two or three axes."""
    image = np.asarray(record)
    if image.dtype != np.uint8:
        raise DataError(
            f"image of dtype {image.dtype}, expected uint8 levels from 0 to 255",
            record=number,
            fix="scale to 0..255, round, and convert with .astype(numpy.uint8)",
        )
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.size == 0:
        raise DataError(
            f"image of shape {image.shape}, expected (height, width, channels)",
            record=number,
            fix="reshape it",
        )
    return image


def size_of(shape: Sequence[int]) -> str:
    """A shape in words, e.g. ``28 x 28 x 1``."""
    return " x ".join(map(str, shape))


def checked(record: npt.ArrayLike, shape: Sequence[int], number: int | None = None) -> np.ndarray:
    """The record as `(H, W, C)`; `DataError` unless it has this shape."""
    image = pixels_of(record, number)
    if image.shape != tuple(shape):
        problem = f"image of size {size_of(image.shape)}, expected {size_of(shape)}"
        raise DataError(problem, record=number, fix=MIXED)
    return image


def stacked(records: Sequence[npt.ArrayLike] | np.ndarray) -> np.ndarray:
    """Records as one array `(n, H, W, C)` uint8; `DataError` where one is no image or of another shape."""
    if isinstance(records, np.ndarray) and records.dtype == np.uint8 and records.ndim == 4:
        return records
    if len(records) == 0:
        raise DataError("no images", fix="give at least one")
    shape = pixels_of(records[0], 1).shape
    return np.stack([checked(image, shape, i + 1) for i, image in enumerate(records)])


def picture(image: np.ndarray) -> Image.Image:
    """A Pillow image of `(H, W, C)` uint8; `DataError` unless C is 1 (grey), 3 (RGB) or 4 (RGBA)."""
    if image.shape[2] not in (1, 3, 4):
        raise DataError(f"{image.shape[2]} channels, expected 1 or 3 for a PNG", fix="write .npz")
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
