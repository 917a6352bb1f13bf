"""`python -m benchmarks figures`: the picture of samples of every modality that the README shows."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from molgen.core.files import atomic

IMAGES = Path(__file__).parent.parent / "images"
COUNTS = {"image": 36, "smiles": 9, "graph": 9, "molecule": 9, "protein": 6}
SIDE = 480


def main(argv: list[str]) -> int:
    """Draws the first samples of every shipped model, as they come, side by side with their names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks figures", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=IMAGES / "samples.png")
    args = parser.parse_args(argv)

    from PIL import Image, ImageDraw

    from molgen.api import list_weights, load

    tiles = []
    with tempfile.TemporaryDirectory() as folder:
        for name, header in list_weights().items():
            model = load(name)
            samples = model.sample(COUNTS.get(header["modality"], 9), seed=args.seed)
            path = Path(folder) / f"{name}.png"
            model.modality.plot(samples, path)
            tile = Image.new("RGB", (SIDE, SIDE + 28), "white")
            with Image.open(path) as file:
                drawn = file.convert("RGB")
            drawn.thumbnail((SIDE - 16, SIDE - 16))
            tile.paste(drawn, ((SIDE - drawn.width) // 2, 28 + (SIDE - drawn.height) // 2))
            ImageDraw.Draw(tile).text((SIDE // 2, 14), name, fill="black", anchor="mm", font_size=18)
            tiles.append(tile)
    sheet = Image.new("RGB", (SIDE * len(tiles), SIDE + 28), "white")
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i * SIDE, 0))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic(args.out) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    print(args.out)
    return 0
