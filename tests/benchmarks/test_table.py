"""The short tables of the pages, from results whose figures are known."""

from __future__ import annotations

from typing import Any

from benchmarks import table


def row(name: str, frechet: float, n: int, floor: float, **more: Any) -> dict[str, Any]:
    scores = {"frechet": frechet, "floor/frechet": floor}
    about = {"name": name, "cell": "vae-image", "data": "mnist", "n": n}
    return {**about, "scores": scores, "training": {"seconds": 120.0}, **more}


def test_a_distance_stands_over_the_floor_of_most_samples_and_other_settings_apart() -> None:
    results = [
        row("vae-image", 40.0, 1000, 8.0),
        row("vae-image-slow", 20.0, 1000, 8.0),
        row("gan-image", 20.0, 10_000, 2.0, cell="gan-image"),
    ]
    lines = table.overview(results).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| gan", "10.0 x (2 min)"],
        ["| vae", "20.0 x (2 min, n 1,000)"],
    ]


def test_a_likelihood_says_what_it_is_and_what_it_took() -> None:
    of = {"data": "d/test", "likelihood": "lower bound", "n": 10, "seed": 1, "nats": -2.0, "error": 0.5}
    known = {**of, "cell": "autoregressive-image"}
    aside = {**of, "cell": "diffusion-graph-marginal", "training": {"seconds": 180.0}}
    first, second = table.likelihoods([known, aside]).splitlines()[-2:]
    assert first == "- `autoregressive-image` on d/test: -2.00 +- 0.50 nats (lower bound; n 10, seed 1)"
    assert second.endswith("(lower bound; n 10, seed 1, 3 min, not shipped)")


def test_the_summary_has_the_best_kind_of_each_family_and_the_best_family_in_bold() -> None:
    results = [
        row("flow-image", 20.0, 1000, 8.0, cell="flow-image"),
        row("flow-image-coupling", 30.0, 10_000, 2.0, cell="flow-image-coupling"),
        row("vae-image", 8.0, 10_000, 2.0),
    ]
    strings = {"name": "vae-smiles", "cell": "vae-smiles", "data": "qm9", "n": 10_000}
    results.append({**strings, "scores": {"valid_x_unique": 0.744}, "training": {"seconds": 1.0}})
    for modality in ("graph", "molecule", "protein"):
        cell = f"vae-{modality}"
        results.append({**strings, "name": cell, "cell": cell, "n": 200, "scores": {}})
    found = {line.split(" | ")[0]: line for line in table.summary({"scores": results}).splitlines()}
    assert "| 10.0† | - | - | - | - |" in found["| flow"], "the better kind, of fewer samples"
    assert "| **4.0** | **74.4** | - | - | - |" in found["| vae"]
    assert "| - | - | - | - | - |" in found["| gan"]
    assert "| 1.0 (= 2.00) | - | - | - | - |" in found["| floor"]
