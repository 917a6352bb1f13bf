"""What the scores look at in a set of molecules: strings, properties, fragments, scaffolds, fingerprints,
features.

Source: Polykovskiy et al., Molecular Sets (MOSES), Frontiers in Pharmacology 11, 565644 (2020), for
fragments, scaffolds, nearest neighbours and internal diversity.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import BRICS, Mol, rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from molgen.metrics.statistics import Moments
from molgen.modalities.chemistry.chemnet import features
from molgen.modalities.chemistry.parse import flat, sanitised
from molgen.modalities.chemistry.properties import COMPUTED

HASH_BITS = 40
"""Bits of a string's hash: among 100,000 strings a foreign one is found with probability 1e-7."""

_MARKED = re.compile(r"[@/\\:]|\[\d|\[H")
"""What only strings with stereochemistry, isotopes, atom maps or explicit hydrogens contain."""

_BLOCK = 1024
_QUADRATIC = 5000  # molecules at most that enter scores over all pairs


@final
@dataclass(frozen=True)
class Strings:
    """Records sorted into what they are.

    Arguments:
        n: number of records.
        valid: canonical SMILES of those that RDKit sanitises, in order.
        connected: the same of those of one fragment.
        flat: `valid` without stereochemistry and isotopes, as the data sets are.
    """

    n: int
    valid: list[str]
    connected: list[str]
    flat: list[str]

    @classmethod
    def of(cls, records: Iterable[Mol | str]) -> Strings:
        """Sorts SMILES or molecules.

        Example:
            >>> Strings.of(["CO", "C.C", "C(", "OC"]).connected
            ['CO', 'CO']
        """
        n, valid, connected, plain = 0, [], [], []
        with rdBase.BlockLogs():
            for record in records:
                n += 1
                mol = sanitised(record)
                if mol is None:
                    continue
                smiles = str(Chem.MolToSmiles(mol))
                valid.append(smiles)
                plain.append(str(Chem.MolToSmiles(flat(mol))) if _MARKED.search(smiles) else smiles)
                if "." not in smiles:
                    connected.append(smiles)
        return cls(n, valid, connected, plain)


@final
class Described:
    """A set of valid molecules with what the scores need, each computed when first asked for.

    Arguments:
        smiles: canonical SMILES without stereochemistry.

    Example:
        >>> Described(["CCO", "CO"]).property("weight").round(1).tolist()
        [46.1, 32.0]
    """

    def __init__(self, smiles: Sequence[str]) -> None:
        self.smiles = list(smiles)
        self._properties: dict[str, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.smiles)

    def part(self, picks: NDArray[np.intp]) -> Described:
        """The molecules at these positions; what is known of them is kept."""
        out = Described([self.smiles[i] for i in picks])
        out._properties = {name: values[picks] for name, values in self._properties.items()}
        if "features" in self.__dict__:
            out.__dict__["features"] = self.features[picks]
        return out

    @cached_property
    def mols(self) -> list[Mol]:
        with rdBase.BlockLogs():
            return [Chem.MolFromSmiles(s) for s in self.smiles]

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """ChemNet's, `(n, 512)`."""
        return features(self.smiles)

    @property
    def moments(self) -> Moments:
        """Mean and covariance of the features."""
        return Moments.of(self.features)

    def property(self, name: str) -> NDArray[np.float64]:
        """A property of every molecule."""
        if name not in self._properties:
            with rdBase.BlockLogs():
                self._properties[name] = np.array([COMPUTED[name](m) for m in self.mols])
        return self._properties[name]

    @cached_property
    def fragments(self) -> Counter[str]:
        """How often each BRICS fragment occurs."""
        found: Counter[str] = Counter()
        with rdBase.BlockLogs():
            for mol in self.mols:
                pieces = BRICS.BreakBRICSBonds(mol)  # type: ignore[no-untyped-call]
                found.update(Chem.MolToSmiles(pieces).split("."))
        return found

    @cached_property
    def scaffolds(self) -> Counter[str]:
        """How often each Bemis-Murcko scaffold of two rings or more occurs."""
        found: Counter[str] = Counter()
        with rdBase.BlockLogs():
            for mol in self.mols:
                if mol.GetRingInfo().NumRings() >= 2:
                    scaffold = MurckoScaffold.GetScaffoldForMol(mol)  # type: ignore[no-untyped-call]
                    if scaffold.GetRingInfo().NumRings() >= 2:
                        found[Chem.MolToSmiles(scaffold)] += 1
        return found

    @cached_property
    def fingerprints(self) -> NDArray[np.float32]:
        """Morgan fingerprints of radius 2 and 1,024 bits, as zeros and ones."""
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
        out = np.zeros((len(self), 1024), np.float32)
        for row, mol in zip(out, self.mols, strict=True):
            row[:] = generator.GetFingerprintAsNumPy(mol)
        return out

    def thinned(self) -> Described:
        """At most 5,000 of the molecules, evenly spaced, for scores over all pairs."""
        if len(self) <= _QUADRATIC:
            return self
        return self.part(np.linspace(0, len(self) - 1, _QUADRATIC).astype(np.intp))


def similarities(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Largest and mean Tanimoto similarity of each row of `x` to the rows of `y`.

    Arguments:
        x: fingerprints `(n, bits)` of zeros and ones.
        y: fingerprints `(m, bits)`, m at least 1.

    Example:
        >>> x = np.array([[1, 1, 0]], np.float32)
        >>> [float(v[0]) for v in similarities(x, np.array([[1, 1, 0], [0, 1, 1]], np.float32))]
        [1.0, 0.6666666865348816]
    """
    largest, mean = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    size_y = y.sum(1)
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        shared = x[rows] @ y.T
        union = x[rows].sum(1)[:, None] + size_y[None] - shared
        tanimoto = np.where(union > 0, shared / np.maximum(union, 1), 0)
        largest[rows], mean[rows] = tanimoto.max(1), tanimoto.mean(1)
    return largest, mean


def cosine(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    """Cosine similarity of two tables of counts; NaN if one is empty.

    Example:
        >>> cosine({"a": 3}, {"a": 3, "b": 4})
        0.6
    """
    norms = [sum(v * v for v in counts.values()) ** 0.5 for counts in (a, b)]
    if not all(norms):
        return float("nan")
    return float(sum(v * b.get(k, 0) for k, v in a.items()) / (norms[0] * norms[1]))


def hashes(smiles: Iterable[str]) -> NDArray[np.uint64]:
    """A hash of 40 bits of each string, the same on every machine."""
    size = HASH_BITS // 8
    codes = (hashlib.blake2b(s.encode(), digest_size=size).digest() for s in smiles)
    return np.array([int.from_bytes(code, "big") for code in codes], np.uint64)
