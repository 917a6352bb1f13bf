"""The smallest useful model of every modality, on embedded data; shared by the tests of families."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

import molgen
from molgen.core.records import Records
from molgen.core.registry import get_modality
from molgen.models.base import GenerativeModel
from molgen.testing import subject

PAIR = {"width": 24, "pair_width": 8, "depth": 1, "heads": 2, "vectors": 2}
TRUNKS: dict[str, dict[str, Any]] = {
    "image": {"width": 16, "multipliers": (1,), "attention": (False,)},
    "smiles": {"width": 32, "depth": 1, "heads": 2},
    "graph": PAIR,
    "molecule": PAIR,
    "protein": PAIR,
}
EMBEDDED = {"image": "digits", "smiles": "gdb6", "graph": "gdb6", "molecule": "gdb6", "protein": "ideal"}


@lru_cache
def records(name: str, count: int = 24) -> Records:
    """A few records of the embedded data set."""
    loaded: Records = get_modality(name).datasets[EMBEDDED[name]].load("train")[:count]
    return loaded


STEPPED = {"steps": 3}
FAMILIES: dict[str, dict[str, Any]] = {
    "autoregressive": {},
    "consistency": STEPPED,
    "diffusion": STEPPED,
    "energy": STEPPED,
    "flow": STEPPED,
    "gan": {},
    "flow-coupling": {},
    "flow-nice": {},
    "vae": {},
}
"""Families, and kinds of them after a dash, with the sampling options that make them quick."""

CAUSAL = {"width": 24, "depth": 1, "heads": 2}
CELLS = [(f, m) for f in FAMILIES for m in sorted(TRUNKS)]


def tiny(name: str, family: str = "diffusion", **options: Any) -> GenerativeModel:
    """An unfitted small model."""
    trunk = TRUNKS[name]
    if family == "autoregressive":
        trunk = {"width": 8, "depth": 2} if name == "image" else CAUSAL
    if family == "vae":
        options = {"latent": 4, "decoder_options": None if name == "image" else CAUSAL, **options}
    family, _, kind = family.partition("-")
    if kind:
        options = {"kind": kind, "layers": 4, **options}
    if kind == "coupling" and name == "image":
        trunk = {"width": 16, "depth": 1}
    if kind == "nice" and name == "image":
        trunk = {}  # the network reads the whole image as a vector
    make = molgen.list_families()[family]
    model: GenerativeModel = make(name, trunk_options=trunk, width=16, **options)
    return model


@lru_cache
def fitted(name: str, family: str = "diffusion") -> GenerativeModel:
    """A model after a few steps; shared, so never change it."""
    return tiny(name, family).fit(records(name), max_steps=3, batch_size=8, seed=0)


def draw(model: GenerativeModel, n: int, **options: Any) -> list[dict[str, torch.Tensor]]:
    """Raw values of samples, each trimmed to its own size."""
    return subject.draw(
        model, n, **{k: v for k, v in STEPPED.items() if k in model.sampling_options()}, **options
    )
