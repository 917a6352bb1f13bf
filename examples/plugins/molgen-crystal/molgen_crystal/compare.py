"""Families on the prototypes: ``python -m molgen_crystal.compare --families diffusion vae``."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import molgen
from molgen.io.formats import write
from molgen_crystal import Crystals

SMALL = {"width": 96, "depth": 3, "heads": 4}
_SHOWN = ("valid", "neutral", "prototype", "wasserstein/nearest", "wasserstein/density", "two_sample")


def main() -> None:
    """Prints a line of scores for each family, and saves what was drawn as CIF if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(molgen.list_families()))
    parser.add_argument("--steps", type=int, default=1000, help="of training, for each family")
    parser.add_argument("--count", type=int, default=120, help="crystals drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for the crystals as CIF")
    asked = parser.parse_args()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{asked.steps} steps, seed {asked.seed}, {machine}, {time.strftime('%Y-%m-%d')}\n")
    print(f"| family | {' | '.join(_SHOWN)} |\n|---|{'---|' * len(_SHOWN)}")
    scores: dict[str, float] = {}
    for name in asked.families:
        family: Any = molgen.list_families()[name]
        model = family(Crystals(), trunk_options=SMALL)
        model.fit("prototypes", max_steps=asked.steps, lr=2e-3, seed=asked.seed, progress=False)
        drawn = model.sample(asked.count, seed=asked.seed)
        if asked.out is not None:
            write(model.modality, asked.out / f"{name}.cif", drawn)
        scores = model.evaluate(drawn, "prototypes")
        print(f"| {name} | {_cells(scores)} |", flush=True)
    floor = {key: scores.get(f"floor/{key}", scores.get(f"data/{key}", 1.0)) for key in _SHOWN}
    print(f"| the data | {_cells(floor)} |")


def _cells(scores: Mapping[str, float]) -> str:
    return " | ".join(f"{scores[key]:.2f}" for key in _SHOWN)


if __name__ == "__main__":
    main()
