"""Trains every family on tones of twelve pitches; prints figures and draws samples, as the README shows them.

python -m molgen_audio.compare --steps 200 --seed 0 --out samples.png
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import molgen
from molgen.core.records import Records
from molgen.core.registry import MODALITIES, lent
from molgen_audio import Audio, sound

FAMILIES: Mapping[str, Any] = molgen.list_families()
NETWORK = {"width": 64, "depth": 2, "heads": 4}
SHOWN = ("pitch", "tuned", "clarity", "spectrum", "two_sample")


def main() -> None:
    """Prints a row of Markdown a family, and draws six sounds of each and of the data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=["tones", "plucks"], default="tones")
    parser.add_argument("--steps", type=int, default=200, help="of training, 32 sounds each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10, help="samples of each pitch that are scored")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--out", type=Path, default=Path("samples.png"))
    options = parser.parse_args()
    test = Audio().datasets[options.data].load("test")
    rows = {"data": [test[int(np.flatnonzero(test.labels["pitch"] == k)[0])] for k in range(0, 12, 2)]}
    print(f"| | CPU s | {' | '.join(SHOWN)} |\n{'|---' * (len(SHOWN) + 2)}|", flush=True)
    with lent(MODALITIES, Audio):
        for family in options.families:
            model = FAMILIES[family](Audio(), trunk_options=NETWORK)
            begun = time.process_time()
            budget = {"max_steps": options.steps, "batch_size": 32, "lr": 3e-3, "seed": options.seed}
            model.fit(options.data, condition=["pitch"], progress=False, **budget)
            seconds = time.process_time() - begun
            asked = {
                k: model.sample(options.count, seed=options.seed + k, condition={"pitch": k})
                for k in range(12)
            }
            labels = {"pitch": np.repeat(np.arange(12), options.count)}
            samples = Records([x for sounds in asked.values() for x in sounds], labels)
            scores = model.evaluate(samples, options.data)
            print(
                f"| {family} | {seconds:.0f} | {' | '.join(f'{scores[k]:.3g}' for k in SHOWN)} |", flush=True
            )
            rows[family] = [asked[k][0] for k in range(0, 12, 2)]
    floors = (scores.get(f"data/{key}", scores.get(f"floor/{key}", 1.0)) for key in SHOWN)
    print(f"| data | - | {' | '.join(f'{value:.3g}' for value in floors)} |")
    sound.spectrograms(rows, options.out, Audio().rate)


if __name__ == "__main__":
    main()
