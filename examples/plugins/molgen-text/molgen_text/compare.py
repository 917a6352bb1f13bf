"""Trains every family on number names and prints figures and samples, as the README shows them.

python -m molgen_text.compare --steps 250 --seed 0 --count 100
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import molgen
from molgen.core.registry import MODALITIES, lent
from molgen_text import Text

FAMILIES: Mapping[str, Any] = molgen.list_families()
NETWORK = {"width": 64, "depth": 2, "heads": 4}
SHOWN = {"numbers": 2, "words": 2, "new": 2, "unique": 2, "two_sample": 2}


def main() -> None:
    """Prints a row of Markdown a family, then samples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=250, help="of training, 64 names each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="samples that are scored")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    options = parser.parse_args()
    print(f"| family | CPU s | {' | '.join(SHOWN)} | the first three samples |")
    print("|---" * (len(SHOWN) + 3) + "|", flush=True)
    with lent(MODALITIES, Text):
        for family in options.families:
            model = FAMILIES[family](Text(), trunk_options=NETWORK)
            begun = time.process_time()
            model.fit("numbers", max_steps=options.steps, lr=3e-3, seed=options.seed, progress=False)
            seconds = time.process_time() - begun
            samples = model.sample(options.count, seed=options.seed)
            scores = model.evaluate(samples, "numbers")
            figures = " | ".join(f"{scores[key]:.{digits}f}" for key, digits in SHOWN.items())
            said = "<br>".join(f"`{text}`" for text in samples[:3])
            print(f"| {family} | {seconds:.0f} | {figures} | {said} |", flush=True)


if __name__ == "__main__":
    main()
