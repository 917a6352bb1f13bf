"""WAV files: one sound, or a folder of them."""

import warnings
from collections.abc import Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.files import atomic


def read(path: Path, rate: int, frame: int, on_error: Any) -> Records:
    """The sounds of a folder in order of names, or of one file; zeros fill up the last frame."""
    items = []
    for file in sorted(path.glob("*.wav")) if path.is_dir() else [path]:
        try:
            items.append(_sound(file, rate, frame))
        except (ValueError, EOFError, OSError) as error:
            on_error(
                DataError(f"no WAV file ({error})", file=file, fix="convert it to WAV, e.g. with ffmpeg")
            )
    return Records(items, name=path.name)


def _sound(file: Path, rate: int, frame: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
        found, x = wavfile.read(file)
    if x.size == 0:
        raise ValueError("it holds no sound")
    if x.dtype.kind in "iu":  # unsigned bytes have their zero in the middle
        top = float(2 ** (8 * x.dtype.itemsize - 1))
        x = (x - (top if x.dtype.kind == "u" else 0)) / top
    x = x if x.ndim == 1 else x.mean(1)
    if found != rate:
        x = resample_poly(x, rate // gcd(rate, found), found // gcd(rate, found))
    return np.pad(x, (0, -len(x) % frame)).astype(np.float32)


def write(path: Path, rate: int, records: Sequence[Any]) -> None:
    """A folder with a file a record, named by its number, in 32-bit floats, which lose nothing."""
    with atomic(path) as temporary:
        temporary.mkdir()
        for i, record in enumerate(records, 1):
            wavfile.write(temporary / f"{i:06d}.wav", rate, np.asarray(record, np.float32))
