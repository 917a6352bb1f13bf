"""Reference statistics of a data set: what the scores of molecules are measured against."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem import Mol

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records, evenly
from molgen.io.files import load_arrays
from molgen.metrics.statistics import Moments, frechet_distance, wasserstein_1d
from molgen.modalities.chemistry.data import datasets
from molgen.modalities.chemistry.describe import Described, Strings, cosine, hashes, similarities
from molgen.modalities.chemistry.properties import COMPUTED

ASSETS = Path(__file__).parent.parent / "smiles" / "assets"
_FLOORS = (500, 1000, 2000, 5000, 10_000)  # sizes at which the floors are stored
_PARTS = 3  # samples of one size whose floors are averaged
_TEST = 15_000  # test molecules kept, QM9's all
_QUANTILES = 1001
_FRAGMENTS = 10_000  # kinds of fragments and of scaffolds kept, the most frequent ones


@final
@dataclass(frozen=True)
class Reference:
    """The test part of a data set as the scores see it, hashes of its training part, and the floors.

    Arguments:
        moments: of ChemNet's features.
        smiles: the test molecules.
        seen: sorted hashes of the training molecules.
        quantiles: of each property, evenly spaced in probability.
        fragments: counts of BRICS fragments.
        scaffolds: counts of scaffolds.
        floors: per score the value that training samples of each of `sizes` have.
        sizes: increasing.
    """

    moments: Moments
    smiles: Sequence[str]
    seen: NDArray[np.uint64]
    quantiles: Mapping[str, NDArray[Any]]
    fragments: Mapping[str, int]
    scaffolds: Mapping[str, int]
    floors: Mapping[str, NDArray[Any]]
    sizes: NDArray[Any]

    @cached_property
    def fingerprints(self) -> NDArray[np.float32]:
        return Described(self.smiles).thinned().fingerprints

    def distances(self, molecules: Described) -> dict[str, float]:
        """All scores of molecules that compare them with the reference, without floors."""
        if len(molecules) < 2:
            return dict.fromkeys((*_names(), "int_div"), math.nan)
        thin = molecules.thinned()
        nearest, _ = similarities(thin.fingerprints, self.fingerprints)
        scores = {"fcd": frechet_distance(molecules.moments, self.moments), "snn": float(nearest.mean())}
        scores["frag"] = cosine(molecules.fragments, self.fragments)
        scores["scaf"] = cosine(molecules.scaffolds, self.scaffolds)
        for name, quantiles in self.quantiles.items():
            scores[f"wasserstein/{name}"] = wasserstein_1d(molecules.property(name), quantiles)
        scores["int_div"] = internal_diversity(thin)
        return scores

    def floor(self, name: str, n: int) -> float:
        """The floor of a score at `n` molecules, linear in 1/n as the bias of moments is."""
        values = self.floors.get(name)
        if values is None or not len(self.sizes) or n < 2:
            return math.nan
        if name == "fcd" and n < self.sizes[0] and len(self.sizes) > 1:
            # A bias falls with n; where chance makes it rise, it is taken as level.
            slope = max(0.0, (values[0] - values[1]) / (1 / self.sizes[0] - 1 / self.sizes[1]))
            return float(values[0] + slope * (1 / n - 1 / self.sizes[0]))
        return float(np.interp(-1 / n, -1 / self.sizes, values))

    @classmethod
    def without_floors(cls, test: Described, seen: Sequence[str]) -> Self:
        """From test molecules and all training strings."""
        return cls(
            test.moments,
            test.smiles,
            np.unique(hashes(seen)),
            {name: _quantiles(test.property(name)) for name in COMPUTED},
            _frequent(test.fragments),
            _frequent(test.scaffolds),
            {},
            np.zeros(0),
        )

    @classmethod
    def build(cls, train: Described, test: Described, seen: Sequence[str]) -> Self:
        """From test molecules, a sample of training molecules for the floors, and all training strings."""
        bare = cls.without_floors(test, seen)
        sizes = [n for n in _FLOORS if n <= len(train)] or [len(train)]
        rows = []
        for n in sizes:
            parts = range(min(_PARTS, len(train) // n))
            # Parts spread over the whole set, since data sets are sorted by size and kind.
            spread = np.arange(n) * len(train) // n
            scores = [bare.distances(train.part((spread + k) % len(train))) for k in parts]
            rows.append({name: float(np.mean([s[name] for s in scores])) for name in scores[0]})
        floors = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return replace(bare, floors=floors, sizes=np.array(sizes, np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays, small: the covariance's upper triangle as float16, the hashes as differences.

        On QM9 the half precision moves the distance by 4e-5.
        """
        upper = np.triu_indices(len(self.moments.mean))
        steps = np.diff(self.seen, prepend=np.uint64(0))
        if len(steps) and steps.max() >= 2**32:
            steps = steps.astype(np.uint64)
        else:
            steps = steps.astype(np.uint32)
        out: dict[str, NDArray[Any]] = {
            "fcd_mean": self.moments.mean.astype(np.float32),
            "fcd_cov": self.moments.cov[upper].astype(np.float16),
            "fcd_n": np.array(self.moments.n),
            "smiles": _packed(self.smiles),
            "seen": steps,
            "fragments": _packed(list(self.fragments)),
            "fragment_counts": np.array(list(self.fragments.values()), np.uint32),
            "scaffolds": _packed(list(self.scaffolds)),
            "scaffold_counts": np.array(list(self.scaffolds.values()), np.uint32),
            "sizes": self.sizes,
        }
        out |= {f"quantiles/{k}": np.asarray(v, np.float32) for k, v in self.quantiles.items()}
        out |= {f"floor/{k}": np.asarray(v) for k, v in self.floors.items()}
        return out

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `arrays`."""
        mean = arrays["fcd_mean"].astype(np.float64)
        cov = np.zeros((len(mean), len(mean)))
        cov[np.triu_indices(len(mean))] = arrays["fcd_cov"]
        return cls(
            Moments(mean, cov + np.triu(cov, 1).T, int(arrays["fcd_n"])),
            _unpacked(arrays["smiles"]),
            np.cumsum(arrays["seen"], dtype=np.uint64),
            _prefixed(arrays, "quantiles/"),
            dict(zip(_unpacked(arrays["fragments"]), arrays["fragment_counts"].tolist(), strict=True)),
            dict(zip(_unpacked(arrays["scaffolds"]), arrays["scaffold_counts"].tolist(), strict=True)),
            _prefixed(arrays, "floor/"),
            arrays["sizes"],
        )


Known = str | Reference | Sequence[Mol | str]
"""What scores are measured against: the name of a data set, its statistics, or records."""


def build_reference(train: Records, test: Records) -> dict[str, NDArray[Any]]:
    """The statistics that ship, from a data set's parts.

    Arguments:
        train: hashes of all of them for novelty, and 10,000, evenly spaced, for the floors.
        test: everything else; at most 15,000, evenly spaced, for the size of what ships.
    """
    sample = Described(Strings.of(evenly(train, _FLOORS[-1])).flat)
    against = Described(Strings.of(evenly(test, _TEST)).flat)
    return Reference.build(sample, against, Strings.of(train.items).flat).arrays()


def reference_for(reference: Known) -> Reference:
    """The reference of that name, or of the user's own records.

    Records are training and test molecules at once; the floor is that of one half of them to the other.

    Errors: `ConfigError` for an unknown name.
    """
    if isinstance(reference, Reference):
        return reference
    if isinstance(reference, str):
        return _named(reference)
    records = reference if isinstance(reference, Records) else Records(list(reference))
    strings = Strings.of(records.items).flat
    if len(strings) < 4:
        raise DataError(
            f"{len(strings)} valid reference molecules, expected at least 4", fix="give more of them"
        )
    whole = Described(strings)
    rows = np.arange(len(strings))
    reference_of_all = Reference.without_floors(whole, strings)
    halves = Reference.build(whole.part(rows[0::2]), whole.part(rows[1::2]), strings)
    return replace(reference_of_all, floors=halves.floors, sizes=halves.sizes)


@lru_cache(maxsize=2)
def _named(name: str) -> Reference:
    path = ASSETS / f"{name}.npz"
    if path.is_file():
        return Reference.of(load_arrays(path))
    sources = datasets("smiles")
    if name not in sources:
        raise ConfigError.unknown("reference", name, sources)
    return Reference.of(build_reference(sources[name].load("train"), sources[name].load("test")))


def novelty(smiles: Sequence[str], reference: Known) -> float:
    """Share of the distinct strings that are not among the training molecules; NaN without any.

    Example:
        >>> novelty(["CO", "CC", "CC"], Records(["CC", "C"]))
        0.5
    """
    if isinstance(reference, (str, Reference)):
        seen = reference_for(reference).seen
    else:
        records = reference.items if isinstance(reference, Records) else reference
        seen = np.unique(hashes(Strings.of(records).flat))
    distinct = hashes(sorted(set(smiles)))
    return float((~np.isin(distinct, seen)).mean()) if len(distinct) else math.nan


def internal_diversity(molecules: Described) -> float:
    """One minus the mean Tanimoto similarity over all pairs, self-pairs included as MOSES has it."""
    if not len(molecules):
        return math.nan
    prints = molecules.thinned().fingerprints
    return float(1 - similarities(prints, prints)[1].mean())


def _names() -> tuple[str, ...]:
    return ("fcd", "snn", "frag", "scaf", *(f"wasserstein/{name}" for name in COMPUTED))


def _quantiles(values: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.quantile(values, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return found


def _frequent(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_FRAGMENTS])


def _packed(strings: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(strings).encode(), np.uint8)


def _unpacked(array: NDArray[Any]) -> list[str]:
    text = array.tobytes().decode()
    return text.split("\n") if text else []


def _prefixed(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
