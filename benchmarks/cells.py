"""The cells we ship: which family on which data, with which options; nothing here is tuned by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import molgen


@dataclass(frozen=True)
class Cell:
    """One trained model: a shipped one, or a variant that is measured beside it.

    Arguments:
        family, modality: registered names.
        data: name of the data set.
        model: options of the family.
        fit: options of `fit`.
        n: number of samples that its scores use.
        sample: options of `sample`.
        evaluate: options of `evaluate`.
        variant: what sets a cell apart from the shipped one; its weights are not shipped.
        options: of the modality.
    """

    family: str
    modality: str
    data: str
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    n: int = 10_000
    sample: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.family, self.modality, self.variant) if part)

    @property
    def weights(self) -> Path:
        """Where training writes the weights and scoring finds them."""
        folder = Path("runs") if self.variant else Path(molgen.__file__).parent / "weights"
        return folder / f"{self.name}.safetensors"


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell(
            "diffusion",
            "image",
            "mnist",
            model={"trunk_options": {"width": 48}, "label_dropout": 0.2},
            fit={"condition": ["digit"], "batch_size": 32},
        ),
        Cell(
            "diffusion",
            "smiles",
            "qm9",
            model={"label_dropout": 0.5},
            fit={"condition": ["logp"], "batch_size": 32},
        ),
        Cell("diffusion", "graph", "qm9", fit={"batch_size": 32}),
        Cell("diffusion", "molecule", "qm9", fit={"batch_size": 32}),
        Cell(
            "diffusion",
            "protein",
            "pdb_chains_128",
            model={"label_dropout": 0.5},
            fit={"condition": ["helix"]},
            n=200,
            evaluate={"diversity": 60, "novelty": 40},
        ),
        # Variants, each trained as long as the row it stands beside.
        Cell(
            "diffusion",
            "graph",
            "qm9",
            fit={"batch_size": 32},
            variant="marginal",
            options={"noise": "marginal"},
        ),
        Cell("diffusion", "molecule", "qm9", fit={"batch_size": 32}, n=1000, variant="pair"),
        Cell(
            "diffusion",
            "molecule",
            "qm9",
            model={"trunk": "equivariant"},
            fit={"batch_size": 32},
            n=1000,
            variant="equivariant",
        ),
        Cell(
            "diffusion",
            "molecule",
            "qm9",
            model={"trunk": "message"},
            fit={"batch_size": 32},
            n=1000,
            variant="message",
        ),
    )
}
