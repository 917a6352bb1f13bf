"""The smallest useful model of every modality, on embedded data; shared by the tests of families."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from molgen import DiffusionModel
from molgen.core.data import Records
from molgen.core.registry import get_modality

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


def tiny(name: str, **options: Any) -> DiffusionModel:
    """An unfitted small model."""
    return DiffusionModel(name, trunk_options=TRUNKS[name], width=16, **options)


@lru_cache
def fitted(name: str) -> DiffusionModel:
    """A model after a few steps; shared, so never change it."""
    return tiny(name).fit(records(name), max_steps=3, batch_size=8, seed=0)
