"""Figures are the same each time, and what has no weights is skipped by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import figures
from benchmarks.drawing import grid, speed
from benchmarks.drawing.flow import couplings, depth, inverse
from benchmarks.drawing.shelf import MissingWeights, Shelf
from benchmarks.drawing.style import styled
from benchmarks.drawing.vae import Plane
from molgen import FlowModel, VAEModel
from molgen.core.errors import ConfigError, DataError

TINY = {"width": 16, "multipliers": [1], "attention": [False]}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A folder with a tiny model of images of 8 x 8 pixels."""
    folder = tmp_path_factory.mktemp("weights")
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8)
    model = VAEModel("image", latent=2, trunk_options=TINY)
    model.fit(list(images), max_steps=1, batch_size=4, progress=False).save(folder / "vae-image.safetensors")
    return Shelf(folder)


def test_a_figure_is_the_same_each_time(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "MODALITIES", {"image": "images"})
    monkeypatch.setattr(grid, "FAMILIES", {"vae": ("VAE", "#b7791f"), "none": ("Nobody", "#000000")})
    first = figures.draw("grid", shelf, 0, tmp_path).read_bytes()
    assert figures.draw("grid", Shelf(shelf.folder), 0, tmp_path).read_bytes() == first
    assert figures.draw("grid", shelf, 1, tmp_path).read_bytes() != first


def test_a_figure_without_weights_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Shelf, "has", lambda self, name: False)
    monkeypatch.setattr(Shelf, "path", lambda self, name: (_ for _ in ()).throw(MissingWeights(name)))
    assert figures.main(["vae", "speed", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "vae: skipped" in said and "benchmarks train vae-image" in said
    assert (tmp_path / "speed.png").is_file() and not (tmp_path / "vae.png").exists()


def test_unknown_figures_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="figure"):
        figures.main(["gna", "--out", str(tmp_path)])
    with pytest.raises(DataError, match="no such folder"):
        figures.main(["gan", "--weights", str(tmp_path / "none")])


def test_shelf_takes_the_folder_first(shelf: Shelf) -> None:
    assert shelf.path("vae-image").parent == shelf.folder
    with pytest.raises(MissingWeights, match="nobody"):
        shelf.path("nobody")


def test_speed_reads_scores_alone(tmp_path: Path) -> None:
    scores = {"frechet": 4.0, "floor/frechet": 2.0}
    good = {"cell": "vae-image", "scores": scores, "samples_per_second": 10.0}
    aside = good | {"samples_per_second": 1.0}  # the same cell with other settings, under a name of its own
    others = {"anomaly": {"kind": "anomaly", "cells": {}}, "list": [1], "nobody": {"cell": "nobody"}}
    for name, result in {"vae-image": good, "vae-image-slow": aside, **others}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    (row,) = speed.rows(tmp_path)
    assert row["family"] == "vae" and row["seconds"] == 0.1
    with styled():
        assert speed.draw(Shelf(), 0, tmp_path).height > 0
    few = {"frechet": 30.0, "floor/frechet": 29.0}
    assert speed._over_floor("frechet")(few, [few, scores]) == 15.0  # few samples are not flattered


def test_depth_leads_from_data_to_noise_and_leaves_the_flow_as_it_was() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    flow = FlowModel("image", kind="coupling", layers=2, trunk_options={"width": 8, "depth": 1})
    flow.fit(list(images), max_steps=2, batch_size=4, progress=False)
    with torch.no_grad():
        z = torch.randn(2, 8, 8, 1, generator=torch.Generator().manual_seed(0))
        reals = inverse(flow, z)
        whole = sum(stack.layers for stack in couplings(flow))
        assert torch.allclose(depth(flow, reals, 0), reals)
        assert torch.allclose(depth(flow, reals, whole), z, atol=1e-3)
        assert sum(stack.layers for stack in couplings(flow)) == whole


def test_plane_keeps_what_lies_in_it() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 5)) + 3
    plane = Plane(points)
    assert plane.share == pytest.approx(1)
    gaps = np.linalg.norm(points[:-1] - points[1:], axis=1)
    assert np.allclose(np.linalg.norm(np.diff(plane(points), axis=0), axis=1), gaps)
