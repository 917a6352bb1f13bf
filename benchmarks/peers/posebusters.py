"""posebusters: the checks of molecules in 3D, which molgen runs with the package itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from posebusters import PoseBusters
from rdkit import rdBase

from benchmarks.peers.timing import Contest
from molgen.core.registry import get_modality

_COUNT = 8


def contests() -> Iterator[Contest]:
    """All checks of a few molecules; molgen's time includes its other scores."""
    modality = get_modality("molecule")
    molecules = list(modality.datasets["qm9"].load("test")[:_COUNT])

    def theirs() -> Any:
        with warnings.catch_warnings(), rdBase.BlockLogs():
            warnings.simplefilter("ignore")
            return PoseBusters(config="mol").bust(molecules, None, None)

    yield Contest(
        "PoseBusters' checks",
        f"{_COUNT} molecules of QM9",
        lambda: modality.evaluate(molecules, None, n_posebusters=_COUNT, progress=False),
        theirs,
        None,
        _COUNT,
        "molecules",
    )
