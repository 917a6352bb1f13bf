"""Features of the ChemNet network, for the Frechet ChemNet distance; the weights come with the package
`fcd_torch`.

Source: Preuer et al., Frechet ChemNet Distance, J. Chem. Inf. Model. 58, 1736 (2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=1)
def _network() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fcd_torch import FCD

        return FCD(device="cpu", n_jobs=1, batch_size=256, canonize=False)


def features(smiles: Sequence[str]) -> NDArray[np.float32]:
    """ChemNet's last hidden layer, `(n, 512)`; about 400 molecules a second on a core.

    Arguments:
        smiles: canonical SMILES. Of several fragments the network sees the first alone.
    """
    if not smiles:
        return np.zeros((0, 512), np.float32)
    with warnings.catch_warnings():
        # The package calls a function that NumPy has deprecated.
        warnings.simplefilter("ignore")
        return np.asarray(_network().get_predictions(list(smiles)), np.float32)
