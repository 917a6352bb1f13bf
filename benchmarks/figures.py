"""`python -m benchmarks figures [NAME ...]`: the README's figures, each from trained weights."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks.drawing import FIGURES
from benchmarks.drawing.shelf import Shelf
from benchmarks.drawing.style import styled
from molgen.core.errors import ConfigError, DataError, MolgenError

IMAGES = Path(__file__).parent.parent / "images"


def main(argv: list[str]) -> int:
    """Draws all figures or some; one whose weights or data are missing is skipped with a message."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--weights", type=Path, help="folder of NAME.safetensors to look in before molgen's")
    args = parser.parse_args(argv)
    for name in args.names:
        if name not in FIGURES:
            raise ConfigError.unknown("figure", name, FIGURES)
    if args.weights is not None and not args.weights.is_dir():
        raise DataError("no such folder", file=args.weights, fix="give a folder of weights")
    args.out.mkdir(parents=True, exist_ok=True)
    shelf, skipped = Shelf(args.weights), 0
    for name in args.names or FIGURES:
        try:
            print(draw(name, shelf, args.seed, args.out))
        except MolgenError as error:
            print(f"{name}: skipped, {error}")
            skipped += 1
    return int(bool(skipped))


def draw(name: str, shelf: Shelf, seed: int, folder: Path) -> Path:
    """Draws one figure to a file of its name.

    Errors: `MissingWeights` or `DataError` if its weights or data are missing.
    """
    with styled():
        sheet = importlib.import_module(f"benchmarks.drawing.{name}").draw(shelf, seed)
        path = folder / f"{name}.png"
        sheet.save(path)
    return path
