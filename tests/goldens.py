"""What the shipped models give, to compare before and after a change.

`python -m tests.goldens record FILE` writes for every shipped model hashes of 16 samples (seed 0, one thread,
fp32), of four encoded records, of their log p and of a forward pass; on one machine they are equal if no
result has changed. `compare FILE` computes them again. `update` rewrites `goldens.json`, numbers that are
near on any machine.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import molgen
import molgen.api
from molgen.core.records import Records
from molgen.core.rng import SampleRandom
from molgen.testing.subject import Subject

STORED = Path(__file__).with_name("goldens.json")
_ROUGH = {"draws": 2, "steps": 8, "chains": 4, "temperatures": 20}
"""Options of a likelihood that make a rough one quick, of which a family gets those that it has."""
_SHOWN = 8
"""Entries of each output of a network that are stored beside its mean and its standard deviation."""


def records(modality: Any) -> Records:
    """Four records of the modality's embedded data set; digits in black and white on 28 x 28 pixels."""
    found = Subject(modality).records[:4]
    if modality.name != "image":
        return found
    large = [np.kron(image[..., 0] > 127, np.ones((3, 3))) for image in found]
    return Records([255 * np.pad(image, 2)[..., None].astype(np.uint8) for image in large], found.labels)


def log_prob(model: Any) -> list[float] | None:
    """log p of the four records, roughly, in nats; None where the family has no likelihood."""
    if model.likelihood == "none":
        return None
    taken = inspect.signature(model.log_density).parameters
    options = {k: v for k, v in _ROUGH.items() if k in taken}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[float] = model.log_prob(records(model.modality), seed=0, **options).tolist()
    return found


def forward(model: Any) -> dict[str, list[float]]:
    """One forward pass of each network: mean, standard deviation and first entries of every output."""
    found = {}
    for part, network in model.parts().items():
        n = model.modality.max_size if getattr(network, "fixed_size", False) else 7
        mask = model.modality.make_mask([n, max(1, n - 1)])
        with torch.no_grad():
            out = network(**network.example(mask, SampleRandom(0, range(2))))
        for i, value in enumerate(_tensors(out)):
            flat = value.double().flatten()
            shown = [flat.mean(), flat.std(), *flat[:_SHOWN]]
            found[f"{part}.{i}"] = [round(float(x), 6) for x in shown]
    return found


def measured(name: str) -> dict[str, str]:
    """Hashes of what a model gives."""
    model = molgen.load(name)
    found = {"samples": digest(list(model.sample(16, seed=0)))}
    batch = model.encode(records(model.modality))
    found["encoded"] = digest([batch.values, batch.mask])
    found["log_prob"] = digest(log_prob(model))
    found["forward"] = digest(forward(model))
    return found


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _tensors(value)


def digest(tree: Any) -> str:
    """A hash of records, arrays and numbers, to the bit."""
    found = hashlib.sha256()
    for piece in _pieces(tree):
        found.update(piece)
    return found.hexdigest()[:16]


def _pieces(tree: Any) -> Iterator[bytes]:
    if isinstance(tree, (np.ndarray, Tensor)):
        array = np.ascontiguousarray(tree)
        yield f"{array.dtype}{array.shape}".encode()
        yield array.tobytes()
    elif hasattr(tree, "ToBinary"):  # a molecule of RDKit
        yield tree.ToBinary()
    elif isinstance(tree, dict):
        for key in sorted(tree):
            yield key.encode()
            yield from _pieces(tree[key])
    elif is_dataclass(tree):
        for field in fields(tree):
            yield from _pieces(getattr(tree, field.name))
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _pieces(value)
    else:
        yield repr(tree).encode()


def main(verb: str, target: str, *names: str) -> int:
    """Records, or compares; the exit status is 1 if anything differs."""
    torch.set_num_threads(1)
    path, wrong = Path(target), 0
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in names or sorted(molgen.api.list_weights()):
        begun = time.perf_counter()
        found = measured(name)
        if verb == "record":
            known[name] = found
            path.write_text(json.dumps(known, indent=1) + "\n")
        same = [key for key in found if known.get(name, {}).get(key) == found[key]]
        wrong += len(same) < len(found)
        differs = "" if len(same) == len(found) else f"  DIFFERS in {sorted(set(found) - set(same))}"
        print(f"{name:32} {time.perf_counter() - begun:6.1f} s{differs}", flush=True)
    return int(wrong > 0)


def update() -> None:
    """Rewrites the numbers that the tests compare with."""
    torch.set_num_threads(1)
    found = {}
    for name in sorted(molgen.api.list_weights()):
        model = molgen.load(name)
        found[name] = {"forward": forward(model), "log_prob": log_prob(model)}
    STORED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "update":
        update()
    else:
        sys.exit(main(*sys.argv[1:]))
