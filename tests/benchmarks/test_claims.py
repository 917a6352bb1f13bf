"""Verdicts follow from figures by the rule that each claim names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import claims
from benchmarks.cells import CELLS

Row = dict[str, Any]


def row(family: str, modality: str = "graph", n: int = 1000, speed: float = 1.0, **scores: float) -> Row:
    return {
        "cell": f"{family}-{modality}",
        "family": family.split("-")[0],
        "modality": modality,
        "weights": "shipped",
        "seed": 1,
        "n": n,
        "samples_per_second": speed,
        "scores": {"valid": 1.0, **scores},
    }


def groups(*rows: Row) -> dict[str, Any]:
    return {m: claims.grouped(rows, m) for m in claims.FIDELITY}


def test_autoregression_is_slow_where_every_single_pass_is_faster() -> None:
    fast, slow = row("gan", speed=9.0), row("autoregressive", speed=5.0)
    assert claims.slow_autoregression(groups(fast, slow), {})[0] == {"graph": True}
    assert claims.slow_autoregression(groups(fast, slow, row("vae", speed=4.0)), {})[0] == {"graph": False}
    assert claims.slow_autoregression(groups(slow), {})[0] == {}, "nothing to compare with"


def test_distances_are_compared_less_their_floors() -> None:
    ours = row("diffusion", fcd=1.0, **{"floor/fcd": 0.1})
    theirs = row("vae", n=300, fcd=1.5, **{"floor/fcd": 0.9})
    assert claims.good_diffusion(groups(ours, theirs), {})[0] == {"graph": False}
    few = {**theirs, "scores": {**theirs["scores"], "valid": 0.1}}
    assert claims.good_diffusion(groups(ours, few), {})[0] == {}, "an FCD of 30 valid samples says little"


def test_steps_are_compared_by_what_is_lacking() -> None:
    def runs(*scores: float | None) -> dict[str, Any]:
        told = [{"steps": 5, "score": s, "floor": None, "samples_per_second": 1.0} for s in scores]
        return {"runs": told, "n": 300}

    for few, holds in ((0.3, True), (0.89, False), (None, True)):
        known = {"steps diffusion-graph": runs(few, 0.9, 0.94)}
        assert claims.many_steps({}, known)[0] == {"graph": holds}


def test_diversity_is_compared_at_equal_numbers() -> None:
    gan, small, equal = row("gan", unique=0.9), row("vae", n=100, unique=0.8), row("flow", unique=0.95)
    assert claims.collapse(groups(gan, small, equal), {})[0] == {"graph": True}


def test_reach_is_judged_on_the_autoregressive_model() -> None:
    def bins(*closed: int) -> dict[str, Any]:
        return {"bins": [{"to": "5", "closed": c, "open": 100 - c} for c in closed]}

    known = {"reach autoregressive-smiles": bins(99, 90), "reach diffusion-smiles": bins(99, 99)}
    assert claims.short_reach({}, known)[0] == {"smiles": True}
    assert claims.short_reach({}, {"reach autoregressive-smiles": bins(99, 97)})[0] == {"smiles": False}


def test_seeds_that_fail_are_unstable() -> None:
    def trained(family: str, seed: int, fcd: float | None) -> Row:
        made = row(family, **({} if fcd is None else {"fcd": fcd}))
        return {**made, "weights": "trained", "seed": seed, "error": None if fcd else "died"}

    steady = [trained("vae", 1, 2.0), trained("vae", 2, 2.2)]
    assert claims.unstable(groups(*steady, trained("gan", 1, 5.0), trained("gan", 2, None)), {})[0] == {
        "graph": True
    }
    assert claims.unstable(groups(*steady, trained("gan", 1, 5.0), trained("gan", 2, 5.1)), {})[0] == {
        "graph": False
    }


def test_short_trainings_over_seeds_tell_of_nothing_but_stability() -> None:
    """Where shipped weights were scored, these stand; where they failed or are none, what was trained."""
    facts = {"date": "d", "machine": "m", "versions": {"molgen": "1"}}
    sharp = {**row("gan", "image", sharpness=1.0), **facts}
    shipped = {**row("vae", "image", sharpness=0.8), **facts}
    short = {**row("gan", "image", sharpness=0.3), **facts, "weights": "trained"}
    title = "Variational autoencoders blur"
    assert f"**{title}: holds on image.**" in claims.page([sharp, shipped, short], [])
    assert f"**{title}: does not hold on image.**" in claims.page([shipped, short], [])
    failed = {**sharp, "error": "died", "scores": {}}
    assert f"**{title}: does not hold on image.**" in claims.page([failed, shipped, short], [])
    steady = [{**short, "seed": seed, "scores": {"frechet": 9.0 + seed}} for seed in (1, 2)]
    others = [{**r, "cell": "vae-image", "family": "vae"} for r in steady]
    assert "least stable in training: holds on image.**" in claims.page([sharp, *steady, *others], [])


@pytest.mark.parametrize("title", claims.CLAIMS)
def test_without_figures_there_is_no_verdict(title: str) -> None:
    holds, figures = claims.CLAIMS[title](groups(), {})
    assert holds == {} and figures == "" and claims.verdict(holds) == "not measured"


def test_the_page_has_a_line_for_each_claim_and_a_table_for_each_kind_of_data() -> None:
    row_ = {**row("gan", fcd=3.0, unique=0.9), "date": "d", "machine": "m", "versions": {"molgen": "1"}}
    text = claims.page([row_], [])
    assert all(f"**{title}: " in text for title in claims.CLAIMS)
    assert "## graph" in text and "## image" not in text and "`gan-graph`" in text


def test_other_weights_are_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shipped model answered belongs to its file; what none was asked does not change with any."""
    works = claims.measurements(300, "5m")
    before = {name: claims.requested(*work) for name, work in works.items()}
    monkeypatch.setattr(claims, "digest", lambda path: "another")
    changed = {name for name, work in works.items() if claims.requested(*work) != before[name]}
    assert changed == {name for name in works if name.split()[0] in ("steps", "reach")} - {"reach data"}
    assert changed


def test_another_network_is_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student has its teacher's network, so that its step is timed anew with the teacher's."""
    works = claims.measurements(300, "5m")
    before = {name: claims.requested(*work) for name, work in works.items()}
    teacher = CELLS["diffusion-image"]
    monkeypatch.setitem(CELLS, teacher.name, replace(teacher, model={"trunk_options": {"width": 8}}))
    changed = {name for name, work in works.items() if claims.requested(*work) != before[name]}
    assert changed == {"cost diffusion-image", "cost consistency-image"}
