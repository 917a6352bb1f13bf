"""Strings: codec, fitting, configuration, files, data sets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from molgen.core.capabilities import Denoising, Entries
from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.core.trunk import Streams, TrunkSpec
from molgen.modalities.chemistry.data import gdb6
from molgen.modalities.smiles import SmilesModality

VIEW = "characters"


def test_round_trip_of_every_embedded_record() -> None:
    records = [s for split in ("train", "valid", "test") for s in gdb6(split).items]
    modality = SmilesModality()
    assert all(modality.decode(modality.encode(s, VIEW), VIEW) == s for s in records)
    batch = modality.encode_all(records[:50], VIEW)
    assert modality.decode_all(batch, VIEW) == records[:50]


def test_strings_that_are_no_molecules_come_back_too() -> None:
    modality = SmilesModality()
    assert modality.decode(modality.encode("C((=", VIEW), VIEW) == "C((="
    assert not modality.is_valid("C((=") and modality.is_valid("CCO")
    beyond = {"tokens": np.array([11, 200])}
    assert not modality.is_valid(modality.decode(beyond, VIEW))


def test_bad_records_are_named() -> None:
    modality = SmilesModality()
    with pytest.raises(DataError, match="record 2: character 'S' of 'CS'"):
        modality.encode_all(["C", "CS"], VIEW)
    for bad in ("", 7, None):
        with pytest.raises(DataError):
            modality.encode(bad, VIEW)


def test_fitting_learns_vocabulary_lengths_and_scales() -> None:
    records = Records(["CS", "ClC", "C"], {"gap": np.array([1.0, 2.0, math.nan])})
    fitted = SmilesModality().fit_to(records)
    assert fitted.vocabulary == "CSl"
    tokens = fitted.views[VIEW].fields["tokens"]
    assert Denoising.of(tokens).outputs == Entries.of(tokens).outputs == 3
    assert fitted.sizes.counts == {1: 1, 2: 1, 3: 1}
    assert fitted.marginal == pytest.approx([4 / 6, 1 / 6, 1 / 6], abs=1e-4)
    assert fitted.conditions["gap"].config()["mean"] == 1.5
    assert {"logp", "qed", "tpsa", "weight"} <= set(fitted.conditions)
    with pytest.raises(DataError):
        SmilesModality().fit_to([])
    with pytest.raises(DataError, match="record 2"):
        SmilesModality().fit_to(["C", ""])


def test_config_rebuilds_the_modality() -> None:
    for modality in (SmilesModality(), SmilesModality().fit_to(["CCO", "c1ccccc1Br"])):
        again = SmilesModality(**json.loads(json.dumps(modality.config())))
        assert again.config() == modality.config()
        assert again.draw_sizes(3, range(20)) == modality.draw_sizes(3, range(20))
    with pytest.raises(ConfigError):
        SmilesModality("CC")


def test_sizes() -> None:
    modality = SmilesModality()
    assert modality.draw_sizes(0, [1, 2], size=12) == [12, 12]
    assert modality.log_size(15) > modality.log_size(9) > modality.log_size(99) == -math.inf
    with pytest.raises(ConfigError, match="length"):
        modality.draw_sizes(0, [1], length=3)


def test_trunk() -> None:
    modality = SmilesModality()
    trunk = modality.trunk(TrunkSpec(site=5, context=3), width=24, depth=1, heads=2)
    mask = modality.make_mask([4, 2])
    out = trunk(
        Streams(site=torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))),
        mask,
        torch.zeros(2, 3),
    )
    assert out.site is not None and out.site.shape == (2, 4, 24)
    with pytest.raises(ConfigError, match="trunk of smiles"):
        modality.trunk(TrunkSpec(site=5), "unet")


def test_files_by_suffix(tmp_path: Path) -> None:
    modality = SmilesModality()
    by_suffix = {suffix: form for form in modality.formats for suffix in form.suffixes}
    assert set(by_suffix) == {".smi", ".smi.gz", ".txt", ".txt.gz", ".csv", ".csv.gz"}
    for suffix, form in by_suffix.items():
        path = tmp_path / f"a{suffix}"
        assert form.write is not None and form.read is not None
        form.write(path, ["CCO", "C(", "CN"])
        assert list(form.read(path, lambda error: None).items) == ["CCO", "CN"]
        assert list(modality.read_samples(path).items) == ["CCO", "C(", "CN"]


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read this format"):
        SmilesModality().read_samples(tmp_path / "a.pdb")


def test_picture_scores_and_properties(tmp_path: Path) -> None:
    modality = SmilesModality()
    modality.plot(["CCO", "C("], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 500
    assert modality.evaluate(["CCO", "C("], distances=False)["valid"] == 0.5
    assert modality.measure("CCO", "weight") == pytest.approx(46.07, abs=0.01)
    assert set(modality.datasets) == {"qm9", "zinc250k", "gdb6"}
    assert isinstance(modality.datasets["gdb6"].load("test")[0], str)
