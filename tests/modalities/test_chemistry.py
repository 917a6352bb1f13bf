"""Shared chemistry: parsing, files, data sets, the conversion of QM9, scores."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.core.sizes import Sizes
from molgen.io.files import load_arrays
from molgen.modalities.chemistry import formats
from molgen.modalities.chemistry.data import GDB6, SPLITS, datasets, gdb6, write_gdb6
from molgen.modalities.chemistry.describe import Described, Strings, hashes
from molgen.modalities.chemistry.metrics import evaluate
from molgen.modalities.chemistry.parse import canonical, flat, parse, sanitised, unsanitised
from molgen.modalities.chemistry.plot import _laid_out, save_grid
from molgen.modalities.chemistry.properties import COMPUTED, measure, scalars, scales
from molgen.modalities.chemistry.qm9 import convert_qm9, parse_entry, split_of
from molgen.modalities.chemistry.reference import ASSETS, Reference, build_reference, novelty, reference_for

QM9 = Path(os.environ.get("MOLGEN_DATA", "")) / "qm9" / "qm9.npz"
needs_qm9 = pytest.mark.skipif(not QM9.is_file(), reason="MOLGEN_DATA has no qm9/qm9.npz")


def fail(error: DataError) -> None:
    raise error


# --------------------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C1CC", "unclosed ring"),
        ("C%12CC", "unclosed ring"),
        ("C(", "parentheses"),
        ("[CH3", "brackets"),
        ("FC(F)(F)(F)F", "valence"),
        ("c1cccc1", "kekulize"),
        ("", "empty"),
        ("Qq", "not SMILES"),
    ],
)
def test_malformed_smiles_say_what_is_wrong(smiles: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        parse(smiles)
    assert sanitised(smiles) is None


def test_parsing_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    for smiles in ("C1CC", "c1cccc1", "C(C)(C)(C)(C)C"):
        sanitised(smiles)
        sanitised(unsanitised(smiles))
        with pytest.raises(DataError):
            canonical(smiles)
    out, err = capfd.readouterr()
    assert out == err == ""


def test_canonical_form_ignores_what_the_models_do_not_see() -> None:
    same = ["C[C@H](O)F", "C[C@@H](F)O", "[CH3:1]C(O)F", "[13CH3]C([2H])(O)F", "OC(F)C"]
    assert {canonical(s) for s in same} == {"CC(O)F"}
    assert canonical(Chem.AddHs(Chem.MolFromSmiles("CCO"))) == "CCO"


def test_flat_leaves_its_argument_alone() -> None:
    mol = Chem.MolFromSmiles("C[C@H](O)F")
    flat(mol)
    assert Chem.MolToSmiles(mol) == "C[C@H](O)F"


# --------------------------------------------------------------------------- sizes, properties


def test_sizes_follow_the_histogram_and_the_key() -> None:
    sizes = Sizes({"3": 1, 9: 3})
    drawn = sizes.draw(1, range(4000))
    assert set(drawn) == {3, 9}
    assert abs(drawn.count(9) / 4000 - 0.75) < 0.03
    assert sizes.draw(1, [17, 5]) == [drawn[17], drawn[5]]
    assert sizes.draw(2, range(4000)) != drawn
    assert sizes.draw(1, [1, 2], size=7) == [7, 7]
    assert math.isclose(sum(math.exp(sizes.log(n)) for n in (3, 9)), 1.0)
    assert Sizes(json.loads(json.dumps(sizes.config()))).counts == sizes.counts
    for bad in ({}, {0: 1}, {2: 0}):
        with pytest.raises(ConfigError):
            Sizes(bad)


def test_properties_of_known_molecules() -> None:
    assert measure("O", "weight") == pytest.approx(18.015, abs=1e-3)
    assert measure("CCCCCC", "tpsa") == 0.0
    assert measure("c1ccccc1", "logp") == pytest.approx(1.6866, abs=1e-3)
    assert 0 < measure("CCO", "qed") < 1
    assert math.isnan(measure("C(", "qed"))
    with pytest.raises(ConfigError, match="did you mean 'logp'"):
        measure("C", "logP")
    with pytest.raises(ConfigError, match="label"):
        measure("C", "gap")


def test_scales_take_numeric_labels_and_ignore_missing_ones() -> None:
    labels = {
        "gap": np.array([1.0, math.nan, 3.0]),
        "none": np.full(3, math.nan),
        "word": np.array(["a", "b", "c"]),
    }
    found = scales(Records(["C", "CC", "C("], labels))
    assert set(found) == {*COMPUTED, "gap"}
    assert found["gap"] == (2.0, 1.0)
    assert scalars(found)["gap"].mean == 2.0


# --------------------------------------------------------------------------- files


def test_files_round_trip_with_what_is_no_molecule(tmp_path: Path) -> None:
    lines = ["CCO", "C1CC", "FC(F)(F)(F)F", "c1ccccc1"]
    for name in ("a.smi", "a.smi.gz", "a.txt", "a.csv", "a.csv.gz"):
        path = tmp_path / name
        write = formats.write_table if "csv" in name else formats.write_lines
        write(path, Records(lines, {"logp": np.array([1.5, math.nan, 0.0, 2.0])}))
        again = formats.read_raw(path)
        assert list(again.items) == lines
        if "csv" in name:
            assert again.labels["logp"][0] == 1.5 and math.isnan(again.labels["logp"][1])
        bad: list[DataError] = []
        assert list(formats.read_strings(path, bad.append).items) == ["CCO", "c1ccccc1"]
        assert len(bad) == 2


def test_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "many.smi"
    path.write_text("CCO name\n" * 1233 + "C1CC oops\n" + "CC\n")
    with pytest.raises(DataError, match=r"many\.smi, line 1234: malformed SMILES 'C1CC': unclosed ring; "):
        formats.read_strings(path, fail)
    bad: list[DataError] = []
    assert len(formats.read_strings(path, bad.append)) == 1234
    assert [error.record for error in bad] == ["line 1234"]


def test_headers_names_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("smiles name\nCCO ethanol\n\nC\n\n\n")
    assert list(formats.read_raw(path).items) == ["CCO", "", "C"]
    with pytest.raises(DataError, match="line 3"):
        formats.read_strings(path, fail)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("smiles,logp\nCCO,1\nCC,\n", {"logp": [1, math.nan]}),
        ("id;SMILES;logp\nx;CCO;1\ny;CC;2\n", {"logp": [1, 2]}),
        ('name,canonical_smiles\n"a, b","CCO\n"\nc,CC\n', {}),
        ("CCO,1\nCC,2\n", {}),
    ],
)
def test_tables(tmp_path: Path, content: str, labels: dict[str, list[float]]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    records = formats.read_strings(path, fail)
    assert list(records.items) == ["CCO", "CC"]
    assert records.labels.keys() == labels.keys()
    for name, values in labels.items():
        np.testing.assert_array_equal(records.labels[name], values)


def test_table_without_smiles_suggests_the_nearest_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,smilles\n1,CCO\n")
    with pytest.raises(DataError, match="line 1: no column 'smiles'.*rename 'smilles'"):
        formats.read_strings(path, fail)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.smi").touch()
    (tmp_path / "cut.smi.gz").write_bytes(gzip.compress(b"CCO\n" * 1000)[:-12])
    for name in ("empty.smi", "cut.smi.gz", "missing.smi"):
        with pytest.raises(DataError, match=name):
            formats.read_strings(tmp_path / name, fail)


def test_a_failed_write_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.smi"
    formats.write_lines(path, ["CCO"])
    with pytest.raises(DataError, match="line break"):
        formats.write_lines(path, ["C", "C\nC"])
    assert path.read_text() == "CCO\n"


def test_crowded_cages_are_drawn_with_their_atoms_apart(tmp_path: Path) -> None:
    """RDKit lays two atoms of this one on the same point, and then cannot draw the bond between them."""
    cage = _laid_out(unsanitised("CC12CN3C14(C)CC324C"))
    xy = cage.GetConformer().GetPositions()[:, :2]
    gaps = np.linalg.norm(xy[:, None] - xy[None], axis=-1)[~np.eye(len(xy), dtype=bool)]
    assert gaps.min() > 0.02
    save_grid([cage], tmp_path / "cage.png")
    assert (tmp_path / "cage.png").read_bytes()[:4] == b"\x89PNG"


def test_picture_of_valid_and_invalid_records(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_grid(["CCO", "C(", "FC(F)(F)(F)F", "c1cccc1", Chem.MolFromSmiles("C#N")], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError):
        save_grid([], path)


# --------------------------------------------------------------------------- data sets


def test_gdb6_is_canonical_distinct_and_split() -> None:
    parts = {split: list(gdb6(split).items) for split in SPLITS}
    every = [s for part in parts.values() for s in part]
    assert len(every) == len(set(every)) == datasets("smiles")["gdb6"].records
    for smiles in every[::7]:
        mol = Chem.MolFromSmiles(smiles)
        assert canonical(smiles) == smiles
        assert mol.GetNumAtoms() <= 6 and "." not in smiles
        assert {a.GetSymbol() for a in mol.GetAtoms()} <= set("CNOF")
    assert {"CCO", "c1ccccc1", "CC(C)=O", "CC#N"} <= set(every)
    assert datasets("graph")["gdb6"].load("test")[0].GetNumAtoms() > 0
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        datasets("smiles")["gdb6"].load("training")


def test_enumeration_gives_what_ships() -> None:
    from molgen.modalities.chemistry.enumerate import enumerate_molecules

    shipped = gzip.decompress(GDB6.read_bytes()).decode().split()
    small = [s for s in shipped if Chem.MolFromSmiles(s).GetNumAtoms() <= 4]
    assert enumerate_molecules(4) == small
    assert write_gdb6.__defaults__ == (GDB6,)


def entry(index: int, smiles: str, scale: str = "") -> str:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    from rdkit.Chem import rdDistGeom

    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    xyz = mol.GetConformer().GetPositions()
    atoms = "".join(
        f"{a.GetSymbol()}\t" + "\t".join(f"{x:.6f}" for x in xyz[a.GetIdx()]) + "\t-1.0*^-6\n"
        for a in mol.GetAtoms()
    )
    numbers = "\t".join(f"{k}{scale}" for k in range(1, 16))
    return (
        f"{len(xyz)}\ngdb {index}\t{numbers}\t\n{atoms}100.0\t200.0\n{smiles}\t{smiles}\t\nInChI=1\tInChI=1\n"
    )


def archive(path: Path, entries: dict[str, str]) -> Path:
    with tarfile.open(path, "w:bz2") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return path


def test_official_qm9_is_converted(tmp_path: Path) -> None:
    strings = ["C", "N", "CCO", "C#N", "OC1CC1"]
    entries = {f"dsgdb9nsd_{i:06}.xyz": entry(i, s, "*^-2") for i, s in reversed(list(enumerate(strings, 1)))}
    listing = tmp_path / "uncharacterized.txt"
    listing.write_text("List of 2 molecules\n=====\n#  Index\n      2     N   N\n=====\n")
    out = tmp_path / "qm9.npz"
    convert_qm9(archive(tmp_path / "a.tar.bz2", entries), listing, out, molecules=5)
    got = load_arrays(out)
    assert [s.decode() for s in got["smiles"]] == strings
    assert got["gdb_index"].tolist() == [1, 2, 3, 4, 5]
    assert got["uncharacterized"].tolist() == [False, True, False, False, False]
    assert got["n_atoms"].tolist() == [5, 4, 9, 3, 10]
    assert got["smiles_order"].all()
    assert got["z"].dtype == np.uint8 and got["pos"].shape == (31, 3) and got["pos"].dtype == np.float32
    expected = {"mu": 4, "alpha": 5, "homo": 6, "lumo": 7, "gap": 8, "cv": 15}
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value / 100, rtol=1e-6)
    assert got["split"][1] == 0 and sorted(got["split"][[0, 2, 3, 4]])[0] > 0


def test_damaged_qm9_is_refused(tmp_path: Path) -> None:
    listing = tmp_path / "uncharacterized.txt"
    listing.write_text("   2 N\n")
    good = {"a_1.xyz": entry(1, "C"), "a_2.xyz": entry(2, "N")}
    out = tmp_path / "qm9.npz"
    with pytest.raises(DataError, match="2 molecules, expected 3"):
        convert_qm9(archive(tmp_path / "a.tar.bz2", good), listing, out, molecules=3)
    broken = good | {"a_2.xyz": good["a_2.xyz"].replace("gdb 2", "gdb x")}
    with pytest.raises(DataError, match=r"b\.tar\.bz2, a_2\.xyz, line 2"):
        convert_qm9(archive(tmp_path / "b.tar.bz2", broken), listing, out, molecules=2)
    cut = tmp_path / "c.tar.bz2"
    cut.write_bytes((tmp_path / "a.tar.bz2").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"c\.tar\.bz2"):
        convert_qm9(cut, listing, out, molecules=2)
    listing.write_text("nothing\n")
    with pytest.raises(DataError, match=r"uncharacterized\.txt"):
        convert_qm9(tmp_path / "a.tar.bz2", listing, out, molecules=2)
    assert not out.exists()


def test_entry_without_its_atoms_names_the_line() -> None:
    lines = entry(1, "C").splitlines()
    with pytest.raises(DataError, match="line 4"):
        parse_entry("\n".join(lines[:3]))


@needs_qm9
def test_split_is_the_one_at_hand() -> None:
    arrays = load_arrays(QM9)
    assert (split_of(arrays["uncharacterized"]) == arrays["split"]).all()


# --------------------------------------------------------------------------- scores


def test_counts_mean_what_the_contract_says() -> None:
    records = ["CO", "OC", "CC", "C.C", "C.C", "C(", "FC(F)(F)(F)F", "", "C1CC1", "CO"]
    scores = evaluate(records, distances=False)
    assert scores["n"] == 10
    assert scores["valid"] == 0.7
    assert scores["valid_connected"] == 0.5
    assert scores["unique"] == pytest.approx(4 / 7)
    assert scores["valid_x_unique"] == pytest.approx(0.3)
    molecules = [unsanitised(s) for s in records]
    assert evaluate(molecules, distances=False) == scores


def test_all_invalid_and_empty() -> None:
    scores = evaluate(["C(", "C1"], reference=Records(["C", "CC", "CO", "CN"]))
    assert scores["valid"] == scores["valid_x_unique"] == 0
    assert math.isnan(scores["fcd"]) and math.isnan(scores["unique"]) and math.isnan(scores["novelty"])
    with pytest.raises(DataError, match="no records"):
        evaluate([])
    with pytest.raises(ConfigError, match="did you mean 'gdb6'"):
        evaluate(["C"], reference="gdb5")


def test_stereoisomers_are_distinct_but_not_novel() -> None:
    strings = Strings.of(["C[C@H](O)F", "C[C@@H](O)F"])
    assert len(set(strings.valid)) == 2 and set(strings.flat) == {"CC(O)F"}
    scores = evaluate(["C[C@H](O)F", "N"], reference=Records(["CC(O)F", "C", "CO", "CN"]), distances=False)
    assert scores["novelty"] == 0.5


def test_scores_of_the_reference_itself() -> None:
    data = list(gdb6("test").items)[::8]
    reference = reference_for(data)
    scores = evaluate(data, reference=reference)
    assert scores["novelty"] == 0.0
    assert scores["fcd"] == pytest.approx(0, abs=1e-3)
    assert scores["snn"] == pytest.approx(1) and scores["frag"] == pytest.approx(1)
    assert all(scores[f"wasserstein/{name}"] == pytest.approx(0, abs=2) for name in COMPUTED)
    assert scores["floor/fcd"] > 0
    small = [s for s in data if "N" not in s]
    other = evaluate(small, reference=Records(data))
    assert other["fcd"] > scores["fcd"] and other["frag"] < 1
    assert evaluate(small, reference=Records(data)) == other


def test_fcd_is_that_of_the_package() -> None:
    import warnings

    first, second = list(gdb6("test").items)[::9], list(gdb6("valid").items)[::9]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fcd_torch import FCD

        expected = float(FCD(device="cpu", n_jobs=1)(first, second).real)
    scores = evaluate(first, reference=Records(second))
    assert scores["fcd"] == pytest.approx(expected, rel=1e-3)


def test_reference_survives_its_arrays() -> None:
    train, test = Records(list(gdb6("train").items)[::80]), Records(list(gdb6("test").items)[::12])
    again = Reference.of(build_reference(train, test))
    assert list(again.smiles) == list(test.items)
    np.testing.assert_array_equal(again.seen, np.unique(hashes(train.items)))
    assert not np.isin(hashes(test.items), again.seen).any()
    before = Described(list(test.items))
    np.testing.assert_allclose(again.moments.cov, before.moments.cov, rtol=1e-3, atol=1e-6)
    assert again.distances(before)["fcd"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", sorted(path.stem for path in ASSETS.glob("*.npz")))
def test_shipped_references(name: str) -> None:
    path = ASSETS / f"{name}.npz"
    assert name in datasets("smiles") and path.stat().st_size <= 1.5e6
    reference = reference_for(name)
    assert reference.floor("fcd", 10_000) < reference.floor("fcd", 1000) < reference.floor("fcd", 100)
    assert novelty(reference.smiles[:500], name) > 0.99
    assert all(canonical(s) == s for s in reference.smiles[::500])
