"""SDF files: what RDKit writes and reads comes back."""

from pathlib import Path

import pytest
from rdkit import Chem

from molgen.core.errors import DataError
from molgen.modalities.molecule.data import conformer
from molgen.modalities.molecule.sdf import read_sdf, write_sdf


def stop(error: DataError) -> None:
    raise error


@pytest.mark.parametrize(
    "smiles", ["[CH3]", "[CH2]", "[OH]", "[O]", "C[SH](C)C", "[2H]C", "[Cu+2]", "c1cc[nH]c1"]
)
def test_sdf_keeps_radicals_hydrogens_and_isotopes(tmp_path: Path, smiles: str) -> None:
    write_sdf(tmp_path / "a.sdf", [Chem.MolFromSmiles(smiles)])
    (back,) = read_sdf(tmp_path / "a.sdf", stop)
    Chem.SanitizeMol(back)
    assert Chem.MolToSmiles(back) == Chem.CanonSmiles(smiles)


def test_double_bonds_without_stereochemistry_and_dative_bonds(tmp_path: Path) -> None:
    double, dative = conformer("CC=NO"), Chem.MolFromSmiles("[Fe+2]<-N")
    write_sdf(tmp_path / "a.sdf", [double, dative])
    back, metal = read_sdf(tmp_path / "a.sdf", stop)
    assert {bond.GetStereo() for bond in back.GetBonds()} == {Chem.BondStereo.STEREONONE}
    assert [bond.GetBondType() for bond in metal.GetBonds()] == [Chem.BondType.DATIVE]
