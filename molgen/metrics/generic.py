"""Scores for any kind of data, from the fields alone; every distance comes with its floor.

Features of a sample are, per field, mean, spread and (where order means something) the product of neighbours
of its `readings`, and its number of sites; where all samples have one size, the readings themselves as well.
They are scaled by the reference and projected on its principal components.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError
from molgen.core.modality import Modality, View
from molgen.core.records import Records
from molgen.metrics.statistics import Moments, frechet_distance, js_divergence, prdc, wasserstein_1d

_MOST = 2000  # records of each side that are compared
_LEAST = 10
_COMPONENTS = 32
_FLAT = 4096  # readings up to which a sample of fixed size is compared entry by entry
_FIELD = 20_000  # readings of each field whose distribution is compared


def evaluate(
    modality: Modality,
    records: Sequence[Any],
    reference: str | Sequence[Any] | None = None,
    *,
    view: str | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of records of any modality.

    Arguments:
        modality: gives the fields, the validity and the data sets.
        records: domain objects; those that cannot be encoded count as invalid.
        reference: a data set's name (its test records are compared with, its training records give the
            floors), or records (every other one each); None gives only what needs no reference.
        view: whose fields are compared; the first by default.
        seed: of the picks where there are more than 2,000 records.

    Keys: `n`, `valid`, `unique` (share of distinct arrays among those that can be encoded); `frechet`
    (Frechet distance of features, squared; with `ratio/frechet`, over its floor), `precision`, `recall`,
    `density`, `coverage` (k = 5), `two_sample` (area under the ROC curve of a random forest that tells the
    two apart, out of bag: one half where it cannot), `size` (Wasserstein distance of the numbers of sites),
    `marginal/<field>` (of readings: the Wasserstein distance in units of the reference's spread, mean over
    channels; of classes the Jensen-Shannon divergence in nats). `floor/<key>` is the same for as many
    training records.

    Errors: `DataError` for fewer than 10 records that can be encoded, where there is a reference.

    Source: Heusel et al. 2017; Kynkaanniemi et al. 2019; Naeem et al. 2020; Lopez-Paz and Oquab, Revisiting
    Classifier Two-Sample Tests (2017).
    """
    chosen = modality.view(view)
    samples = _encodable(modality, records, chosen)
    scores = {
        "n": float(len(records)),
        "valid": _share(sum(map(modality.is_valid, records)), len(records)),
        "unique": _share(len({_key(sample) for sample in samples}), len(samples)),
    }
    if reference is None:
        return scores
    test, train = (_encodable(modality, part, chosen) for part in _parts(modality, reference))
    for what, found in (("records", samples), ("reference records", test), ("training records", train)):
        if len(found) < _LEAST:
            raise DataError(
                f"{len(found)} {what} that can be encoded, expected at least {_LEAST}", fix="give more"
            )
    test = _picked(test, _MOST, seed)
    space = Space.of(chosen, test)
    # The bias of every distance depends on n, so a floor is taken at the n of what it stands beside.
    most = min(_MOST, len(samples), len(train))
    told = _compare(space, _picked(samples, most, seed), test, seed)
    floor = _compare(space, _picked(train, most, seed), test, seed)
    scores |= told | {f"floor/{key}": value for key, value in floor.items()}
    lowest = floor["frechet"]
    scores["ratio/frechet"] = told["frechet"] / lowest if lowest > 0 else math.nan
    return scores


@final
@dataclass(frozen=True)
class Space:
    """The features of a view's samples, in the units and along the principal components of a reference.

    Arguments:
        view: gives the fields.
        flat: whether all samples of the reference have one size, small enough to compare entry by entry.
        centre, basis: features `(D,)` are `(x - centre) @ basis`, `(D, K)`.
    """

    view: View
    flat: bool
    centre: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, view: View, reference: Sequence[Sample]) -> Self:
        """The space of a reference."""
        sizes = {tuple(value.shape for value in sample.values()) for sample in reference}
        count = sum(f.invariants(reference[0][name]).size for name, f in view.fields.items())
        flat = len(sizes) == 1 and count <= _FLAT
        x = np.stack([_raw(view, flat, sample) for sample in reference])
        centre, spread = x.mean(0), x.std(0)
        # What hardly varies in the reference must not decide everything.
        scale = np.where(spread > 1e-6, spread, 1.0)
        _, values, rows = np.linalg.svd((x - centre) / scale, full_matrices=False)
        kept = min(_COMPONENTS, max(2, len(x) // 4), max(1, int((values > values[0] * 1e-6).sum())))
        return cls(view, flat, centre, rows[:kept].T / scale[:, None])

    def __call__(self, samples: Sequence[Sample]) -> np.ndarray:
        """Features `(n, K)`; samples of another size than a reference of one size lie far away."""
        width = len(self.centre)
        rows = []
        for sample in samples:
            raw = _raw(self.view, self.flat, sample)
            rows.append(np.pad(raw[:width], (0, max(0, width - len(raw)))))
        features: np.ndarray = (np.stack(rows) - self.centre) @ self.basis
        return features


def _raw(view: View, flat: bool, sample: Sample) -> np.ndarray:
    parts = [np.array([float(len(next(iter(sample.values()))))])]
    rows = []
    for name, f in view.fields.items():
        x = f.invariants(sample[name])
        rows.append(x.ravel())
        if not len(x):  # a single site has no pairs
            x = np.zeros((1, x.shape[1]))
        parts += [x.mean(0), x.std(0)]
        if view.ordered and f.stream == "site":
            parts.append((x[1:] * x[:-1]).mean(0) if len(x) > 1 else np.zeros(x.shape[1]))
    return np.concatenate([*parts, *(rows if flat else [])])


def _compare(space: Space, samples: Sequence[Sample], test: Sequence[Sample], seed: int) -> dict[str, float]:
    x, y = space(samples), space(test)
    n = min(len(x), len(y))
    scores = {"frechet": frechet_distance(Moments.of(x), Moments.of(y))}
    scores |= prdc(y[:n], x[:n], k=min(5, n - 1))
    scores["two_sample"] = two_sample(x[:n], y[:n], seed)
    first = next(iter(space.view.fields))
    scores["size"] = wasserstein_1d([len(s[first]) for s in samples], [len(s[first]) for s in test])
    for name, f in space.view.fields.items():
        a, b = (
            _picked(np.concatenate([f.invariants(s[name]) for s in part]), _FIELD, seed)
            for part in (samples, test)
        )
        scores[f"marginal/{name}"] = _marginal(a, b, f.num_classes > 0)
    return scores


def two_sample(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """How well a random forest tells two samples apart: area under its ROC curve, out of bag.

    Arguments:
        x: features `(n, D)`.
        y: features `(m, D)`.
        seed: of the forest.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> two_sample(x[:50], x[50:] + 9)
        1.0
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([0, 1], [len(x), len(y)])
    forest = RandomForestClassifier(100, min_samples_leaf=3, oob_score=True, random_state=seed)
    forest.fit(np.concatenate([x, y]), labels)
    return float(roc_auc_score(labels, forest.oob_decision_function_[:, 1]))


def _marginal(a: np.ndarray, b: np.ndarray, classes: bool) -> float:
    if not len(a) or not len(b):
        return math.nan
    if classes:
        return js_divergence(a.sum(0), b.sum(0))
    spread = np.where(b.std(0) > 1e-6, b.std(0), 1.0)
    return float(np.mean([wasserstein_1d(p, q) for p, q in zip((a / spread).T, (b / spread).T, strict=True)]))


def _parts(modality: Modality, reference: str | Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Test and training records of a reference."""
    if not isinstance(reference, str):
        return reference[::2], reference[1::2]
    if reference not in modality.datasets:
        raise ConfigError.unknown(f"reference of {modality.name}", reference, modality.datasets)
    source = modality.datasets[reference]
    if "test" not in source.splits:
        whole: Records = source.load(source.splits[0])
        return whole[::2], whole[1::2]
    return source.load("test"), source.load("train")


def _encodable(modality: Modality, records: Sequence[Any], view: View) -> list[Sample]:
    samples = []
    for record in records:
        try:
            sample = modality.encode(record, view.name)
        except DataError:
            continue
        if all(np.isfinite(value).all() for value in sample.values()):
            samples.append(sample)
    return samples


def _picked(rows: Any, most: int, seed: int) -> Any:
    """At most so many rows, in random order: data sets are seldom shuffled."""
    picks = np.random.default_rng(seed).permutation(len(rows))[:most]
    return rows[picks] if isinstance(rows, np.ndarray) else [rows[i] for i in picks]


def _key(sample: Mapping[str, np.ndarray]) -> bytes:
    return b"|".join(np.ascontiguousarray(value).tobytes() for value in sample.values())


def _share(count: int, total: int) -> float:
    return count / total if total else math.nan
