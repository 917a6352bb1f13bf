"""Scores of backbones: local geometry, secondary structure, fold statistics, diversity and novelty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from Bio.PDB.Structure import Structure

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.io.console import bar
from molgen.io.files import load_arrays
from molgen.metrics.statistics import Moments, frechet_distance
from molgen.modalities.protein.backbone import coordinates
from molgen.modalities.protein.data import sources
from molgen.modalities.protein.descriptors import CLASH, folds, locals_of
from molgen.modalities.protein.similarity import diversity as tm_diversity
from molgen.modalities.protein.similarity import nearest

ASSETS = Path(__file__).parent / "assets"
LENGTHS = (64, 128)
"""Chains of these lengths make the reference of `pdb_chains`."""

_MEANS = ("helix", "strand", "rg_ratio", "contact_order", "hbonds")
_DRAWS = 8  # subsets of the training chains over which a floor is averaged
_KNOWN = 600  # training traces that novelty is judged against
_RIDGE = 1e-6


def evaluate(
    records: Sequence[Structure],
    reference: str | Records | None = None,
    *,
    diversity: int = 20,
    novelty: int = 6,
    tries: int = 32,
    progress: bool = True,
) -> dict[str, float]:
    """Scores of backbones; every distance comes with its floor, that of as many training chains.

    Arguments:
        records: structures of one chain with N, CA, C and O.
        reference: a data set's name (its test chains of 64-128 residues), or records (all of them; half
            against half is then the floor); None gives only what needs no reference.
        diversity: of how many records, evenly picked, all pairs are aligned; 0 for none.
        novelty: how many records are compared with training folds; 0 for none.
        tries: training folds aligned with each of those, the nearest in descriptors first.
        progress: whether to show a bar on a terminal while folds are aligned.

    Keys: those of `descriptors.locals_of` (from the atoms as they are); `valid` (`is_valid`), `helix`,
    `strand`, `rg_ratio`, `contact_order`, `hbonds` with `_sd` beside each and `rg_ratio_median` (see
    `descriptors.folds`: secondary structure and hydrogen bonds of the backbone rebuilt from CA, for
    data and samples alike); `diversity_tm` (mean pairwise TM-score), `clusters` (greedy, at TM > .5,
    over `n_diversity`); `nearest_tm` (mean of the best TM-score among 600 training folds: low is new)
    with `data/nearest_tm` of the test chains; `frechet` over `n_frechet` records within the reference's
    lengths, with `floor/frechet` at the same n and `ratio/frechet`; `data/<name>` for the test chains; `n`.

    Errors: `DataError` if there are no records or all have coordinates that are not finite.
    """
    every = [coordinates(record) for record in records]
    chains = [x for x in every if len(x) > 3 and np.isfinite(x).all()]
    if not chains:
        fix = "give other records"
        raise DataError("no chain of at least four residues with finite coordinates", fix=fix)
    stats = None if reference is None else reference_for(reference, 40 if novelty else 0)
    traces = [x[:, 1].astype(np.float64) for x in chains]
    found = folds(traces)
    scores = {
        "n": float(len(every)),
        "finite": len(chains) / len(every),
        "valid": sum(valid(x) for x in every) / len(every),
        **locals_of(chains),
        **_summary(found),
    }
    picks = _spread(len(traces), diversity)
    probes = _spread(len(traces), novelty) if stats is not None else picks[:0]
    work = len(picks) * (len(picks) - 1) // 2 + len(probes) * tries
    with bar(work, "TM-scores", show=progress) as advance:
        if len(picks) > 1:
            scores |= tm_diversity([traces[i] for i in picks], advance)
            scores["n_diversity"] = float(len(picks))
        if stats is not None and len(probes):
            scores |= _novelty(traces, found["vector"], probes, stats, tries, advance)
    if stats is not None:
        scores |= _frechet(traces, found["vector"], stats)
        names = [str(name) for name in stats["names"]]
        scores |= {f"data/{k}": float(v) for k, v in zip(names, stats["values"], strict=True)}
    return scores


def valid(coords: np.ndarray) -> bool:
    """Whether a backbone `(N, 4, 3)` is one unbroken chain without clashes.

    At least 95 % of consecutive CA within 3.80 +- .10 A (cis peptides are rare), none over 4.2 A, and no
    two CA three or more residues apart nearer than 3.2 A; 96 % of the chains of the PDB pass.

    Example:
        >>> valid(np.zeros((5, 4, 3)))
        False
    """
    ca = np.asarray(coords[:, 1], np.float64)
    if len(ca) < 2 or not np.isfinite(coords).all():
        return False
    step = np.linalg.norm(np.diff(ca, axis=0), axis=-1)
    i, j = np.triu_indices(len(ca), 3)
    apart = np.linalg.norm(ca[i] - ca[j], axis=-1)
    spaced = (np.abs(step - 3.8) <= 0.1).mean() >= 0.95 and step.max() <= 4.2
    return bool(spaced and (len(apart) == 0 or apart.min() >= CLASH - 0.8))


def build_reference(
    train: Sequence[Structure],
    test: Sequence[Structure],
    lengths: tuple[int, int] | None = LENGTHS,
    probes: int = 40,
) -> dict[str, np.ndarray]:
    """What `evaluate` needs to know of a data set, as small arrays.

    Arguments:
        train: for the scale of descriptors, the floors, and the folds that novelty is judged against.
        test: for the moments and the values that samples should have.
        lengths: shortest and longest chain that count; None for all.
        probes: how many test chains are aligned, for their own diversity and novelty.
    """
    low, high = (0, 10**9) if lengths is None else lengths
    chains = [x for x in map(coordinates, test) if low <= len(x) <= high]
    other = [x for x in map(coordinates, train) if low <= len(x) <= high]
    if min(len(chains), len(other)) < 4:
        raise DataError(
            f"{len(chains)} test and {len(other)} training chains of {low}-{high} residues, "
            "expected at least 4 of each",
            fix="give more reference chains",
        )
    traces, others = ([x[:, 1].astype(np.float64) for x in part] for part in (chains, other))
    found, vectors = folds(traces), folds(others)["vector"]
    sd = vectors.std(0)
    sd[sd < 1e-6] = 1.0
    moments = _moments(found["vector"] / sd)
    picks = _spread(len(others), _KNOWN)
    summary = {**locals_of(chains), **_summary(found)}
    stats = {
        "lengths": np.array([low, high]),
        "sd": sd,
        "mean": moments.mean,
        "cov": moments.cov.astype(np.float32),
        "n": np.array(len(chains)),
        "train_vectors": (vectors / sd).astype(np.float16),
        "known": picks,
        "known_offsets": np.cumsum([0, *(len(others[i]) for i in picks)]),
        "known_traces": np.concatenate([others[i] - others[i].mean(0) for i in picks]).astype(np.float16),
    }
    if probes > 1:
        picked = _spread(len(traces), probes)
        some = [traces[i] for i in picked]
        near = nearest(some, found["vector"][picked] / sd, *_known(stats), 32)
        summary |= {"nearest_tm": float(near.mean()), **tm_diversity(some)}
    stats["names"], stats["values"] = np.array(list(summary)), np.array(list(summary.values()), np.float32)
    return stats


def reference_for(reference: str | Records, probes: int = 40) -> dict[str, np.ndarray]:
    """The reference statistics of a data set (shipped, or made from its chains), or of records.

    The floor of records is the distance between their odd and even ones.
    """
    if not isinstance(reference, str):
        return build_reference(reference[1::2], reference[::2], None, probes)
    known = sources()
    if reference not in known:
        raise ConfigError.unknown("reference of protein", reference, known)
    path = ASSETS / f"{reference.removesuffix('_128')}.npz"
    if path.is_file():
        return load_arrays(path)
    source = known[reference]
    lengths = None if reference == "ideal" else LENGTHS
    return build_reference(source.load("train"), source.load("test"), lengths, probes)


# ---------------------------------------------------------------------- parts


def _summary(found: dict[str, np.ndarray]) -> dict[str, float]:
    out = {}
    for name in _MEANS:
        out[name], out[f"{name}_sd"] = float(found[name].mean()), float(found[name].std())
    out["rg_ratio_median"] = float(np.median(found["rg_ratio"]))
    return out


def _moments(vectors: np.ndarray) -> Moments:
    raw = Moments.of(vectors)
    return Moments(raw.mean, raw.cov + _RIDGE * np.eye(len(raw.mean)), raw.n)


def _frechet(traces: list[np.ndarray], vectors: np.ndarray, stats: dict[str, np.ndarray]) -> dict[str, float]:
    low, high = stats["lengths"]
    inside = np.array([low <= len(t) <= high for t in traces])
    n = int(inside.sum())
    if n < 2:
        return {"n_frechet": float(n)}
    target = Moments(stats["mean"], stats["cov"].astype(np.float64), int(stats["n"]))
    got = frechet_distance(_moments(vectors[inside] / stats["sd"]), target)
    train = stats["train_vectors"].astype(np.float64)
    draw, take = np.random.default_rng(0), min(n, len(train))
    parts = (train[draw.permutation(len(train))[:take]] for _ in range(_DRAWS))
    floor = float(np.mean([frechet_distance(_moments(part), target) for part in parts]))
    return {"n_frechet": float(n), "frechet": got, "floor/frechet": floor, "ratio/frechet": got / floor}


def _novelty(
    traces: list[np.ndarray],
    vectors: np.ndarray,
    probes: np.ndarray,
    stats: dict[str, np.ndarray],
    tries: int,
    advance: Callable[[int], None],
) -> dict[str, float]:
    scaled = vectors[probes] / stats["sd"]
    near = nearest([traces[i] for i in probes], scaled, *_known(stats), tries, advance)
    return {"nearest_tm": float(near.mean()), "n_novelty": float(len(probes))}


def _known(stats: dict[str, np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """The training folds that ship, and their scaled descriptors."""
    flat, edges = stats["known_traces"].astype(np.float64), stats["known_offsets"]
    folds_ = [flat[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return folds_, stats["train_vectors"][stats["known"]].astype(np.float64)


def _spread(n: int, take: int) -> np.ndarray:
    """At most `take` indices of `n`, evenly spread: the same whenever asked."""
    return np.unique(np.linspace(0, n - 1, min(take, n)).round().astype(np.int64)) if n else np.zeros(0, int)
