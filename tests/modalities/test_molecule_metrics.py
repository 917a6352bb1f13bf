"""Scores of 3D molecules: known molecules, the table pair by pair, charges, and distances of equals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.modalities.molecule import metrics
from molgen.modalities.molecule.codec import Mol, assemble
from molgen.modalities.molecule.data import load_gdb6
from molgen.modalities.molecule.geometry import ANGLE_KINDS, BOND_KINDS, EDGES, distances, histograms
from molgen.modalities.molecule.metrics import build_reference, evaluate, is_valid
from molgen.modalities.molecule.stability import (
    LENGTHS,
    MARGINS,
    VALENCE,
    by_bonds,
    by_table,
    largest_fragment,
    table_orders,
)

Atoms = Sequence[tuple[str, int]]
SHARES = (
    "atom_stable",
    "molecule_stable",
    "atom_stable_bonds",
    "molecule_stable_bonds",
    "valid",
    "valid_bonds",
    "valid_connected_bonds",
)


def made(smiles: str) -> Mol:
    """A molecule with a conformer, as it would be read: kekulised and with explicit hydrogens."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    return mol


def bonded(atoms: Atoms, bonds: Sequence[tuple[int, int, int]], xyz: Any) -> Mol:
    orders = np.zeros((len(atoms), len(atoms)), dtype=int)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    return assemble(atoms, orders, np.array(xyz, dtype=float).reshape(-1, 3))


def cyanide(ch: float = 1.064, cn: float = 1.156) -> Mol:
    atoms = [("H", 0), ("C", 0), ("N", 0)]
    return bonded(atoms, [(0, 1, 1), (1, 2, 3)], [[0, 0, -ch], [0, 0, 0], [0, 0, cn]])


def water() -> Mol:
    atoms = [("O", 0), ("H", 0), ("H", 0)]
    return bonded(atoms, [(0, 1, 1), (0, 2, 1)], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


def methane() -> Mol:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.09 / math.sqrt(3)
    xyz = np.concatenate([np.zeros((1, 3)), corners])
    return bonded([("C", 0)] + [("H", 0)] * 4, [(0, i, 1) for i in range(1, 5)], xyz.tolist())


def broken() -> Mol:
    """Five hydrogens on a carbon, nowhere near it."""
    xyz = [[0, 0, 0], *([5.0 * i, 0, 0] for i in range(1, 6))]
    return bonded([("C", 0)] + [("H", 0)] * 5, [(0, i, 1) for i in range(1, 6)], xyz)


def nowhere() -> Mol:
    return bonded([("O", 0), ("H", 0), ("H", 0)], [(0, 1, 1), (0, 2, 1)], [[math.nan] * 3] * 3)


@pytest.fixture(scope="module")
def mols() -> list[Mol]:
    return [made(s) for s in ("CCO", "CC", "CC(=O)N", "c1ccoc1", "CC#N", "OCC=O", "C1CC1", "CNC", "N", "CO")]


# --------------------------------------------------------------------------- stability


@pytest.mark.parametrize(
    "mol", [methane(), made("CC"), water(), cyanide()], ids=["CH4", "C2H6", "H2O", "HCN"]
)
def test_known_molecules_are_stable(mol: Mol) -> None:
    scores = evaluate([mol], n_posebusters=0)
    assert {name: scores[name] for name in SHARES} == dict.fromkeys(SHARES, 1.0)


def test_a_stretched_bond_is_not_stable() -> None:
    scores = evaluate([cyanide(ch=1.3)], n_posebusters=0)
    assert scores["atom_stable"] == pytest.approx(1 / 3)  # of H-CN only N keeps its three bonds
    assert scores["molecule_stable"] == 0
    assert scores["molecule_stable_bonds"] == 1  # which do not see distances


def test_the_table_pair_by_pair() -> None:
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
    for a in numbers:
        for b in numbers:
            kinds = np.array([[numbers[a], numbers[b]]])
            lengths = [lengths.get(a + b, lengths.get(b + a)) for lengths in LENGTHS]
            limits = [x + m for x, m in zip(lengths, MARGINS, strict=True) if x is not None]
            assert limits == sorted(limits, reverse=True)  # nested, so their number is the order
            for distance in (60.0, *(limit + e for limit in limits for e in (-0.01, 0.01))):
                order = 0
                while order < len(limits) and distance < limits[order]:
                    order += 1
                xyz = np.array([[[0, 0, 0], [0, distance / 100, 0]]])
                assert table_orders(kinds, xyz)[0, 0, 1] == order, (a, b, distance)


def test_padding_and_foreign_elements_have_no_bonds(mols: list[Mol]) -> None:
    numbers = [np.array([a.GetAtomicNum() for a in mol.GetAtoms()]) for mol in mols]
    xyz = [mol.GetConformer().GetPositions() for mol in mols]
    together = list(by_table(numbers, xyz))
    for z, r, (orders, stable) in zip(numbers, xyz, together, strict=True):
        ((alone, fits),) = by_table([z], [r])
        assert (orders == alone).all() and (stable == fits).all()
        assert (orders == orders.T).all() and not orders.diagonal().any()
    ((orders, stable),) = by_table([np.array([17, 1])], [np.array([[0, 0, 0], [0, 0, 1.27]])])
    assert not orders.any() and not stable.any()


def test_every_valence_of_the_table_is_that_of_the_neutral_atom() -> None:
    for symbol, valence in VALENCE.items():
        mol = Chem.MolFromSmiles(f"[{symbol}H{valence}]" if symbol != "H" else "[H][H]")
        assert by_bonds(Chem.AddHs(mol)).all()


@pytest.mark.parametrize(
    ("smiles", "stable"),
    [
        ("[NH4+]", True),
        ("[OH-]", True),
        ("[NH3+]CC([O-])=O", True),
        ("C[N+](=O)[O-]", True),
        ("c1cc[nH]c1", True),
        ("[CH3]", False),
        ("[OH]", False),
        ("[NH3+]", False),
    ],
)
def test_bonds_are_judged_with_the_charge(smiles: str, stable: bool) -> None:
    assert by_bonds(Chem.AddHs(Chem.MolFromSmiles(smiles))).all() == stable


def test_the_same_bonds_with_another_charge() -> None:
    bonds, xyz = [(0, i, 1) for i in range(1, 5)], np.zeros((5, 3)).tolist()
    for charge, stable in ((1, True), (0, False), (-1, False)):
        assert by_bonds(bonded([("N", charge)] + [("H", 0)] * 4, bonds, xyz))[0] == stable


# --------------------------------------------------------------------------- validity


def test_the_largest_fragment() -> None:
    z, orders = np.array([8, 1, 1, 1, 1]), np.zeros((5, 5), dtype=int)
    for i, j in ((0, 1), (0, 2), (3, 4)):
        orders[i, j] = orders[j, i] = 1
    assert largest_fragment(z, orders) == "[H]O[H]"
    orders[0, 3] = orders[3, 0] = 1
    assert largest_fragment(z, orders) is None  # an oxygen with three bonds


def test_invalid_molecules_are_counted() -> None:
    scores = evaluate([water(), water(), broken(), nowhere()], n_posebusters=0)
    assert scores["n"] == 4
    assert scores["molecule_stable"] == 0.5 and scores["atom_stable"] == 6 / 15
    # The table sees a carbon and five lone hydrogens, which implicit hydrogens complete.
    assert scores["valid"] == 0.75
    assert scores["valid_bonds"] == scores["valid_connected_bonds"] == 0.5
    assert scores["valid_x_unique"] == 0.25 and scores["unique"] == 0.5
    assert scores["heteroatoms"] == 1 and scores["rings"] == 0  # of the two that are valid
    assert [is_valid(m) for m in (water(), broken(), nowhere())] == [True, False, False]


def test_fragments_are_valid_but_not_connected() -> None:
    atoms = [("O", 0), ("H", 0), ("H", 0)] * 2
    one = np.array(water().GetConformer().GetPositions())
    xyz = np.concatenate([one, one + 5]).tolist()
    pair = bonded(atoms, [(0, 1, 1), (0, 2, 1), (3, 4, 1), (3, 5, 1)], xyz)
    scores = evaluate([pair], n_posebusters=0)
    assert scores["molecule_stable"] == scores["valid"] == scores["valid_bonds"] == 1
    assert scores["valid_connected_bonds"] == scores["valid_x_unique"] == 0
    assert math.isnan(scores["unique"]) and math.isnan(scores["rings"])


def test_the_order_of_atoms_does_not_matter(mols: list[Mol]) -> None:
    rng = np.random.default_rng(0)
    mixed = [Chem.RenumberAtoms(m, rng.permutation(m.GetNumAtoms()).tolist()) for m in mols]
    first = evaluate(mols, Records(mols), n_posebusters=0)
    assert evaluate(mixed, Records(mols), n_posebusters=0) == pytest.approx(first, abs=1e-9, nan_ok=True)


def test_wrong_input() -> None:
    with pytest.raises(DataError, match="no records"):
        evaluate([])
    with pytest.raises(DataError, match="record 2.*str"):
        evaluate([water(), "O"])
    with pytest.raises(DataError, match="without coordinates"):
        evaluate([Chem.MolFromSmiles("CO")])
    with pytest.raises(ConfigError, match="qm9"):
        evaluate([water()], "qm8", n_posebusters=0)
    with pytest.raises(DataError, match="at least 2"):
        evaluate([water()], Records([water()]), n_posebusters=0)


# --------------------------------------------------------------------------- geometry


def test_lengths_angles_and_torsions_of_a_known_molecule() -> None:
    # Hydrogen peroxide with a torsion of 100 degrees.
    turn = math.radians(100)
    xyz = [[0.9, 0, -0.3], [0, 0, 0], [0, 0, 1.45], [0.9 * math.cos(turn), 0.9 * math.sin(turn), 1.75]]
    mol = bonded([("H", 0), ("O", 0), ("O", 0), ("H", 0)], [(0, 1, 1), (1, 2, 1), (2, 3, 1)], xyz)
    amine = bonded([("H", 0), ("N", 0), ("N", 0), ("H", 0)], [(0, 1, 1), (1, 2, 2), (2, 3, 1)], xyz)
    for record in (mol, amine):
        Chem.SanitizeMol(record)
    found = histograms([mol, amine])[0]

    def at(term: str, kind: int) -> dict[float, int]:
        row = found[term][kind]
        return {round(float(EDGES[term][i]), 3): int(row[i]) for i in np.flatnonzero(row)}

    length = math.hypot(0.9, 0.3)
    assert at("bond_lengths", BOND_KINDS.index("H-O")) == {0.948: 2}
    assert 0.948 <= length < 0.95
    assert at("bond_lengths", BOND_KINDS.index("N=N")) == {1.45: 1}
    assert at("angles", ANGLE_KINDS.index("O2")) == {108.0: 2}  # 90 + atan(.3 / .9) = 108.4
    assert sum(found["torsions"].sum(0)) == 1  # about N=N; O-O is not among the kinds
    assert np.flatnonzero(found["torsions"].sum(0)).tolist() == [20]  # 100 to 105 degrees


def test_distance_of_records_to_themselves_is_zero(mols: list[Mol]) -> None:
    scores = evaluate(mols, Records(mols), n_posebusters=0)
    for name in ("wasserstein/bond_lengths", "wasserstein/angles", "js/torsions"):
        assert scores[name] == 0
        assert scores[f"floor/{name}"] > 0
    assert scores["novelty"] == 0
    for name in SHARES:
        assert scores[f"floor/{name}"] == scores[name]
    smiles = [Chem.MolFromSmiles(Chem.MolToSmiles(mol)) for mol in mols]
    assert scores["rings"] == np.mean([mol.GetRingInfo().NumRings() for mol in smiles])
    for name in ("heteroatoms", "rings"):
        assert scores[f"data/{name}"] == scores[name]


def test_scaled_molecules_are_that_much_farther_apart(mols: list[Mol]) -> None:
    def scaled(mol: Mol) -> Mol:
        out = Chem.Mol(mol)
        out.GetConformer().SetPositions(np.ascontiguousarray(1.02 * mol.GetConformer().GetPositions()))
        return out

    wide = [scaled(mol) for mol in mols]
    apart = distances(histograms(wide)[0], histograms(mols)[0])
    lengths = []
    for mol in mols:
        xyz = mol.GetConformer().GetPositions()
        ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
        lengths += [float(np.linalg.norm(xyz[i] - xyz[j])) for i, j in ends]
    assert apart["wasserstein/bond_lengths"] == pytest.approx(0.02 * np.mean(lengths), rel=0.02)
    assert apart["wasserstein/angles"] < 0.01 and apart["js/torsions"] < 0.01


def test_histograms_of_parts_add_up(mols: list[Mol]) -> None:
    whole = histograms(mols)[0]
    parts = histograms(mols, 3)
    for term, counts in whole.items():
        assert (np.sum([part[term] for part in parts], axis=0) == counts).all()


def test_reference_is_small_and_deterministic(mols: list[Mol]) -> None:
    first, second = (build_reference(mols[::2], mols[1::2], 0) for _ in range(2))
    assert first.keys() == second.keys()
    assert all((first[k] == second[k]).all() for k in first)
    assert first["n_train"] == first["n_test"] == 5
    assert not any(v.dtype == object for v in first.values())


def test_nothing_valid_gives_no_distance(mols: list[Mol]) -> None:
    scores = evaluate([broken()], Records(mols))
    assert scores["n_geometry"] == scores["n_posebusters"] == 0
    for name in ("wasserstein/bond_lengths", "js/torsions", "posebusters", "novelty"):
        assert math.isnan(scores[name])


# --------------------------------------------------------------------------- PoseBusters, the asset


def test_posebusters_passes_a_conformer_and_not_a_squashed_one() -> None:
    good = made("CCO")
    squashed = Chem.Mol(good)
    squashed.GetConformer().SetPositions(np.ascontiguousarray(0.5 * good.GetConformer().GetPositions()))
    assert evaluate([good, good, squashed], n_posebusters=1)["posebusters"] == 1
    scores = evaluate([squashed, good])
    assert scores["posebusters"] == 0.5 and scores["n_posebusters"] == 2


def test_the_embedded_data_are_a_reference() -> None:
    scores = evaluate(load_gdb6("test")[::9], "gdb6", n_posebusters=0)
    assert scores["floor/valid_bonds"] == 1.0 and scores["novelty"] > 0.9
    assert 0 < scores["wasserstein/bond_lengths"] < 0.05


def test_the_shipped_reference(mols: list[Mol]) -> None:
    assert (metrics.ASSETS / "qm9.npz").stat().st_size < 300_000
    scores = evaluate(mols, "qm9", n_posebusters=0)
    assert scores["floor/molecule_stable"] == pytest.approx(0.952, abs=0.01)
    assert scores["floor/atom_stable"] == pytest.approx(0.99, abs=0.005)
    assert scores["floor/molecule_stable_bonds"] > 0.99
    assert scores["data/heteroatoms"] == pytest.approx(2.4, abs=0.2)
    assert scores["wasserstein/bond_lengths"] > scores["floor/wasserstein/bond_lengths"] > 0


def test_data_score_as_published(canonical_data: Path) -> None:
    from molgen.modalities.molecule.data import load_qm9

    test = load_qm9("test")
    scores = evaluate(test[:: len(test) // 500], n_posebusters=0)
    assert scores["atom_stable"] == pytest.approx(0.99, abs=0.01)
    assert scores["molecule_stable"] == pytest.approx(0.952, abs=0.03)
    assert scores["molecule_stable_bonds"] > 0.99
