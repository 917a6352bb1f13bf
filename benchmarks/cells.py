"""The cells: a family on a data set with its options; nothing here is tuned by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import molgen
from molgen.core.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One row of the tables: a shipped model, a variant that is measured beside it, or a baseline.

    Arguments:
        family, modality: registered names, or a name of `BASELINES`.
        data: name of the data set.
        model: options of the family.
        fit: options of `fit`.
        n: number of samples that its scores use.
        sample: options of `sample`.
        evaluate: options of `evaluate`.
        likelihood: options of `log_prob`.
        records: number of test records whose log p is evaluated, at most n.
        variant: the difference from the first cell of the family on this kind of data.
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
    records: int = 1000
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = ""
    shipped: bool = True

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.family, self.modality, self.variant) if part)

    @property
    def baseline(self) -> bool:
        """Whether the cell is a baseline; see `benchmarks.baselines`."""
        return self.family in BASELINES

    @property
    def weights(self) -> Path:
        """Where training writes the weights and scoring finds them."""
        folder = Path(molgen.__file__).parent / "weights" if self.shipped else RUNS
        return folder / f"{self.name}.safetensors"


RUNS = Path("runs")
"""Training states and weights that do not ship."""

BASELINES = {
    "data": "held-out records",
    "copies": "training records, drawn with replacement",
    "marginals": "every entry of a field drawn independently",
    "bayes": "the same, given the digit: naive Bayes",
    "logistic": "logistic regression, which only classifies digits",
}
"""The baselines, which show what each score measures."""

BENCHMARKS = {
    "mnist": ("mnist", "binarized_mnist"),
    "qm9": ("qm9",),
    "zinc250k": ("zinc250k",),
    "proteins": ("pdb_chains_128",),
}
"""The benchmarks by name, with their data sets."""


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
        model={
            "label_dropout": 0.5,
            "time_density": [1.4, 1.8],
        },  # middle noise decides folds
        fit={"condition": ["helix", "strand"]},
        **_PROTEINS,
    ),
)

_LATENT = Cell(  # its file does not contain the weights of the VAE
    "diffusion",
    "image",
    "mnist",
    model={"latent": "vae-image", "trunk_options": {"width": 96, "depth": 4, "heads": 4}},
    variant="latent",
)
"""Diffusion in the latent space of the shipped VAE."""

# Codes are reals on both sides: no noise need hide what is a class and what only resembles one. With a tenth
# of the penalty the generator leaves most directions of them out.
_LATENT_GAN = tuple(
    Cell(
        "gan",
        modality,
        "qm9",
        model={"latent": f"vae-{modality}", "code": 0, "r1_gamma": 3.0, "instance_noise": 0.0}
        | {"trunk_options": {"width": width, "depth": 2, "heads": 4}},
        fit={"batch_size": 256, "lr": 3e-4},
        variant="latent",
    )
    for modality, width in (("smiles", 48), ("molecule", 64))
)
"""GeneratorAndCritic over codes, where those over characters and coordinates gave nothing."""

_DATA = {"image": "mnist", "smiles": "qm9", "graph": "qm9", "molecule": "qm9", "protein": "pdb_chains_128"}


_SURE: dict[tuple[str, str], dict[str, Any]] = {
    ("autoregressive", "smiles"): {"top_p": 0.97},
    ("autoregressive", "graph"): {"top_p": 0.98},
    ("vae", "smiles"): {"temperature": 0.7},
    ("vae", "graph"): {"temperature": 0.85},
    ("vae", "molecule"): {"temperature": 0.35},
    ("autoregressive", "molecule"): {"temperature": 0.6, "top_p": 0.85, "real_temperature": 0.2},
    ("gan", "graph"): {"temperature": 0.6},
    ("energy", "smiles"): {"temperature": 0.6},
    ("energy", "graph"): {"temperature": 0.85},
    ("energy", "molecule"): {"temperature": 0.5},
    ("consistency", "image"): {"temperature": 0.6, "gamma": 0.5},
    ("consistency", "smiles"): {"temperature": 0.6, "gamma": 0.3},
    ("consistency", "graph"): {"temperature": 0.8, "gamma": 0.8},
    ("consistency", "molecule"): {"temperature": 0.5},
    ("flow", "smiles"): {"temperature": 0.7},
    ("flow", "graph"): {"temperature": 0.75},
    ("flow", "molecule"): {"temperature": 0.7, "restarts": 4, "restart_from": 0.4},
}
"""How surely a cell's model draws by default; chosen on a seed that is not scored."""


def _cells(
    family: str,
    variant: str = "",
    fit: Mapping[str, Any] = _SMALL,
    data: Mapping[str, str] = _DATA,
    shipped: bool = True,
    records: int = Cell.records,
    **models: Any,
) -> list[Cell]:
    """A family on every kind of data, each with the options of its model."""
    return [
        Cell(
            family,
            modality,
            name,
            model=models.get(modality, {}) | models.get("all", {}) | _SURE.get((family, modality), {}),
            fit={**fit, **({"batch_size": 8} if modality == "protein" else {})},
            variant=variant,
            shipped=shipped,
            records=records,
            **(_PROTEINS if modality == "protein" else {}),
        )
        for modality, name in data.items()
    ]


def _trunk(**options: Any) -> dict[str, Any]:
    return {"trunk_options": options}


_INTERNAL = {"view": "internal"}
_CAUSAL = {"decoder_options": {"width": 128, "depth": 3, "heads": 4}}


def _others(**where: Any) -> list[Cell]:
    """The families except diffusion and consistency; `where` is passed to `_cells`."""
    coupling = {**where, "variant": "-".join(["coupling", *filter(None, [where.get("variant")])])}
    return [
        *_cells(
            "autoregressive",
            **where,
            image=_trunk(row_width=112),
            molecule=_trunk(width=64, depth=3, heads=4),
            protein=_trunk(width=96, depth=3, heads=4),
        ),
        *_cells(
            "vae",
            **where,
            image={"trunk": "mlp", "components": 50, "code_channels": 1} | _trunk(width=256),
            smiles=_trunk(width=128, depth=3, heads=4) | _CAUSAL,
            graph=_trunk(width=64, pair_width=24, depth=3, heads=4) | _CAUSAL,
            molecule=_trunk(width=96, depth=3, heads=4) | _CAUSAL,
            protein=_trunk(width=64, depth=3, heads=4)
            | {"decoder_options": {"width": 64, "depth": 3, "heads": 4}},
        ),
        # An adversary costs about six times what a denoiser does, and an energy three times: small networks.
        *_cells(
            "gan",
            **where,
            fit={**_SMALL, "lr": 5e-4},
            image=_trunk(width=48, patch=4, multipliers=[1], attention=[True]),
            smiles=_trunk(width=96, depth=3, heads=4),
            graph=_trunk(width=64, pair_width=24, depth=3, heads=4),
            molecule=_trunk(width=64, pair_width=24, depth=3, heads=4),
            protein=_trunk(width=48, pair_width=16, depth=2, heads=4),
        ),
        *_cells(
            "energy",
            **where,
            image=_trunk(width=32),
            smiles=_trunk(width=128, depth=3, heads=4),
            graph=_trunk(width=64, pair_width=24, depth=4, heads=4),
            molecule=_trunk(width=64, pair_width=24, depth=4, heads=4) | _INTERNAL,
            protein=_trunk(width=64, pair_width=16, depth=3, heads=4) | _INTERNAL,
        ),
        # Its log p takes hundreds of evaluations and as many derivatives.
        *_cells(
            "flow",
            **where,
            records=100,
            all={"kind": "continuous"},
            image=_trunk(width=32),
            smiles={"self_condition": True},
            molecule=_INTERNAL,
            protein=_INTERNAL,
        ),
        *_cells("flow", **coupling, fit={"batch_size": 16, "lr": 4e-3}, all={"kind": "coupling"}),
    ]


def _consistency(cells: Iterable[Cell]) -> list[Cell]:
    """A consistency model on each kind of data, distilled from the teacher with the better student.

    Strings, graphs and 3D molecules have classes, which a continuous flow represents as the student does.
    Backbones are trained without a teacher, since no flow of them was better.
    """

    def student(cell: Cell) -> Cell:
        sure = _SURE.get(("consistency", cell.modality), {})
        made = replace(cell, family="consistency", model=sure, fit=_SMALL, sample={}, teacher=cell.name)
        if cell.modality == "image":
            return made
        if cell.modality == "protein":
            return replace(made, model=sure | _INTERNAL, fit={"batch_size": 8}, teacher="")
        # Starting from all weights, the learning rate of their training would destroy them.
        return replace(made, fit={**_SMALL, "lr": 3e-4}, teacher=cell.name.replace("diffusion", "flow"))

    return [student(cell) for cell in cells]


_ZINC: Mapping[str, Any] = {
    "data": {"smiles": "zinc250k", "graph": "zinc250k"},
    "variant": "zinc250k",
    "shipped": False,
}
_ZINC_DIFFUSION = _cells("diffusion", **_ZINC)

_BINARY = (  # likelihoods of statically binarised digits
    Cell(
        "energy",
        "image",
        "binarized_mnist",
        model={"kind": "dbm", "hidden": [500, 250, 100], "pretraining": 0.02},
        fit={"batch_size": 100},
        sample={"gibbs_steps": 1000},
        likelihood={"chains": 1000, "temperatures": 10_000},
        variant="dbm",
    ),
    Cell(
        "vae",
        "image",
        "binarized_mnist",
        model={"view": "binary", "trunk": "mlp", "decoder": "autoregressive"}
        | {"decoder_options": {"row_width": 96}}
        | _trunk(width=256),
        fit={"batch_size": 16, "lr": 2e-3},
        likelihood={"samples": 64},
        variant="binary",
    ),
    Cell(
        "autoregressive",
        "image",
        "binarized_mnist",
        model={"view": "binary"} | _trunk(row_width=96),
        fit={"batch_size": 16, "lr": 2e-3},
        variant="binary",
    ),
)

_VARIANTS = (  # each trained as long as the row that it is compared with
    Cell(  # for the trap of likelihoods: digits are likelier than the clothes of its training set
        "flow",
        "image",
        "fashion_mnist",
        model={"kind": "coupling"},
        fit={"batch_size": 16, "lr": 4e-3},
        variant="coupling-fashion",
        shipped=False,
    ),
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
    Cell(  # secondary structure and the pairing of strands before the trace
        "diffusion",
        "protein",
        "pdb_chains_128",
        model={"view": "folded", "label_dropout": 0.5},
        fit={"condition": ["helix"]},
        variant="folded",
        shipped=False,
        **_PROTEINS,
    ),
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

ASIDE = ("binarized_mnist", "zinc250k")
"""Data whose figures stand apart from those that families are compared by."""

CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        *_DIFFUSION,
        _LATENT,
        *_others(),
        *_LATENT_GAN,
        *_consistency(_DIFFUSION),
        *_BINARY,
        *_VARIANTS,
        *_ZINC_DIFFUSION,
        *_others(**_ZINC),
        *_consistency(_ZINC_DIFFUSION),
    )
}
"""All models; a teacher stands before those that are distilled from it."""


def chosen(
    benchmark: str,
    families: Sequence[str] = (),
    modalities: Sequence[str] = (),
    variants: bool = False,
) -> list[Cell]:
    """The cells of a benchmark, its baselines first.

    Arguments:
        benchmark: a key of `BENCHMARKS`.
        families: names of families and baselines; by default all.
        modalities: names; by default all.
        variants: also those that only compare a variant with the cell beside it.

    Errors: `ConfigError` for a name that no cell has.

    Example:
        >>> [cell.name for cell in chosen("qm9", ["copies", "gan"], ["graph"])]
        ['copies-graph', 'gan-graph']
    """
    if benchmark not in BENCHMARKS:
        raise ConfigError.unknown("benchmark", benchmark, BENCHMARKS)
    left_out = set() if variants else {cell.name for cell in _VARIANTS}
    models = [
        cell for cell in CELLS.values() if cell.data in BENCHMARKS[benchmark] and cell.name not in left_out
    ]
    cells = [*_baselines(models), *models]
    for option, names in (("family", families), ("modality", modalities)):
        known = {getattr(cell, option) for cell in cells}
        for name in names:
            if name not in known:
                raise ConfigError.unknown(f"{option} of benchmark {benchmark}", name, known)
        cells = [cell for cell in cells if not names or getattr(cell, option) in names]
    return cells


def _baselines(models: Iterable[Cell]) -> list[Cell]:
    """The baselines of the kinds of data of the models, scored in the same way."""
    first = {(cell.modality, cell.data): cell for cell in reversed(list(models))}
    out = []
    for (modality, data), cell in reversed(first.items()):
        variant = {"binarized_mnist": "binary", "zinc250k": "zinc250k"}.get(data, "")
        for family in BASELINES:
            if family not in ("bayes", "logistic") or data == "mnist":  # of the others no labels are known
                out.append(
                    Cell(
                        family,
                        modality,
                        data,
                        n=cell.n,
                        evaluate=cell.evaluate,
                        variant=variant,
                        shipped=False,
                    )
                )
    return out
