"""The walls of the house: who may import whom, what a family may know, and imports without side effects."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import molgen
from molgen.core.registry import MODALITIES, Table

ROOT = Path(molgen.__file__).parent
FIELD_KINDS = {"Field", "Continuous", "Categorical", "Positions", "Angles"}


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> list[str]:
    """Every module that a file of molgen imports, anywhere in it."""
    return list(imports(parsed(path), ("molgen", *path.relative_to(ROOT).parts[:-1])))


def imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    """The modules that the code of a package imports, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", files("core", "nn", "models"), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_and_families_import_no_modality(path: Path) -> None:
    assert [name for name in imported(path) if name.startswith("molgen.modalities")] == []


@pytest.mark.parametrize("path", files("core", "nn"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_imports_no_family(path: Path) -> None:
    assert [name for name in imported(path) if name.startswith("molgen.models")] == []


def test_modalities_know_no_family() -> None:
    for path in files("modalities"):
        assert [name for name in imported(path) if name.startswith("molgen.models")] == [], path


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """String constants, docstrings left out."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def field_names() -> set[str]:
    """The names of all fields of all views of the modalities that molgen brings."""
    table = Table(MODALITIES)
    own = [table[name]() for name in table if table.source(name) == "molgen"]
    return {name for modality in own for view in modality.views.values() for name in view.fields}


@pytest.mark.parametrize("path", files("models"), ids=lambda p: p.name)
def test_a_family_asks_no_field_for_its_kind_or_name(path: Path) -> None:
    tree = parsed(path)
    assert not {name.value for name in strings(tree)} & set(Table(MODALITIES)), "a modality's name"
    names = field_names()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            asked = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node.args[1])}
            assert not asked & FIELD_KINDS, f"line {node.lineno} asks for a kind of field"
        if isinstance(node, ast.Compare):
            compared = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
            assert not compared & names, f"line {node.lineno} compares a field's name"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            taken = {alias.name for alias in node.names}
            assert not taken & (FIELD_KINDS - {"Field"}), f"line {node.lineno} imports a kind of field"


def test_the_checks_see_what_they_look_for() -> None:
    tree = ast.parse("'doc'\nfrom ..modalities.image import x\nfrom .. import modalities\na == 'image'")
    found = set(imports(tree, ("molgen", "core")))
    assert {"molgen.modalities.image", "molgen.modalities.image.x", "molgen.modalities"} <= found
    assert [n.value for n in strings(tree)] == ["image"]


QUIET = """
import logging, random, sys, warnings
import numpy, torch
import {third}
before = (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist(),
          torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
filters, handlers, level = list(warnings.filters), list(logging.root.handlers), logging.root.level
own = set(logging.root.manager.loggerDict)
import {modules}
after = (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist(),
         torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
assert before == after, "randomness or defaults of torch"
assert filters == list(warnings.filters), "warning filters"
assert (handlers, level) == (list(logging.root.handlers), logging.root.level), "log handlers"
assert not [n for n in set(logging.root.manager.loggerDict) - own if n.startswith("molgen")], "loggers"
"""


def test_imports_have_no_side_effects() -> None:
    modules = [
        ".".join(("molgen", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        for path in files("core", "nn", "models", "modalities")
    ]
    # What third parties do to the process is theirs; it is done before we look.
    script = QUIET.format(
        modules=", ".join(modules), third="rdkit.Chem, pytorch_lightning, torch_geometric, e3nn.o3, Bio.PDB"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_molgen_imports_nothing_heavy() -> None:
    script = (
        "import sys, molgen, molgen.cli; molgen.ConfigError; list(molgen.list_families())\n"
        "print([m for m in ('torch', 'numpy', 'rdkit', 'scipy', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    for name in dir(molgen):
        assert getattr(molgen, name) is not None
