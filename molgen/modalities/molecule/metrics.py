"""Scores of molecules in 3D, usable on anybody's records: stability, validity, novelty, geometry."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdMolDescriptors

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import evenly
from molgen.io.console import bar
from molgen.io.files import load_arrays
from molgen.modalities.chemistry.describe import hashes
from molgen.modalities.chemistry.parse import flat, sanitised
from molgen.modalities.chemistry.reference import novelty
from molgen.modalities.molecule.codec import Mol
from molgen.modalities.molecule.data import DATASETS
from molgen.modalities.molecule.geometry import EDGES, SCORES, distances, histograms
from molgen.modalities.molecule.stability import by_bonds, by_table, largest_fragment

__all__ = ["build_reference", "evaluate", "is_valid"]

ASSETS = Path(__file__).parent / "assets"
_TRAIN, _TEST = 10_000, 10_000  # molecules, evenly spaced, that a reference is made from
_FLOORS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # sizes at which the floors of distances are stored
_PARTS = 4  # training samples of one size whose distances are averaged


def evaluate(
    records: Sequence[Mol],
    reference: str | Sequence[Mol] | None = None,
    *,
    n_posebusters: int = 100,
    progress: bool = True,
) -> dict[str, float]:
    """Scores of molecules with explicit hydrogens and coordinates; nothing is corrected, none is left out.

    By the distance table, from elements and coordinates alone (see `stability.table_orders`), as in EDM:

    - `atom_stable`: share of atoms whose bonds sum to H1 C4 N3 O2 F1; `molecule_stable`: of molecules whose
      atoms all do.
    - `valid`: share that RDKit sanitises; `valid_x_unique_table`: distinct canonical SMILES of the largest
      fragments of those, over n.

    By the bonds and charges that the records carry:

    - `atom_stable_bonds`, `molecule_stable_bonds`: with a valence that the formal charge allows.
    - `valid_bonds`: share that RDKit sanitises; `valid_connected_bonds`: and that are one fragment.
    - `unique`: distinct canonical SMILES over records of one fragment that RDKit sanitises; `valid_x_unique`:
      the same over n.
    - `heteroatoms`, `rings`: mean number in those; what is easily valid is poor in both.
    - `posebusters`: share of the first `n_posebusters` of those that pass all single-molecule checks.

    With a reference also, over the `n_geometry` records of one fragment that RDKit sanitises:

    - `novelty`: share of distinct molecules, hydrogens and stereochemistry left out, that are not in the
      training data.
    - `wasserstein/bond_lengths` in Angstrom, `wasserstein/angles` in degrees, `js/torsions` in nats: mean
      distance to the test molecules' distributions, per kind (see `geometry.distances`), with
      `floor/...`, the distance of as many training molecules.
    - `floor/<share>`: the test molecules' own score, for all the shares above; `data/heteroatoms`,
      `data/rings`: their own numbers.

    Arguments:
        records: `rdkit.Chem.Mol` with one conformer; coordinates that are not finite make a record unstable
            and invalid.
        reference: a data set's name, or records (training and test data at once); None for the scores that
            need none.
        n_posebusters: how many molecules go through PoseBusters, the slow part; 0 for none.
        progress: whether to show a bar on a terminal during PoseBusters.

    Errors: `DataError` without records, or for one that is no molecule or has no conformer.

    Example:
        >>> from molgen.modalities.molecule.codec import assemble
        >>> water = assemble([("O", 0), ("H", 0), ("H", 0)], np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]),
        ...                  np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]))
        >>> scores = evaluate([water, water], n_posebusters=0)
        >>> scores["molecule_stable"], scores["molecule_stable_bonds"], scores["valid_x_unique"]
        (1.0, 1.0, 0.5)
    """
    scores, mols, smiles = _shares(records)
    scores |= _posebusters(mols[: max(n_posebusters, 0)], progress) if n_posebusters > 0 else {}
    if reference is None:
        return scores
    stats = reference_for(reference)
    if "seen" in stats:
        distinct = hashes(sorted(set(smiles)))
        scores["novelty"] = float((~np.isin(distinct, stats["seen"])).mean()) if len(distinct) else math.nan
    else:
        scores["novelty"] = novelty(smiles, reference)  # the hashes that ship with the strings of this data
    scores["n_geometry"] = float(len(mols))
    for name, value in distances(histograms(mols)[0], _counts(stats)).items():
        scores[name], scores[f"floor/{name}"] = value, _floor(stats, name, len(mols))
    own = zip(stats["own_names"].tolist(), stats["own_values"].tolist(), strict=True)
    return scores | {f"{'data' if name in _COUNTS else 'floor'}/{name}": value for name, value in own}


def is_valid(record: object) -> bool:
    """Whether RDKit sanitises a molecule with the bonds it carries, and its coordinates are finite.

    Example:
        >>> is_valid(Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False))
        False
    """
    if not isinstance(record, Mol) or not record.GetNumConformers() or sanitised(record) is None:
        return False
    return bool(np.isfinite(record.GetConformer().GetPositions()).all())


def build_reference(
    train: Sequence[Mol], test: Sequence[Mol], n_posebusters: int = 100
) -> dict[str, NDArray[Any]]:
    """What `evaluate` needs to know of a data set, as small arrays.

    Arguments:
        train: for the floors, at most 10,000 of them, evenly spaced; for novelty, if there are no more.
        test: for the histograms and the data's own scores; at most 10,000, evenly spaced.
        n_posebusters: how many of the test molecules go through PoseBusters.
    """
    shares, mols, _ = _shares(evenly(test, _TEST))
    if n_posebusters:
        shares |= _posebusters(evenly(mols, n_posebusters), True)
    counts = histograms(mols)[0]
    others = _valid(evenly(train, _TRAIN))
    seen = {"seen": np.unique(hashes(_plain(mol) for mol in others))} if len(train) <= _TRAIN else {}
    stats: dict[str, NDArray[Any]] = {
        f"counts/{term}": values.astype(np.int32) for term, values in counts.items()
    }
    stats |= seen | _own(shares)
    stats |= {"n_test": np.array(len(mols)), "n_train": np.array(len(others))}
    sizes = [n for n in _FLOORS if n < len(others)] + [len(others)] * (len(others) > 0)
    rows = []
    for n in sizes:
        step = len(others) // n  # strided samples, since data sets are sorted by size and kind
        samples = [histograms(others[k::step][:n])[0] for k in range(min(step, _PARTS))]
        rows.append([distances(sample, counts) for sample in samples])
    stats["sizes"] = np.array(sizes, dtype=np.int64)
    for name in SCORES.values():
        stats[f"floor/{name}"] = np.array([np.mean([found[name] for found in row]) for row in rows])
    return stats


def reference_for(reference: str | Sequence[Mol]) -> dict[str, NDArray[Any]]:
    """The statistics of a data set, shipped or made from its records, or of records.

    Records are training and test molecules at once; the floor is that of one half of them to the other.

    Errors: `ConfigError` for an unknown name, `DataError` for fewer than two records.
    """
    if isinstance(reference, str):
        return _named(reference)
    if len(reference) < 2:
        raise DataError(f"{len(reference)} reference molecules, expected at least 2", fix="give more of them")
    halves = build_reference(reference[0::2], reference[1::2], 0)
    shares, mols, smiles = _shares(reference)
    whole = {f"counts/{term}": values for term, values in histograms(mols)[0].items()}
    return halves | whole | {"seen": np.unique(hashes(smiles))} | _own(shares)


@lru_cache(maxsize=2)
def _named(name: str) -> dict[str, NDArray[Any]]:
    path = ASSETS / f"{name}.npz"
    if path.is_file():
        return load_arrays(path)
    if name not in DATASETS:
        raise ConfigError.unknown("reference of molecule", name, DATASETS)
    return build_reference(DATASETS[name].load("train"), DATASETS[name].load("test"), 0)


# --------------------------------------------------------------------------- parts


def _shares(records: Sequence[Mol]) -> tuple[dict[str, float], list[Mol], list[str]]:
    """The scores that need no reference; the valid, connected molecules; their SMILES without hydrogens."""
    if len(records) == 0:
        raise DataError("no records to score", fix="give at least one")
    numbers, xyz, stable = [], [], []
    mols, names, plain = [], [], []
    valid_bonds = 0
    for i in range(len(records)):
        record = _checked(records[i], i + 1)
        numbers.append(np.array([atom.GetAtomicNum() for atom in record.GetAtoms()], dtype=np.int64))
        xyz.append(record.GetConformer().GetPositions() if len(numbers[-1]) else np.zeros((0, 3)))
        finite = bool(np.isfinite(xyz[-1]).all())
        stable.append(by_bonds(record) if finite else np.zeros(len(numbers[-1]), dtype=bool))
        mol = sanitised(record) if finite else None
        if mol is not None:
            valid_bonds += 1
            if len(Chem.GetMolFrags(mol)) == 1:
                mols.append(mol)
                names.append(str(Chem.MolToSmiles(mol)))
                plain.append(_plain(mol))
    table, fragments = [], []
    for (orders, fits), z, r in zip(by_table(numbers, xyz), numbers, xyz, strict=True):
        table.append(fits)
        found = largest_fragment(z, orders) if np.isfinite(r).all() else None
        if found is not None:
            fragments.append(found)
    n = len(records)
    return (
        {
            "n": float(n),
            "atom_stable": _share_of_atoms(table),
            "molecule_stable": _share_of_molecules(table),
            "atom_stable_bonds": _share_of_atoms(stable),
            "molecule_stable_bonds": _share_of_molecules(stable),
            "valid": len(fragments) / n,
            "valid_bonds": valid_bonds / n,
            "valid_connected_bonds": len(mols) / n,
            "unique": len(set(names)) / len(names) if names else math.nan,
            "valid_x_unique": len(set(names)) / n,
            "valid_x_unique_table": len(set(fragments)) / n,
            **{name: _mean([count(mol) for mol in mols]) for name, count in _COUNTS.items()},
        },
        mols,
        plain,
    )


_COUNTS: Mapping[str, Callable[[Mol], int]] = {
    "heteroatoms": rdMolDescriptors.CalcNumHeteroatoms,
    "rings": rdMolDescriptors.CalcNumRings,
}
"""What a molecule is made of, beside its size."""


def _checked(record: object, number: int) -> Mol:
    if not isinstance(record, Mol):
        raise DataError(
            f"a record of type {type(record).__name__}, expected rdkit.Chem.Mol",
            record=number,
            fix="score strings as modality smiles",
        )
    if record.GetNumAtoms() and not record.GetNumConformers():
        raise DataError(
            "a molecule without coordinates",
            record=number,
            fix="score it as modality graph, or give it a conformer",
        )
    return record


def _valid(records: Sequence[Mol]) -> list[Mol]:
    """Sanitised copies of the records of one fragment with finite coordinates."""
    found = (sanitised(_checked(records[i], i + 1)) for i in range(len(records)))
    kept = [mol for mol in found if mol is not None and len(Chem.GetMolFrags(mol)) == 1]
    return [mol for mol in kept if np.isfinite(mol.GetConformer().GetPositions()).all()]


def _plain(mol: Mol) -> str:
    """The canonical SMILES without hydrogens and stereochemistry."""
    with rdBase.BlockLogs():
        return str(Chem.MolToSmiles(flat(mol)))


def _posebusters(mols: Sequence[Mol], progress: bool) -> dict[str, float]:
    """Share that passes every check of PoseBusters for a molecule on its own.

    A check that cannot be done, such as an energy without parameters, is not passed.

    Source: Buttenschoen et al., PoseBusters, Chemical Science 15, 3130 (2024).
    """
    if not mols:
        return {"posebusters": math.nan, "n_posebusters": 0.0}
    passed = 0
    with warnings.catch_warnings(), bar(len(mols), "PoseBusters", progress) as advance:
        warnings.simplefilter("ignore")
        from posebusters import PoseBusters

        checks = PoseBusters(config="mol")
        # The configuration names the energy twice, and the first time its result is not used.
        checks.config["modules"] = [m for m in checks.config["modules"] if m.get("chosen_binary_test_output")]
        for mol in mols:
            with rdBase.BlockLogs():
                if _embeds(mol):
                    row = checks.bust([mol]).iloc[0].tolist()
                    passed += all(isinstance(value, (bool, np.bool_)) and bool(value) for value in row)
            advance(1)
    return {"posebusters": passed / len(mols), "n_posebusters": float(len(mols))}


def _embeds(mol: Mol) -> bool:
    """Whether the first of the 50 conformers that PoseBusters compares energies with can be made.

    Where it cannot, as in some cages, the check of energy is not passed; the other 49 would take minutes.
    """
    again = Chem.MolFromInchi(Chem.MolToInchi(mol))  # type: ignore[no-untyped-call]
    if again is None:
        return False
    params: Any = rdDistGeom.ETKDGv3()
    params.randomSeed, params.useRandomCoords = 42, True  # as PoseBusters has it
    return bool(rdDistGeom.EmbedMolecule(Chem.AddHs(again), params) == 0)


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if len(numbers) else math.nan


def _share_of_atoms(stable: Sequence[NDArray[np.bool_]]) -> float:
    atoms = sum(len(fits) for fits in stable)
    return float(sum(int(fits.sum()) for fits in stable) / atoms) if atoms else 0.0


def _share_of_molecules(stable: Sequence[NDArray[np.bool_]]) -> float:
    return sum(bool(len(fits) and fits.all()) for fits in stable) / len(stable)


def _own(shares: Mapping[str, float]) -> dict[str, NDArray[Any]]:
    names = [name for name in shares if name not in ("n", "n_posebusters")]
    return {"own_names": np.array(names), "own_values": np.array([shares[name] for name in names])}


def _counts(stats: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {term: stats[f"counts/{term}"] for term in EDGES}


def _floor(stats: Mapping[str, NDArray[Any]], name: str, n: int) -> float:
    """The floor of a distance at `n` molecules, linear between the stored sizes in logarithms."""
    sizes, values = stats["sizes"], stats[f"floor/{name}"]
    if not len(sizes) or n < 1:
        return math.nan
    return float(np.exp(np.interp(np.log(n), np.log(sizes), np.log(values.clip(1e-12)))))
