"""The promises of every modality alone: each check takes a `Subject` and raises a `Complaint`."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from molgen.core.errors import ConfigError, DataError, MolgenError, UnsupportedError
from molgen.core.fields import Field
from molgen.core.modality import Modality, View
from molgen.core.records import Records
from molgen.core.wrappers.denoiser import Denoiser
from molgen.io.formats import read, write
from molgen.testing import codec, network
from molgen.testing.codec import CLOSE, agree
from molgen.testing.report import Complaint, demand, refused
from molgen.testing.subject import Subject

_ALLOWED = ("molgen.core", "molgen.nn", "molgen.io", "molgen.metrics", "molgen.testing", "molgen.models")


# --------------------------------------------------------------------------- what it declares


def check_declaration(subject: Subject) -> None:
    """Name, version, views and fields are valid."""
    m = subject.modality
    demand(
        isinstance(m.name, str) and m.name.replace("_", "").isalnum() and m.name == m.name.lower(),
        f"name {m.name!r} is no plain lower-case word",
        "name it as users shall type it, with letters, digits and _",
    )
    demand(
        type(m.version) is int and m.version >= 1,
        f"version {m.version!r} is no whole number from 1 up",
        "count changes of the constructor and the fields: version = 1",
    )
    demand(m.views, "no views", "give `fields`, a mapping from names to fields")
    for key, view in m.views.items():
        demand(view.name == key, f"view {key!r} calls itself {view.name!r}", "use one name for both")
        demand(view.fields, f"view {key!r} has no fields", "give at least one field")
        for name, f in view.fields.items():
            demand(isinstance(f, Field), f"{name!r} is a {type(f).__name__}", "use molgen.core.fields")
    demand(m.view() is not None and repr(m), "no representation", "leave __repr__ alone")


def check_configuration(subject: Subject) -> None:
    """`config` is JSON that rebuilds the modality, before and after it is fitted."""
    for m in (subject.modality, subject.fitted):
        config = m.config()
        try:
            told = json.loads(json.dumps(config))
        except (TypeError, ValueError) as error:
            raise Complaint(f"config is no JSON: {error}", "keep lists, dicts, strings and numbers") from None
        again = type(m)(**told)
        demand(
            json.dumps(again.config(), sort_keys=True) == json.dumps(told, sort_keys=True),
            "what config rebuilds has another config",
            "keep every argument of the constructor as it came, or converted the same way each time",
        )
        for name, view in m.views.items():
            demand(
                _told(view) == _told(again.views[name]),
                f"view {name!r} of the rebuilt modality has other fields",
                "put all that the fields are made from into the constructor's arguments",
            )
        demand(
            again.draw_sizes(0, range(16)) == m.draw_sizes(0, range(16)),
            "the rebuilt modality has other sizes",
            "put the sizes of the data into the constructor's arguments",
        )


def _told(view: View) -> dict[str, tuple[type[Field], dict[str, Any]]]:
    """The kinds of the fields of a view, and the numbers in them."""
    plain = (int, float, str, tuple)
    return {
        k: (type(f), {n: v for n, v in vars(f).items() if isinstance(v, plain)})
        for k, f in view.fields.items()
    }


def check_fitting(subject: Subject) -> None:
    """Fitting returns a new modality, equal for equal data, and does not change the old one."""
    m = subject.modality
    before = json.dumps(m.config(), sort_keys=True)
    first, second = m.fit_to(subject.records), m.fit_to(subject.records)
    demand(
        json.dumps(m.config(), sort_keys=True) == before,
        "fitted changes the modality it is called on",
        "return a new one, e.g. self.replace(...)",
    )
    demand(type(first) is type(m), f"fitted gives a {type(first).__name__}", "return type(self)(...)")
    demand(
        json.dumps(first.config(), sort_keys=True) == json.dumps(second.config(), sort_keys=True),
        "fitted twice to the same records differs",
        "sort what comes from sets, and use no global randomness",
    )


def check_imports(subject: Subject) -> None:
    """A plugin imports only the public parts of molgen."""
    bad = sorted(set(_foreign_imports(type(subject.modality))))
    demand(
        not bad,
        f"imports {', '.join(bad)}",
        "a plugin may import molgen.core, molgen.nn, molgen.io, molgen.metrics and molgen.testing, which "
        "stay as they are",
    )


# --------------------------------------------------------------------------- sizes, conditions


def check_sizes(subject: Subject) -> None:
    """Sizes come from the data, and that of sample i depends on (seed, i) alone."""
    m = subject.fitted
    drawn = m.draw_sizes(0, range(40))
    demand(
        drawn == m.draw_sizes(0, range(20)) + m.draw_sizes(0, range(20, 40)),
        "sizes depend on which samples are drawn together",
        "draw the size of sample i with molgen.core.rng.generator(seed, i, ...)",
    )
    demand(
        all(type(n) is int and n >= 1 for n in drawn),
        f"sizes {drawn[:5]} are no positive int",
        "give plain numbers of sites, at least 1",
    )
    demand(
        all(m.log_size(n) > -math.inf for n in drawn),
        "a size is drawn that has log_size minus infinity",
        "use one histogram for draw_sizes and log_size",
    )
    batch = subject.batch(next(iter(m.views)))
    demand(
        all(m.log_size(n) > -math.inf for n in batch.sizes.tolist()),
        "log_size of a record that the modality was fitted to is minus infinity",
        "take the histogram from the records in fitted",
    )
    total = sum(math.exp(m.log_size(n)) for n in range(1, max(m.max_size, 1) + 1))
    demand(total < 1 + 1e-6, f"p(size) sums to {total:.6g}", "divide the counts by their sum")


def check_conditions(subject: Subject) -> None:
    """Every condition is measured on records or is a label of the data; values are parsed or refused."""
    m = subject.fitted
    for name, condition in m.conditions.items():
        demand(condition.name == name, f"condition {name!r} calls itself {condition.name!r}", "use one name")
        value = torch.tensor([condition.missing(), condition.parse(0)])
        features = condition.features(value)
        demand(
            tuple(features.shape) == (2, condition.width) and bool(torch.isfinite(features).all()),
            f"condition {name!r}: features {tuple(features.shape)}, expected {(2, condition.width)}",
            "use molgen.core.conditions.Label or Scalar",
        )
        try:
            measured = m.measure(subject.records[0], name)
        except UnsupportedError:
            demand(
                name in getattr(subject.records, "labels", {}) or name in subject.modality.conditions,
                f"condition {name!r} can neither be measured nor is it a label of the data",
                "give `measure`, or data with this label",
            )
        else:
            demand(isinstance(float(measured), float), "a measure is no number", "return a float")
    with refused("a condition that is not there", "leave `measure`", UnsupportedError, ConfigError):
        m.measure(subject.records[0], "no such condition")


# --------------------------------------------------------------------------- networks


def check_unknown_names(subject: Subject) -> None:
    """Unknown views, networks and options are refused with the choices."""
    m = subject.fitted
    view = next(iter(m.views.values()))
    fix = "raise ConfigError.unknown(what, name, choices)"
    with refused("view 'no such view'", fix, ConfigError) as caught:
        m.view("no such view")
    demand("no such view" in str(caught[0]), f"the error says {caught[0]}", fix)
    for what, causal in (("trunk", False), ("causal trunk", True)):

        def make(spec: Any, causal: bool = causal) -> Any:
            return (m.causal_trunk if causal else m.trunk)(replace(spec, causal=causal), "no such network")

        with refused(f"{what} 'no such network'", fix, ConfigError) as caught:
            Denoiser(view.fields, make)
        demand("no such network" in str(caught[0]), f"the error says {caught[0]}", fix)


# --------------------------------------------------------------------------- edges


def check_bad_records(subject: Subject) -> None:
    """The error of an invalid record names its number; `is_valid` is false for it."""
    m = subject.fitted
    view = next(iter(m.views))
    fix = "check the type first: raise DataError('a record of type ..., expected ...', fix=...)"
    for bad in (object(), None):
        with refused(f"encode of a {type(bad).__name__}", fix, DataError):
            m.encode(bad, view)
        demand(
            not _quietly(m.is_valid, bad, f"is_valid of a {type(bad).__name__}"),
            f"is_valid says yes to a {type(bad).__name__}",
            "answer False for what cannot be encoded",
        )
    with refused("a batch whose second record is bad", fix, DataError) as caught:
        m.encode_all([subject.records[0], object()], view)
    demand("record 2" in str(caught[0]), f"the error says {caught[0]}", "leave encode_all to name the record")
    with refused("fitted to no records", "raise DataError('no records ...')", MolgenError):
        m.fit_to(Records([]))


def check_files(subject: Subject) -> None:
    """Written records are read back in order; errors of invalid files name the file."""
    m = subject.fitted
    view = next(iter(m.views))
    some = Records(list(subject.records[:4]), {}, "some")
    with tempfile.TemporaryDirectory() as folder:
        for form in m.formats:
            for suffix in form.suffixes:
                path = Path(folder) / ("some" if suffix == "/" else f"some{suffix}")
                if form.write is not None and not path.exists():
                    write(m, path, some)
                    demand(
                        path.exists(), f"{suffix}: writing leaves no file {path.name}", "write at the path"
                    )
                    if form.read is not None:
                        _check_file(m, view, path, some, suffix)
                if form.read is not None and suffix != "/":
                    bad = Path(folder) / f"bad{suffix}"
                    bad.write_bytes(b"")
                    with refused(f"an empty {suffix}", "read with molgen.io.files", DataError) as caught:
                        read(m, bad)
                    demand(bad.name in str(caught[0]), f"the error says {caught[0]}", "name the file")


def check_datasets(subject: Subject) -> None:
    """Embedded data sets have their splits, with records that can be encoded."""
    for name, source in subject.modality.datasets.items():
        demand(source.name == name, f"data set {name!r} calls itself {source.name!r}", "use one name")
        if source.files:
            continue
        for part in source.splits:
            found = source.load(part)
            demand(
                isinstance(found, Records) and len(found),
                f"split {part!r} of {name!r} holds no Records",
                "return molgen.io.data.Records with at least one item",
            )
            subject.modality.fit_to(found[:_SEEN]).encode(found[0], next(iter(subject.modality.views)))


_SEEN = 20


def check_scores(subject: Subject) -> None:
    """Scores are numbers by name; records of the data are valid."""
    m = subject.fitted
    few = list(subject.records[:12])  # some scores compare every pair
    scores = m.evaluate(few, Records(few * 2, {}, "reference"))
    demand(
        scores and all(isinstance(k, str) and isinstance(v, (float, int)) for k, v in scores.items()),
        "evaluate gives no scores",
        "return a dict from names to floats",
    )
    demand(
        all(m.is_valid(record) for record in subject.records),
        "is_valid says no to a record of the data",
        "let it accept what the data hold, or check with valid records",
    )


def check_picture(subject: Subject) -> None:
    """Records can be drawn to a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.png"
        subject.fitted.plot(list(subject.records[:4]), path)
        demand(
            path.is_file() and path.read_bytes()[:4] == b"\x89PNG",
            "plot leaves no PNG at the path",
            "save with format='png' at the path it was given",
        )


CHECKS = {
    "declaration": check_declaration,
    "configuration": check_configuration,
    "fitting": check_fitting,
    "imports": check_imports,
    "encoding": codec.check_encoding,
    "round trip": codec.check_round_trip,
    "decoding is total": codec.check_decoding_is_total,
    "padding and masks": codec.check_padding_and_masks,
    "motion": codec.check_motion,
    "sizes": check_sizes,
    "conditions": check_conditions,
    "trunk": network.check_trunk,
    "unknown names": check_unknown_names,
    "bad records": check_bad_records,
    "files": check_files,
    "datasets": check_datasets,
    "scores": check_scores,
    "picture": check_picture,
}
"""The checks of a modality without a family, by what is promised."""


# --------------------------------------------------------------------------- parts


def _check_file(m: Modality, view: str, path: Path, some: Records, suffix: str) -> None:
    back = read(m, path)
    demand(
        len(back) == len(some),
        f"{suffix}: {len(back)} records come back of {len(some)}",
        "write one record per sample, in order",
    )
    for i, (a, b) in enumerate(zip(some, back, strict=True)):
        different = agree(m.encode(a, view), m.encode(b, view), 2 * CLOSE, m.views[view])
        demand(
            not different,
            f"{suffix}: record {i + 1} comes back changed: {different}",
            "write enough digits, and read what was written",
        )


def _quietly(function: Any, value: Any, what: str) -> Any:
    try:
        return function(value)
    except Exception as error:
        raise Complaint(f"{what} raises {type(error).__name__}", "answer False instead of raising") from error


def _foreign_imports(kind: type[Modality]) -> Iterator[str]:
    """Imports of private parts of molgen in the package of a class; none for molgen itself."""
    top = kind.__module__.split(".")[0]
    if top in ("molgen", "__main__", "tests"):
        return
    spec = importlib.util.find_spec(top) if top not in sys.modules else sys.modules[top].__spec__
    origin = None if spec is None else spec.origin
    if origin is None:
        return
    path = Path(origin)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                public = any(name == good or name.startswith(f"{good}.") for good in _ALLOWED)
                if name.startswith("molgen.") and not public:
                    yield name
