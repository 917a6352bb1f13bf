"""Molecular properties: four that RDKit computes for any molecule, six that QM9 carries as labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rdkit import rdBase
from rdkit.Chem import Descriptors, Mol

from molgen.core.conditions import Scalar
from molgen.core.errors import ConfigError
from molgen.core.modality import bounds
from molgen.core.records import Records, evenly
from molgen.modalities.chemistry.parse import sanitised

LABELS = ("homo", "lumo", "gap", "mu", "alpha", "cv")
"""Labels of QM9, in its raw units: Hartree (three times), Debye, Bohr^3, cal/(mol K)."""

_FIT_ON = 2000  # molecules that fix a property's mean and sd: the error of the mean is 2 % of the sd

Scales = dict[str, tuple[float, float]]
"""Mean and standard deviation of every property."""


COMPUTED: Mapping[str, Callable[[Mol], float]] = {
    "logp": Descriptors.MolLogP,  # type: ignore[attr-defined]
    "qed": Descriptors.qed,
    "tpsa": Descriptors.TPSA,  # type: ignore[attr-defined]
    "weight": Descriptors.MolWt,  # type: ignore[attr-defined]
}
"""Crippen log P, QED in [0, 1], topological polar surface area in A^2, molar mass in g/mol."""


def measure(record: Mol | str, name: str) -> float:
    """A computed property of a molecule or SMILES; NaN where RDKit does not sanitise it.

    Arguments:
        record: the molecule.
        name: ``"logp"``, ``"qed"``, ``"tpsa"`` (square Angstrom) or ``"weight"`` (g/mol).

    Example:
        >>> round(measure("CCO", "weight"), 2), measure("C1", "logp")
        (46.07, nan)
    """
    if name in LABELS:
        raise ConfigError(f"{name!r} is not computed from a molecule: give data with a label {name!r}")
    if name not in COMPUTED:
        raise ConfigError.unknown("property", name, COMPUTED)
    mol = sanitised(record)
    if mol is None:
        return math.nan
    with rdBase.BlockLogs():
        return COMPUTED[name](mol)


def scales(records: Sequence[Mol | str]) -> Scales:
    """Mean and standard deviation of the computed properties and of every numeric label of the records.

    The computed ones come from at most 2,000 records, evenly spaced, since QED is slow.

    Example:
        >>> scales(["C", "CC"])["weight"]
        (23.0565, 7.0135)
    """
    some = [sanitised(record) for record in evenly(records, _FIT_ON)]
    found = {name: bounds(f(m) for m in some if m is not None) for name, f in COMPUTED.items()}
    labels: Mapping[str, np.ndarray] = records.labels if isinstance(records, Records) else {}
    for name, values in labels.items():
        array = np.asarray(values)
        if array.dtype.kind in "fiub" and np.isfinite(array.astype(float)).any():
            found[name] = bounds(array.astype(float))
    return {name: (_round(mean), _round(sd)) for name, (mean, sd) in found.items()}


def scalars(found: Mapping[str, Sequence[float]]) -> dict[str, Scalar]:
    """The conditions for these properties."""
    return {name: Scalar(name, float(mean), float(sd)) for name, (mean, sd) in found.items()}


def _round(x: float) -> float:
    return float(f"{x:.6g}")
