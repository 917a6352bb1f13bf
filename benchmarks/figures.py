"""`python -m benchmarks figures`: the picture of samples of every modality that the README shows."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from molgen.core.files import atomic

IMAGES = Path(__file__).parent.parent / "images"
SIDE, ROWS = 480, 3
"""Pixels of a model's tile, and rows and columns of its samples."""


def main(argv: list[str]) -> int:
    """Draws the first samples of every shipped model, as they come, side by side with their names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks figures", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=IMAGES / "samples.png")
    args = parser.parse_args(argv)

    from PIL import Image, ImageChops, ImageDraw, ImageOps

    from molgen.api import list_weights, load

    tiles = []
    with tempfile.TemporaryDirectory() as folder:
        for name in list_weights():
            model = load(name)
            tile = Image.new("RGB", (SIDE, SIDE + 28), "white")
            ImageDraw.Draw(tile).text((SIDE // 2, 14), name, fill="black", anchor="mm", font_size=18)
            cell = SIDE // ROWS
            for i, sample in enumerate(model.sample(ROWS**2, seed=args.seed)):
                path = Path(folder) / f"{name}-{i}.png"
                model.modality.plot([sample], path)
                with Image.open(path) as file:
                    drawn = file.convert("RGB")
                edges = ImageChops.difference(drawn, Image.new("RGB", drawn.size, "white")).getbbox()
                drawn = ImageOps.contain(drawn.crop(edges), (cell - 16, cell - 16))
                row, column = divmod(i, ROWS)
                left, top = column * cell + (cell - drawn.width) // 2, row * cell + (cell - drawn.height) // 2
                tile.paste(drawn, (left, 28 + top))
            tiles.append(tile)
    sheet = Image.new("RGB", (SIDE * len(tiles), SIDE + 28), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i * SIDE, 0))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(args.out) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    print(args.out)
    return 0
