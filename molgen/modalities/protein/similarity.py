"""TM-scores: how alike two folds are, how diverse a set is, how new against known folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tmtools import tm_align

SAME_FOLD = 0.5


def tm_score(a: np.ndarray, b: np.ndarray) -> float:
    """TM-score of two CA traces in Angstrom, the mean of both normalisations, in (0, 1].

    Source: Zhang and Skolnick, TM-align (2005), by `tmtools`.

    Example:
        >>> trace = np.cumsum(np.random.default_rng(0).normal(size=(40, 3)) * 2.2, 0)
        >>> round(tm_score(trace, trace @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])), 3)
        1.0
    """
    x, y = (np.ascontiguousarray(t, np.float64) for t in (a, b))
    found = tm_align(x, y, "G" * len(x), "G" * len(y))
    return float((found.tm_norm_chain1 + found.tm_norm_chain2) / 2)


def diversity(
    traces: Sequence[np.ndarray], advance: Callable[[int], None] = lambda n: None
) -> dict[str, float]:
    """Mean TM-score of all pairs, and greedy clusters at TM > .5 over the number of chains.

    Arguments:
        traces: CA traces of at least four residues.
        advance: told of every alignment done.
    """
    n = len(traces)
    scores = np.eye(n)
    for i in range(n):
        for j in range(i):
            scores[i, j] = scores[j, i] = tm_score(traces[i], traces[j])
            advance(1)
    centres: list[int] = []
    for i in range(n):
        if not centres or scores[i, centres].max() <= SAME_FOLD:
            centres.append(i)
    pairs = scores[np.triu_indices(n, 1)]
    return {"diversity_tm": float(pairs.mean()), "clusters": len(centres) / n}


def nearest(
    traces: Sequence[np.ndarray],
    vectors: np.ndarray,
    known: Sequence[np.ndarray],
    known_vectors: np.ndarray,
    tries: int,
    advance: Callable[[int], None] = lambda n: None,
) -> np.ndarray:
    """The best TM-score of each trace among known ones, `(n,)`, of which only the likeliest are tried.

    Arguments:
        traces: CA traces.
        vectors: their scaled descriptors `(n, D)`.
        known: CA traces to compare with.
        known_vectors: their scaled descriptors `(m, D)`.
        tries: how many known traces, nearest in descriptors first, are aligned with each.
        advance: told of every alignment done.
    """
    from sklearn.neighbors import NearestNeighbors

    best = np.zeros(len(traces))
    neighbours = NearestNeighbors(n_neighbors=min(tries, len(known))).fit(known_vectors)
    for i, (trace, order) in enumerate(zip(traces, neighbours.kneighbors(vectors)[1], strict=True)):
        for j in order:
            best[i] = max(best[i], tm_score(trace, known[j]))
            advance(1)
    return best
