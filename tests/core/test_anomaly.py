"""Scores of anomalies against a reference and against what is known by hand."""

import math

import numpy as np
import pytest

from molgen.core.errors import DataError
from molgen.metrics.anomaly import Background, auroc, complexity, typicality
from molgen.modalities.image.anomalies import disturbed


@pytest.mark.parametrize("decimals", [1, 6])  # one has many ties
def test_auroc_is_the_share_of_pairs_in_order(decimals: int) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0, 1, 83).round(decimals), rng.normal(0.7, 2, 57).round(decimals)
    gap = theirs[:, None] - ours[None]
    assert auroc(ours, theirs) == pytest.approx((gap > 0).mean() + (gap == 0).mean() / 2)


def test_auroc_takes_the_infinite_and_refuses_what_is_no_number() -> None:
    assert auroc([1.0, 2.0], [math.inf, math.inf]) == 1.0
    assert auroc([math.inf], [math.inf]) == 0.5
    with pytest.raises(DataError, match="NaN"):
        auroc([1.0], [math.nan])
    with pytest.raises(DataError, match="0 normal scores"):
        auroc([], [1.0])


def test_typicality_of_a_gaussian_finds_its_mode() -> None:
    # log N(x; 0, I) in d dimensions has the mean -d/2 (1 + log 2 pi); at the mode it is d/2 more.
    d, rng = 400, np.random.default_rng(0)

    def log_p(x: np.ndarray) -> np.ndarray:
        return -0.5 * (x**2).sum(1) - d / 2 * math.log(2 * math.pi)

    train, test = rng.normal(size=(4000, d)), rng.normal(size=(500, d))
    usual = log_p(train)
    assert usual.mean() == pytest.approx(-d / 2 * (1 + math.log(2 * math.pi)), rel=2e-3)
    mode = np.zeros((1, d))
    assert typicality(log_p(mode), usual)[0] == pytest.approx(d / 2, rel=0.01)
    shell = np.sqrt(d) * np.eye(1, d)
    assert typicality(log_p(shell), usual)[0] < 1.0
    # The trap: by likelihood alone the mode is the least anomalous of all, by typicality the most.
    assert auroc(-log_p(test), -log_p(mode)) == 0.0
    assert auroc(typicality(log_p(test), usual), typicality(log_p(mode), usual)) == 1.0


def test_typicality_leaves_out_what_is_impossible() -> None:
    assert typicality([-1.0, -math.inf], [-1.0, -math.inf, -3.0]).tolist() == [1.0, math.inf]
    with pytest.raises(DataError, match="finite"):
        typicality([0.0], [-math.inf])


def test_background_is_the_frequency_of_symbols() -> None:
    background = Background([np.array([7, 7, 7, 9], np.uint8)] * 1000)
    assert background.log_prob(np.array([7, 9], np.uint8)) == pytest.approx(math.log(0.75 * 0.25), rel=1e-2)
    assert math.isfinite(background.log_prob(np.array([1], np.uint8)))


def test_what_is_simple_is_short() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, 784, np.uint8).tobytes()
    assert complexity(bytes(784)) < complexity(b"\0\1" * 392 + b"\2\3") < complexity(noise)
    assert complexity(noise) == pytest.approx(784 * math.log(256), rel=0.05)


def test_disturbed_images_have_only_the_levels_of_images() -> None:
    images = np.random.default_rng(0).choice([0, 100, 250], (3, 4, 4, 1)).astype(np.uint8)
    for name, made in disturbed(images, seed=1).items():
        assert made.shape == images.shape and made.dtype == np.uint8, name
        assert set(np.unique(made)) <= {0, 100, 250}, name
    assert all((disturbed(images, 1)[k] == v).all() for k, v in disturbed(images, 1).items())
