"""Anomalies by the likelihood of a flow, the trap in it, and a way around.

A flow learns from digits; other images are told from held-out digits by their log p. The trap: a blank
image is likelier than any digit, although no digit looks so. The way around is typicality: digits have about
the log p that digits have, neither less nor more.

    python examples/anomaly_detection.py --max-time 3m
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.metrics import roc_auc_score

from molgen import FlowModel
from molgen.core.registry import get_modality


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--max-time", default="3m", help="budget of the flow's training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    source = get_modality("image").datasets["digits"]
    train, test = source.load("train"), source.load("test")
    flow = FlowModel("image", kind="coupling").fit("digits", max_time=options.max_time, seed=options.seed)
    rng = np.random.default_rng(options.seed)
    images = np.stack(list(test))
    levels = np.unique(images)  # a grey that no digit has would give an anomaly away
    others = {
        "noise": rng.choice(levels, images.shape),
        "shuffled pixels": np.stack([rng.permutation(x.reshape(-1)).reshape(x.shape) for x in images]),
        "negatives": 255 - images,
        "smoothed digits": uniform_filter(images, (0, 3, 3, 0)),
        "faded digits": images // 4,
        "blank": np.zeros_like(images),
    }
    usual = flow.log_prob(train, seed=options.seed).numpy()
    ours = flow.log_prob(test, seed=options.seed).numpy()
    print(
        f"log p of training digits {usual.mean():.1f}, of test digits {ours.mean():.1f} nats (a lower bound)"
    )
    print(f"{'anomaly':<16} {'log p':>9} {'AUROC':>7} {'by typicality':>14}")
    for name, made in others.items():
        nearest = levels[abs(made[..., None].astype(int) - levels.astype(int)).argmin(-1)]
        theirs = flow.log_prob(list(nearest), seed=options.seed).numpy()
        plain = auroc(-ours, -theirs)
        typical = auroc(abs(ours - usual.mean()), abs(theirs - usual.mean()))
        print(f"{name:<16} {theirs.mean():9.1f} {plain:7.3f} {typical:14.3f}")


def auroc(ours: Sequence[float] | np.ndarray, theirs: Sequence[float] | np.ndarray) -> float:
    """How often an anomaly scores higher than a digit does."""
    truth = np.repeat([0, 1], [len(ours), len(theirs)])
    return float(roc_auc_score(truth, np.concatenate([ours, theirs])))


if __name__ == "__main__":
    main()
