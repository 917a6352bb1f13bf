"""The promises of the codec of every modality: each check takes a `Subject` and raises a `Complaint`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import torch

from molgen.core.batch import Sample, split
from molgen.core.modality import Modality, View
from molgen.core.rng import generator
from molgen.nn.check import random_rotation
from molgen.testing.report import Complaint, demand
from molgen.testing.subject import Subject, apart, garbage

_EXACT, CLOSE = 1e-4, 1e-3
"""Relative differences that are none, of what is written at once and of what goes through a file."""


def check_encoding(subject: Subject) -> None:
    """Arrays have the fields' names, types and extents, are finite, and the record is unchanged."""
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
                agree(sample, again, 0.0, view) == "",
                f"{where}: encode differs from call to call ({agree(sample, again, 0.0, view)})",
                "sort what comes from sets, and use no randomness",
            )
            _check_arrays(m, view, sample, where)


def check_round_trip(subject: Subject) -> None:
    """A decoded object encodes to the same arrays again, in every view."""
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
            different = agree(sample, m.encode(back, name), CLOSE, view)
            # A view that is not bijective may choose among equal descriptions, but always in the same way.
            if different and not view.bijective:
                once = m.encode(back, name)
                different = agree(once, m.encode(m.decode(once, name), name), CLOSE, view)
            demand(
                not different,
                f"record {i + 1} in view {name!r} comes back changed: {different}",
                "let decode invert encode; if several arrays mean one object, encode a canonical one",
            )


def check_decoding_is_total(subject: Subject) -> None:
    """Every sample of a model is decoded, and its validity can be computed."""
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
    """Batches contain the samples and zeros, satisfy the constraints of fields, and split into samples."""
    m = subject.fitted
    for name, view in m.views.items():
        batch = subject.batch(name)
        samples = subject.samples(name)[: len(batch)]
        for i, (a, b) in enumerate(zip(samples, split(batch), strict=True)):
            different = agree(a, b, 0.0, view)
            demand(
                not different,
                f"sample {i + 1} of a batch in view {name!r} is not what was encoded: {different}",
                "leave encode_all, or override it so that split gives the samples back",
            )
        template = m.make_mask(batch.sizes.tolist())
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
    """Views that claim to be invariant to motions are."""
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
            different = agree(m.encode(here, view.name), m.encode(there, view.name), 20 * CLOSE, view)
            demand(
                not different,
                f"view {view.name!r} claims to be invariant but changes when the object turns: {different}",
                "use distances, angles and torsions, or say invariant=False",
            )


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


def agree(a: Sample, b: Sample, bound: float, view: View) -> str:
    """The fields in which two samples differ by more than `bound` of their size."""
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
    """A fingerprint of a record that changes with it."""
    if isinstance(record, np.ndarray):
        return record.tobytes()
    try:
        return pickle.dumps(copy.copy(record))
    except Exception:  # objects that cannot be pickled are not compared
        return None
