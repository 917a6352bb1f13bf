"""Telling anomalies by what a model says of them: likelihood, typicality, and ratios of likelihoods."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import final

import numpy as np
import numpy.typing as npt

from molgen.core.errors import DataError

Array = npt.NDArray[np.float64]


def auroc(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> float:
    r"""How often an anomaly scores higher than a normal record does, ties by half.

    .. math:: P(s(a) > s(x)) + \frac{1}{2} P(s(a) = s(x))

    which is the area under the curve of true against false alarms: 1 if a threshold parts them, 0.5 for a
    guess, below where anomalies pass for more normal than the normal ones do.

    Arguments:
        normal: scores of normal records, `(n,)`; infinite ones are allowed.
        anomalous: scores of anomalies, `(m,)`.

    Errors: `DataError` if one of them is empty or has a NaN.

    Source: Mann and Whitney (1947); Hanley and McNeil (1982).

    Example:
        >>> auroc([0.0, 1.0], [1.0, 2.0])
        0.875
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_auc_score

    ours, theirs = (np.asarray(x, np.float64).ravel() for x in (normal, anomalous))
    for name, scores in (("normal", ours), ("anomalous", theirs)):
        if not len(scores) or np.isnan(scores).any():
            raise DataError(f"{len(scores)} {name} scores, expected some and none of them NaN")
    labels = np.repeat([0, 1], [len(ours), len(theirs)])
    return float(roc_auc_score(labels, rankdata(np.concatenate([ours, theirs]))))  # ranks are finite


def typicality(log_p: npt.ArrayLike, usual: npt.ArrayLike) -> Array:
    r"""How far log p is from what it is for the data, in either direction, `(n,)`.

    .. math:: s(x) = |\log p(x) - E_{x' \sim data} \log p(x')|

    In many dimensions data do not lie where the density is highest: the mode of a normal distribution is
    likelier than all its samples, and none of them is near it. A record may so be too likely.

    Arguments:
        log_p: of the records, `(n,)`; per entry where sizes differ.
        usual: of training records, measured in the same way.

    Errors: `DataError` if no usual value is finite.

    Source: Nalisnick et al., Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality
    (2019).

    Example:
        >>> typicality([0.0, -3.0], [-2.0, -4.0])
        array([3., 0.])
    """
    known = np.asarray(usual, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        raise DataError("no usual log p is finite", fix="give those of training records")
    gap: Array = np.abs(np.asarray(log_p, np.float64) - known.mean())
    return gap


def complexity(symbols: bytes) -> float:
    """The length of bytes after compression, in nats: -log p under a model that knows nothing of the data.

    Source: Serra et al., Input Complexity and Out-of-distribution Detection with Likelihood-based Generative
    Models (2020).

    Example:
        >>> complexity(bytes(784)) < complexity(bytes(range(256)))
        True
    """
    return 8 * len(zlib.compress(symbols, 9)) * math.log(2)


@final
class Background:
    r"""A model whose symbols are independent: the frequency of each in the data.

    .. math:: \log p_0(x) = \sum_t \log \pi(x_t)

    It knows what every image or string has, paper or common letters, and nothing of their order, so that
    :math:`\log p(x) - \log p_0(x)` counts only what the order says.

    Arguments:
        data: symbols of training records, uint8 of any length each.

    Source: Ren et al., Likelihood Ratios for Out-of-Distribution Detection (2019).

    Example:
        >>> Background([np.array([0, 0, 1], np.uint8)]).log_prob(np.array([0], np.uint8)) > -0.9
        True
    """

    def __init__(self, data: Iterable[np.ndarray]) -> None:
        counts = np.ones(256) / 256  # what never occurred is not impossible
        for symbols in data:
            counts += np.bincount(symbols.ravel(), minlength=256)
        self.log_share: Array = np.log(counts / counts.sum())

    def log_prob(self, symbols: np.ndarray) -> float:
        """log p of one record's symbols, in nats."""
        return float(self.log_share[symbols.ravel()].sum())
