"""3D molecules: codec, canonical order, fitting, configuration, data sets, files, pictures."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.modalities.chemistry.parse import flat, sanitised, unsanitised
from molgen.modalities.molecule import MoleculeModality
from molgen.modalities.molecule.codec import Mol, assemble, canonical, kinds
from molgen.modalities.molecule.data import attach, conformer, load_gdb6, load_qm9
from molgen.modalities.molecule.formats import read_samples, read_sdf, read_xyz, write_sdf, write_xyz
from molgen.modalities.molecule.sdf import mol_block

VIEW = "cartesian"
TRICKY = ("C[N+](=O)[O-]", "c1cc[nH]c1", "[NH3+]CC(=O)[O-]", "[C-]#[N+]C", "C[CH2]", "[CH2]", "O", "c1ccncc1")


def solid(smiles: str) -> Mol:
    """The molecule with hydrogens and coordinates."""
    mol = conformer(smiles)
    assert mol is not None
    return mol


def string(mol: Mol) -> str:
    """The canonical SMILES without marks of stereochemistry and explicit hydrogens."""
    clean = sanitised(mol)
    return "invalid" if clean is None else str(Chem.MolToSmiles(flat(clean)))


def clouds(count: int, seed: int = 0) -> list[Mol]:
    """Random atoms with random bonds, as an untrained model draws them."""
    rng = np.random.default_rng(seed)
    classes = [("C", 0), ("H", 0), ("N", 1), ("N", 0), ("O", -1), ("O", 0)]
    mols = []
    for _ in range(count):
        n = int(rng.integers(1, 8))
        bonds = np.triu(rng.choice(4, (n, n), p=[0.68, 0.22, 0.07, 0.03]), 1)
        mols.append(assemble([classes[k] for k in rng.choice(6, n)], bonds, rng.normal(size=(n, 3))))
    return mols


def xyz_of(mol: Mol) -> np.ndarray:
    return np.asarray(mol.GetConformer().GetPositions())


def stop(error: DataError) -> None:
    raise error


def comes_back(modality: MoleculeModality, mol: Mol) -> None:
    """Checks the graph, and the coordinates under the canonical permutation."""
    back = modality.decode(modality.encode(mol, VIEW), VIEW)
    order, bonds = canonical(mol)
    assert string(back) == string(mol) != "invalid"
    assert kinds(back) == [kinds(mol)[i] for i in order]
    there = xyz_of(mol)
    assert np.abs(xyz_of(back) - (there[order] - there.mean(0))).max() < 1e-4
    assert (bonds == bonds.T).all() and not bonds.diagonal().any()


# --------------------------------------------------------------------------- codec


def test_round_trip_of_the_embedded_molecules() -> None:
    records = load_gdb6("test")[::2]
    modality = MoleculeModality().fitted(records)
    for mol in records:
        comes_back(modality, mol)


def test_round_trip_of_charges_radicals_and_aromatic_rings() -> None:
    mols = [solid(smiles) for smiles in TRICKY]
    modality = MoleculeModality().fitted(mols)
    for mol in mols:
        comes_back(modality, mol)


def test_round_trip_of_qm9(canonical_data: Path) -> None:
    records = load_qm9("valid")
    modality = MoleculeModality().fitted(records[::150])
    for i in range(0, len(records), len(records) // 300):
        mol = records[i]
        if set(kinds(mol)) <= {(symbol, charge) for symbol, charge, _ in modality.atoms}:
            comes_back(modality, mol)


def test_arrays_do_not_depend_on_the_order_of_the_input() -> None:
    rng = np.random.default_rng(0)
    for mol in (*(solid(smiles) for smiles in TRICKY), *load_gdb6("valid")[:60]):
        order, bonds = canonical(mol)
        for _ in range(2):
            other = Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist())
            other_order, other_bonds = canonical(other)
            assert [kinds(other)[i] for i in other_order] == [kinds(mol)[i] for i in order]
            assert (other_bonds == bonds).all()


def test_hydrogens_of_one_atom_turn_the_same_way() -> None:
    mol = solid("CCO")
    order, _ = canonical(mol)
    swapped = list(range(mol.GetNumAtoms()))
    pair = [i for i in order if mol.GetAtomWithIdx(i).GetAtomicNum() == 1][3:5]  # those of CH2
    swapped[pair[0]], swapped[pair[1]] = swapped[pair[1]], swapped[pair[0]]
    other = Chem.RenumberAtoms(mol, swapped)
    there, here = xyz_of(mol)[order], xyz_of(other)[canonical(other)[0]]
    assert np.abs(there - here).max() < 1e-9


def test_encoding_leaves_the_record_alone() -> None:
    mol = solid("c1cc[nH]c1")
    before, there = mol_block(mol), xyz_of(mol)
    MoleculeModality().encode(mol, VIEW)
    assert mol_block(mol) == before and (xyz_of(mol) == there).all()
    assert any(atom.GetIsAromatic() for atom in mol.GetAtoms())


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("CCO", "expected a molecule"),
        (Chem.Mol(), "without atoms"),
        (Chem.AddHs(Chem.MolFromSmiles("C")), "without coordinates"),
        (assemble([("O", 0)], np.zeros((1, 1)), np.full((1, 3), np.nan)), "not finite"),
        (assemble([("Xe", 0)], np.zeros((1, 1)), np.zeros((1, 3))), "atom Xe with charge"),
        (assemble([("O", 2)], np.zeros((1, 1)), np.zeros((1, 3))), r"charge \+2"),
    ],
)
def test_what_cannot_be_encoded_is_refused(record: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        MoleculeModality().encode(record, VIEW)


def test_decoding_repairs_nothing() -> None:
    modality = MoleculeModality()
    carbon = [kind[:2] for kind in modality.atoms].index(("C", 0))
    bonds = np.zeros((3, 3), np.uint8)
    bonds[0, 1] = bonds[1, 0] = bonds[1, 2] = bonds[2, 1] = 3
    sample = {"atoms": np.full(3, carbon), "bonds": bonds, "positions": np.eye(3, dtype=np.float32)}
    record = modality.decode(sample, VIEW)
    assert [bond.GetBondType() for bond in record.GetBonds()] == [Chem.BondType.TRIPLE] * 2
    assert sanitised(record) is None
    assert np.abs(xyz_of(record) - np.eye(3)).max() < 1e-6
    lone = modality.decode({**sample, "bonds": np.zeros((3, 3), np.uint8)}, VIEW)
    assert string(lone) == "[C].[C].[C]"  # no hydrogens are implied
    masked = modality.decode({**sample, "atoms": np.full(3, len(modality.atoms))}, VIEW)
    assert masked.GetNumAtoms() == 3


# --------------------------------------------------------------------------- fitting, configuration, data


def test_fitting_counts_atoms_bonds_and_sizes() -> None:
    records = Records([solid("O"), solid("C#N")], {"gap": np.array([1.0, 3.0])})
    fitted = MoleculeModality().fitted(records)
    assert [(symbol, charge) for symbol, charge, _ in fitted.atoms] == [
        ("H", 0),
        ("C", 0),
        ("N", 0),
        ("O", 0),
    ]
    assert [share for _, _, share in fitted.atoms] == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6], abs=1e-6)
    assert fitted.bonds == pytest.approx([1 / 3, 1 / 2, 0, 1 / 6], abs=1e-5)
    assert fitted.sizes.counts == {3: 2}
    assert fitted.scales["gap"] == (2.0, 1.0)
    assert fitted.draw_sizes(0, [0, 1, 2]) == [3, 3, 3] and fitted.log_size(4) == -math.inf
    with pytest.raises(DataError, match="record 2"):
        MoleculeModality().fitted([solid("O"), Chem.AddHs(Chem.MolFromSmiles("C"))])
    with pytest.raises(DataError):
        MoleculeModality().fitted([])


def test_sizes_depend_on_seed_and_index_alone() -> None:
    modality = MoleculeModality()
    sizes = modality.draw_sizes(3, range(400))
    assert (
        modality.draw_sizes(3, range(100, 200)) == sizes[100:200] != modality.draw_sizes(4, range(100, 200))
    )
    counts = modality.sizes.counts
    mean = sum(n * k for n, k in counts.items()) / sum(counts.values())
    assert np.mean(sizes) == pytest.approx(mean, abs=0.6) and set(sizes) <= set(counts)
    assert sum(math.exp(modality.log_size(n)) for n in counts) == pytest.approx(1)
    assert modality.draw_sizes(3, [0, 1], size=7) == [7, 7]
    with pytest.raises(ConfigError, match="size option"):
        modality.draw_sizes(3, [0], length=7)


def test_config_rebuilds_the_modality() -> None:
    changed = MoleculeModality(windows={"graph": (0.4, 1.0)})
    for modality in (changed, changed.fitted([solid("CO"), solid("C#N")])):
        again = MoleculeModality(**json.loads(json.dumps(modality.config())))
        assert again.config() == modality.config()
        assert again.windows["graph"] == (0.4, 1.0)
    with pytest.raises(ConfigError, match="did you mean 'graph'"):
        MoleculeModality(windows={"graf": (0, 1)})


def test_embedded_data_are_the_embedded_strings_in_3d() -> None:
    source = MoleculeModality().datasets["gdb6"]
    assert source.present and not source.files
    parts = {split: source.load(split) for split in source.splits}
    assert sum(map(len, parts.values())) == source.records
    for records in parts.values():
        mol = records[len(records) // 2]
        assert xyz_of(mol).shape == (mol.GetNumAtoms(), 3)
        assert not any(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        source.load("tests")


def test_conformers_are_the_same_every_time_and_as_shipped() -> None:
    shipped = load_gdb6("test")
    for i in (1, 100, 300):
        smiles = str(Chem.MolToSmiles(Chem.RemoveHs(shipped[i])))
        assert (xyz_of(solid(smiles)) == xyz_of(solid(smiles))).all()
        bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in shipped[i].GetBonds()]
        lengths = [np.linalg.norm(xyz_of(shipped[i])[a] - xyz_of(shipped[i])[b]) for a, b in bonds]
        assert 0.9 < min(lengths) and max(lengths) < 1.7


def test_slices_of_a_data_set_stay_lazy() -> None:
    records = load_gdb6("valid")
    part = records.items[10:20]
    assert type(part) is type(records.items) and len(part) == 10
    assert string(part[3]) == string(records[13])
    assert len(list(records.items)) == len(records)


def test_coordinates_are_laid_over_a_graph_by_elements_and_distances() -> None:
    mol = solid("CC(=O)NC")
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    shuffled = np.random.default_rng(1).permutation(len(numbers))
    found = attach("CNC(C)=O", numbers[shuffled], xyz_of(mol)[shuffled])
    assert found is not None and string(found) == string(mol)
    a, b = (np.linalg.norm(xyz_of(m)[:, None] - xyz_of(m)[None], axis=-1) for m in (found, mol))
    assert np.sort(a.ravel()) == pytest.approx(np.sort(b.ravel()), abs=1e-9)
    assert attach("CCCCC", numbers, xyz_of(mol)) is None


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz"])
def test_sdf_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    mols = [solid(smiles) for smiles in TRICKY]
    write_sdf(path, Records(mols, {"gap": np.array([0.25, *[math.nan] * (len(mols) - 1)])}))
    form = next(form for form in MoleculeModality().formats if suffix in form.suffixes)
    assert form.read is not None
    again = form.read(path, stop)
    assert [string(mol) for mol in again] == [string(mol) for mol in mols]
    assert again.labels["gap"][0] == 0.25 and np.isnan(again.labels["gap"][1:]).all()
    for mol, back in zip(mols, again, strict=True):
        assert kinds(back) == kinds(mol)
        assert np.abs(xyz_of(back) - xyz_of(mol)).max() < 1e-4
        orders = [Chem.GetAdjacencyMatrix(m, useBO=True) for m in (mol, back)]
        assert (orders[0] == orders[1]).all()
    again_path = tmp_path / f"b{suffix}"
    write_sdf(again_path, Records(mols, {"gap": np.array([0.25, *[math.nan] * (len(mols) - 1)])}))
    assert again_path.read_bytes() == path.read_bytes()


def test_sdf_keeps_validity_and_place_of_every_sample(tmp_path: Path) -> None:
    lost = assemble([("C", 0)] * 2, np.zeros((2, 2)), np.array([[np.nan, 0, np.inf], [1e7, -1e120, 1]]))
    mols = [*clouds(200), Chem.Mol(), lost, solid("CO")]
    path = tmp_path / "a.sdf"
    write_sdf(path, mols)
    assert path.read_text().count("V2000") == path.read_text().count("$$$$\n") == len(mols)
    again = MoleculeModality().read_samples(path)
    valid = [string(mol) for mol in mols]
    assert [string(mol) for mol in again] == valid and 0 < valid.count("invalid") < 200
    assert [m.GetNumAtoms() for m in again] == [m.GetNumAtoms() for m in mols]
    assert np.isnan(xyz_of(again[201])[0, 0]) and xyz_of(again[201])[1, 0] == 1e7
    for mol, back in zip(mols[:200], again, strict=False):
        assert kinds(back) == kinds(mol) and back.GetNumBonds() == mol.GetNumBonds()
        assert np.abs(xyz_of(back) - xyz_of(mol)).max() < 1e-4


def test_sdf_of_other_programs(tmp_path: Path) -> None:
    mol = solid("c1cc[nH]c1")
    mol.SetProp("_Name", "pyrrole")
    path = tmp_path / "a.sdf"
    fields = "> <name>\npyrrole\n\n>  <mass>  (1)\n67.1\n\n> <note>\ntwo\nlines\n\n"
    v3000 = Chem.MolToV3KMolBlock(mol)
    path.write_text(f"{Chem.MolToMolBlock(mol)}{fields}$$$$\n{v3000}$$$$\n".replace("\n", "\r\n"))
    again = read_sdf(path, stop, geometry=True)
    assert [string(m) for m in again] == ["c1cc[nH]c1"] * 2
    assert again[0].GetProp("_Name") == "pyrrole"
    assert list(again.labels) == ["mass"] and again.labels["mass"][0] == 67.1


def test_what_does_not_fit_in_an_sdf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sdf"
    path.write_text("before")
    many = assemble([("H", 0)] * 1000, np.zeros((1000, 1000)), np.zeros((1000, 3)))
    records: list[Sequence[Any]] = [[solid("O"), many], [solid("O"), "CCO"]]
    for bad in records:
        with pytest.raises(DataError, match="record 2"):
            write_sdf(path, bad)
    assert path.read_text() == "before"


@pytest.mark.parametrize("suffix", [".xyz", ".xyz.gz"])
def test_xyz_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    mols = [solid(smiles) for smiles in ("CCO", "C[N+](=O)[O-]", "c1cc[nH]c1", "CC#N", "O")]
    write_xyz(path, mols)
    again = read_xyz(path, stop)
    assert [string(mol) for mol in again] == [string(mol) for mol in mols]
    for mol, back in zip(mols, again, strict=True):
        assert np.abs(xyz_of(back) - xyz_of(mol)).max() < 1e-5


def test_xyz_keeps_the_place_of_every_sample(tmp_path: Path) -> None:
    lost = assemble([("C", 0)] * 2, np.zeros((2, 2)), np.full((2, 3), np.nan))
    mols = [solid("CO"), lost, Chem.Mol(), *clouds(30), solid("C#N")]
    path = tmp_path / "a.xyz"
    write_xyz(path, mols)
    again = read_samples(path)
    assert [m.GetNumAtoms() for m in again] == [m.GetNumAtoms() for m in mols]
    assert string(again[0]) == "CO" and string(again[-1]) == "C#N"
    assert string(again[1]) == string(again[2]) == "invalid"
    bad: list[DataError] = []
    assert len(read_xyz(path, bad.append)) + len(bad) == len(mols)


def test_xyz_by_number_and_in_capitals(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(
        "\n3\nwater\n8 0 0 1.2*^-1 -0.4\nH 0 0.76 -0.48 0.2\n1 0 -0.76 -0.48 0.2\n\n1\n\nXE 0 0 0\n\n"
    )
    assert [string(mol) for mol in read_xyz(path, stop)] == ["O", "[Xe]"]


WATER = "3\nwater\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"
BLOCK = mol_block(solid("CO")) + "$$$$\n"
ATOM = BLOCK.splitlines()[4]


def planar(smiles: str, hydrogens: bool = True) -> str:
    mol = Chem.MolFromSmiles(smiles)
    mol = Chem.AddHs(mol) if hydrogens else mol
    rdDepictor.Compute2DCoords(mol)
    return mol_block(mol) + "$$$$\n"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (BLOCK.replace("M  END\n", ""), "without M  END"),
        (BLOCK[:150], "breaks off"),
        (BLOCK.replace("$$$$\n", "") + BLOCK, r"without \$\$\$\$"),
        (BLOCK.replace("  6  5  0", "  7  5  0"), "7 atoms and 5 bonds, there are 6"),
        (BLOCK.replace("  6  5  0", "  6  6  0"), "6 atoms and 6 bonds"),
        (BLOCK.replace("  6  5  0", " six  5  0"), "no counts line"),
        (BLOCK.replace(ATOM[:10], "       nan"), "atom 1 are not finite"),
        (BLOCK.replace(ATOM[:10], "         ?"), "atom 1 without coordinates"),
        (BLOCK.replace(ATOM, ATOM.replace(" C ", " Qq")), "unknown element"),
        (BLOCK.replace("  1  2  1", "  1  9  1"), "bond 1"),
        (planar("CCO"), "in the plane"),
        (mol_block(Chem.AddHs(Chem.MolFromSmiles("C"))) + "$$$$\n", "in the plane"),
        (mol_block(Chem.RemoveHs(solid("CCO"))) + "$$$$\n", "6 hydrogens implied"),
        (mol_block(Chem.Mol()) + "$$$$\n", "without atoms"),
    ],
)
def test_bad_records_of_an_sdf(tmp_path: Path, bad: str, message: str) -> None:
    path = tmp_path / "a.sdf"
    path.write_text(BLOCK + bad)
    with pytest.raises(DataError, match=message) as caught:
        read_sdf(path, stop, geometry=True)
    assert str(path) in str(caught.value) and "record 2" in str(caught.value) and caught.value.fix
    errors: list[DataError] = []
    path.write_text(BLOCK + bad + ("" if bad == BLOCK[:150] else BLOCK))
    found = read_sdf(path, errors.append, geometry=True)
    assert len(errors) == 1
    assert len(found) == (1 if bad == BLOCK[:150] else 2)


def test_a_graph_needs_neither_geometry_nor_hydrogens(tmp_path: Path) -> None:
    path = tmp_path / "a.sdf"
    path.write_text(planar("CCO") + planar("CO", hydrogens=False))
    assert [string(mol) for mol in read_sdf(path, stop)] == ["CCO", "CO"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (WATER.replace("3\n", "5\n", 1), "5 atoms, there are 3"),
        (WATER.replace("3\n", "2\n", 1), "2 atoms, there are 3"),
        (WATER.replace("3\n", "many\n", 1), "expected a number of atoms, got 'many'"),
        (WATER.replace("0.12", "nan"), "not finite"),
        (WATER.replace("0.12", "?"), "atom 1 without coordinates"),
        (WATER.replace("O 0", "Qq 0"), "unknown element"),
        (WATER.replace("O 0", "F 0"), "no bonds of a neutral molecule"),
        ("0\n\n", "without atoms"),
    ],
)
def test_bad_records_of_an_xyz(tmp_path: Path, bad: str, message: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(WATER + bad + WATER)
    errors: list[DataError] = []
    found = read_xyz(path, errors.append)
    assert [string(mol) for mol in found] == ["O", "O"] and len(errors) == 1
    text = str(errors[0])
    assert message in text and f"{path}, record 2" in text and errors[0].fix
    with pytest.raises(DataError, match="record 2"):
        read_xyz(path, stop)


@pytest.mark.parametrize("suffix", [".sdf", ".xyz"])
def test_files_that_cannot_be_read_at_all(tmp_path: Path, suffix: str) -> None:
    form = next(form for form in MoleculeModality().formats if suffix in form.suffixes)
    assert form.read is not None
    cut = gzip.compress((BLOCK + WATER).encode())[:-20]
    for name, content in ((f"a{suffix}", b""), (f"a{suffix}.gz", cut), (f"b{suffix}", b"\xff\xfe\0")):
        path = tmp_path / name
        path.write_bytes(content)
        errors: list[DataError] = []
        assert len(form.read(path, errors.append)) == 0
        assert len(errors) == 1 and str(path) in str(errors[0]) and errors[0].fix
        with pytest.raises(DataError):
            form.read(path, stop)


def test_pictures(tmp_path: Path) -> None:
    modality = MoleculeModality()
    records = [solid("CCO"), *clouds(3), Chem.Mol(), unsanitised("C(")]
    modality.plot(records, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="cannot read this format"):
        modality.read_samples(tmp_path / "a.png")
    with pytest.raises(DataError):
        modality.plot([], tmp_path / "b.png")
