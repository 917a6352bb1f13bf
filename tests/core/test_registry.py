"""Names to classes through entry points, from molgen and from packages that behave badly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import molgen
from molgen.core.errors import ConfigError
from molgen.core.modality import Modality
from molgen.core.registry import FAMILIES, MODALITIES, Table, get_family, get_modality, lent, refresh

Plugin = Callable[..., None]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    """Installs a package with entry points, as pip would, for the time of a test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, source: str, group: str, points: dict[str, str]) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}\n")
        refresh()

    yield install
    refresh()
    for name in [n for n in sys.modules if n.startswith("molgen_test_")]:
        del sys.modules[name]


def test_the_built_in_names() -> None:
    assert {"graph", "image", "molecule", "protein", "smiles"} <= set(molgen.list_modalities())
    assert get_family("diffusion") is molgen.DiffusionModel
    for name in Table(MODALITIES):
        modality = get_modality(name)
        assert isinstance(modality, Modality)
        assert modality.name == name
    for name, family in molgen.list_families().items():
        assert family.family == name
        assert hasattr(molgen, family.__name__)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown family 'difusion': did you mean 'diffusion'"):
        get_family("difusion")
    with pytest.raises(ConfigError, match="unknown modality 'imgae': did you mean 'image'"):
        get_modality("imgae")
    with pytest.raises(AttributeError, match="NoModel"):
        _ = molgen.NoModel


def test_a_plugin_is_found_by_name(plugin: Plugin) -> None:
    source = (
        "from molgen.modalities.smiles.modality import SmilesModality\n"
        "class Words(SmilesModality):\n    name = 'words'\n"
    )
    plugin("molgen_test_a", source, MODALITIES, {"words": "molgen_test_a:Words"})
    assert "words" in molgen.list_modalities()
    assert "molgen_test_a" not in sys.modules  # listing imports nothing
    assert "words" in repr(molgen.list_modalities())
    assert get_modality("words").name == "words"
    assert molgen.list_datasets("words")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "import no_such_module",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("raise SystemError('a\\nb')", "cannot be imported: SystemError: a"),
        ("Other = 1", "cannot be imported: AttributeError"),
        ("Words = 1", "is not a modality"),
        ("class Words: name = 'words'", "is not a modality"),
    ],
)
def test_plugins_that_do_not_work(plugin: Plugin, source: str, why: str) -> None:
    plugin("molgen_test_b", source, MODALITIES, {"words": "molgen_test_b:Words"})
    with pytest.raises(ConfigError, match=why) as error:
        get_modality("words")
    assert "molgen_test_b" in str(error.value)
    assert "\n" not in str(error.value)
    assert get_modality("smiles").name == "smiles"  # others do not suffer
    assert molgen.list_datasets()


def test_name_clash(plugin: Plugin) -> None:
    plugin("molgen_test_c", "", MODALITIES, {"image": "molgen_test_c:Image"})
    with pytest.raises(ConfigError, match="declared by .*molgen_test_c.*uninstall all but one"):
        get_modality("image")
    plugin("molgen_test_d", "", FAMILIES, {"diffusion": "molgen_test_d:Image"})
    with pytest.raises(ConfigError, match="family 'diffusion' is declared by"):
        get_family("diffusion")


def test_a_class_that_calls_itself_otherwise(plugin: Plugin) -> None:
    source = "from molgen.modalities.smiles.modality import SmilesModality as Words"
    plugin("molgen_test_e", source, MODALITIES, {"words": "molgen_test_e:Words"})
    with pytest.raises(ConfigError, match="calls itself 'smiles'"):
        get_modality("words")


def test_a_plugin_for_another_molgen(plugin: Plugin, tmp_path: Path) -> None:
    source = "import no_such_module"
    plugin("molgen_test_g", source, MODALITIES, {"words": "molgen_test_g:Words"})
    with (tmp_path / "molgen_test_g-1.0.dist-info" / "METADATA").open("a") as file:
        file.write("Requires-Dist: numpy\nRequires-Dist: molgen (>=99,<100)\n")
    with pytest.raises(ConfigError, match=r"needs molgen <100,>=99, here is .*; install versions that match"):
        get_modality("words")
    assert "molgen_test_g" not in sys.modules  # refused before it is imported


def test_a_version_that_is_no_number(plugin: Plugin) -> None:
    source = (
        "from molgen.modalities.smiles.modality import SmilesModality\n"
        "class Words(SmilesModality):\n    name, version = 'words', '1.0'\n"
    )
    plugin("molgen_test_h", source, MODALITIES, {"words": "molgen_test_h:Words"})
    with pytest.raises(ConfigError, match="declares version '1.0', expected a whole number"):
        get_modality("words")


def test_a_class_is_lent_for_a_block() -> None:
    class Words:
        name = "words"

    with lent(MODALITIES, Words):
        table = Table(MODALITIES)
        assert table["words"] is Words and "words" in table and len(table) == len(list(table))
        assert table.source("words") == "this session" and "Words" in repr(table)
    with pytest.raises(ConfigError, match="unknown modality 'words'"):
        get_modality("words")


def test_not_a_family(plugin: Plugin) -> None:
    plugin("molgen_test_f", "class Model: family = 'mine'", FAMILIES, {"mine": "molgen_test_f:Model"})
    with pytest.raises(ConfigError, match="is not a family"):
        get_family("mine")
