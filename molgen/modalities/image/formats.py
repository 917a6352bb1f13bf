"""Image files: folders of PNG and JPEG, NumPy arrays, and the IDX files of MNIST."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from molgen.core.errors import DataError
from molgen.core.modality import Format
from molgen.core.records import Records
from molgen.io.files import atomic, load_arrays, read_bytes, save_arrays
from molgen.modalities.image.codec import picture, stacked
from molgen.modalities.image.plot import save_grid

OnError = Callable[[DataError], None]

_SUFFIXES = (".png", ".jpg", ".jpeg")
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
_IDX_TYPES = {8: "uint8", 9: "int8", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_SCALE = "store levels from 0 to 255 as uint8"


def read_folder(path: Path, on_error: OnError) -> Records:
    """PNG and JPEG files of a folder in the order of their names.

    Subfolders, in the order of their names, give the label `class`. Grey files give one channel, RGB and
    palette files three. Every file must have the size and mode that most of them have; the others, and those
    that are damaged, go to `on_error`.
    """
    groups = [(-1, path)] + list(
        enumerate(sorted(p for p in path.iterdir() if p.is_dir() and p.name[0] != "."))
    )
    files = [(label, file) for label, folder in groups for file in _image_files(folder)]
    if not files:
        raise DataError(
            "no .png or .jpg file in this folder", file=path, fix="put the images there, one per file"
        )
    images: list[tuple[int, Path, np.ndarray]] = []
    for label, file in files:
        try:
            with Image.open(file) as image:
                if image.mode not in _MODES:
                    raise DataError(
                        f"image of mode {image.mode}, expected grey (L) or RGB",
                        file=path,
                        record=file.relative_to(path).as_posix(),
                        fix="convert it",
                    )
                pixels = np.asarray(image.convert(_MODES[image.mode]), dtype=np.uint8)
        except DataError as error:
            on_error(error)
        except (
            UnidentifiedImageError,
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:
            reason = "empty file" if file.stat().st_size == 0 else f"not a readable image ({_line(error)})"
            name = file.relative_to(path).as_posix()
            on_error(DataError(reason, file=path, record=name, fix="replace or remove the file"))
        else:
            images.append((label, file, pixels if pixels.ndim == 3 else pixels[:, :, None]))
    shape = Counter(image.shape for _, _, image in images).most_common(1)[0][0] if images else ()
    kept = []
    for label, file, pixels in images:
        if pixels.shape == shape:
            kept.append((label, pixels))
            continue
        got, wanted = (" x ".join(map(str, s)) for s in (pixels.shape, shape))
        name = file.relative_to(path).as_posix()
        on_error(
            DataError(
                f"image of size {got}, expected {wanted} as most here",
                file=path,
                record=name,
                fix="resize it",
            )
        )
    labels = np.array([label for label, _ in kept], dtype=np.int64)
    named = {"class": labels} if (labels >= 0).any() else {}
    return Records([pixels for _, pixels in kept], named, str(path))


def read_npz(path: Path, on_error: OnError) -> Records:
    """The array `images` `(n, H, W, C)` or `(n, H, W)`, uint8; an array `labels` `(n,)` becomes `class`."""
    arrays = load_arrays(path)
    if "images" not in arrays:
        found = ", ".join(arrays) or "none"
        raise DataError(
            f"arrays {found}, expected one named 'images'", file=path, fix="save it under that name"
        )
    return _records(arrays["images"], arrays.get("labels"), path, on_error)


def read_npy(path: Path, on_error: OnError) -> Records:
    """One array of images, `(n, H, W, C)` or `(n, H, W)`, uint8."""
    try:
        array = np.load(BytesIO(read_bytes(path)), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"not a readable .npy file ({_line(error)})", file=path, fix="write it again"
        ) from None
    return _records(array, None, path, on_error)


def read_idx(path: Path, on_error: OnError) -> Records:
    """IDX images; the labels of a neighbour named as MNIST's are (`labels-idx1`) become `class`."""
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels = parse_idx(read_bytes(beside), beside) if beside != path and beside.exists() else None
    return _records(parse_idx(read_bytes(path), path), labels, path, on_error)


def parse_idx(data: bytes, file: Path | str) -> np.ndarray:
    """The array in the bytes of an IDX file: two zero bytes, type, number of axes, big-endian sizes, values.

    Source: LeCun, Cortes and Burges, the MNIST database.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]), "two.idx").tolist()
        [5, 7]
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES or data[3] == 0:
        raise DataError("not an IDX file: wrong magic number", file=file, fix="give the original file")
    dtype, axes = np.dtype(_IDX_TYPES[data[2]]), data[3]
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes))
    wanted = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    if len(data) != start + wanted:
        raise DataError(
            f"{len(data) - start} bytes of values, expected {wanted} for {shape}",
            file=file,
            fix="fetch the file again",
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def write_npz(path: Path, records: Sequence[np.ndarray]) -> None:
    """One array `images`, `(n, H, W, C)` uint8."""
    save_arrays(path, {"images": stacked(records)})


def write_folder(path: Path, records: Sequence[np.ndarray]) -> None:
    """A PNG per record, numbered from zero in order."""
    digits = max(5, len(str(len(records))))
    with atomic(path) as temporary:
        temporary.mkdir(exist_ok=True)
        for i, image in enumerate(stacked(records)):
            picture(image).save(temporary / f"{i:0{digits}d}.png")


def write_grid(path: Path, records: Sequence[np.ndarray]) -> None:
    """A PNG with all records as tiles, row by row."""
    save_grid(records, path, limit=None)


def _image_files(folder: Path) -> list[Path]:
    found = (
        p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.name[0] != "." and p.is_file()
    )
    return sorted(found)


def _records(images: np.ndarray, labels: np.ndarray | None, path: Path, on_error: OnError) -> Records:
    """Checked images with their labels."""
    if images.ndim not in (3, 4) or images.shape[-1] == 0 or 0 in images.shape[1:]:
        raise DataError(
            f"array of shape {images.shape}, expected (n, height, width, channels)",
            file=path,
            fix="reshape the array",
        )
    if len(images) == 0:
        raise DataError("no images: the array is empty", file=path, fix="give at least one")
    if images.dtype != np.uint8:
        if np.issubdtype(images.dtype, np.floating):
            bad = ~np.isfinite(images.reshape(len(images), -1)).all(1)
            if bad.any():
                raise DataError(
                    "pixels that are NaN or infinite", file=path, record=int(bad.argmax()) + 1, fix=_SCALE
                )
        raise DataError(f"array of dtype {images.dtype}, expected uint8", file=path, fix=_SCALE)
    items = list(images if images.ndim == 4 else images[..., None])
    if labels is None:
        return Records(items, {}, str(path))
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels of shape {labels.shape} and dtype {labels.dtype}, expected integers ({len(images)},)",
            file=path,
            fix="give one class per image",
        )
    return Records(items, {"class": labels.astype(np.int64)}, str(path))


def _line(error: BaseException) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


FORMATS = (
    Format((".npz",), read_npz, write_npz),
    Format((".png",), None, write_grid),
    Format(("/",), read_folder, write_folder),
    Format((".npy",), read_npy),
    Format(("-ubyte", "-ubyte.gz", ".idx", ".idx.gz"), read_idx),
)
