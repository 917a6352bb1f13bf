"""Diffusion and adversaries in the latent space of a VAE: the law of codes, and what files hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import cast

import pytest
import torch

import molgen
from molgen import (
    CheckpointError,
    ConfigError,
    ConsistencyModel,
    DiffusionModel,
    GANModel,
    UnsupportedError,
    VAEModel,
)
from molgen.core.batch import Batch
from molgen.core.latent import Latent
from molgen.core.rng import SampleRandom
from molgen.models import loading
from tests.models.cells import TRUNKS, draw, fitted, records

SMALL = {"width": 24, "depth": 1, "heads": 2}
STRINGS = ["CCO", "CCN", "C", "COC=O"]


@pytest.fixture(scope="module")
def vae() -> VAEModel:
    model = VAEModel("smiles", latent=4, trunk_options=SMALL, decoder_options=SMALL, beta=0.05)
    return model.fit(STRINGS * 8, STRINGS, max_steps=250, batch_size=32, lr=5e-3, seed=0)


@pytest.fixture(scope="module")
def model(vae: VAEModel) -> DiffusionModel:
    model = DiffusionModel("smiles", latent=vae, trunk_options=SMALL)
    return model.fit(STRINGS * 16, STRINGS, max_steps=300, batch_size=64, lr=5e-3, seed=0)


def test_codes_are_draws_of_the_posterior(vae: VAEModel) -> None:
    n = 4000
    mean, sd = (x[0] for x in vae.encode_latent(["CCO"]))
    z = Latent(vae).encode_all(["CCO"] * n, "latent").values["code"][:, 0]
    assert ((z.mean(0) - mean).abs() < 5 * sd / n**0.5).all()
    assert ((z.std(0) / sd - 1).abs() < 5 / (2 * n) ** 0.5).all()


def test_samples_are_the_strings_that_both_stages_know(model: DiffusionModel) -> None:
    samples = model.sample(200, seed=1)
    shares = {s: samples.count(s) / 200 for s in STRINGS}
    assert sum(shares.values()) > 0.8
    assert min(shares.values()) > 0.1, shares  # a quarter each, with the size drawn along


def test_a_file_holds_both_stages(model: DiffusionModel, vae: VAEModel, tmp_path: Path) -> None:
    model.save(tmp_path / "latent.safetensors")
    again = cast(DiffusionModel, molgen.load(tmp_path / "latent.safetensors"))
    assert again.sample(20, seed=3) == model.sample(20, seed=3)
    assert again.vae is not None and again.vae.reconstruct(STRINGS) == vae.reconstruct(STRINGS)


def test_a_file_may_leave_its_first_stage_to_what_ships(
    vae: VAEModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "WEIGHTS", tmp_path)
    vae.save(tmp_path / "vae-mine.safetensors")
    made = DiffusionModel("smiles", latent="vae-mine", trunk_options=SMALL)
    made.fit(STRINGS, max_steps=2, batch_size=4, seed=0)
    made.save(tmp_path / "part.safetensors", whole=False)
    made.save(tmp_path / "whole.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("part", "whole")]
    assert sizes[0] + 4 * vae.num_parameters <= sizes[1]
    for name in ("part", "whole"):
        assert molgen.load(name).sample(5, seed=3) == made.sample(5, seed=3)
    other = VAEModel("smiles", latent=4, trunk_options=SMALL, decoder_options=SMALL)
    other.fit(STRINGS, max_steps=1, batch_size=4, seed=0).save(tmp_path / "vae-mine.safetensors")
    with pytest.raises(CheckpointError, match="earlier vae-mine"):
        molgen.load("part")
    assert molgen.load("whole").sample(5, seed=3) == made.sample(5, seed=3)


def test_what_ships_fits_together_and_is_not_too_large() -> None:
    shipped = molgen.api.list_weights()
    stages = {name: header.get("first_stage") for name, header in shipped.items()}
    staged = {name: stage for name, stage in stages.items() if isinstance(stage, dict)}
    assert staged
    for name, stage in staged.items():
        assert stage["history"] == shipped[stage["shipped"]]["history"], name
    sizes = [path.stat().st_size for path in loading.WEIGHTS.glob("*.safetensors")]
    assert max(sizes) <= 8e6 and sum(sizes) <= 80e6


def test_a_stage_that_does_not_ship_is_always_kept(model: DiffusionModel, tmp_path: Path) -> None:
    model.save(tmp_path / "latent.safetensors", whole=False)
    assert molgen.load(tmp_path / "latent.safetensors").sample(5, seed=3) == model.sample(5, seed=3)


def test_adversaries_play_over_codes(vae: VAEModel) -> None:
    model = GANModel("smiles", latent=vae, trunk_options=SMALL)
    model.fit(STRINGS * 16, max_steps=400, batch_size=64, lr=2e-3, seed=0)
    samples = model.sample(200, seed=1)
    shares = {s: samples.count(s) / 200 for s in STRINGS}
    assert sum(shares.values()) > 0.7, shares
    assert min(shares.values()) > 0.05, shares


def test_decodes_draws_of_the_likelihood(vae: VAEModel) -> None:
    n, word = 4000, "CCN"
    z, size = torch.zeros(n, 4), vae.encode([word]).sizes
    space = Latent(vae)
    values = {"code": z[:, None], "size": (size - space._sizes[0]).expand(n)[:, None]}
    codes, rng = Batch(values, space.make_mask([1] * n)), SampleRandom(5, range(n))
    drawn = space.decode_all(codes, "latent", rng)
    one = vae.encode([word])
    with torch.no_grad():
        log_p = vae._network.log_likelihood(one.values, one.mask, {}, z[:1])
    p = float(torch.stack(list(log_p.values())).sum().exp())
    assert 0.01 < p < 0.99
    assert abs(drawn.count(word) / n - p) < 4 * (p * (1 - p) / n) ** 0.5
    assert len(set(space.decode_all(codes, "latent"))) == 1  # without noise, the mode


def test_what_is_decoded_does_not_depend_on_batches(model: DiffusionModel) -> None:
    whole = model.sample(60, seed=4)
    assert whole == model.sample(60, seed=4, batch_size=7)
    assert whole != model.sample(60, seed=5)


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_holds_a_size_beside_the_code_where_sizes_vary(name: str) -> None:
    vae = cast(VAEModel, fitted(name, "vae"))
    space, few = Latent(vae), records(name)[:6]
    codes = space.encode_all(few, "latent")
    assert ("size" in codes.values) == (vae.modality.extent is None)
    z, sizes = codes.values["code"][:, 0], vae.encode(few).sizes.tolist()
    ours, theirs = space.decode_all(codes, "latent"), vae.decode_latent(z, sizes, temperature=0.0)
    for a, b in zip(ours, theirs, strict=True):
        assert pickle.dumps(a) == pickle.dumps(b)


@pytest.mark.parametrize("name", sorted(TRUNKS))
def test_samples_do_not_depend_on_batches(name: str) -> None:
    model = DiffusionModel(name, latent=cast(VAEModel, fitted(name, "vae")), trunk_options=SMALL)
    model.fit(records(name), max_steps=2, batch_size=8, seed=0)
    whole, parts = (draw(model, 5, seed=2, batch_size=size) for size in (5, 2))
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a["code"], b["code"], atol=1e-4)
        assert torch.equal(a["size"], b["size"]) if "size" in a else name == "image"


def test_refuses_what_it_has_not(model: DiffusionModel, vae: VAEModel) -> None:
    for family in (DiffusionModel, GANModel):
        with pytest.raises(ConfigError, match="VAE of 'smiles', expected one of 'graph'"):
            family("graph", latent=vae)
    with pytest.raises(UnsupportedError, match="no likelihood"):
        model.log_prob(["CCO"])
    with pytest.raises(UnsupportedError, match="latent"):
        ConsistencyModel.distill(model)
