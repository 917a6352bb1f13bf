"""README and guide: code prints what they show, tables are the measured ones, links lead somewhere."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import docs.execute
from benchmarks import table
from docs.execute import PAGES, Checker, blocks, every, execute, pictures
from molgen.version import __version__

ROOT = PAGES.parent.parent
README = ROOT / "README.md"
_NAMES = [str(page.relative_to(PAGES).with_suffix("")) for page in every()]


@pytest.mark.parametrize("name", _NAMES)
def test_a_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    page = PAGES / f"{name}.md"
    execute(page, tmp_path)
    for picture in pictures(page):
        _alike(PAGES / "images" / picture, tmp_path / picture)


def _alike(shown: Path, made: Path) -> None:
    """Whether a picture is the one that the page's code draws, but for rounding on another machine."""
    from PIL import Image

    a, b = (np.asarray(Image.open(path).convert("L"), dtype=float) for path in (shown, made))
    alike = a.shape == b.shape and np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.8
    assert alike, f"{shown.name}: python -m docs.execute draws it anew"


def test_the_readme_prints_what_it_shows(tmp_path: Path) -> None:
    execute(README, tmp_path)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", PAGES / "start.md"], ids=lambda p: p.name)
def test_commands_of_set_up_exist(page: Path) -> None:
    """Commands of molgen itself are run; goals of make and files named to pip must be there."""
    goals = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    shell = [b for b in blocks(page) if b.language in ("bash", "console")]
    lines = [
        line.partition("#")[0].split()
        for b in shell
        for line in b.code.replace("\\\n", " ").splitlines()
        if line.strip()
    ]
    for words in lines:
        if words[0] == "make":
            assert set(words[1:]) <= set(goals), words
        elif words[0] == "pip":
            assert words[1] == "install"
            assert all((ROOT / word).exists() for word in words[2:] if not word.startswith("-")), words
        else:
            assert words[0] == "molgen", words


@pytest.mark.parametrize("pattern", ["*.md", "benchmarks/**/*.md", "examples/**/*.md"])
def test_links_lead_to_files(pattern: str) -> None:
    for page in ROOT.glob(pattern):
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), (page.name, link)


def test_nothing_installs_by_name_from_the_index() -> None:
    """There the name belongs to another project."""
    named = re.compile(r"""(pip3? install|uv add|uv pip install)(\s+-\S+)*\s+["'`]?molgen\b(?!-)""")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout
    names = listed.split("\0") if listed else [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.md")]
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path.suffix not in (".png", ".npz", ".safetensors", ".gz"):
            found = named.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{name}: {found and found[0]!r}; write pip install -e '.[extra]'"


def test_citation_and_changelog_name_this_version() -> None:
    yaml = pytest.importorskip("yaml", reason="comes with mkdocs: make docs")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert (cited["cff-version"], str(cited["version"]), cited["license"]) == ("1.2.0", __version__, "MIT")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}] - {cited['date-released']}" in changes


@pytest.mark.parametrize("page", table.PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results(page: Path) -> None:
    current = page.read_text(encoding="utf-8")
    fresh = table.filled(page, table.PAGES[page](table.measured()))
    assert current == fresh, f"{page.name}: python -m benchmarks table --readme writes it anew"


def test_every_public_module_has_its_place_in_the_reference() -> None:
    named = set()
    for page in (PAGES / "reference").glob("*.md"):
        named |= set(re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    for folder in ("core", "nn", "io", "metrics", "testing"):
        for file in (ROOT / "molgen" / folder).rglob("*.py"):
            if file.name == "__init__.py":  # what these name is at home in the other files
                continue
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            assert module in named, f"{module}: name it in docs/pages/reference"


def test_every_public_name_has_its_place_in_the_reference() -> None:
    import molgen

    pages = "".join(page.read_text(encoding="utf-8") for page in (PAGES / "reference").glob("*.md"))
    for name in molgen._HOMES:
        assert re.search(rf"\b{name}\b", pages) or molgen._HOMES[name] in pages, name


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1.00", "a 1.04", True),
        ("a 1.00", "a 1.06", False),
        ("a 0.01", "a 0.04", False),
        ("n 100", "n 101", False),
        ("a 0.01", "a 0.03", True),  # two units of the last digit
        ("a 1.0", "b 1.0", False),
        ("one ... three", "one two three", True),
    ],
)
def test_what_counts_as_the_same(shown: str, printed: str, same: bool) -> None:
    assert Checker().check_output(f"{shown}\n", f"{printed}\n", 0) == same


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\n>>> 1 + 1\n3\n```\n", "Expected"),
        ("```python\nassert False, 'so it is'\n```\n", "so it is"),
        ("```bash\nmolgen list --nothing\n```\n", "exits with 2"),
        (
            "```bash\nmolgen sample no-such -o a.smi\n```\n\n```text\nmolgen: well\n```\n",
            "expected",
        ),
    ],
)
def test_a_page_that_errs_is_found_out(text: str, complaint: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=complaint):
        execute(page, tmp_path)


def test_the_examples_of_what_runs_pages() -> None:
    assert doctest.testmod(docs.execute).failed == 0


def test_blocks_know_their_lines_and_what_they_print(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```bash\nmolgen list\n```\n\n```text\nb\n```\n\nand\n\n```text\nc\n```\n")
    first, second, third = blocks(page)
    assert (first.line, first.shown) == (4, "b\n")
    assert (second.shown, third.shown) == (None, None)


def test_the_guide_builds_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    """Strict: no link, anchor or name of the reference is broken."""
    pytest.importorskip("mkdocs", reason="needs the extra docs: make docs")
    out = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml", "-d", str(out)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    for name in ("docs.cards", "docs.docstrings", "docs.mathml"):
        assert doctest.testmod(import_module(name)).failed == 0
    fetched = re.compile(r'<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)="(?:https?:)?//')
    for file in out.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not fetched.search(text), file.name
        assert "arithmatex" not in text, f"{file.name}: a formula is not drawn"
