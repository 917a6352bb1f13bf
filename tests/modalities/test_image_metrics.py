"""Image metrics: the classifier, rankings of distributions, floors, memorisation."""

import json
from importlib import resources

import numpy as np
import pytest

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.modalities.image import ImageModality
from molgen.modalities.image import metrics as scores_of
from molgen.modalities.image.classifier import Classifier, classify, embed, pretrained
from molgen.modalities.image.metrics import build_reference, evaluate, memorisation, sharpness

needs_mnist = pytest.mark.usefixtures("mnist")


@pytest.fixture(autouse=True)
def without_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of memorisation would read whatever data folder this machine has."""
    monkeypatch.setattr(scores_of, "_present", lambda name: None)


def digits(split: str) -> Records:
    return ImageModality().datasets["digits"].load(split)


def blobs(n: int, seed: int, size: int = 28) -> np.ndarray:
    """Round spots at random places: images that need no file."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre, width = rng.uniform(size / 3, 2 * size / 3, (n, 2, 1, 1)), rng.uniform(2, 4, (n, 1, 1))
    spots = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / width**2)
    return np.rint(255 * spots).astype(np.uint8)[..., None]


def test_the_shipped_classifier_states_its_accuracy() -> None:
    data = resources.files("molgen.modalities.image").joinpath("assets/classifier.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert float(header["test_accuracy"]) >= 0.99
    assert sum(p.numel() for p in pretrained().parameters()) == 237_514


@needs_mnist
def test_the_shipped_classifier_has_that_accuracy() -> None:
    test = ImageModality().datasets["mnist"].load("test")
    assert (classify(test) == test.labels["digit"]).mean() >= 0.99


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first, second, third = Classifier(3), Classifier(3), Classifier(4)
    assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not (first.dense.weight == third.dense.weight).all()


def test_features_do_not_depend_on_the_batch() -> None:
    x = blobs(7, 0)
    whole, parts = embed(x), embed(x, batch_size=3)
    assert np.allclose(whole[1], parts[1], atol=1e-4) and np.allclose(whole[0].sum(1), 1)
    with pytest.raises(DataError, match="28 x 28 x 1"):
        embed(digits("test"))


def test_mnist_reference_ships_and_ranks_distributions() -> None:
    scores = evaluate(blobs(300, 0), "mnist")
    assert scores["n"] == 300 and scores["ratio/frechet"] > 3
    assert scores["frechet"] / scores["floor/frechet"] == pytest.approx(scores["ratio/frechet"])
    assert (
        scores["coverage"] < 0.5 * scores["floor/coverage"] and scores["kernel"] > 10 * scores["floor/kernel"]
    )
    assert 0 <= scores["class_min_share"] < 1 and 0 < scores["class_divergence"] < np.log(2)
    assert all(np.isfinite(v) for v in scores.values())


def test_floor_falls_with_n() -> None:
    floors = [evaluate(blobs(n, 0), "mnist")["floor/frechet"] for n in (60, 200, 1500)]
    assert floors[0] > floors[1] > floors[2] > 0


@needs_mnist
def test_training_images_lie_at_the_floor() -> None:
    train = ImageModality().datasets["mnist"].load("train")[20_000:22_000]
    scores = evaluate(train, "mnist")
    assert 0.6 < scores["ratio/frechet"] < 1.6 and scores["digit_accuracy"] > 0.99
    assert scores["density"] == pytest.approx(1, abs=0.15) and scores["sharpness"] == pytest.approx(
        1, abs=0.05
    )


def test_digits_fall_back_to_components_under_their_own_names() -> None:
    real = evaluate(digits("valid"), "digits")
    noise = evaluate(np.random.default_rng(0).integers(0, 256, (179, 8, 8, 1), dtype=np.uint8), "digits")
    assert "frechet_pca" in real and "frechet" not in real and "class_entropy" not in real
    assert real["ratio/frechet_pca"] < 2 < 8 < noise["ratio/frechet_pca"]
    assert real["coverage_pca"] > 0.9 > 0.1 > noise["coverage_pca"]


def test_records_serve_as_a_reference() -> None:
    scores = evaluate(blobs(60, 0, 12), Records(list(blobs(80, 1, 12)), {}, "mine"))
    far = evaluate(255 - blobs(60, 0, 12), Records(list(blobs(80, 1, 12)), {}, "mine"))
    assert 0 < scores["frechet_pca"] < 0.2 * far["frechet_pca"]
    again = evaluate(blobs(60, 0, 12), Records(list(blobs(80, 1, 12)), {}, "mine"))
    assert again == scores
    named = evaluate(blobs(60, 0), Records(list(blobs(80, 1)), {}, "mine"), features="classifier")
    assert "frechet" in named and "class_entropy" in named


def test_large_colour_images_have_components_too() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 40, 40, 3), dtype=np.uint8)
    stats = build_reference(Records(list(pixels[:30])), Records(list(pixels[30:])))
    assert stats["basis"].shape == (4800, 7)
    assert np.allclose(stats["basis"].T @ stats["basis"], np.eye(7), atol=1e-5)


def test_conditional_accuracy_counts_given_labels_only() -> None:
    pixels = blobs(20, 0)
    seen = classify(pixels)
    asked = seen.copy()
    asked[:5] = (asked[:5] + 1) % 10
    asked[5:10] = -1
    assert evaluate(pixels, labels=asked.tolist())["digit_accuracy"] == pytest.approx(10 / 15)
    assert evaluate(Records(list(pixels), {"digit": seen}))["digit_accuracy"] == 1.0
    with pytest.raises(DataError, match="3 labels for 20"):
        evaluate(pixels, labels=[1, 2, 3])


def test_memorisation_tells_copies_from_new_images() -> None:
    train, test, fresh = blobs(400, 0), blobs(300, 1), blobs(300, 2)
    stats = build_reference(Records(list(train)), Records(list(test)), "classifier")
    new = memorisation(fresh, train, stats["nearest"])
    copied = memorisation(train[:300], train, stats["nearest"])
    assert new["nearer_to_train"] == pytest.approx(0.5, abs=0.06) and new["copies"] < 0.05
    assert copied == {"nearer_to_train": 1.0, "copies": 1.0}
    assert evaluate(train[:50], Records(list(test)), train=Records(list(train)))["copies"] == 1.0


def test_sharpness_orders_blurred_and_noisy_images() -> None:
    x = blobs(10, 0).astype(float)
    soft = (x + np.roll(x, 1, 1) + np.roll(x, 1, 2) + np.roll(x, (1, 1), (1, 2))) / 4
    noisy = (x + np.random.default_rng(0).normal(0, 20, x.shape)).clip(0, 255)
    values = [sharpness(np.rint(v).astype(np.uint8)) for v in (soft, x, noisy)]
    assert values[0] < values[1] < values[2]


def test_bad_requests_are_named() -> None:
    x = blobs(20, 0)
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        evaluate(x, "mnits")
    with pytest.raises(ConfigError, match="pca"):
        evaluate(x, "mnist", features="inception")
    with pytest.raises(DataError, match="12 x 12 x 1"):
        evaluate(blobs(20, 0, 12), "mnist")
    with pytest.raises(DataError, match="expected 8 x 8 x 1"):
        evaluate(x, "digits")
    with pytest.raises(DataError, match="at least 10"):
        evaluate(x[:3])
    with pytest.raises(DataError, match="at least 20"):
        evaluate(x, Records(list(x[:7])))
