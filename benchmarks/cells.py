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
        likelihood: options of `log_prob`.
        variant: what sets a cell apart from the family's first one on this kind of data.
        options: of the modality.
        teacher: shipped weights that the model is distilled from.
        shipped: whether the package ships the weights.
    """

    family: str
    modality: str
    data: str
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    n: int = 10_000
    sample: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)
    likelihood: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = ""
    shipped: bool = True

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.family, self.modality, self.variant) if part)

    @property
    def weights(self) -> Path:
        """Where training writes the weights and scoring finds them."""
        folder = Path(molgen.__file__).parent / "weights" if self.shipped else Path("runs")
        return folder / f"{self.name}.safetensors"


_SMALL: Mapping[str, Any] = {"batch_size": 32}
_PROTEINS: Mapping[str, Any] = {"n": 200, "evaluate": {"diversity": 60, "novelty": 40}}

_DIFFUSION = (
    Cell(
        "diffusion",
        "image",
        "mnist",
        model={"trunk_options": {"width": 48}, "label_dropout": 0.2},
        fit={"condition": ["digit"], **_SMALL},
    ),
    Cell(
        "diffusion",
        "smiles",
        "qm9",
        model={"label_dropout": 0.5},
        fit={"condition": ["logp"], **_SMALL},
    ),
    Cell("diffusion", "graph", "qm9", fit=_SMALL),
    Cell("diffusion", "molecule", "qm9", fit=_SMALL),
    Cell(
        "diffusion",
        "protein",
        "pdb_chains_128",
        model={"label_dropout": 0.5},
        fit={"condition": ["helix"]},
        **_PROTEINS,
    ),
)

_LATENT = Cell("diffusion", "image", "mnist", model={"latent": "vae-image"}, variant="latent")
"""Diffusion in the latent space of the shipped VAE."""

_DATA = {"image": "mnist", "smiles": "qm9", "graph": "qm9", "molecule": "qm9", "protein": "pdb_chains_128"}


_SAMPLE: dict[tuple[str, str], dict[str, Any]] = {
    ("autoregressive", "smiles"): {"top_p": 0.97},
    ("autoregressive", "graph"): {"top_p": 0.95},
    ("vae", "smiles"): {"temperature": 0.7},
    ("gan", "graph"): {"temperature": 0.6},
    ("flow", "smiles"): {"temperature": 0.6},
    ("flow", "graph"): {"temperature": 0.75},
    ("flow", "molecule"): {"temperature": 0.7},
}
"""How a cell is sampled, where not by default; chosen on a seed that is not scored."""


def _cells(family: str, variant: str = "", fit: Mapping[str, Any] = _SMALL, **models: Any) -> list[Cell]:
    """A family on every kind of data, each with the options of its model."""
    return [
        Cell(
            family,
            modality,
            data,
            model=models.get(modality, {}) | models.get("all", {}),
            fit={**fit, **({"batch_size": 8} if modality == "protein" else {})},
            sample=_SAMPLE.get((family, modality), {}),
            variant=variant,
            **(_PROTEINS if modality == "protein" else {}),
        )
        for modality, data in _DATA.items()
    ]


def _trunk(**options: Any) -> dict[str, Any]:
    return {"trunk_options": options}


_CAUSAL = {"decoder_options": {"width": 128, "depth": 3, "heads": 4}}

_OTHERS = (
    *_cells("autoregressive", molecule=_trunk(width=64, depth=3, heads=4)),
    *_cells(
        "vae",
        image=_trunk(width=32),
        smiles=_trunk(width=128, depth=3, heads=4) | _CAUSAL,
        graph=_trunk(width=64, pair_width=24, depth=3, heads=4) | _CAUSAL,
        molecule=_trunk(width=96, depth=3, heads=4) | _CAUSAL,
        protein=_trunk(width=96, depth=3, heads=4) | _CAUSAL,
    ),
    # An adversary costs about six times what a denoiser does, and an energy three times: small networks.
    *_cells(
        "gan",
        fit={**_SMALL, "lr": 5e-4},
        image=_trunk(width=48, patch=4, multipliers=[1], attention=[True]),
        smiles=_trunk(width=96, depth=3, heads=4),
        graph=_trunk(width=64, pair_width=24, depth=3, heads=4),
        molecule=_trunk(width=64, pair_width=24, depth=3, heads=4),
        protein=_trunk(width=48, pair_width=16, depth=2, heads=4),
    ),
    *_cells(
        "energy",
        image=_trunk(width=32),
        smiles=_trunk(width=128, depth=3, heads=4),
        graph=_trunk(width=64, pair_width=24, depth=4, heads=4),
        molecule=_trunk(width=64, pair_width=24, depth=4, heads=4),
        protein=_trunk(width=64, pair_width=16, depth=3, heads=4),
    ),
    *_cells("flow", all={"kind": "continuous"}, image=_trunk(width=32)),
    *_cells("flow", "coupling", fit={"batch_size": 16, "lr": 4e-3}, all={"kind": "coupling"}),
)

_CONSISTENCY = tuple(
    Cell(
        "consistency",
        teacher.modality,
        teacher.data,
        fit=_SMALL,
        n=teacher.n,
        evaluate=teacher.evaluate,
        teacher=teacher.name,
    )
    for teacher in _DIFFUSION
)

_BINARY = (  # likelihoods of statically binarised digits
    Cell(
        "energy",
        "image",
        "binarized_mnist",
        model={"kind": "dbm", "hidden": [500, 250, 100]},
        fit={"batch_size": 100},
        sample={"sweeps": 1000},
        likelihood={"chains": 1000, "temperatures": 10_000},
        variant="dbm",
    ),
    Cell(
        "vae",
        "image",
        "binarized_mnist",
        model=_trunk(width=32),
        fit=_SMALL,
        likelihood={"samples": 64},
        variant="binary",
    ),
    Cell("autoregressive", "image", "binarized_mnist", fit=_SMALL, variant="binary"),
)

_VARIANTS = (  # each trained as long as the row it stands beside
    Cell(
        "diffusion",
        "graph",
        "qm9",
        fit=_SMALL,
        variant="marginal",
        options={"noise": "marginal"},
        shipped=False,
    ),
    Cell("diffusion", "molecule", "qm9", fit=_SMALL, n=1000, variant="pair", shipped=False),
    *(
        Cell(
            "diffusion",
            "molecule",
            "qm9",
            model={"trunk": trunk},
            fit=_SMALL,
            n=1000,
            variant=trunk,
            shipped=False,
        )
        for trunk in ("equivariant", "message")
    ),
)

CELLS: dict[str, Cell] = {
    cell.name: cell for cell in (*_DIFFUSION, _LATENT, *_OTHERS, *_CONSISTENCY, *_BINARY, *_VARIANTS)
}
