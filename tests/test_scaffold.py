"""A package written by `molgen new-plugin`: found by its entry point, checked, trained, nothing edited."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from molgen import cli
from molgen.core.errors import ConfigError, DataError
from molgen.core.registry import MODALITIES, Table, get_modality, refresh
from molgen.scaffold import new_plugin
from molgen.testing import check_modality


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new package, installed as pip would do it: its folder on the path, and what it declares beside it."""
    folder = new_plugin("tiny_waves", tmp_path / "plugin")
    declared = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "molgen_tiny_waves-0.1.0.dist-info"
    info.mkdir()
    lines = [f"Name: {declared['name']}", f"Version: {declared['version']}"]
    lines += [f"Requires-Dist: {text}" for text in declared["dependencies"]]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines]) + "\n")
    points = declared["entry-points"][MODALITIES]
    (info / "entry_points.txt").write_text(
        f"[{MODALITIES}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    monkeypatch.syspath_prepend(str(folder))
    refresh()
    yield folder
    refresh()
    sys.modules.pop("molgen_tiny_waves", None)


def test_a_new_package_is_found_and_passes(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Table(MODALITIES).source("tiny_waves") == "molgen-tiny-waves"
    assert "molgen_tiny_waves" not in sys.modules  # found without being imported
    modality = get_modality("tiny_waves")
    assert type(modality).__name__ == "TinyWaves"
    check_modality(modality, families=[])
    assert cli.main(["check", "tiny_waves", "--family", "diffusion"]) == 0
    assert "tiny_waves: all" in capsys.readouterr().out
    out = tmp_path / "run.safetensors"
    small = [f"--option=trunk_options.{k}={v}" for k, v in {"width": 16, "depth": 1, "heads": 2}.items()]
    fit = ["fit", "diffusion", "tiny_waves", "--data", "tiny_waves-samples", "--max-steps", "2", *small]
    assert cli.main([*fit, "--out", str(out)]) == 0
    assert cli.main(["sample", str(out), "-n", "12", "--steps", "2", "-o", str(tmp_path / "out.json")]) == 0
    evaluate = ["evaluate", str(tmp_path / "out.json"), "--modality", "tiny_waves"]
    assert cli.main([*evaluate, "--reference", str(package / "molgen_tiny_waves" / "no.json")]) == 2
    assert cli.main(evaluate) == 0
    assert "valid" in capsys.readouterr().out


def test_the_module_is_short(package: Path) -> None:
    """The smallest useful modality takes at most forty lines of code."""
    text = (package / "molgen_tiny_waves" / "__init__.py").read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 40


def test_it_imports_the_public_parts_only(package: Path) -> None:
    module = package / "molgen_tiny_waves" / "__init__.py"
    module.write_text("import molgen.modalities.smiles\n" + module.read_text())
    with pytest.raises(AssertionError, match=r"imports: imports molgen.modalities.smiles; fix: a plugin may"):
        check_modality("tiny_waves", families=[])


def test_names_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Waves", "my-waves", "3d", ""):
        with pytest.raises(ConfigError, match="expected lower-case letters"):
            new_plugin(name)
    with pytest.raises(ConfigError, match="'image' is there already, from package molgen"):
        new_plugin("image")
    new_plugin("waves")
    assert (tmp_path / "molgen-waves" / "molgen_waves" / "__init__.py").is_file()
    with pytest.raises(DataError, match="not empty"):
        new_plugin("waves")


def test_faults_are_listed_on_the_command_line(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = package / "molgen_tiny_waves" / "__init__.py"
    module.write_text(module.read_text().replace('sample["x"][:, 0]', 'sample["x"][:, 0] / 2'))
    assert cli.main(["check", "tiny_waves", "--family", "vae"]) == 2
    said = capsys.readouterr()
    assert "FAILED round trip: record 1 in view 'fields' comes back changed" in said.out
    assert "checks failed, see above" in said.err
    assert cli.main(["check", "tiny_wave"]) == 2
    assert "did you mean 'tiny_waves'" in capsys.readouterr().err
