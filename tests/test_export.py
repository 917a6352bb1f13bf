"""Exported programs: what they give is what the network gives, for other numbers of samples and sites."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

import molgen
from molgen.core.rng import SampleRandom
from molgen.models.base import GenerativeModel
from molgen.testing.subject import randomised
from tests.models.cells import tiny

# One of each kind of network: continuous flows have a consistency model's, critics and encoders an energy's.
PARTS = [
    ("diffusion", "image", "network"),
    ("diffusion", "molecule", "network"),
    ("consistency", "smiles", "network"),
    ("autoregressive", "smiles", "network"),
    ("vae", "smiles", "decoder"),
    ("gan", "smiles", "generator"),
    ("energy", "smiles", "energy"),
    ("energy-dbm", "smiles", "features"),
    ("flow-coupling", "smiles", "inverse"),
    ("flow-nice", "smiles", "forward"),
    ("diffusion:message", "molecule", "network"),
    ("diffusion:equivariant", "molecule", "network"),
]


def built(family: str, name: str) -> GenerativeModel:
    """A small model with random weights, none of them zero."""
    if family == "energy-dbm":
        model: GenerativeModel = molgen.EnergyModel(name, kind="dbm", hidden=(6, 4), chains=4)
    elif ":" in family:  # another trunk, whose edges depend on the mask
        family, trunk = family.split(":")
        model = molgen.list_families()[family](name, trunk=trunk, trunk_options={"width": 16, "depth": 1})
    else:
        model = tiny(name, family, **({"layers": 2} if family.startswith("flow") else {}))
    model.modality = model.modality.replace(sizes={5: 1, 8: 1}) if name != "image" else model.modality
    model.network = model._built(0).eval()
    randomised(model.network)
    return model


def inputs(model: GenerativeModel, part: str, sizes: list[int]) -> tuple[Any, dict[str, Any]]:
    network = model.parts()[part]
    mask = model.modality.make_mask(sizes)
    return network, network.example(mask, SampleRandom(5, range(len(sizes))))


@pytest.mark.parametrize(("family", "name", "part"), PARTS)
@torch.no_grad()
def test_a_program_is_its_network(family: str, name: str, part: str, tmp_path: Path) -> None:
    model, path = built(family, name), tmp_path / "program.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        model.export(path, part)
        note = {"molgen.json": ""}
        loaded = torch.export.load(path, extra_files=note).module()
    told = json.loads(note["molgen.json"])
    assert told["family"] == model.family
    assert told["inputs"]["mask"][0] == "batch"
    if name == "image":
        sizes = [[64] * 4, [64]]
    else:
        free = told["inputs"]["mask"][1] == "sites"
        # What writes entry by entry has slots, a machine units, for so many sites; so has strings' decoder.
        assert free == (part not in ("features", "decoder") and family != "autoregressive")
        sizes = [[5, 4, 6, 6], [9]] if free else [[8, 5, 8, 3], [8]]
    assert told["smallest_batch"] == 1
    for these in sizes:
        network, given = inputs(model, part, these)
        ours, theirs = (tree_flatten(f(**given))[0] for f in (loaded, network))
        assert len(ours) == len(theirs)
        assert any(bool((b != 0).any()) for b in theirs)
        assert all(_near(a, b) for a, b in zip(ours, theirs, strict=True))


def _near(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max()))


def test_a_program_is_a_copy_and_the_model_trains_on() -> None:
    model = built("diffusion", "smiles")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = model.export()
    before = {k: v.clone() for k, v in program.state_dict.items()}
    with torch.no_grad():
        for p in model.trained.parameters():
            p.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in program.state_dict.items())
    assert all(p.requires_grad for p in model.trained.parameters())


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    model = built("vae", "smiles")
    with pytest.raises(molgen.ConfigError, match="unknown part of vae 'decodr': did you mean 'decoder'"):
        model.export(part="decodr")
    with pytest.raises(molgen.ConfigError, match="pt2"):
        model.export(tmp_path / "program.onnx")
    with pytest.raises(molgen.ConfigError, match="no weights"):
        tiny("smiles").export()
