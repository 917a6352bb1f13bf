"""Graphs: codec, canonical order, fitting, configuration, files."""

from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.core.trunk import Streams, TrunkSpec
from molgen.io.files import load_arrays
from molgen.modalities.chemistry.data import Molecules, gdb6
from molgen.modalities.chemistry.parse import canonical, unsanitised
from molgen.modalities.graph import GraphModality
from molgen.modalities.graph.codec import arrange, kind_of, split_kind, to_arrays, to_mol

VIEW = "graph"
DATA = Path(os.environ.get("MOLGEN_DATA", "/nowhere"))
TRICKY = [
    "C[N+](=O)[O-]",
    "c1cc[nH]c1",
    "Cn1cnc2c1c(=O)[nH]c(=O)n2C",
    "[NH3+]CC(=O)[O-]",
    "C[S+](C)[O-]",
    "CS(=O)(=O)N",
    "OP(=O)(O)O",
    "C[N-][N+]#N",
    "[C-]#[N+]C",
    "c1ccc2ccccc2c1",
    "O=c1cccc[nH]1",
    "CC.[Na+].[Cl-]",
    "BrC(Cl)I",
    "F[Si](C)(C)C",
    "OB(O)c1ccccc1",
    "c1ccsc1",
    "C[n+]1ccccc1",
    "O=[PH2]c1ccccc1",
    "C[CH]C",
    "[CH2]C=C",
    "C[N]O",
    "CC[O]",
    "[O][O]",
    "[Cl]",
    "C[SH](=O)=O",
    "[CH3+]",
    "[Mg+2].[O-]C",
]


def mol(smiles: str) -> Chem.Mol:
    return Chem.MolFromSmiles(smiles)


def same(modality: GraphModality, smiles: str) -> bool:
    back = modality.decode(modality.encode(mol(smiles), VIEW), VIEW)
    return bool(Chem.MolToSmiles(back) == canonical(smiles))


def test_round_trip_of_every_embedded_record() -> None:
    modality = GraphModality()
    assert all(same(modality, s) for s in gdb6("valid").items + gdb6("test").items)


@pytest.mark.parametrize("smiles", TRICKY)
def test_round_trip_of_charges_aromatic_rings_and_fragments(smiles: str) -> None:
    assert same(GraphModality().fit_to([mol(smiles)]), smiles)


@pytest.mark.skipif(not (DATA / "qm9" / "qm9.npz").is_file(), reason="MOLGEN_DATA has no qm9/qm9.npz")
def test_round_trip_of_qm9() -> None:
    modality = GraphModality()
    strings = load_arrays(DATA / "qm9" / "qm9.npz")["smiles"][::150]
    assert all(same(modality, s.decode()) for s in strings)


@pytest.mark.skipif(not (DATA / "zinc250k").is_dir(), reason="MOLGEN_DATA has no zinc250k")
def test_round_trip_of_zinc() -> None:
    strings = gzip.decompress((DATA / "zinc250k" / "zinc250k.smi.gz").read_bytes()).decode().split()[::1500]
    modality = GraphModality().fit_to(Molecules(strings))
    assert all(same(modality, s) for s in strings)


def test_arrays_do_not_depend_on_the_order_of_the_input() -> None:
    rng = np.random.default_rng(0)
    for smiles in (*TRICKY, *gdb6("test").items[:40]):
        original = mol(smiles)
        kinds, bonds = to_arrays(original)
        for _ in range(3):
            order = rng.permutation(original.GetNumAtoms()).tolist()
            other_kinds, other_bonds = to_arrays(Chem.RenumberAtoms(original, order))
            assert other_kinds == kinds
            assert (other_bonds == bonds).all()
        assert (bonds == bonds.T).all() and not bonds.diagonal().any()


def test_order_is_that_of_the_canonical_string() -> None:
    for smiles in gdb6("test").items[:60]:
        symbols = [atom.GetSymbol() for atom in mol(canonical(smiles)).GetAtoms()]
        assert [kind_of(atom) for atom in arrange(mol(smiles)).GetAtoms()] == symbols


def test_encoding_leaves_the_record_alone() -> None:
    record = mol("C[C@H](O)c1ccccc1")
    GraphModality().encode(record, VIEW)
    assert Chem.MolToSmiles(record) == "C[C@H](O)c1ccccc1"


def test_stereo_isotopes_and_explicit_hydrogens_are_dropped() -> None:
    modality = GraphModality()
    for smiles in ("C[C@H](O)F", "[13CH3][C@@H](O)F"):
        assert Chem.MolToSmiles(modality.decode(modality.encode(mol(smiles), VIEW), VIEW)) == "CC(O)F"
    assert len(modality.encode(Chem.AddHs(mol("CO")), VIEW)["atoms"]) == 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (unsanitised("FC(F)(F)(F)F"), "does not sanitise"),
        (mol("CBr"), "an atom Br"),
        (mol("C[CH]C"), "an atom CH1"),
        (mol("[CH2]"), "an atom CH2"),
        (mol("[Fe]<-N"), "bond of type"),
        ("CCO", "expected rdkit.Chem.Mol"),
    ],
)
def test_what_cannot_be_encoded_is_refused(record: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        GraphModality().encode(record, VIEW)


def test_decoding_repairs_nothing() -> None:
    modality = GraphModality()
    bonds = np.zeros((3, 3), np.uint8)
    bonds[0, 1] = bonds[1, 0] = bonds[1, 2] = bonds[2, 1] = 2
    fluorine = modality.kinds.index("F")
    record = modality.decode({"atoms": np.full(3, fluorine), "bonds": bonds}, VIEW)
    assert record.GetNumAtoms() == 3 and record.GetNumBonds() == 2
    assert not modality.is_valid(record)
    apart = modality.decode({"atoms": np.zeros(3, np.uint8), "bonds": np.zeros((3, 3), np.uint8)}, VIEW)
    assert modality.is_valid(apart) and Chem.MolToSmiles(apart) == "C.C.C"
    scores = modality.evaluate([record, apart], distances=False)
    assert scores["valid"] == 0.5 and scores["valid_connected"] == 0.0


def test_a_file_keeps_the_validity_of_random_graphs(tmp_path: Path) -> None:
    modality, rng = GraphModality(), np.random.default_rng(0)
    records = []
    for _ in range(300):
        n = int(rng.integers(1, 8))
        upper = np.triu(rng.choice(4, (n, n), p=[0.68, 0.22, 0.07, 0.03]), 1).astype(np.uint8)
        atoms = rng.choice(8, n, p=[0.4, 0.12, 0.12, 0.06, 0.1, 0.1, 0.05, 0.05])
        records.append(modality.decode({"atoms": atoms, "bonds": upper + upper.T}, VIEW))
    path = tmp_path / "a.smi"
    write = modality.formats[0].write
    assert write is not None
    write(path, records)
    again = modality.read_samples(path)
    valid = [modality.is_valid(m) for m in records]
    assert [modality.is_valid(m) for m in again.items] == valid and 0 < sum(valid) < 300
    assert modality.evaluate(again.items, distances=False) == modality.evaluate(records, distances=False)


def test_kinds() -> None:
    assert [split_kind(k) for k in ("C", "N+", "O-", "Fe+2", "ClH0", "CH3+")] == [
        ("C", 0, None),
        ("N", 1, None),
        ("O", -1, None),
        ("Fe", 2, None),
        ("Cl", 0, 0),
        ("C", 1, 3),
    ]
    assert kind_of(to_mol(["Fe+2"], np.zeros((1, 1))).GetAtomWithIdx(0)) == "Fe+2"
    with pytest.raises(DataError):
        split_kind("4C")


def test_fitting_counts_kinds_bonds_and_sizes() -> None:
    fitted = GraphModality().fit_to(Records([mol("CC=O"), mol("C#N")], {"gap": np.array([1.0, 3.0])}))
    assert fitted.kinds == ["C", "N", "O"]
    assert fitted.marginals["atoms"] == pytest.approx([0.6, 0.2, 0.2])
    assert fitted.marginals["bonds"] == pytest.approx([0.25] * 4)
    assert fitted.sizes.counts == {2: 1, 3: 1}
    assert fitted.conditions["gap"].config()["mean"] == 2.0
    with pytest.raises(DataError, match="record 2"):
        GraphModality().fit_to([mol("C"), mol("[Fe]<-N")])
    with pytest.raises(DataError):
        GraphModality().fit_to([])


def test_config_rebuilds_the_modality() -> None:
    changed = GraphModality(windows={"atoms": (0.5, 1.0)}, noise="marginal")
    for modality in (changed, changed.fit_to([mol("CBr"), mol("CC")])):
        again = GraphModality(**json.loads(json.dumps(modality.config())))
        assert again.config() == modality.config()
        assert again.windows["atoms"] == (0.5, 1.0) and again.noise == "marginal"
    with pytest.raises(ConfigError, match="did you mean 'atoms'"):
        GraphModality(windows={"atom": (0, 1)})
    with pytest.raises(ConfigError):
        GraphModality(["C", "C"])
    assert GraphModality().log_size(9) > GraphModality().log_size(40) == -math.inf


def test_trunk() -> None:
    modality = GraphModality()
    spec = TrunkSpec(site=9, pair=5, context=3, pair_out=True)
    trunk = modality.trunk(spec, width=16, pair_width=8, depth=1, heads=2)
    g = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 4, 4, 5, generator=g)
    streams = Streams(site=torch.randn(2, 4, 9, generator=g), pair=pair + pair.transpose(1, 2))
    out = trunk(streams, modality.make_mask([4, 3]), torch.zeros(2, 3))
    assert out.site is not None and out.site.shape == (2, 4, 16)
    assert out.pair is not None and out.pair.shape == (2, 4, 4, 8)
    with pytest.raises(ConfigError, match="trunk of graph"):
        modality.trunk(spec, "unet")


def test_files_by_suffix(tmp_path: Path) -> None:
    modality = GraphModality()
    records = [mol("CCO"), unsanitised("FC(F)(F)(F)F"), mol("c1ccccc1")]
    by_suffix = {suffix: form for form in modality.formats for suffix in form.suffixes}
    assert {".smi", ".csv", ".txt.gz", ".sdf", ".png"} <= set(by_suffix)
    for suffix in (".smi", ".smi.gz", ".csv", ".txt"):
        form, path = by_suffix[suffix], tmp_path / f"a{suffix}"
        assert form.write is not None and form.read is not None
        form.write(path, records)
        again = form.read(path, lambda error: None)
        assert [Chem.MolToSmiles(m) for m in again.items] == ["CCO", "c1ccccc1"]
        samples = modality.read_samples(path)
        assert [modality.is_valid(m) for m in samples.items] == [True, False, True]
    picture = by_suffix[".png"]
    assert picture.read is None and picture.write is not None
    picture.write(tmp_path / "a.png", records)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read this format"):
        GraphModality().read_samples(tmp_path / "a.png")


def test_sdf(tmp_path: Path) -> None:
    modality = GraphModality()
    form = next(form for form in modality.formats if ".sdf" in form.suffixes)
    assert form.read is not None and form.write is not None
    path = tmp_path / "a.sdf"
    form.write(path, [mol("CCO"), unsanitised("FC(F)(F)(F)F"), mol("c1cc[nH]c1")])
    assert path.read_text().count("$$$$") == 3 and "V2000" in path.read_text()
    samples = modality.read_samples(path)
    assert [modality.is_valid(m) for m in samples.items] == [True, False, True]
    good = [m for m in samples.items if modality.is_valid(m)]
    assert [Chem.MolToSmiles(m) for m in good] == ["CCO", "c1cc[nH]c1"]
    assert all(m.GetNumConformers() == 0 for m in samples.items)
