"""What every modality promises by itself: each check takes a `Subject` and raises a `Complaint`."""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import math
import pickle
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molgen.core.batch import Sample, split
from molgen.core.errors import ConfigError, DataError, MolgenError, UnsupportedError
from molgen.core.fields import Field
from molgen.core.modality import Modality, View
from molgen.core.noise import generator
from molgen.core.records import Records
from molgen.core.wrappers.denoiser import Denoiser
from molgen.io.formats import read, write
from molgen.nn.check import random_rotation
from molgen.testing import network
from molgen.testing.report import Complaint, demand, refused
from molgen.testing.subject import Subject, apart, garbage

_EXACT, _CLOSE = 1e-4, 1e-3
_ALLOWED = ("molgen.core", "molgen.nn", "molgen.io", "molgen.metrics", "molgen.testing", "molgen.models")


# --------------------------------------------------------------------------- what it declares


def check_declaration(subject: Subject) -> None:
    """Name, version, views and fields are what they should be."""
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
    """What the fields of a view are: their kinds, and the numbers in them."""
    plain = (int, float, str, tuple)
    return {
        k: (type(f), {n: v for n, v in vars(f).items() if isinstance(v, plain)})
        for k, f in view.fields.items()
    }


def check_fitting(subject: Subject) -> None:
    """Fitting gives a new modality, the same one each time, and leaves the old one alone."""
    m = subject.modality
    before = json.dumps(m.config(), sort_keys=True)
    first, second = m.fitted(subject.records), m.fitted(subject.records)
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
    """A plugin imports nothing of molgen but its public parts."""
    bad = sorted(set(_foreign_imports(type(subject.modality))))
    demand(
        not bad,
        f"imports {', '.join(bad)}",
        "a plugin may import molgen.core, molgen.nn, molgen.io, molgen.metrics and molgen.testing, which "
        "stay as they are",
    )


# --------------------------------------------------------------------------- the codec


def check_encoding(subject: Subject) -> None:
    """Arrays have the fields' names, types and extents, are finite, and the record stays as it was."""
    m = subject.fitted
    for name, view in m.views.items():
        for i, record in enumerate(subject.records):
            before = _frozen(record)
            sample, again = m.encode(record, name), m.encode(record, name)
            where = f"record {i + 1} in view {name!r}"
            demand(_frozen(record) == before, f"{where}: encode changes the record", "work on a copy")
            demand(
                set(sample) == set(view.fields),
                f"{where}: encode gives {sorted(sample)}, expected {sorted(view.fields)}",
                "give one array for each field of the view",
            )
            demand(
                _agree(sample, again, 0.0, view) == "",
                f"{where}: encode differs from call to call ({_agree(sample, again, 0.0, view)})",
                "sort what comes from sets, and use no randomness",
            )
            _check_arrays(m, view, sample, where)


def check_round_trip(subject: Subject) -> None:
    """Decoding what was encoded gives an object that encodes to the same arrays, in every view."""
    m = subject.fitted
    for name, view in m.views.items():
        for i, record in enumerate(subject.records):
            sample = m.encode(record, name)
            back = m.decode(sample, name)
            demand(
                isinstance(back, type(record)) or isinstance(record, type(back)),
                f"decode gives {type(back).__name__}, expected {type(record).__name__} as the records are",
                "build the domain object that encode takes",
            )
            different = _agree(sample, m.encode(back, name), _CLOSE, view)
            # What is no bijection may choose among equal descriptions, but must then stay with its choice.
            if different and not view.bijective:
                once = m.encode(back, name)
                different = _agree(once, m.encode(m.decode(once, name), name), _CLOSE, view)
            demand(
                not different,
                f"record {i + 1} in view {name!r} comes back changed: {different}",
                "let decode invert encode; if several arrays mean one object, encode a canonical one",
            )


def check_decoding_is_total(subject: Subject) -> None:
    """Whatever a model draws is decoded, and what comes out can be asked whether it is valid."""
    m, draw = subject.fitted, np.random.default_rng(0)
    for name, view in m.views.items():
        sites = m.draw_sizes(0, range(3))
        shapes = [m.extent] if m.extent is not None else [(n,) for n in {1, 2, *sites}]
        for shape in shapes:
            for scale in (1.0, 30.0):
                sample = {k: garbage(f, shape, draw, scale) for k, f in view.fields.items()}
                mask = torch.ones(1, *shape, dtype=torch.bool)
                legal = {
                    k: f.project(torch.from_numpy(sample[k])[None], mask)[0].numpy()
                    for k, f in view.fields.items()
                }
                try:
                    m.is_valid(m.decode(legal, name))
                except Exception as error:
                    raise Complaint(
                        f"random values of {shape} sites in view {name!r}: {type(error).__name__} ({error})",
                        "decode must take whatever a model drew, and the class beyond the last (a mask left "
                        "over); is_valid must answer; build an invalid object instead of raising",
                    ) from error


def check_padding_and_masks(subject: Subject) -> None:
    """Batches hold the samples and zeros, obey the fields' constraints, and fall apart into the samples."""
    m = subject.fitted
    for name, view in m.views.items():
        batch = subject.batch(name)
        samples = subject.samples(name)[: len(batch)]
        for i, (a, b) in enumerate(zip(samples, split(batch), strict=True)):
            different = _agree(a, b, 0.0, view)
            demand(
                not different,
                f"sample {i + 1} of a batch in view {name!r} is not what was encoded: {different}",
                "leave encode_all, or override it so that split gives the samples back",
            )
        template = m.template(batch.sizes.tolist())
        demand(
            template.shape == batch.mask.shape and bool((template == batch.mask).all()),
            f"template of sizes {batch.sizes.tolist()} is not the mask of such a batch",
            "a size is the number of sites, the first axis of every array (or all sites of a grid)",
        )
        for k, f in view.fields.items():
            x = batch.values[k]
            error = float(apart(f, f.project(x, batch.mask), x).max())
            demand(
                error <= _EXACT * max(1.0, float(x.double().abs().max())),
                f"field {k!r} of view {name!r} breaks its constraint by {error:.3g}",
                "centre positions, wrap angles to (-pi, pi], keep pairs symmetric with a zero diagonal",
            )


def check_motion(subject: Subject) -> None:
    """Views that claim not to change when the object moves do not."""
    m = subject.fitted
    moving = [v for v in m.views.values() if any(f.stream == "point" for f in v.fields.values())]
    still = [v for v in m.views.values() if v.invariant]
    for view in still:
        demand(
            not any(f.stream == "point" for f in view.fields.values()),
            f"view {view.name!r} claims to be invariant but holds points",
            "say invariant=False",
        )
    if not moving or not still:
        return
    turn = random_rotation(generator(0, 1)).numpy()
    for record in subject.records[:4]:
        sample = m.encode(record, moving[0].name)
        turned = {
            k: (v @ turn).astype(v.dtype) if moving[0].fields[k].stream == "point" else v
            for k, v in sample.items()
        }
        here, there = (m.decode(s, moving[0].name) for s in (sample, turned))
        for view in still:
            different = _agree(m.encode(here, view.name), m.encode(there, view.name), 20 * _CLOSE, view)
            demand(
                not different,
                f"view {view.name!r} claims to be invariant but changes when the object turns: {different}",
                "use distances, angles and torsions, or say invariant=False",
            )


# --------------------------------------------------------------------------- sizes, conditions


def check_sizes(subject: Subject) -> None:
    """Sizes come from the data, and that of sample i depends on (seed, i) alone."""
    m = subject.fitted
    drawn = m.draw_sizes(0, range(40))
    demand(
        drawn == m.draw_sizes(0, range(20)) + m.draw_sizes(0, range(20, 40)),
        "sizes depend on which samples are drawn together",
        "draw the size of sample i with molgen.core.noise.generator(seed, i, ...)",
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
    total = sum(math.exp(m.log_size(n)) for n in range(1, max(m.largest, 1) + 1))
    demand(total < 1 + 1e-6, f"p(size) sums to {total:.6g}", "divide the counts by their sum")


def check_conditions(subject: Subject) -> None:
    """Every condition says what it measures, or that only data can tell; values are read and refused."""
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
    """Unknown views, networks and options are refused with the choices there are."""
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
    """What is no record is refused by its number; it is no valid object either."""
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
        m.fitted(Records([]))


def check_files(subject: Subject) -> None:
    """What is written comes back, in order; files that are none are refused by name."""
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
    """Embedded data sets have the splits they name, of records that can be encoded."""
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
            subject.modality.fitted(found[:_SEEN]).encode(found[0], next(iter(subject.modality.views)))


_SEEN = 20


def check_scores(subject: Subject) -> None:
    """Scores are numbers by name; data do not score as bad samples do."""
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
    "encoding": check_encoding,
    "round trip": check_round_trip,
    "decoding is total": check_decoding_is_total,
    "padding and masks": check_padding_and_masks,
    "motion": check_motion,
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


def _check_arrays(m: Modality, view: View, sample: Sample, where: str) -> None:
    sites = {np.asarray(v).shape[: len(m.extent or (0,))] for v in sample.values()}
    demand(
        len(sites) == 1 and all(min(shape, default=0) > 0 for shape in sites),
        f"{where}: fields have sites {sorted(sites)}",
        "give every field the same number of sites, at least one, on the first axis",
    )
    extent = next(iter(sites))
    demand(
        m.extent is None or extent == m.extent,
        f"{where}: sites {extent}, but the extent is {m.extent}",
        "let encode refuse what has another extent",
    )
    for name, f in view.fields.items():
        value = sample[name]
        demand(isinstance(value, np.ndarray), f"{where}: {name!r} is no array", "return numpy arrays")
        expected = extent * f.axes
        demand(
            value.shape[: len(expected)] == expected and value.ndim == len(expected) + len(f.shape),
            f"{where}: {name!r} has shape {value.shape}, expected {expected}{' and channels' * len(f.shape)}",
            "classes have no channel axis, reals have one, pairs have two site axes",
        )
        if f.num_classes:
            demand(
                value.dtype.kind in "iu", f"{where}: {name!r} is {value.dtype}", "give classes as integers"
            )
            demand(
                value.min() >= 0 and value.max() < f.num_classes,
                f"{where}: {name!r} has classes {value.min()} to {value.max()} of {f.num_classes}",
                "count the classes in fitted, and refuse others with DataError",
            )
        else:
            demand(value.dtype == np.float32, f"{where}: {name!r} is {value.dtype}", "give float32")
            demand(np.isfinite(value).all(), f"{where}: {name!r} is not finite", "refuse it with DataError")


def _check_file(m: Modality, view: str, path: Path, some: Records, suffix: str) -> None:
    back = read(m, path)
    demand(
        len(back) == len(some),
        f"{suffix}: {len(back)} records come back of {len(some)}",
        "write one record per sample, in order",
    )
    for i, (a, b) in enumerate(zip(some, back, strict=True)):
        different = _agree(m.encode(a, view), m.encode(b, view), 2 * _CLOSE, m.views[view])
        demand(
            not different,
            f"{suffix}: record {i + 1} comes back changed: {different}",
            "write enough digits, and read what was written",
        )


def _agree(a: Sample, b: Sample, bound: float, view: View) -> str:
    """Where two samples differ by more than `bound` of their size; empty if nowhere."""
    if set(a) != set(b):
        return f"fields {sorted(a)} and {sorted(b)}"
    for name, first in a.items():
        second = b[name]
        if first.shape != second.shape:
            return f"{name!r} of shapes {first.shape} and {second.shape}"
        if not first.size:
            continue
        gap = apart(view.fields[name], first, second).numpy()
        error = gap.max()
        if error > bound * max(1.0, np.abs(first).max()) or np.isnan(error):
            place = np.unravel_index(int(gap.argmax()), gap.shape)
            return f"{name!r} has {first[place]:.6g} and {second[place]:.6g}"
    return ""


def _frozen(record: Any) -> Any:
    """What changes if the record does, as far as that can be seen."""
    if isinstance(record, np.ndarray):
        return record.tobytes()
    try:
        return pickle.dumps(copy.copy(record))
    except Exception:  # what cannot be pickled is not compared
        return None


def _quietly(function: Any, value: Any, what: str) -> Any:
    try:
        return function(value)
    except Exception as error:
        raise Complaint(f"{what} raises {type(error).__name__}", "answer False instead of raising") from error


def _foreign_imports(kind: type[Modality]) -> Iterator[str]:
    """What the package of a class imports of molgen beyond the public parts; nothing for molgen's own."""
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
