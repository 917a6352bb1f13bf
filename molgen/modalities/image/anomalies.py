"""Images that are simpler than data, or disturbed: what a detector of anomalies should find."""

from __future__ import annotations

import numpy as np


def disturbed(images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Anomalies made from images, by name; each has only grey levels that the images have.

    A level that no image has would give an anomaly away by itself.

    Arguments:
        images: `(n, H, W, C)`, uint8.
        seed: of what is random.

    Returns: ``noise`` and ``shuffled pixels`` are wilder than data; ``negatives`` keep their shapes;
        ``smoothed``, ``faded`` and ``blank`` are simpler.

    Example:
        >>> sorted(disturbed(np.zeros((1, 2, 2, 1), np.uint8)))
        ['blank', 'faded', 'negatives', 'noise', 'shuffled pixels', 'smoothed']
    """
    from scipy.ndimage import uniform_filter

    rng = np.random.default_rng(seed)
    levels = np.unique(images)
    made = {
        "noise": rng.choice(levels, images.shape),
        "shuffled pixels": np.stack([rng.permutation(x.reshape(-1)).reshape(x.shape) for x in images]),
        "negatives": 255 - images,
        "smoothed": uniform_filter(images, (0, 3, 3, 0)),
        "faded": images // 4,
        "blank": np.zeros_like(images),
    }
    nearest = levels[np.abs(np.arange(256)[:, None] - levels.astype(int)).argmin(1)].astype(np.uint8)
    return {name: nearest[values] for name, values in made.items()}
