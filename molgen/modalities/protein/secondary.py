"""Secondary structure by hydrogen bonds (Kabsch and Sander's energy, as pydssp)."""

from __future__ import annotations

import numpy as np


def assign(coords: np.ndarray) -> np.ndarray:
    """Per residue 0 coil, 1 helix or 2 strand, `(N,)`, from a backbone `(N, 4, 3)` in Angstrom."""
    from pydssp import pydssp_numpy

    if len(coords) < 6:
        return np.zeros(len(coords), np.int64)
    return np.asarray(pydssp_numpy.assign(np.asarray(coords, np.float64)).argmax(-1))


def contents(coords: np.ndarray) -> dict[str, float]:
    """The share of residues in helices and in strands."""
    classes = assign(coords)
    return {"helix": float((classes == 1).mean()), "strand": float((classes == 2).mean())}
