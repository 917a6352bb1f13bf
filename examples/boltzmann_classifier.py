"""A deep Boltzmann machine as the beginning of a classifier, beside the same network from random weights.

The machine learns from all training digits, without labels; both classifiers from the same few labels.

    python examples/boltzmann_classifier.py --max-time 2m
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from molgen import EnergyModel
from molgen.core.registry import get_modality


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--max-time", default="2m", help="budget of the machine")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 3, 10, 100], help="labels of each digit")
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200, 200])
    parser.add_argument("--steps", type=int, default=500, help="of each classifier's training")
    options = parser.parse_args()

    source = get_modality("image").datasets["digits"]
    train, test = source.load("train"), source.load("test")
    known, truth = np.asarray(train.labels["digit"]), torch.as_tensor(np.asarray(test.labels["digit"]))
    machine = EnergyModel("image", kind="dbm", view="binary", hidden=options.hidden, sweeps=3, iterations=5)
    machine.fit("digits", max_time=options.max_time, lr=1e-2, seed=0)

    print("labels  pretrained  from scratch   (accuracy on the test digits)")
    for count in options.labels:
        few = np.sort(np.concatenate([np.flatnonzero(known == digit)[:count] for digit in range(10)]))
        scores = []
        for pretrained in (True, False):
            made = machine.classifier(train[few], known[few], pretrained=pretrained, steps=options.steps)
            scores.append(float((made.predict(test) == truth).float().mean()))
        print(f"{len(few):6}  {scores[0]:10.3f}  {scores[1]:12.3f}")


if __name__ == "__main__":
    main()
