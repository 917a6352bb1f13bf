"""Scores of molecules as strings or 2D graphs, usable on anybody's records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rdkit.Chem import Mol

from molgen.core.errors import DataError
from molgen.modalities.chemistry.describe import Described, Strings
from molgen.modalities.chemistry.reference import (
    Known,
    build_reference,
    internal_diversity,
    novelty,
    reference_for,
)

__all__ = ["build_reference", "evaluate"]


def evaluate(
    records: Sequence[Mol | str], reference: Known | None = None, distances: bool = True
) -> dict[str, float]:
    """Scores of SMILES or molecules, nothing corrected.

    - `valid`: share that RDKit sanitises; `valid_connected`: and that are one fragment.
    - `unique`: distinct canonical SMILES over valid records.
    - `valid_x_unique`: distinct canonical SMILES of one-fragment records that RDKit sanitises, over n.
    - `int_div`: one minus the mean Tanimoto similarity within the sample.

    With a reference also, for valid records, each with `floor/...`, the value of as many training molecules:

    - `novelty`: share of distinct molecules that are not in the training data, stereochemistry left out.
    - `fcd`: Frechet ChemNet distance to the test molecules.
    - `snn`: mean similarity to the nearest test molecule; `frag`, `scaf`: cosine similarity of the counts
      of BRICS fragments and of scaffolds with those of the test molecules. Here the floor is what can be
      reached from above.
    - `wasserstein/logp`, `.../qed`, `.../tpsa`, `.../weight`: distances of distributions, in the property's
      unit.

    Scores over all pairs use at most 5,000 molecules on either side, evenly spaced. Nothing is random.

    Arguments:
        records: SMILES or `rdkit.Chem.Mol`.
        reference: a data set's name, records, or a `Reference`; None for the scores that need none.
        distances: whether to compute the slow scores, those against the reference but novelty, and `int_div`.

    Example:
        >>> scores = evaluate(["CO", "OC", "C.C", "C("], distances=False)
        >>> {name: round(value, 3) for name, value in scores.items()}
        {'n': 4.0, 'valid': 0.75, 'valid_connected': 0.5, 'unique': 0.667, 'valid_x_unique': 0.25}
    """
    if len(records) == 0:
        raise DataError("no records to score", fix="give at least one")
    strings = Strings.of(records)
    n, valid = strings.n, len(strings.valid)
    scores = {
        "n": float(n),
        "valid": valid / n,
        "valid_connected": len(strings.connected) / n,
        "unique": len(set(strings.valid)) / valid if valid else math.nan,
        "valid_x_unique": len(set(strings.connected)) / n,
    }
    molecules = Described(strings.flat)
    if reference is None:
        return scores | ({"int_div": internal_diversity(molecules)} if distances else {})
    scores["novelty"] = novelty(strings.flat, reference)
    if distances:
        against = reference_for(reference)
        for name, value in against.distances(molecules).items():
            scores[name] = value
            scores[f"floor/{name}"] = against.floor(name, valid)
    return scores
