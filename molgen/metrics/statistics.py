"""Distances between two samples of features, and between two histograms: the same for every modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from molgen.core.errors import DataError

Array = npt.NDArray[Any]

_TIE = 1e-9  # relative rounding of distances: one this near to a ball's radius lies on its surface
_BLOCK = 1024  # rows of a distance matrix held at once


@final
@dataclass(frozen=True)
class Moments:
    """Mean and covariance of `n` feature vectors.

    Arguments:
        mean: `(D,)`, float64.
        cov: `(D, D)`, float64, the unbiased estimate (divided by `n - 1`).
        n: number of vectors.

    Example:
        >>> m = Moments.of(np.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> m.mean.tolist(), m.cov.tolist(), m.n
        ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]], 2)
    """

    mean: Array
    cov: Array
    n: int

    @classmethod
    def of(cls, features: npt.ArrayLike) -> Self:
        """The moments of feature vectors `(n, D)`; `DataError` for fewer than two, or not finite ones."""
        x = _matrix(features, least=2)
        return cls(x.mean(0), np.atleast_2d(np.cov(x, rowvar=False)), len(x))


def frechet_distance(a: Moments, b: Moments) -> float:
    r"""Frechet (2-Wasserstein) distance, squared, between the Gaussians with these moments.

    .. math:: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^{1/2} C_b C_a^{1/2})^{1/2})

    Computed with symmetric eigenvalues only, so that singular covariances do no harm. Biased upwards by a
    finite `n`: compare at equal `n`, beside the distance between two parts of the data (the floor).

    Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500) for features of a network.

    Arguments:
        a: moments of one sample, `D` features.
        b: moments of the other, `D` features.

    Example:
        >>> a, b = Moments(np.zeros(1), np.eye(1), 9), Moments(np.full(1, 3.0), np.full((1, 1), 4.0), 9)
        >>> frechet_distance(a, b)  # 3^2 + (2 - 1)^2
        10.0
    """
    if a.mean.shape != b.mean.shape:
        raise DataError(f"moments of {a.mean.size} and of {b.mean.size} features cannot be compared")
    difference = a.mean.astype(np.float64) - b.mean.astype(np.float64)
    first, second = a.cov.astype(np.float64), b.cov.astype(np.float64)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    middle = root @ second @ root
    overlap = np.sqrt(np.linalg.eigvalsh((middle + middle.T) / 2).clip(0.0)).sum()
    return max(float(difference @ difference + np.trace(first) + np.trace(second) - 2 * overlap), 0.0)


def kernel_distance(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    r"""Unbiased squared maximum mean discrepancy under the kernel :math:`k(x, y) = (x \cdot y / D + 1)^3`.

    .. math:: E_{x \ne x'} k(x, x') + E_{y \ne y'} k(y, y') - 2 E k(x, y)

    All pairs are used, so the figure has no randomness; it can be slightly negative, with mean zero for
    two samples of one distribution whatever their size.

    Source: Binkowski et al. 2018 (arXiv:1801.01401).

    Arguments:
        x: features `(n, D)`.
        y: features `(m, D)`.

    Example:
        >>> x = np.array([[0.0], [1.0]])
        >>> kernel_distance(x, x)  # 1 + 1 - 2 (1 + 8 + 1 + 1) / 4
        -3.5
    """
    first, second = _matrix(x, least=2), _matrix(y, least=2)
    _same_width(first, second)
    n, m = len(first), len(second)
    within_x = (_kernel_sum(first, first) - _kernel_diagonal(first)) / (n * (n - 1))
    within_y = (_kernel_sum(second, second) - _kernel_diagonal(second)) / (m * (m - 1))
    return float(within_x + within_y - 2 * _kernel_sum(first, second) / (n * m))


def prdc(real: npt.ArrayLike, fake: npt.ArrayLike, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage from `k` nearest neighbours.

    With balls around every vector that reach to its k-th nearest neighbour in its own sample: precision is
    the share of fake vectors in a real ball, recall the share of real vectors in a fake ball, density the
    mean number of real balls that a fake vector lies in, over `k`, coverage the share of real balls that
    hold a fake vector. Use equal sizes; two samples of one distribution give density 1 and, at large n,
    coverage `1 - 2^-k`.

    Source: Kynkaanniemi et al. 2019 (arXiv:1904.06991); Naeem et al. 2020 (arXiv:2002.09797).

    Arguments:
        real: features `(n, D)`, n > k.
        fake: features `(m, D)`, m > k.
        k: which neighbour bounds a ball.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> prdc(x, x + 100.0)
        {'precision': 0.0, 'recall': 0.0, 'density': 0.0, 'coverage': 0.0}
    """
    from sklearn.metrics import pairwise_distances_chunked

    first, second = _matrix(real, least=k + 1), _matrix(fake, least=k + 1)
    _same_width(first, second)
    radius_real, radius_fake = _kth_radius(first, k), _kth_radius(second, k)
    inside, covered, recalled, start = np.zeros(len(second)), [], [], 0
    for d in pairwise_distances_chunked(first, second):
        hit = d < radius_real[start : start + len(d), None]
        inside += hit.sum(0)
        covered.append(hit.any(1))
        recalled.append((d < radius_fake).any(1))
        start += len(d)
    return {
        "precision": float((inside > 0).mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": float(inside.mean() / k),
        "coverage": float(np.concatenate(covered).mean()),
    }


def nearest_distances(queries: Array, points: Array) -> Array:
    """Squared distance `(n,)` of each query `(n, D)` to the nearest of the points `(m, D)`.

    Example:
        >>> nearest_distances(np.array([[1.0], [5.0]]), np.array([[0.0], [3.0]])).tolist()
        [1.0, 4.0]
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    _same_width(queries, points)
    nearest: Array = pairwise_distances_argmin_min(queries, points, metric="sqeuclidean")[1]
    return nearest


def js_divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    r"""Jensen-Shannon divergence of two histograms over the same bins, in nats.

    It is 0 for equal and ln 2 for disjoint ones.

    .. math:: (KL(p | m) + KL(q | m)) / 2, \quad m = (p + q) / 2

    Source: Lin 1991.

    Arguments:
        p: counts or weights of any shape, not negative, not all zero; normalised here.
        q: the same shape.

    Example:
        >>> round(js_divergence([1, 0], [0, 5]), 6), js_divergence([1, 3], [2, 6])
        (0.693147, 0.0)
    """
    from scipy.special import rel_entr

    a, b = _histogram(p), _histogram(q)
    if a.shape != b.shape:
        raise DataError(f"histograms of {a.size} and of {b.size} bins cannot be compared")
    # `scipy.spatial.distance.jensenshannon` is NaN where rounding leaves this sum below zero.
    middle = (a + b) / 2
    return max(float((rel_entr(a, middle) + rel_entr(b, middle)).sum() / 2), 0.0)


def entropy(p: npt.ArrayLike) -> float:
    """Shannon entropy of a histogram in nats; `log(bins)` if it is flat.

    Example:
        >>> round(entropy([5, 5]), 6), entropy([3, 0])
        (0.693147, 0.0)
    """
    from scipy import stats

    return float(stats.entropy(_histogram(p)))


def wasserstein_1d(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    r"""1-Wasserstein distance of two samples of real numbers, in their unit.

    .. math:: \int |F_x(t) - F_y(t)| dt

    Arguments:
        x: numbers `(n,)`, finite.
        y: numbers `(m,)`, finite.

    Example:
        >>> wasserstein_1d([0.0, 1.0], [2.0, 3.0, 2.0, 3.0])
        2.0
    """
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(_matrix(x, least=1).ravel(), _matrix(y, least=1).ravel()))


# --------------------------------------------------------------------------- parts


def _matrix(values: npt.ArrayLike, least: int) -> Array:
    """Finite float64 feature vectors `(n, D)`; numbers `(n,)` become `(n, 1)`."""
    x = np.asarray(values, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2:
        raise DataError(f"features of shape {x.shape}, expected (n, D)")
    if len(x) < least:
        raise DataError(f"{len(x)} records, expected at least {least}", fix="give more samples")
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise DataError("features that are not finite", record=int(bad.argmax()) + 1)
    return x


def _same_width(x: Array, y: Array) -> None:
    if x.shape[1] != y.shape[1]:
        raise DataError(f"features of width {x.shape[1]} and of width {y.shape[1]} cannot be compared")


def _kernel_sum(x: Array, y: Array) -> float:
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        k = x[start : start + _BLOCK] @ y.T / x.shape[1] + 1.0
        total += float((k * k * k).sum())
    return total


def _kernel_diagonal(x: Array) -> float:
    return float((((x * x).sum(1) / x.shape[1] + 1.0) ** 3).sum())


def _kth_radius(x: Array, k: int) -> Array:
    """Radius about every row that leaves its k-th nearest other row just outside."""
    from sklearn.neighbors import NearestNeighbors

    distance: Array = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()[0][:, -1]
    return distance * (1 - _TIE)


def _histogram(p: npt.ArrayLike) -> Array:
    weights = np.asarray(p, dtype=np.float64).ravel()
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise DataError("a histogram needs finite, non-negative counts that are not all zero")
    normalised: Array = weights / weights.sum()
    return normalised
