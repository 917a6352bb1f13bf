"""Baselines are what they say: their marginals are the data's, copies are old, naive Bayes is Bayes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines import Bayes, Data, Marginals
from benchmarks.cells import Cell
from benchmarks.measure import Job, measure
from benchmarks.shorts import closings
from molgen.core.errors import UnsupportedError
from molgen.core.records import Records
from molgen.core.registry import get_modality
from molgen.core.rng import SampleRandom
from molgen.io.data import DataSource
from molgen.metrics.statistics import nearest_distances
from molgen.modalities.chemistry.metrics import evaluate
from molgen.modalities.image import ImageModality
from molgen.modalities.image.metrics import memorisation

EMBEDDED = {"image": "digits", "smiles": "gdb6", "graph": "gdb6", "molecule": "gdb6", "protein": "ideal"}


def some(name: str, count: int = 30) -> Records:
    loaded = get_modality(name).datasets[EMBEDDED[name]].load("train")
    picked: Records = loaded[:: max(1, len(loaded) // count)]
    return picked


@pytest.mark.parametrize("name", EMBEDDED)
def test_entries_of_samples_are_distributed_as_those_of_the_data(name: str) -> None:
    records = some(name)
    model = Marginals(get_modality(name)).learn(records)
    samples = model.sample(300, seed=0)
    assert len(samples) == 300
    data = model.modality.encode_all(records, model.view.name)
    own = model.parts[0]
    sizes = model.modality.draw_sizes(0, range(300))
    mask = model.modality.make_mask(sizes)
    for key, field in model.view.fields.items():
        drawn = own[key].draw(mask, SampleRandom(0, range(300)))
        assert torch.allclose(drawn.double(), field.project(drawn, mask).double(), atol=1e-5), (
            "obeys the field"
        )
        # The first entry of all: a draw of n has an error of sd / sqrt(n) about the data's mean.
        first = (slice(None), *(0 for _ in mask.shape[1:]), *((1,) if field.axes == 2 else ()))
        a, b = (
            drawn[first].double().reshape(300, -1),
            data.values[key][first].double().reshape(len(records), -1),
        )
        spread = b.std(0, correction=0)
        if name != "protein":  # angles have no mean
            assert ((a.mean(0) - b.mean(0)).abs() <= 4 * spread / math.sqrt(300) + 1e-6).all()
        gaps = (a[:, None] - b[None]).abs().amin(1)
        assert gaps.max() < 1e-5, "values of the data, and no others"


def test_marginals_of_pairs_are_counted_once() -> None:
    records = some("graph")
    model = Marginals(get_modality("graph")).learn(records)
    one = records[-1]
    batch = model.modality.encode_all([one], "graph")
    atoms, bonds = batch.values["atoms"][0], batch.values["bonds"][0]
    part, n = model.parts[0], int(batch.sizes[0])
    by_hand = sum(float(part["atoms"].log_p[i, 0, int(atoms[i])]) for i in range(n))
    support = part["bonds"].support
    assert support is not None
    for i, j in itertools.combinations(range(n), 2):
        code = int((support == bonds[i, j]).nonzero())
        by_hand += float(part["bonds"].log_p[i, j, 0, code])
    assert float(model.log_prob([one])) == pytest.approx(by_hand + model.modality.log_size(n))


def test_probabilities_of_all_strings_sum_to_one() -> None:
    model = Marginals(get_modality("smiles")).learn(Records(["CO", "NC", "CCC"]))
    every = [
        "".join(letters)
        for length in (2, 3)
        for letters in itertools.product(model.modality.vocabulary, repeat=length)  # type: ignore[attr-defined]
    ]
    total = model.log_prob(every).exp().sum()
    assert float(total) == pytest.approx(1.0)


def test_naive_bayes_is_bayes_by_hand() -> None:
    black, white = np.uint8(0), np.uint8(255)
    images = [np.array([[[a], [b]]], np.uint8) for a, b in ((0, 0), (0, 255), (255, 255), (255, 255), (0, 0))]
    records = Records(images, {"digit": np.array([0, 0, 1, 1, 1])})
    model = Bayes(ImageModality((1, 2, 1), labels={"digit": 2}), "digit").learn(records)
    # p(white | y) for each pixel, with half a count more for each of both levels.
    p = {0: (0.5 / 3, 1.5 / 3), 1: (2.5 / 4, 2.5 / 4)}
    prior = {0: 2 / 5, 1: 3 / 5}
    for left, right in itertools.product((black, white), repeat=2):
        joint = [
            prior[y] * math.prod(q if level else 1 - q for q, level in zip(p[y], (left, right), strict=True))
            for y in (0, 1)
        ]
        image = np.array([[[left], [right]]], np.uint8)
        found = np.exp(model.predict([image]))[0]
        assert found == pytest.approx([x / sum(joint) for x in joint])
        assert float(model.log_prob([image]).exp()) == pytest.approx(sum(joint))


def test_only_models_of_labels_are_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marginals of a row know no digit, naive Bayes does: its figures have an accuracy."""
    level = np.repeat(np.uint8([0, 255]), 8)
    data = Records([np.full((1, 1, 1), v, np.uint8) for v in level], {"digit": (level > 0).astype(int)})
    modality = ImageModality((1, 1, 1), labels={"digit": 2})
    monkeypatch.setattr("benchmarks.measure.score", lambda model, cell, samples: {})
    monkeypatch.setattr(
        ImageModality, "datasets", {"toy": DataSource("toy", lambda split: data, 16, "here", "-")}
    )
    for family, model in (("marginals", Marginals(modality)), ("bayes", Bayes(modality, "digit"))):
        monkeypatch.setattr("benchmarks.baselines.learned", lambda cell, m=model: m.learn(data))
        found: dict[str, Any] = {}
        measure(Job(Cell(family, "image", "toy"), 1, 16, None), lambda phase, f=found, **more: f.update(more))
        assert found["scores"].get("accuracy") == (1.0 if family == "bayes" else None)
        assert np.exp(found["likelihood"]["nats"]) == pytest.approx(0.5)  # two levels, as many of each


def test_a_level_that_no_image_has_is_impossible() -> None:
    images = [np.full((1, 1, 1), level, np.uint8) for level in (0, 100)]
    model = Marginals(ImageModality((1, 1, 1))).learn(Records(images))
    assert float(model.log_prob([np.full((1, 1, 1), 7, np.uint8)])) == -math.inf


def test_marginals_of_reals_have_no_likelihood() -> None:
    model = Marginals(get_modality("protein")).learn(some("protein", 5))
    assert model.likelihood == "none"
    with pytest.raises(UnsupportedError, match="protein"):
        model.log_prob(some("protein", 2))


def test_copies_are_old_and_held_out_molecules_are_new() -> None:
    source = get_modality("smiles").datasets["gdb6"]
    train, valid = source.load("train"), source.load("valid")
    modality = get_modality("smiles")
    copies = Data(modality, train, again=True).sample(200, seed=0)
    held = Data(modality, valid, again=False).sample(200, seed=0)
    assert evaluate(copies, train, distances=False)["novelty"] == 0.0
    assert evaluate(held, train, distances=False)["novelty"] == 1.0
    assert len(set(held)) == 200 and len(set(copies)) < 200


def test_the_check_of_nearest_neighbours_finds_copies() -> None:
    source = get_modality("image").datasets["digits"]
    train, test, valid = (np.stack(list(source.load(split))) for split in ("train", "test", "valid"))

    def flat(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1).astype(np.float32) / np.float32(255)

    nearest = np.sort(nearest_distances(flat(test), flat(train)))

    def scores(source: Any, again: bool) -> dict[str, float]:
        drawn = Data(get_modality("image"), list(source), again).sample(100, seed=0)
        return memorisation(np.stack(drawn), train, nearest)

    assert scores(train, True) == {"nearer_to_train": 1.0, "copies": 1.0}
    assert 0.4 < scores(valid, False)["nearer_to_train"] < 0.6


def test_closings_by_distance() -> None:
    near, *far = closings(["C(C)C", "C1CCCCCCC1", "C(C", "[NH3+]", "C)"])
    assert (near["closed"], near["open"]) == (2, 1), "a bracket, a charge; the one left open"
    assert (far[0]["closed"], far[0]["open"]) == (1, 0), "the ring of eight characters"
