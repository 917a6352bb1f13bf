"""The figures that explain the families: one module each, whose `draw(shelf, seed)` gives a `Sheet`."""

from __future__ import annotations

FIGURES = (
    "energy",
    "vae",
    "gan",
    "flow",
    "autoregressive",
    "diffusion",
    "consistency",
    "grid",
    "speed",
)
"""Names of the figures, each a module of this package and a file in images/."""
