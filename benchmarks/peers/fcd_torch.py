"""fcd_torch: the Frechet ChemNet distance, whose network molgen uses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from fcd_torch import FCD

from benchmarks.peers.timing import Contest
from molgen.core.registry import get_modality
from molgen.metrics.statistics import frechet_distance
from molgen.modalities.chemistry.describe import Described, Strings

_COUNT = 250


def contests() -> Iterator[Contest]:
    """The distance between two sets of strings."""
    records = list(get_modality("smiles").datasets["qm9"].load("test")[: 2 * _COUNT])
    first, second = records[:_COUNT], records[_COUNT:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = FCD(device="cpu", n_jobs=1)

    def ours() -> float:
        a, b = (Described(Strings.of(part).flat).moments for part in (first, second))
        return frechet_distance(a, b)

    def theirs() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(peer(ref=first, gen=second))

    yield Contest(
        "Frechet ChemNet distance",
        f"{_COUNT} against {_COUNT} molecules of QM9",
        ours,
        theirs,
        None,
        2 * _COUNT,
        "molecules",
    )
