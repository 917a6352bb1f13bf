"""Samples: a list in every respect, and what notebooks show of it."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import molgen
from molgen.core.registry import get_modality
from molgen.io import samples as module
from molgen.io.samples import Samples
from tests.models.cells import fitted, records

CDN = "cdn.jsdelivr"


def samples(name: str, count: int = 4) -> Samples:
    return Samples(list(records(name))[:count], get_modality(name))


def test_samples_are_a_list_in_every_respect() -> None:
    strings = ["CCO", "C", "CN"]
    drawn = Samples(strings, get_modality("smiles"))
    assert isinstance(drawn, list)
    assert drawn == strings
    assert strings == drawn
    assert repr(drawn) == repr(strings)
    assert drawn + ["N"] == [*strings, "N"]
    assert sorted(drawn) == sorted(strings)
    assert (drawn[0], drawn[-1], drawn[::2]) == ("CCO", "CN", ["CCO", "CN"])


@pytest.mark.parametrize(
    "make", [lambda x: x[:], copy.copy, Samples.copy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_knows_its_kind_of_data(make: Any) -> None:
    drawn = samples("smiles")
    again = make(drawn)
    assert again == drawn
    assert again is not drawn
    assert type(again) is Samples
    assert again.modality.config() == drawn.modality.config()


def test_a_model_gives_samples_of_its_modality() -> None:
    model = fitted("smiles")
    drawn = model.sample(3, seed=0, steps=2)
    assert type(drawn) is Samples
    assert drawn.modality is model.modality
    assert model.sample(0, steps=2) == []


def test_a_file_is_read_as_samples(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CCO\nCC(\n")
    found = molgen.read(tmp_path / "a.smi", "smiles")
    assert found == ["CCO", "CC("]
    assert type(found) is Samples
    with pytest.raises(molgen.ConfigError, match="choices"):
        molgen.read(tmp_path / "a.pdb", "smiles")


@pytest.mark.parametrize("name", ["image", "smiles", "graph", "molecule", "protein"])
def test_the_picture_is_the_modalitys_own(name: str, tmp_path: Path) -> None:
    drawn = samples(name)
    shown = drawn._repr_png_()
    assert shown is not None
    get_modality(name).plot(drawn, tmp_path / "a.png")
    with Image.open(io.BytesIO(shown)) as a, Image.open(tmp_path / "a.png") as b:
        assert (np.asarray(a) == np.asarray(b)).all()


def test_what_cannot_be_drawn_is_shown_as_a_list() -> None:
    mixed = [np.zeros((8, 8, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)]
    for shown in (
        Samples(),
        Samples(["CCO"]),
        Samples([], get_modality("image")),
        Samples(mixed, get_modality("image")),
    ):
        assert shown._repr_png_() is None
        assert shown._repr_html_() is None


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A viewer's script in the data folder."""
    pytest.importorskip("py3Dmol", reason="needs py3Dmol: pip install -e '.[notebook]'")
    script = b"var viewer = '3Dmol';"
    monkeypatch.setenv("MOLGEN_DATA", str(tmp_path))
    monkeypatch.setattr(module, "_MD5", hashlib.md5(script).hexdigest())
    (tmp_path / "notebook").mkdir()
    (tmp_path / "notebook" / "3Dmol-min.js").write_bytes(script)
    return script


@pytest.mark.parametrize(("name", "mark"), [("molecule", "M  END"), ("protein", "ATOM")])
def test_objects_in_space_turn_and_the_script_is_in_the_page(name: str, mark: str, viewer: bytes) -> None:
    shown = samples(name, 10)._repr_html_()
    assert shown is not None
    assert shown.count(mark) >= 9
    assert "9 of 10" in shown
    (script,) = re.findall(r"'data:text/javascript;base64,([^']*)'", shown)
    assert base64.b64decode(script) == viewer
    assert CDN not in shown


def test_no_text_of_a_record_ends_the_script(viewer: bytes) -> None:
    mol = type(records("molecule")[0])(records("molecule")[0])
    mol.SetProp("_Name", "</script><b>")
    shown = Samples([mol], get_modality("molecule"))._repr_html_()
    assert shown is not None
    assert "<b>" not in shown
    assert shown.count("</script>") == 1


@pytest.mark.parametrize("name", ["image", "smiles", "graph"])
def test_what_has_no_third_dimension_has_a_picture_alone(name: str, viewer: bytes) -> None:
    assert samples(name)._repr_html_() is None


def test_without_viewer_or_script_there_is_a_picture(monkeypatch: pytest.MonkeyPatch, viewer: bytes) -> None:
    drawn = samples("molecule", 2)
    assert drawn._repr_html_() is not None
    monkeypatch.setattr(
        module, "_MD5", "0" * 32
    )  # another script than expected is not shown, and no other to be had
    assert drawn._repr_html_() is None
    monkeypatch.setitem(sys.modules, "py3Dmol", None)
    assert drawn._repr_html_() is None
    assert drawn._repr_png_() is not None
