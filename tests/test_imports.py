"""The walls of the house: who may import whom, what a family may know, and imports without side effects."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

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


LAYERS = [
    ("version", "core"),
    ("nn", "metrics"),
    ("io",),
    ("train",),
    ("models", "modalities"),
    ("api", "testing", "scaffold", "demo"),
    ("cli", "__main__", "__init__"),
]
"""From the bottom: a part imports from its own layer and from those below."""
APART = {"models": "modalities", "modalities": "models", "nn": "metrics", "metrics": "nn"}
"""Parts of one layer that do not import each other."""


def part(name: str) -> str:
    """The part of molgen that a module belongs to."""
    return ([*name.split(".")[1:], "__init__"])[0]


@cache
def graph(without_facade: bool = True) -> dict[str, set[str]]:
    """Which module of molgen imports which, anywhere in it, also for type checkers alone."""
    modules = {
        ".".join(("molgen", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in files(".")
    }
    edges: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = set(imported(path))
        # `from package import module` names the package as well, whose own code is not meant.
        deeper = {target.rpartition(".")[0] for target in found if target in modules}
        edges[name] = {target for target in found - deeper if target in modules and target != name}
    if without_facade:
        edges["molgen"] = set()  # gives the public names, and is imported by no part
    return edges


def cycles(edges: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of more than one module."""
    index = {name: i for i, name in enumerate(edges)}
    rows = [index[a] for a in edges for b in edges[a]]
    columns = [index[b] for a in edges for b in edges[a]]
    matrix = csr_array(([1] * len(rows), (rows, columns)), shape=(len(edges), len(edges)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    groups: dict[int, set[str]] = {}
    for name, label in zip(edges, labels.tolist(), strict=True):
        groups.setdefault(label, set()).add(name)
    return [group for group in groups.values() if len(group) > 1]


def test_no_module_imports_itself_through_others() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert len(graph()) > 150 and sum(map(len, graph().values())) > 700
    assert cycles(graph()) == []


def test_every_part_imports_from_its_layer_and_below() -> None:
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    assert {part(name) for name in graph()} == set(level)
    wrong = [
        f"{name} imports {target}"
        for name, targets in graph().items()
        for target in targets
        if level[part(target)] > level[part(name)] or APART.get(part(name)) == part(target)
    ]
    assert wrong == []


def test_every_class_is_abstract_or_final() -> None:
    """No class is both used and extended."""
    open_classes = []
    for path in files("."):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            marks = {ast.unparse(d).split("(")[0] for d in node.decorator_list}
            bases = {ast.unparse(base).split("[")[0] for base in node.bases}
            if "final" in marks or bases & {"ABC", "Protocol", "NamedTuple", "IntEnum"}:
                continue
            open_classes.append((path, node.name))
    found = []
    for path, name in open_classes:
        module = ".".join(("molgen", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
        kind = getattr(import_module(module), name)
        if not (inspect.isabstract(kind) or issubclass(kind, Exception)):
            found.append(f"{module}.{name}")
    assert sorted(found) == []


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
