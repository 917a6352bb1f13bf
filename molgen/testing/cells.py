"""The promises of every pair of family and modality: each check takes a `Cell` and raises a `Complaint`."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path

import torch

from molgen import api
from molgen.core.errors import ConfigError, DataError, MolgenError, UnsupportedError
from molgen.testing.report import demand, refused
from molgen.testing.subject import Cell, apart

_ROUGH = {"draws": 2, "steps": 20, "chains": 8, "temperatures": 20}
"""Options of a likelihood that make a rough one quick, of which a family gets those that it has."""


def check_construction(cell: Cell) -> None:
    """The pair works, or is refused at construction with the missing property."""
    if cell.refusal:
        demand(
            cell.family.family in cell.refusal,
            f"the refusal says {cell.refusal!r}",
            "name the family, the modality and the property that is missing",
        )
        return
    model = cell.tiny()
    demand(repr(model), "no representation", "leave __repr__ alone")
    with refused("a sample before fit", "call self.trained first", ConfigError):
        model.sample(1)


def check_training(cell: Cell) -> None:
    """Five steps change the weights, keep them finite, and are recorded."""
    model = cell.trained
    weights = model.tensors()
    demand(
        all(bool(torch.isfinite(w).all()) for w in weights.values() if w.is_floating_point()),
        "weights are not finite after five steps",
        "look for a division by zero or a logarithm of zero in the field's or the trunk's verbs",
    )
    begun = cell.tiny()
    begun.modality, begun.conditions = model.modality, model.conditions
    first = begun._built(0).state_dict()
    demand(
        any(not torch.equal(first[k].float(), weights[k].float()) for k in first if k in weights),
        "five steps change no weight",
        "let losses depend on the network that it is given",
    )
    demand(model.history["steps"] == 5, f"{model.history['steps']} steps are recorded", "leave fit alone")


def check_seeds(cell: Cell) -> None:
    """Equal seeds give bit-identical samples, another seed gives other samples."""
    first, again, other = (cell.draw(4, seed=s) for s in (0, 0, 1))
    demand(
        all(torch.equal(a[k], b[k]) for a, b in zip(first, again, strict=True) for k in a),
        "the same seed gives other samples",
        "draw from the `noise` that is handed in, never from torch's global generator",
    )
    demand(
        any(
            a[k].shape != b[k].shape or not torch.equal(a[k], b[k])
            for a, b in zip(first, other, strict=True)
            for k in a
        ),
        "another seed gives the same samples",
        "draw from the `noise` that is handed in",
    )


def check_batch_sizes(cell: Cell) -> None:
    """Samples do not depend on the batch size, except for rounding."""
    together, alone = (cell.draw(6, batch_size=size) for size in (6, 2))
    fields, same, errors = cell.trained.view.fields, 0.0, []
    for a, b in zip(together, alone, strict=True):
        reals = [k for k in a if a[k].is_floating_point()]
        parts = [float(apart(fields[k], a[k], b[k]).max()) / max(1.0, float(a[k].abs().max())) for k in reals]
        errors.append(max(parts, default=0.0))
        same += all(torch.equal(a[k], b[k]) for k in a if not a[k].is_floating_point())
    demand(
        max(errors) <= 1e-4,
        f"reals differ by {', '.join(f'{e:.2g}' for e in errors)} with the batch size",
        "keep samples apart in the network: mask padding, normalise per sample",
    )
    demand(
        same / len(together) >= 0.99,
        f"{len(together) - same:.0f} of {len(together)} samples have other classes with the batch size",
        "keep samples apart in the network: mask padding, normalise per sample",
    )


def check_constraints(cell: Cell) -> None:
    """Samples have the types of the fields, satisfy their constraints, are finite, also in half precision."""
    fields = cell.trained.view.fields
    grid = cell.trained.modality.extent is not None
    for sample in [*cell.draw(4), *cell.draw(2, precision="bf16")]:
        for k, x in sample.items():
            f = fields[k]
            demand(
                bool(torch.isfinite(x.float()).all()), f"field {k!r} is not finite", "project after a step"
            )
            demand(
                x.is_floating_point() != bool(f.num_classes),
                f"field {k!r} is drawn as {x.dtype}",
                "return reals for reals, and hardened integers for classes",
            )
            mask = torch.ones(1, *(x.shape[:2] if grid else x.shape[:1]), dtype=torch.bool)
            legal = f.project(x[None], mask)[0]
            error = float(apart(f, x, legal).max())
            demand(
                error <= 1e-4 * max(1.0, float(x.abs().max())),
                f"field {k!r} breaks its constraint by {error:.3g}",
                "end `generate` with the field's project",
            )


def check_objects(cell: Cell) -> None:
    """`sample` returns domain objects of the type of the data, in order, for every n."""
    model, quick = cell.trained, cell.quick(cell.trained)
    samples = model.sample(3, seed=0, **quick)
    wanted = type(cell.subject.records[0])
    demand(
        len(samples) == 3 and {type(s) for s in samples} == {wanted},
        f"sample gives {[type(s).__name__ for s in samples]}, expected 3 of {wanted.__name__}",
        "let decode build what encode takes",
    )
    demand(model.sample(0, **quick) == [], "n=0 gives samples", "leave sample alone")


def check_files(cell: Cell) -> None:
    """A saved and loaded model is the same model and draws the same samples."""
    model = cell.trained
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        loaded = api.load(path)
    demand(
        loaded.header() == model.header(),
        "the loaded model has another header: " + ", ".join(_differences(model.header(), loaded.header())),
        "declare every option of the constructor in options_type, and every part of the modality in config",
    )
    demand(
        all(
            torch.equal(a[k], b[k])
            for a, b in zip(cell.draw(3), cell.draw(3, model=loaded), strict=True)
            for k in a
        ),
        "the loaded model draws other samples",
        "keep all that sampling needs in the weights (buffers) or the header",
    )


def check_likelihood(cell: Cell) -> None:
    """log p of each record is finite, or refused with the families that have one."""
    model, records = cell.trained, cell.subject.records[:3]
    if model.likelihood == "none":
        with refused("log_prob without a likelihood", "leave log_density", UnsupportedError) as caught:
            model.log_prob(records)
        demand(model.family in str(caught[0]), f"the error says {caught[0]}", "name the family")
        return
    taken = inspect.signature(model.log_density).parameters
    options = {name: value for name, value in _ROUGH.items() if name in taken}
    values = model.log_prob(records, **options)
    demand(
        values.shape == (3,) and bool(torch.isfinite(values).all()),
        f"log_prob gives {values.tolist()}",
        "give log p of the values per sample; if a size has no probability, see log_size",
    )


def check_randomness(cell: Cell) -> None:
    """Sampling does not use the global generator of torch."""
    before = torch.get_rng_state()
    cell.draw(2)
    demand(
        torch.equal(before, torch.get_rng_state()),
        "sampling draws from torch's global generator",
        "draw from the `noise` that is handed in",
    )


def check_bad_input(cell: Cell) -> None:
    """Errors name invalid records, unknown options and unknown conditions."""
    model = cell.trained
    with refused("fit to bad records", "let encode raise DataError", DataError, ConfigError):
        cell.tiny().fit([object()] * 4, max_steps=1)
    with refused("an unknown sampling option", "leave sample alone", MolgenError) as caught:
        model.sample(1, no_such_option=1)
    demand("no_such_option" in str(caught[0]), f"the error says {caught[0]}", "name the option")
    with refused("an unknown condition", "leave fit alone", ConfigError, UnsupportedError) as caught:
        cell.tiny().fit(cell.subject.records, condition=["no such label"], max_steps=1)
    demand("no such label" in str(caught[0]), f"the error says {caught[0]}", "name the condition")


def check_devices(cell: Cell) -> None:
    """Samples are drawn on every device of torch."""
    if not torch.cuda.is_available():
        return
    model = cell.trained.to("cuda")
    try:
        demand(len(model.sample(2, **cell.quick(model))) == 2, "no samples on cuda", "use mask.device")
    finally:
        model.to("cpu")


CHECKS = {
    "construction": check_construction,
    "training": check_training,
    "seeds": check_seeds,
    "batch sizes": check_batch_sizes,
    "constraints": check_constraints,
    "objects": check_objects,
    "files": check_files,
    "likelihood": check_likelihood,
    "randomness": check_randomness,
    "bad input": check_bad_input,
    "devices": check_devices,
}
"""The checks of a pair, by what is promised; all but the first need one that works."""


def _differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    return [key for key in {*a, *b} if a.get(key) != b.get(key)]
