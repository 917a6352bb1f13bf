"""Scores of images against a reference: distances between features, classes, memorisation, sharpness.

Features are the 96 penultimate units of the shipped digit classifier for MNIST and its binarised copy
(keys ``frechet``, ``kernel``, ...), and principal components of the reference's pixels for all other
images (keys ``frechet_pca``, ``kernel_pca``, ...): the two are never comparable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.io.files import load_arrays
from molgen.metrics.anomaly import auroc
from molgen.metrics.statistics import (
    Moments,
    entropy,
    frechet_distance,
    js_divergence,
    kernel_distance,
    nearest_distances,
    prdc,
)
from molgen.modalities.image.classifier import CLASSES, embed
from molgen.modalities.image.codec import stacked
from molgen.modalities.image.data import DATASETS

KINDS = ("classifier", "pca")

_DIGITS = ("mnist", "binarized_mnist")  # the data whose classes the classifier knows
_SUBSET = 2000  # rows for the distances that need every pair
_FLOORS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # sizes at which the floor is stored
_COMPONENTS = 64
_NEIGHBOURS = 1000  # samples in the nearest-neighbour check


def evaluate(
    records: Sequence[np.ndarray] | np.ndarray,
    reference: str | Records | None = None,
    *,
    features: str | None = None,
    train: Records | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of images; every distance comes with its floor, that of as many training images.

    Arguments:
        records: images of one shape, uint8; at least 10.
        reference: a data set's name (its test images), or records; None gives only what needs no reference.
        features: ``"classifier"`` or ``"pca"``; by default the classifier for MNIST and its binarised copy.
        train: training images for the check of memorisation; by default those of the named data set where
            they are embedded or in the data folder, else the check is left out.
        labels: the digit that was asked for, per image; by default the label `digit` of the records.
        seed: seed of the picks where a part of the records is enough.

    Keys: `frechet` (with `floor/frechet` at the same n and `ratio/frechet`), `kernel`, `precision`,
    `recall`, `density`, `coverage` (k = 5); `class_entropy` (nats, at most 2.303), `class_min_share` (10
    times the rarest digit's share), `class_divergence` (Jensen-Shannon, nats, from the reference's classes),
    `digit_accuracy` (share of images seen as the digit asked for); `nearer_to_train` (probability that a
    sample lies nearer to its nearest training image than a test image does to its own: one half for new data,
    one for copies; blurred images lie near everything), `copies` (share nearer than 1 % of test images are);
    `sharpness` (mean absolute Laplacian over the reference's); `n`.
    """
    images = stacked(records)
    if len(images) < 10:
        raise DataError(f"{len(images)} images, expected at least 10", fix="draw more samples")
    kind = _kind(features, reference, images)
    stats = None if reference is None else reference_for(reference, kind)
    scores: dict[str, float] = {"n": float(len(images))}
    if stats is not None:
        shape = tuple(int(n) for n in stats["shape"])
        if images.shape[1:] != shape:
            got, wanted = (" x ".join(map(str, s)) for s in (images.shape[1:], shape))
            fix = "choose a reference of the same size"
            raise DataError(f"images of size {got}, expected {wanted} as the reference", fix=fix)
    pick = _picks(len(images), _SUBSET, seed)
    if kind == "classifier":
        probabilities, x = embed(images)
        seen = probabilities.argmax(1)
        if labels is None and isinstance(records, Records):
            labels = records.labels.get("digit")
        scores |= _class_scores(seen, None if stats is None else stats["classes"], labels)
    elif stats is not None:
        x = _project(images, stats)
    if stats is not None:
        scores |= _feature_scores(x, pick, stats, "" if kind == "classifier" else "_pca")
        scores["sharpness"] = sharpness(images) / float(stats["sharpness"])
        if train is None and isinstance(reference, str):
            train = _present(reference)
        if train is not None:
            scores |= memorisation(
                images[_picks(len(images), _NEIGHBOURS, seed)], stacked(train), stats["nearest"]
            )
    return scores


def build_reference(train: Records, test: Records, features: str | None = None) -> dict[str, np.ndarray]:
    """What `evaluate` needs to know of a data set: small arrays, made from its train and test images.

    Arguments:
        train: for the floors and the distances of test images to their nearest training image.
        test: for the moments, a subset of features, the classes.
        features: as in `evaluate`.
    """
    images, other = stacked(test), stacked(train)
    kind = _kind(features, test, images)
    stats: dict[str, np.ndarray] = {"shape": np.array(images.shape[1:]), "n": np.array(len(images))}
    if kind == "classifier":
        probabilities, x = embed(images)
        stats["classes"] = np.bincount(probabilities.argmax(1), minlength=CLASSES)
    else:
        stats |= _components(images)
        x = _project(images, stats)
    moments = Moments.of(x)
    stats |= {"mean": moments.mean, "cov": moments.cov, "sharpness": np.array(sharpness(images))}
    stats["features"] = x[_picks(len(x), _SUBSET, 0)].astype(np.float16)
    rows = _picks(len(other), max(_FLOORS), 1)
    y = embed(other[rows])[1] if kind == "classifier" else _project(other[rows], stats)
    sizes = sorted({min(n, len(y)) for n in _FLOORS})
    stats["floor_n"] = np.array(sizes)
    stats["floor_frechet"] = np.array(
        [_mean(frechet_distance(Moments.of(part), moments) for part in _parts(y, n)) for n in sizes]
    )
    sizes = sorted({min(n, len(y)) for n in _FLOORS if n <= _SUBSET})
    pairwise = [[_pairwise(part, stats["features"]) for part in _parts(y, n)] for n in sizes]
    stats["floor_pairwise_n"] = np.array(sizes)
    for name in pairwise[0][0]:
        stats[f"floor_{name}"] = np.array([_mean(scores[name] for scores in row) for row in pairwise])
    near = nearest_distances(_flat(images[_picks(len(images), _NEIGHBOURS, 2)]), _flat(other))
    stats["nearest"] = np.sort(near).astype(np.float32)
    return stats


def reference_for(reference: str | Records, features: str) -> dict[str, np.ndarray]:
    """The reference statistics of a data set's name (shipped, or made from its images), or of records.

    Records are split into even and odd ones for the floor, while the moments are those of all of them.
    """
    if isinstance(reference, Records):
        if len(reference) < 20:
            raise DataError(f"{len(reference)} reference images, expected at least 20", file=reference.name)
        stats = build_reference(reference[1::2], reference[::2], features)
        if features == "classifier":
            x = embed(reference)[1]
        else:
            x = _project(stacked(reference), stats)
        moments = Moments.of(x)
        return stats | {"mean": moments.mean, "cov": moments.cov, "n": np.array(len(reference))}
    if reference not in DATASETS:
        raise ConfigError.unknown("reference", reference, DATASETS)
    asset = resources.files("molgen.modalities.image").joinpath("assets", f"{reference}.npz")
    if asset.is_file() and features == _kind(None, reference, None):
        return load_arrays(Path(str(asset)))
    source = DATASETS[reference]
    return build_reference(source.load("train"), source.load("test"), features)


def memorisation(samples: np.ndarray, train: np.ndarray, nearest: np.ndarray) -> dict[str, float]:
    """How much nearer samples lie to the training images than test images do, in pixel space.

    `nearer_to_train` is the Mann-Whitney statistic over its maximum.

    Source: Meehan, Chaudhuri and Dasgupta 2020 (arXiv:2004.05675).

    Arguments:
        samples: `(n, H, W, C)` uint8.
        train: `(m, H, W, C)` uint8.
        nearest: sorted squared distances of test images to their nearest training image, levels in [0, 1].
    """
    d = nearest_distances(_flat(samples), _flat(train)).astype(nearest.dtype)
    return {
        "nearer_to_train": auroc(d, nearest),
        "copies": float((d < np.quantile(nearest, 0.01)).mean()),
    }


def sharpness(images: np.ndarray) -> float:
    """Mean absolute discrete Laplacian of levels in [0, 1]: low for blurred images, high for noisy ones.

    Example:
        >>> sharpness(np.zeros((1, 4, 4, 1), np.uint8))
        0.0
    """
    from scipy.ndimage import correlate1d

    total = 0.0
    for start in range(0, len(images), 1000):
        x = images[start : start + 1000].astype(np.float32) / 255
        rows, columns = (correlate1d(x, [1.0, -2.0, 1.0], axis, mode="nearest") for axis in (1, 2))
        total += float(np.abs(rows + columns).mean((1, 2, 3)).sum())
    return total / len(images)


# --------------------------------------------------------------------------- parts


def _present(name: str) -> Records | None:
    """The training images of a data set, if nothing has to be downloaded for them."""
    source = DATASETS[name]
    return source.load("train") if source.present else None


def _kind(features: str | None, reference: str | Records | None, images: np.ndarray | None) -> str:
    if features is not None:
        if features not in KINDS:
            raise ConfigError.unknown("features", features, KINDS)
        return features
    if reference is None:
        return "classifier" if images is not None and images.shape[1:] == (28, 28, 1) else "pca"
    name = reference.name.split("/")[0] if isinstance(reference, Records) else reference
    return "classifier" if name in _DIGITS else "pca"


def _picks(n: int, most: int, seed: int) -> np.ndarray:
    """Indices of at most `most` out of `n` records, in random order: data sets are seldom shuffled."""
    return np.random.default_rng(seed).permutation(n)[:most]


def _class_scores(
    seen: np.ndarray, classes: np.ndarray | None, labels: Sequence[int] | np.ndarray | None
) -> dict[str, float]:
    counts = np.bincount(seen, minlength=CLASSES)
    scores = {
        "class_entropy": entropy(counts),
        "class_min_share": float(counts.min() / counts.sum() * CLASSES),
    }
    if classes is not None:
        scores["class_divergence"] = js_divergence(counts, classes)
    if labels is not None:
        asked = np.asarray(labels, dtype=np.float64)
        if asked.shape != seen.shape:
            raise DataError(f"{asked.size} labels for {len(seen)} images", fix="give one per image")
        given = np.isfinite(asked) & (asked >= 0)
        if given.any():
            scores["digit_accuracy"] = float((seen[given] == asked[given]).mean())
    return scores


def _feature_scores(
    x: np.ndarray, pick: np.ndarray, stats: Mapping[str, np.ndarray], suffix: str
) -> dict[str, float]:
    distance = frechet_distance(Moments.of(x), Moments(stats["mean"], stats["cov"], int(stats["n"])))
    floor = _floor_at(len(x), stats["floor_n"], stats["floor_frechet"])
    scores = {
        f"frechet{suffix}": distance,
        f"floor/frechet{suffix}": floor,
        f"ratio/frechet{suffix}": distance / floor if floor > 0 else math.nan,
    }
    for name, value in _pairwise(x[pick], stats["features"]).items():
        scores[f"{name}{suffix}"] = value
        floor = _floor_at(len(pick), stats["floor_pairwise_n"], stats[f"floor_{name}"])
        scores[f"floor/{name}{suffix}"] = floor
    return scores


def _pairwise(x: np.ndarray, features: np.ndarray) -> dict[str, float]:
    """The scores that compare single feature vectors; the neighbour scores at equal sizes."""
    real = features.astype(np.float64)
    n = min(len(x), len(real))
    return {"kernel": kernel_distance(x, real), **prdc(real[:n], x[:n], k=min(5, n - 1))}


def _parts(x: np.ndarray, n: int) -> list[np.ndarray]:
    """Up to five disjoint parts of `n` rows."""
    return [x[start : start + n] for start in range(0, min(len(x) - n + 1, 5 * n), n)]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _floor_at(n: int, sizes: np.ndarray, floors: np.ndarray) -> float:
    """The floor at `n` samples, linear in 1/n as the bias of estimated moments is; constant beyond."""
    return float(np.interp(-1 / n, -1 / sizes, floors))


def _components(images: np.ndarray) -> dict[str, np.ndarray]:
    """Principal components of pixels, without the directions that so few images cannot tell."""
    x = _flat(images[_picks(len(images), _SUBSET, 0)]).astype(np.float64)
    center = x.mean(0)
    # By the Gram matrix of at most 2,000 images, which stays small whatever the images' size.
    values, vectors = np.linalg.eigh((x - center) @ (x - center).T)
    kept = min(_COMPONENTS, max(2, len(x) // 4), max(1, int((values > values[-1] * 1e-8).sum())))
    basis = (x - center).T @ vectors[:, ::-1][:, :kept] / np.sqrt(values[::-1][:kept].clip(1e-12))
    return {"center": center.astype(np.float32), "basis": basis.astype(np.float32)}


def _project(images: np.ndarray, stats: Mapping[str, np.ndarray]) -> np.ndarray:
    projected: np.ndarray = (_flat(images) - stats["center"]).astype(np.float64) @ stats["basis"]
    return projected


def _flat(images: np.ndarray) -> np.ndarray:
    """Levels in [0, 1], `(n, H W C)` float32."""
    flat: np.ndarray = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return flat
