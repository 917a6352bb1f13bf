"""`molgen new-plugin`: a small package with a modality, which installs and passes its tests at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from string import Template

from molgen.core.errors import ConfigError
from molgen.core.registry import MODALITIES, Table
from molgen.io.files import atomic
from molgen.version import __version__

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "molgen-$dashed"
version = "0.1.0"
description = "A kind of data for molgen: $name"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["molgen$needs", "numpy>=1.26"]

[project.optional-dependencies]
dev = ["pytest>=8.2"]

# By this line molgen finds the class: the name before the sign is the class's own.
[project.entry-points."molgen.modalities"]
$name = "molgen_$name:$title"

[tool.setuptools]
packages = ["molgen_$name"]

[tool.setuptools.package-data]
molgen_$name = ["samples.json"]
"""

MODULE = '''\
"""$title: a kind of data for molgen. Change fields, encode and decode; all else has a default."""

import json
from importlib import resources

import numpy as np

from molgen.core.records import Records
from molgen.io.data import embedded
from molgen.core.errors import DataError
from molgen.core.fields import Continuous
from molgen.core.modality import Modality


class $title(Modality):
    """Short series of numbers: float32 arrays `(n,)`."""

    name = "$name"

    @property
    def fields(self):
        # What `fit_to` learns of a field from data (here its mean and spread) comes back by its name.
        return {"x": Continuous(1, **self.learned("x"))}

    def encode(self, record, view):
        if not isinstance(record, np.ndarray) or record.ndim != 1 or not record.size:
            raise DataError(f"a {type(record).__name__}, expected an array with one axis", fix="remove it")
        if not np.isfinite(record).all():
            raise DataError("a series that is not finite", fix="remove it")
        return {"x": record.astype(np.float32)[:, None]}

    def decode(self, sample, view):
        return sample["x"][:, 0]

    @property
    def datasets(self):
        return {"$name-samples": embedded("$name-samples", _samples, $count)}


def _samples():
    rows = json.loads(resources.files(__name__).joinpath("samples.json").read_text(encoding="utf-8"))
    return Records([np.array(row, np.float32) for row in rows])
'''

TEST = '''\
"""The plugin keeps what molgen promises of every kind of data."""

from molgen.testing import check_modality
from molgen_$name import $title


def test_conformance():
    check_modality($title())
'''

README = """\
# molgen-$dashed

A kind of data for molgen, which finds it by its name once this package is installed.

```bash
pip install -e ".[dev]"
molgen check $name        # what molgen promises of every kind of data, with all families
pytest
molgen fit diffusion $name --data $name-samples --max-time 1m --out mine.safetensors
molgen sample mine.safetensors -n 100 -o out.json
molgen evaluate out.json --modality $name --reference $name-samples
```

`molgen_$name/__init__.py` is all there is: `fields` says what a record is made of, `encode` and `decode` go
to arrays and back, `samples.json` holds some records. Sizes, scales, networks, files (`.npz`, `.json`),
scores and a picture come from molgen; each can be overridden, see `molgen.core.modality.Modality`. A plugin
imports only `molgen.core`, `molgen.nn`, `molgen.io`, `molgen.metrics` and `molgen.testing`.

Raise `version` in the class when its constructor or its fields change: old checkpoints are then refused.
"""

_COUNT = 60


def new_plugin(name: str, folder: Path | None = None) -> Path:
    """Writes a package with a modality, its entry point, a test, sample data and a README.

    Arguments:
        name: what users will type, e.g. ``"waves"``: lower-case letters, digits and ``_``.
        folder: the new folder; by default ``molgen-<name>`` here.

    Errors: `ConfigError` for a name that is taken or none, `DataError` if the folder is not empty.

    Returns: the folder.
    """
    if not name.isidentifier() or name != name.lower() or name.startswith("_"):
        raise ConfigError(f"name {name!r}: expected lower-case letters, digits and _, a letter first")
    taken = Table(MODALITIES)
    if name in taken:
        source = taken.source(name)
        raise ConfigError(f"modality {name!r} is there already, from package {source}; take another name")
    dashed = name.replace("_", "-")
    folder = Path(f"molgen-{dashed}") if folder is None else folder
    known = {
        "name": name,
        "dashed": dashed,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "needs": _needs(),
        "count": str(_COUNT),
    }
    files = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        f"molgen_{name}/__init__.py": MODULE,
        f"tests/test_{name}.py": TEST,
    }
    with atomic(folder) as temporary:
        for path, text in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(Template(text).substitute(known), encoding="utf-8")
        rows = ",\n".join(json.dumps(row) for row in _waves())
        (temporary / f"molgen_{name}" / "samples.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    return folder


def _waves() -> list[list[float]]:
    """Waves of several lengths and phases, to be replaced by real data."""
    return [
        [round(math.sin(0.7 * i + 2.4 * k) * (1 + 0.3 * math.cos(1.3 * k)), 4) for i in range(8 + k % 5)]
        for k in range(_COUNT)
    ]


def _needs() -> str:
    """This version of molgen up to the next that may change what plugins rely on."""
    major, minor = (int(part) for part in __version__.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"
