"""Closed forms and brute force for the distances between samples."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from molgen.core.errors import DataError
from molgen.metrics.statistics import (
    Moments,
    entropy,
    frechet_distance,
    js_divergence,
    kernel_distance,
    nearest_distances,
    prdc,
    wasserstein_1d,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spd(d: int, seed: int) -> np.ndarray:
    a = rng(seed).normal(size=(d, d))
    return a @ a.T + 0.1 * np.eye(d)


def test_moments_are_numpys() -> None:
    x = rng().normal(size=(50, 3))
    m = Moments.of(x)
    assert np.allclose(m.mean, x.mean(0)) and np.allclose(m.cov, np.cov(x.T)) and m.n == 50


def test_frechet_of_commuting_gaussians_has_its_closed_form() -> None:
    q = np.linalg.qr(rng().normal(size=(5, 5)))[0]
    a, b = rng(1).uniform(0.1, 3, 5), rng(2).uniform(0.1, 3, 5)
    mean = rng(3).normal(size=5)
    got = frechet_distance(
        Moments(np.zeros(5), q @ np.diag(a) @ q.T, 9), Moments(mean, q @ np.diag(b) @ q.T, 9)
    )
    assert got == pytest.approx(mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-10)


def test_frechet_agrees_with_the_matrix_square_root() -> None:
    from scipy.linalg import sqrtm

    a, b = spd(6, 0), spd(6, 1)
    wanted = np.trace(a) + np.trace(b) - 2 * np.trace(sqrtm(a @ b)).real
    got = frechet_distance(Moments(np.zeros(6), a, 9), Moments(np.zeros(6), b, 9))
    assert got == pytest.approx(wanted, rel=1e-8)


def test_frechet_is_zero_symmetric_and_stands_singular_covariances() -> None:
    x = rng().normal(size=(10, 30))  # rank 9 in 30 dimensions
    y = rng(1).normal(size=(10, 30))
    a, b = Moments.of(x), Moments.of(y)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_frechet_of_samples_approaches_that_of_their_distributions() -> None:
    a, b = spd(3, 0), spd(3, 1)
    exact = frechet_distance(Moments(np.zeros(3), a, 9), Moments(np.ones(3), b, 9))
    x = rng(2).multivariate_normal(np.zeros(3), a, 40_000)
    y = rng(3).multivariate_normal(np.ones(3), b, 40_000)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(exact, rel=0.02)


def test_kernel_distance_is_the_double_loop() -> None:
    x, y = rng().normal(size=(7, 4)), rng(1).normal(size=(5, 4))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 4 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


def test_kernel_distance_is_unbiased() -> None:
    values = [
        kernel_distance(rng(i).normal(size=(20, 2)), rng(1000 + i).normal(size=(30, 2))) for i in range(400)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))


def test_prdc_of_one_distribution() -> None:
    scores = prdc(rng().normal(size=(3000, 2)), rng(1).normal(size=(3000, 2)), k=5)
    assert scores["precision"] > 0.97 and scores["recall"] > 0.97
    assert scores["density"] == pytest.approx(1, abs=0.05)
    assert scores["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)


def test_prdc_tells_a_lost_mode_from_bad_samples() -> None:
    modes = np.concatenate([rng().normal(size=(500, 2)), rng(1).normal(size=(500, 2)) + 50])
    collapsed = rng(2).normal(size=(1000, 2))
    lost = prdc(modes, collapsed)
    assert lost["precision"] > 0.95 and lost["recall"] < 0.55 and lost["coverage"] < 0.55
    spread = np.concatenate([modes, rng(3).normal(size=(1000, 2)) - 80])[rng(4).permutation(2000)[:1000]]
    bad = prdc(modes, spread)
    assert bad["precision"] < 0.6 and bad["recall"] > 0.9


def test_prdc_matches_brute_force_whatever_the_block() -> None:
    real, fake, k = rng().normal(size=(1100, 3)), rng(1).normal(size=(40, 3)) * 2, 3

    def radius(x: np.ndarray) -> np.ndarray:
        return np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), 1)[:, k]

    d = np.linalg.norm(real[:, None] - fake[None], axis=2)
    inside = d < radius(real)[:, None]
    scores = prdc(real, fake, k)
    assert scores["precision"] == pytest.approx(inside.any(0).mean())
    assert scores["density"] == pytest.approx(inside.sum(0).mean() / k)
    assert scores["coverage"] == pytest.approx(inside.any(1).mean())
    assert scores["recall"] == pytest.approx((d < radius(fake)[None]).any(1).mean())


def test_prdc_puts_ties_outside_whatever_the_unit() -> None:
    x, y = rng().integers(0, 3, (300, 5)).astype(float), rng(1).integers(0, 3, (300, 5)).astype(float)
    assert prdc(x, y) == prdc(0.1 * x, 0.1 * y)
    z = rng(3).normal(size=(400, 30))
    assert prdc(z, z) == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}


def test_nearest_distances_over_blocks() -> None:
    queries, points = rng().normal(size=(5, 3)), rng(1).normal(size=(2500, 3))
    wanted = (np.linalg.norm(queries[:, None] - points[None], axis=2) ** 2).min(1)
    assert np.allclose(nearest_distances(queries, points), wanted)


def test_histogram_distances() -> None:
    from scipy.spatial.distance import jensenshannon

    assert js_divergence([1, 0], [0, 1]) == pytest.approx(math.log(2))
    assert js_divergence([1, 2, 3], [3, 2, 1]) == pytest.approx(js_divergence([3, 2, 1], [1, 2, 3]))
    assert js_divergence([1, 2, 3], [3, 2, 1]) == pytest.approx(jensenshannon([1, 2, 3], [3, 2, 1]) ** 2)
    weights = rng().random((200, 40))
    same = [js_divergence(p, p * (1 + 1e-16 * k)) for k, p in enumerate(weights)]  # jensenshannon gives NaN
    assert min(same) >= 0 and max(same) < 1e-15
    assert entropy(np.ones(10)) == pytest.approx(math.log(10))


def test_wasserstein_is_the_mean_gap_of_sorted_samples() -> None:
    x, y = rng().normal(size=70), rng(1).normal(size=35) * 2 + 1
    assert wasserstein_1d(x, y) == pytest.approx(np.abs(np.sort(x) - np.sort(np.repeat(y, 2))).mean())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Moments.of(np.zeros((1, 2))), "at least 2"),
        (lambda: Moments.of(np.array([[0.0], [np.nan], [1.0]])), "record 2"),
        (lambda: kernel_distance(np.zeros((3, 2)), np.zeros((3, 4))), "width 2"),
        (lambda: frechet_distance(Moments.of(np.eye(2)), Moments.of(np.eye(3))), "cannot be compared"),
        (lambda: prdc(np.zeros((5, 2)), np.zeros((9, 2)), k=5), "at least 6"),
        (lambda: js_divergence([0, 0], [1, 1]), "not all zero"),
        (lambda: js_divergence([1, 2], [1, 2, 3]), "3 bins"),
        (lambda: wasserstein_1d([], [1.0]), "at least 1"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(DataError, match=text):
        call()
