"""Image data sets: MNIST, Fashion-MNIST, the binarised MNIST, and scikit-learn's small digits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.io.data import DataSource, find_or_download
from molgen.io.files import load_arrays, read_bytes
from molgen.modalities.image.formats import parse_idx

SPLITS = ("train", "valid", "test")

_VALID = 5000  # the last training images, the same for every model: 55,000 / 5,000 / 10,000

_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

_ADDRESSES = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}

_FIX = {
    "binarized_mnist": "make an .npz of train, valid, test: np.packbits(bits, axis=1) for bits (n, 784)",
}

_MD5 = {
    "mnist/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "mnist/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "mnist/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "mnist/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def load_idx_set(name: str, label: str, split: str) -> Records:
    """A split of a set of four IDX files: train and valid are the first 55,000 and last 5,000 of 60,000.

    Arguments:
        name: ``"mnist"`` or ``"fashion_mnist"``.
        label: what the class is called.
        split: ``"train"``, ``"valid"`` or ``"test"``.
    """
    _known(split)
    image_file, label_file = (_find(name, file) for file in _FILES["test" if split == "test" else "train"])
    images, labels = (parse_idx(read_bytes(file), file) for file in (image_file, label_file))
    count = 10_000 if split == "test" else 60_000
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise DataError(
            f"images {images.shape} and labels {labels.shape}, expected {count} of 28 x 28",
            file=image_file,
            fix="fetch the original files again",
        )
    part = {
        "train": slice(0, count - _VALID),
        "valid": slice(count - _VALID, count),
        "test": slice(0, count),
    }[split]
    return Records(list(images[part, :, :, None]), {label: labels[part].astype(np.int64)}, f"{name}/{split}")


def load_binarized(split: str) -> Records:
    """The statically binarised MNIST: 50,000 / 10,000 / 10,000 images of levels 0 and 255, no labels."""
    _known(split)
    path = _find("binarized_mnist", "binarized_mnist.npz")
    packed = load_arrays(path).get(split)
    if packed is None or packed.ndim != 2 or packed.shape[1] != 98 or packed.dtype != np.uint8:
        raise DataError(
            f"no array {split!r} (n, 98) of packed bits", file=path, fix="write it with np.packbits"
        )
    images = np.unpackbits(packed, axis=1).reshape(-1, 28, 28, 1) * np.uint8(255)
    return Records(list(images), {}, f"binarized_mnist/{split}")


def load_digits(split: str) -> Records:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, levels 0..16 scaled to 0..255; embedded, no download.

    In blocks of ten records the ninth is for validation and the tenth for testing.
    """
    _known(split)
    from sklearn.datasets import load_digits as load  # type: ignore[import-untyped, unused-ignore]

    data = load()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    place = np.arange(len(images)) % 10
    picks = {"train": place < 8, "valid": place == 8, "test": place == 9}[split]
    return Records(list(images[picks]), {"digit": data.target[picks].astype(np.int64)}, f"digits/{split}")


def _known(split: str) -> None:
    if split not in SPLITS:
        raise ConfigError.unknown("split", split, SPLITS)


def _find(name: str, file: str) -> Path:
    """The file in the data folder, downloaded first if need be."""
    relative = f"{name}/{file}"
    addresses = [base + file for base in _ADDRESSES.get(name, ())]
    return find_or_download(relative, addresses, md5=_MD5.get(relative), fix=_FIX.get(name, ""))


def _idx_source(name: str, label: str, licence: str) -> DataSource:
    files = tuple(f"{name}/{file}" for pair in _FILES.values() for file in pair)
    return DataSource(name, partial(load_idx_set, name, label), 70_000, _ADDRESSES[name][0], licence, files)


DATASETS = {
    "mnist": _idx_source("mnist", "digit", "CC BY-SA 3.0"),
    "fashion_mnist": _idx_source("fashion_mnist", "class", "MIT"),
    "binarized_mnist": DataSource(
        "binarized_mnist",
        load_binarized,
        70_000,
        "Larochelle's static binarisation; no stable address, read from the data folder",
        "CC BY-SA 3.0",
        ("binarized_mnist/binarized_mnist.npz",),
    ),
    "digits": DataSource("digits", load_digits, 1797, "scikit-learn, from UCI optical digits", "CC BY 4.0"),
}
