"""Anomalies by the likelihood of a flow, the trap in it, and a way around.

A flow learns from digits; other images are told from held-out digits by their log p. The trap: a blank
image is likelier than any digit, although no digit looks so. The way around is typicality: digits have about
the log p that digits have, neither less nor more.

    python examples/anomaly_detection.py --max-time 3m
"""

from __future__ import annotations

import argparse

import numpy as np

from molgen import FlowModel
from molgen.core.registry import get_modality
from molgen.metrics.anomaly import auroc, typicality
from molgen.modalities.image.anomalies import disturbed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--max-time", default="3m", help="budget of the flow's training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    source = get_modality("image").datasets["digits"]
    train, test = source.load("train"), source.load("test")
    flow = FlowModel("image", kind="coupling").fit("digits", max_time=options.max_time, seed=options.seed)
    usual = flow.log_prob(train, seed=options.seed)
    ours = flow.log_prob(test, seed=options.seed)
    print(
        f"log p of training digits {usual.mean():.1f}, of test digits {ours.mean():.1f} nats (a lower bound)"
    )
    print(f"{'anomaly':<16} {'log p':>9} {'AUROC':>7} {'by typicality':>14}")
    for name, images in disturbed(np.stack(list(test)), options.seed).items():
        theirs = flow.log_prob(list(images), seed=options.seed)
        plain = auroc(-ours, -theirs)
        typical = auroc(typicality(ours, usual), typicality(theirs, usual))
        print(f"{name:<16} {theirs.mean():9.1f} {plain:7.3f} {typical:14.3f}")


if __name__ == "__main__":
    main()
