"""A deep Boltzmann machine as the beginning of a classifier, beside the same network from random weights.

The machine learns from all training digits, without labels; both classifiers from the same few labels.

    python examples/boltzmann_classifier.py --max-time 2m
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from molgen.core.records import Records
from molgen.core.registry import get_modality
from molgen.models.energy import BoltzmannMachine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--max-time", default="2m", help="budget of the machine")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 3, 10, 100], help="labels of each digit")
    parser.add_argument("--hidden", type=int, nargs="+", default=[200, 200, 200])
    parser.add_argument("--steps", type=int, default=500, help="of each classifier's training")
    options = parser.parse_args()

    source = get_modality("image").datasets["digits"]
    train, test = source.load("train"), source.load("test")
    machine = BoltzmannMachine("image", view="binary", hidden=options.hidden, gibbs_steps=3, iterations=5)
    machine.fit("digits", max_time=options.max_time, lr=1e-2, seed=0)

    known = np.asarray(train.labels["digit"])
    print("labels  pretrained  from scratch   (accuracy on the test digits)")
    for count in options.labels:
        few = np.sort(np.concatenate([np.flatnonzero(known == digit)[:count] for digit in range(10)]))
        scores = compare(machine, train[few], test, options.steps)
        print(f"{len(few):6}  {scores[0]:10.3f}  {scores[1]:12.3f}")


def compare(machine: BoltzmannMachine, few: Records, test: Records, steps: int, seed: int = 0) -> list[float]:
    """Accuracy on test digits of the pretrained classifier, and of the one from scratch."""
    truth = torch.as_tensor(np.asarray(test.labels["digit"]))
    scores = []
    for pretrained in (True, False):
        labels = np.asarray(few.labels["digit"]).tolist()
        made = machine.classifier(few, labels, pretrained=pretrained, steps=steps, seed=seed)
        scores.append(float((made.predict(test) == truth).float().mean()))
    return scores


if __name__ == "__main__":
    main()
