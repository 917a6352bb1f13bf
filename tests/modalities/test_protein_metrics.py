"""Scores of backbones: known answers on known folds, and what noise and mirrors do to them."""

from __future__ import annotations

import numpy as np
import pytest

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.modalities.protein import ProteinModality
from molgen.modalities.protein.backbone import Backbone, trace
from molgen.modalities.protein.descriptors import WIDTH, count_clashes, folds
from molgen.modalities.protein.ideal import helix, meander, relaxed
from molgen.modalities.protein.metrics import build_reference, evaluate, reference_for, valid
from molgen.modalities.protein.rebuild import rebuild
from molgen.modalities.protein.similarity import diversity, nearest, tm_score


def of(traces: list[np.ndarray]) -> list[Backbone]:
    return [Backbone(str(i), x.astype(np.float32)) for i, (x, _) in enumerate(rebuild(traces))]


@pytest.fixture(scope="module")
def ideal() -> dict[str, Records]:
    source = ProteinModality().datasets["ideal"]
    return {split: source.load(split) for split in source.splits}


@pytest.fixture(scope="module")
def stats(ideal: dict[str, Records]) -> dict[str, np.ndarray]:
    return build_reference(ideal["train"][:60], ideal["test"][:12], None, 2)


def test_descriptors_of_a_helix() -> None:
    found = folds([helix(50)])
    vector = found["vector"][0]
    assert vector.shape == (WIDTH,)
    theta, tau, contacts, far = vector[:9], vector[9:27], vector[27:33], vector[33:45]
    assert theta[1] == 1 and tau[11] == 1  # 92 deg in 85-95, 50 deg in 40-60
    # Within 8 A lie the neighbours i+3 (5.0 A) and i+4 (6.2 A) of a helix, not i+5 (8.6 A).
    assert contacts.tolist() == [(47 + 46) / 50, 0, 0, 0, 0, 0]
    assert far.sum() == pytest.approx(1) or far.sum() < 1
    radius = np.sqrt(((helix(50) - helix(50).mean(0)) ** 2).sum(1).mean())
    assert found["rg_ratio"][0] == pytest.approx(radius / (2.2 * 50**0.38))
    assert found["contact_order"][0] == pytest.approx((47 * 3 + 46 * 4) / 93 / 50)
    assert found["helix"][0] > 0.9 and found["hbonds"][0] > 80


def test_local_checks_count_what_they_say() -> None:
    x = rebuild([helix(40)])[0][0]
    scores = evaluate([Backbone("a", x)], diversity=0)
    assert scores["ca_ca"] == 1 and scores["clashes"] == 0 and scores["cis"] == 0
    assert scores["tau_right"] == 1 and scores["tau_left"] == 0
    assert scores["n_ca"] == pytest.approx(1.459, abs=1e-3) and scores["omega"] < 0.01
    mirrored = evaluate([Backbone("a", x * [1, 1, -1])], diversity=0)
    assert mirrored["tau_right"] == 0 and mirrored["tau_left"] == 1
    assert count_clashes(np.zeros((5, 3))) == 3  # (0,3), (0,4), (1,4)


def test_validity() -> None:
    x = rebuild([helix(40)])[0][0]
    assert valid(x)
    assert not valid(x * 1.05)
    torn = x + 9.0 * (np.arange(40) > 20)[:, None, None]
    clash = x.copy()
    clash[30] += x[10, 1] - x[30, 1]
    assert not valid(torn) and not valid(clash) and not valid(np.full((9, 4, 3), np.nan))


def test_tm_scores() -> None:
    rod, sheet = helix(50), relaxed([meander(5, 8)])[0]
    turned = rod @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + 3.0
    assert tm_score(rod, turned) == pytest.approx(1, abs=1e-4)
    assert tm_score(rod, sheet) < 0.5
    told: list[int] = []
    found = diversity([rod, turned, sheet], told.append)
    assert found["clusters"] == pytest.approx(2 / 3) and sum(told) == 3
    vectors = np.array([[0.0], [5.0]])
    best = nearest([turned], np.array([[0.1]]), [rod, sheet], vectors, tries=1)
    assert best[0] == pytest.approx(1, abs=1e-4)


def test_noise_and_mirrors_are_farther_than_the_floor(
    ideal: dict[str, Records], stats: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molgen.modalities.protein.metrics.reference_for", lambda *_: stats)
    draw = np.random.default_rng(0)
    clean = [trace(r).astype(float) for r in ideal["valid"]]
    noisy = of([x + 0.3 * draw.normal(size=x.shape) for x in clean])
    flipped = of([x * [1, 1, -1] for x in clean])
    scores = [evaluate(r, "ideal", diversity=0, novelty=0) for r in (ideal["valid"], noisy, flipped)]
    ratios = [s["ratio/frechet"] for s in scores]
    assert ratios[0] < 3 and ratios[1] > 4 * ratios[0] and ratios[2] > 4 * ratios[0]
    for s in scores:
        assert s["ratio/frechet"] == pytest.approx(s["frechet"] / s["floor/frechet"])
        assert s["n"] == s["n_frechet"] == 24 and "data/helix" in s
    assert scores == [evaluate(r, "ideal", diversity=0, novelty=0) for r in (ideal["valid"], noisy, flipped)]


def test_training_folds_are_not_new(
    ideal: dict[str, Records], stats: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molgen.modalities.protein.metrics.reference_for", lambda *_: stats)
    seen = evaluate(ideal["train"][:60], "ideal", diversity=3, novelty=3, tries=2)
    assert seen["nearest_tm"] > 0.99 and seen["n_novelty"] == seen["n_diversity"] == 3


def test_the_shipped_reference_needs_no_data(ideal: dict[str, Records]) -> None:
    stats = reference_for("pdb_chains")
    assert stats["lengths"].tolist() == [64, 128] and int(stats["n"]) == 114
    assert len(stats["train_vectors"]) == 2345 and stats["mean"].shape == (WIDTH,)
    value = dict(zip(stats["names"].tolist(), stats["values"].tolist(), strict=True))
    assert value["tau_right"] == pytest.approx(0.43, abs=0.02) and value["ca_ca"] > 0.98
    scores = evaluate(ideal["valid"], "pdb_chains", diversity=0, novelty=1, tries=2)
    assert scores["ratio/frechet"] > 2 and 0 < scores["nearest_tm"] <= 1


def test_records_as_reference(ideal: dict[str, Records]) -> None:
    scores = evaluate(ideal["valid"], ideal["train"][:40], diversity=0, novelty=0)
    assert scores["ratio/frechet"] < 3
    with pytest.raises(DataError, match="at least 4"):
        evaluate(ideal["valid"], ideal["train"][:4], diversity=0, novelty=0)


def test_refusals(ideal: dict[str, Records]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'pdb_chains'"):
        evaluate(ideal["valid"], "pdb_chain")
    with pytest.raises(DataError, match="finite coordinates"):
        evaluate([Backbone("x", np.full((9, 4, 3), np.nan))])
    scores = evaluate([ideal["valid"][0], Backbone("x", np.full((9, 4, 3), np.nan))])
    assert scores["finite"] == 0.5 and scores["valid"] == 0.5 and scores["n"] == 2
