"""3D molecules by internal coordinates: round trips, motions and mirrors, references, broken graphs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from scipy.spatial.transform import Rotation

from molgen.core.errors import ConfigError
from molgen.core.wrappers.order import GenerationOrder
from molgen.modalities.chemistry.parse import flat
from molgen.modalities.chemistry.qm9 import FILE
from molgen.modalities.molecule import MoleculeModality
from molgen.modalities.molecule.codec import Mol, assemble, canonical, kinds
from molgen.modalities.molecule.data import conformer, load_gdb6, load_qm9
from molgen.modalities.molecule.internal import Chain, from_internal, to_internal

VIEW = "internal"
NUMBERS = ("lengths", "angles", "torsions")


def solid(smiles: str) -> Mol:
    mol = conformer(smiles)
    assert mol is not None
    return mol


def xyz_of(mol: Mol) -> np.ndarray:
    return np.asarray(mol.GetConformer().GetPositions())


def moved(mol: Mol, matrix: np.ndarray, shift: float = 0.0) -> Mol:
    out = Chem.Mol(mol)
    out.GetConformer().SetPositions(np.ascontiguousarray(xyz_of(mol) @ matrix.T + shift))
    return out


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance of two atoms after the best proper rotation, by Kabsch."""
    a, b = a - a.mean(0), b - b.mean(0)
    u, _, v = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    return float(np.linalg.norm(a @ turn - b, axis=1).max())


def comes_back(modality: MoleculeModality, mol: Mol) -> None:
    """Checks the graph, and the coordinates up to a motion, under the canonical permutation."""
    back = modality.decode(modality.encode(mol, VIEW), VIEW)
    order, bonds = canonical(mol)
    assert kinds(back) == [kinds(mol)[i] for i in order]
    assert (Chem.GetAdjacencyMatrix(back, useBO=True) == bonds).all()
    assert apart(xyz_of(back), xyz_of(mol)[order]) < 1e-5
    assert np.abs(xyz_of(back).mean(0)).max() < 1e-9


# --------------------------------------------------------------------------- round trips


def test_round_trip_of_the_embedded_molecules() -> None:
    records = load_gdb6("test")[::2]
    modality = MoleculeModality().fit_to(records)
    for mol in records:
        comes_back(modality, mol)


def test_round_trip_of_qm9(canonical_data: Path) -> None:
    if not (canonical_data / FILE).is_file():
        pytest.skip(f"{canonical_data} has no {FILE}")
    modality = MoleculeModality()
    records = load_qm9("test")
    known = {(symbol, charge) for symbol, charge, _ in modality.atoms}
    mols = [records[i] for i in range(0, len(records), len(records) // 500)]
    mols = [mol for mol in mols if known.issuperset(kinds(mol))]
    assert len(mols) > 450
    for mol in mols:
        comes_back(modality, mol)


@pytest.mark.parametrize(
    "smiles",
    ["C#C", "C#N", "CC#N", "CC#CC", "C#CC#CC#C", "N#CC#N", "C=C=C", "O=C=O", "[H][H]", "O", "CC#CC#N"],
)
@pytest.mark.parametrize("tilt", [0.0, 1e-9, 1e-4, 0.02])
def test_atoms_on_a_line_come_back(smiles: str, tilt: float) -> None:
    mol = solid(smiles)
    shaken = np.random.default_rng(0).normal(size=(mol.GetNumAtoms(), 3))
    mol.GetConformer().SetPositions(np.ascontiguousarray(xyz_of(mol) + tilt * shaken))
    comes_back(MoleculeModality(), mol)


def test_atoms_in_one_place_come_back() -> None:
    water = assemble(
        [("O", 0), ("H", 0), ("H", 0)], np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]), np.zeros((3, 3))
    )
    comes_back(MoleculeModality(), water)


def test_rounding_does_not_add_up_along_a_chain() -> None:
    """Every atom is as exact as the first, since each is measured from where the others will stand."""
    n = 2000
    xyz = np.cumsum(np.random.default_rng(0).normal(size=(n, 3)), 0)
    bonds = np.diag(np.ones(n - 1, int), 1)
    values = to_internal(xyz, bonds + bonds.T)
    back = from_internal(np.nan_to_num(values), bonds + bonds.T)
    assert apart(back, xyz) < 1e-4


# --------------------------------------------------------------------------- what the numbers mean


def test_values_do_not_change_when_a_molecule_moves() -> None:
    records = load_gdb6("test")[::40]
    modality = MoleculeModality().fit_to(records)
    for i, mol in enumerate(records):
        turn = Rotation.random(random_state=i).as_matrix()
        a, b = modality.encode(mol, VIEW), modality.encode(moved(mol, turn, 5.0), VIEW)
        assert (a["atoms"] == b["atoms"]).all() and (a["bonds"] == b["bonds"]).all()
        assert np.abs(a["lengths"] - b["lengths"]).max() < 1e-5
        assert np.abs(a["angles"] - b["angles"]).max() < 1e-4
        # A torsion turns freely where its atom stands on the axis.
        lever = np.sin(a["angles"])
        assert np.abs(lever * np.sin((a["torsions"] - b["torsions"]) / 2)).max() < 1e-4


def test_a_mirror_image_is_told_apart() -> None:
    modality, mirror = MoleculeModality(), np.diag([1.0, 1.0, -1.0])
    mol = solid("C[C@H](O)N")
    other = moved(mol, mirror)
    a, b = modality.encode(mol, VIEW), modality.encode(other, VIEW)
    assert max(np.abs(a[k] - b[k]).max() for k in NUMBERS) > 0.5
    for image in (mol, other):
        comes_back(modality, image)
    # In one order of atoms a mirror only changes the signs of torsions.
    order, bonds = canonical(mol)
    left, right = (to_internal(xyz_of(m)[order], bonds) for m in (mol, other))
    assert np.nanmax(np.abs(left[:, :2] - right[:, :2])) < 1e-5
    assert np.nanmax(np.abs(np.sin(left[:, 2] + right[:, 2]))) < 1e-4


def test_numbers_are_the_lengths_angles_and_dihedrals_of_rdkit() -> None:
    mol = solid("CC(C)C(=O)NC")
    order, bonds = canonical(mol)
    mol = Chem.RenumberAtoms(mol, order)
    conf, values, chain = mol.GetConformer(), to_internal(xyz_of(mol), bonds), Chain(bonds)
    checked = 0
    for i in range(3, len(order)):
        p, a = chain.axis(i)
        b = next(chain.thirds(i, p, a))  # nothing here stands on a line
        assert bonds[i, p] and bonds[p, a] and (bonds[b, p] or bonds[b, a])
        assert values[i, 0] == pytest.approx(rdMolTransforms.GetBondLength(conf, p, i), abs=1e-5)
        assert values[i, 1] == pytest.approx(rdMolTransforms.GetAngleRad(conf, a, p, i), abs=1e-5)
        turn = rdMolTransforms.GetDihedralRad(conf, b, a, p, i)
        assert abs(np.sin((values[i, 2] - turn) / 2)) < 1e-5
        checked += 1
    assert checked == len(order) - 3


def test_torsions_of_siblings_are_fixed_by_hybridisation() -> None:
    """The second and third atom on a tetrahedral centre stand a third of a turn from the one before."""
    mol = solid("CCC(C)C")
    order, bonds = canonical(mol)
    values, chain = to_internal(xyz_of(mol)[order], bonds), Chain(bonds)
    turns = []
    for i in range(3, len(order)):
        p, a = chain.axis(i)
        if bonds[next(chain.thirds(i, p, a)), p]:
            turns.append(abs(np.degrees(values[i, 2])))
    assert len(turns) >= 9 and np.abs(np.array(turns) - 120).max() < 8


def test_what_the_first_atoms_lack_is_zero_in_the_unit_of_its_field() -> None:
    records = load_gdb6("test")[::40]
    modality = MoleculeModality().fit_to(records)
    fields = modality.views[VIEW].fields
    for mol in records:
        sample = modality.encode(mol, VIEW)
        assert sample["lengths"][0] == np.float32(fields["lengths"].mean)  # type: ignore[attr-defined]
        assert (sample["angles"][:2] == np.float32(fields["angles"].mean)).all()  # type: ignore[attr-defined]
        assert (sample["torsions"][:2] == 0).all()
        assert np.sin(sample["angles"][2]) < 0.25 or abs(sample["torsions"][2]) < 1e-6


# --------------------------------------------------------------------------- the view


def test_the_graph_is_written_before_the_geometry() -> None:
    modality = MoleculeModality()
    view = modality.views[VIEW]
    assert view.ordered and view.invariant and not view.bijective
    assert modality.view(ordered=True) is modality.view(invariant=True) is view
    assert modality.view(denoisable=True).name == next(iter(modality.views)) == "cartesian"
    layout = GenerationOrder.of(view.fields, (4,))
    names = [layout.names[k] for k in layout.field.tolist()]
    assert set(names[:10]) == {"atoms", "bonds"} and names[10:] == list(NUMBERS) * 4


def test_whatever_was_drawn_comes_back() -> None:
    """Random graphs, most of them broken, and any numbers at all: a molecule with these bonds, every time."""
    modality, rng = MoleculeModality(), np.random.default_rng(0)
    for trial in range(300):
        n = int(rng.integers(1, 9))
        bonds = np.triu(rng.choice(4, (n, n), p=[0.7, 0.2, 0.07, 0.03]), 1)
        bonds = bonds + bonds.T
        sample = {name: (10 * rng.normal(size=(n, 1)) ** 3).astype(np.float32) for name in NUMBERS}
        if trial % 3 == 0:
            sample["lengths"][rng.integers(n)] = rng.choice([0.0, 1e30, np.nan, np.inf])
            sample["torsions"][rng.integers(n)] = rng.choice([0.0, 1e30, np.nan, -np.inf])
        mol = modality.decode({"atoms": rng.integers(0, 9, n), "bonds": bonds, **sample}, VIEW)
        assert xyz_of(mol).shape == (n, 3)
        assert (Chem.GetAdjacencyMatrix(mol, useBO=True) == bonds).all()
        if trial % 3:
            assert np.isfinite(xyz_of(mol)).all()


def test_broken_graphs_come_back() -> None:
    """Atoms without an earlier neighbour, and geometry that the bonds do not explain."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        bonds = np.triu(rng.random((n, n)) < 0.25, 1)
        xyz = rng.normal(size=(n, 3))
        values = np.nan_to_num(to_internal(xyz, bonds | bonds.T))
        assert apart(from_internal(values, bonds | bonds.T), xyz) < 1e-5


def test_lengths_and_angles_are_fitted_and_recorded() -> None:
    modality = MoleculeModality().fit_to([solid("CC"), solid("O")])
    lengths = [v for m in (solid("CC"), solid("O")) for v in _lengths(m)]
    assert modality.internal["lengths"] == pytest.approx((np.mean(lengths), np.std(lengths)), abs=1e-3)
    again = MoleculeModality(**json.loads(json.dumps(modality.config())))
    assert again.internal == modality.internal
    single = MoleculeModality().fit_to([solid("[H][H]")])  # has no angles: the default stays
    assert single.internal["angles"] == MoleculeModality().internal["angles"]
    with pytest.raises(ConfigError, match="did you mean 'angles'"):
        MoleculeModality(internal={"angle": (0, 1)})


def _lengths(mol: Mol) -> list[float]:
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    return [float(np.linalg.norm(xyz_of(mol)[i] - xyz_of(mol)[j])) for i, j in ends]


def test_the_order_is_a_traversal() -> None:
    """Every atom but the first is bonded to an earlier one, in every molecule of one fragment."""
    for mol in load_gdb6("test")[::5]:
        _, bonds = canonical(mol)
        assert np.tril(bonds, -1)[1:].any(1).all(), Chem.MolToSmiles(flat(mol))


@pytest.mark.parametrize("smiles", ["C1CC1", "C1CCC1", "C1CCCCC1", "c1ccncc1", "O=C1CC2CC2N1"])
def test_rings_close_whatever_the_torsions(smiles: str) -> None:
    """All bonds keep their lengths when torsions are wrong, those that close rings included."""
    mol, rng = solid(smiles), np.random.default_rng(0)
    order, bonds = canonical(mol)
    xyz = xyz_of(mol)[order]
    values, chain = np.nan_to_num(to_internal(xyz, bonds)), Chain(bonds)
    assert chain.closing
    for i, j in chain.closing.items():
        assert bonds[i, j] and values[i, 1] == pytest.approx(np.linalg.norm(xyz[i] - xyz[j]), abs=1e-5)
    ends = np.argwhere(np.triu(bonds))
    for _ in range(10):
        shaken = values + [0, 0, 1] * rng.normal(0, 0.1, values.shape)
        back = from_internal(shaken, bonds)
        lengths = [np.linalg.norm(x[ends[:, 0]] - x[ends[:, 1]], axis=1) for x in (xyz, back)]
        assert np.abs(lengths[0] - lengths[1]).max() < 1e-5


def test_a_ring_that_cannot_close_stays_open() -> None:
    """Beyond `REACH` the last atom is placed by an angle, like one that closes no ring."""
    triangle = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    far = from_internal(np.array([[0, 0, 0], [5, 0, 0], [1, 2, 0]]), triangle)
    turn = np.arccos((far[0] - far[1]) @ (far[2] - far[1]) / 5)
    assert np.linalg.norm(far[2] - far[1]) == pytest.approx(1) and turn == pytest.approx(2)
    assert apart(from_internal(np.nan_to_num(to_internal(far, triangle)), triangle), far) < 1e-6
