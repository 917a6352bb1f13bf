"""PDB and mmCIF in and out: round trips, selections, and everything that real files get wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from molgen.core.errors import ConfigError, DataError
from molgen.modalities.protein import formats
from molgen.modalities.protein.backbone import Backbone, coordinates, sequence
from molgen.modalities.protein.geometry import from_internal
from molgen.modalities.protein.rebuild import rebuild

Edit = Callable[[list[str]], list[str]]


def fail(error: DataError) -> None:
    raise error


def helix(n: int = 12, letters: str | None = "ACDEFGHIKLMN", **options: object) -> Backbone:
    atoms, distance = rebuild([from_internal(np.tile(np.radians([91.5, 50.0]), (n, 1)))])[0]
    return Backbone("demo", atoms.astype(np.float32), letters, bfactor=distance, **options)  # type: ignore[arg-type]


def edited(path: Path, edit: Edit) -> Path:
    """A PDB file of one helix, chain A, residues 1-12, after a change of its lines."""
    formats.write(path, [helix()])
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
    return path


def atom(line: str, residue: int, name: str) -> bool:
    return line.startswith("ATOM") and int(line[22:26]) == residue and line[12:16].strip() == name


@pytest.mark.parametrize("suffix", [".pdb", ".cif", ".pdb.gz", ".cif.gz"])
def test_round_trip_keeps_atoms_names_and_numbers(tmp_path: Path, suffix: str) -> None:
    numbers = [(i, " ") for i in range(-2, 7)] + [(6, "A"), (6, "B"), (9, " ")]
    first, second = helix(chain="Q", numbers=numbers), helix(12, None, drawn=True)
    formats.write(tmp_path / f"x{suffix}", [first, second])
    back = formats.read(tmp_path / f"x{suffix}", fail)
    assert len(back) == 2
    for before, after in zip([first, second], back, strict=True):
        assert np.abs(coordinates(before) - coordinates(after)).max() < 6e-4
    assert sequence(back[0]) == sequence(first)
    assert back[0].arrays[2] == numbers
    assert back[0].chain == "Q"
    assert np.allclose(back[0].arrays[3], first.arrays[3], atol=6e-3)


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_nameless_samples_say_so_and_keep_their_breaks(tmp_path: Path, suffix: str) -> None:
    torn = helix(12, None, drawn=True)
    torn = Backbone("x", coordinates(torn) + 9.0 * (np.arange(12) > 5)[:, None, None], drawn=True)
    formats.write(tmp_path / f"x{suffix}", [torn])
    assert "RESIDUES ARE NAMED GLY" in (tmp_path / f"x{suffix}").read_text()
    back = formats.read(tmp_path / f"x{suffix}", fail)[0]
    assert back.drawn and sequence(back) is None and len(coordinates(back)) == 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_other_programs_open_the_files(tmp_path: Path, suffix: str) -> None:
    import gemmi
    from Bio.PDB import MMCIFParser, PDBParser

    path = tmp_path / f"x{suffix}"
    formats.write(path, [helix(), helix(), helix(12, None)])
    structure = gemmi.read_structure(str(path))
    assert [len(chain) for model in structure for chain in model] == [12, 12, 12]
    assert len(structure.helices) == 3
    assert {atom.element.name for cra in structure[0].all() for atom in [cra.atom]} == {"N", "C", "O"}
    parser = PDBParser() if suffix == ".pdb" else MMCIFParser()
    models = list(parser.get_structure("x", path))
    assert [len(list(model.get_atoms())) for model in models] == [48, 48, 48]
    assert [len(list(model)) for model in models] == [1, 1, 1]


def test_strands_are_written_as_sheets(tmp_path: Path) -> None:
    import gemmi

    from molgen.modalities.protein.ideal import hairpin

    atoms = rebuild([hairpin(24)])[0][0]
    for suffix in (".pdb", ".cif"):
        formats.write(tmp_path / f"x{suffix}", [Backbone("x", atoms.astype(np.float32))])
        sheets = gemmi.read_structure(str(tmp_path / f"x{suffix}")).sheets
        assert len(sheets) == 1 and len(sheets[0].strands) == 2


def test_folders_hold_one_file_a_record(tmp_path: Path) -> None:
    formats.write_folder(tmp_path / "out", [helix(), helix(10, None)])
    (tmp_path / "out" / "notes.txt").write_text("not a structure")
    back = formats.read_folder(tmp_path / "out", fail)
    assert [len(coordinates(x)) for x in back] == [12, 10]
    with pytest.raises(DataError, match="no .pdb or .cif files"):
        (tmp_path / "none").mkdir()
        formats.read_folder(tmp_path / "none", fail)


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_selection_of_a_chain_and_a_range(tmp_path: Path, suffix: str) -> None:
    numbers = [(i, " ") for i in range(50, 55)] + [(55, "A"), (55, "B")] + [(i, " ") for i in range(56, 61)]
    text = formats.pdb_text([helix(chain="A"), helix(chain="B", numbers=numbers)])
    path = tmp_path / "x.pdb"
    path.write_text("\n".join(line for line in text.splitlines() if line[:5] not in ("MODEL", "ENDMD")))
    if suffix == ".cif":
        import gemmi

        structure = gemmi.read_structure(str(path))
        structure.setup_entities()
        structure.make_mmcif_document().write_file(str(path.with_suffix(".cif")))
        path = path.with_suffix(".cif")
    assert [x.chain for x in formats.read(path, fail)] == ["A", "B"]
    assert len(coordinates(formats.read(Path(f"{path}:B"), fail)[0])) == 12
    picked = formats.read(Path(f"{path}:B:54-55A"), fail)[0]
    assert picked.arrays[2] == [(54, " "), (55, "A")]
    assert formats.read(path, fail, chain="B", residues="54-55A")[0].arrays[2] == picked.arrays[2]
    with pytest.raises(DataError, match="no protein chain 'C'; choose among A, B"):
        formats.read(Path(f"{path}:C"), fail)
    with pytest.raises(DataError, match="chain B: no residue in that range; the chain runs from 50 to 60"):
        formats.read(Path(f"{path}:B:100-120"), fail)
    with pytest.raises(ConfigError, match="expected first-last"):
        formats.read(Path(f"{path}:B:ten"), fail)


def test_alternate_locations_take_the_most_occupied_then_the_first(tmp_path: Path) -> None:
    def edit(lines: list[str]) -> list[str]:
        out = []
        for line in lines:
            if atom(line, 3, "CA"):
                for label, occupancy, x in (("A", 0.3, 1.0), ("B", 0.7, 2.0)):
                    out.append(
                        f"{line[:16]}{label}{line[17:30]}{x:8.3f}{line[38:54]}{occupancy:6.2f}{line[60:]}"
                    )
            elif atom(line, 4, "CA"):
                for label, x in (("A", 3.0), ("B", 4.0)):
                    out.append(f"{line[:16]}{label}{line[17:30]}{x:8.3f}{line[38:54]}{0.5:6.2f}{line[60:]}")
            else:
                out.append(line)
        return ["REMARK   6 GENERATED BY MOLGEN", *out]  # the shifts would count as chain breaks

    ca = coordinates(formats.read(edited(tmp_path / "x.pdb", edit), fail)[0])[:, 1]
    assert ca[2, 0] == 2.0 and ca[3, 0] == 3.0


def test_ends_are_trimmed_and_oxygens_placed(tmp_path: Path) -> None:
    whole = helix()
    path = edited(
        tmp_path / "x.pdb",
        lambda lines: [
            line for line in lines if not (atom(line, 1, "N") or atom(line, 5, "O") or atom(line, 12, "CA"))
        ],
    )
    back = formats.read(path, fail)[0]
    assert back.arrays[2] == [(i, " ") for i in range(2, 12)]
    assert np.abs(coordinates(back) - coordinates(whole)[1:11]).max() < 0.1


def test_a_trace_of_ca_atoms_gets_the_others(tmp_path: Path) -> None:
    path = edited(
        tmp_path / "x.pdb",
        lambda lines: [line for line in lines if not line.startswith("ATOM") or line[12:16] == " CA "],
    )
    assert np.abs(coordinates(formats.read(path, fail)[0]) - coordinates(helix())).max() < 0.02


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda lines: [line for line in lines if not atom(line, 4, "C")],
            r"x.pdb, chain A: residue GLU 4 has no atom C; choose a piece: add :A:5-12",
        ),
        (
            lambda lines: [line for line in lines if not (line.startswith("ATOM") and line[22:26] == "   5")],
            r"chain A: the chain breaks between GLU 4 and GLY 6 .*; choose a piece: add :A:6-12",
        ),
        (
            lambda lines: [
                line[:30] + "     nan" + line[38:] if atom(line, 7, "N") else line for line in lines
            ],
            r"chain A: residue HIS 7, atom N: coordinates that are not finite",
        ),
        (
            lambda lines: [
                line[:30] + " 1.2.3  " + line[38:] if atom(line, 7, "N") else line for line in lines
            ],
            r"x.pdb, line \d+: an atom that cannot be read",
        ),
        (lambda lines: [line for line in lines if not line.startswith("ATOM")], "x.pdb: no ATOM records"),
        (lambda lines: [line for line in lines if line[12:16] not in (" N  ", " CA ")], "no residue has"),
    ],
)
def test_bad_pdb_files_are_refused_by_name(tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(DataError, match=message):
        formats.read(edited(tmp_path / "x.pdb", edit), fail)


@pytest.mark.parametrize(
    "tag", ["Cartn_y", "occupancy", "B_iso_or_equiv", "auth_seq_id", "pdbx_PDB_model_num"]
)
def test_a_bad_number_of_an_mmcif_file_is_named(tmp_path: Path, tag: str) -> None:
    from gemmi import cif

    formats.write(tmp_path / "x.cif", [helix()])
    document = cif.read(str(tmp_path / "x.cif"))
    document.sole_block().find_values(f"_atom_site.{tag}")[6] = "1.2.3"
    document.write_file(str(tmp_path / "x.cif"))
    with pytest.raises(DataError, match=rf"x.cif, atom 7: an atom that cannot be read: {tag} '1.2.3'"):
        formats.read(tmp_path / "x.cif", fail)


@pytest.mark.parametrize("tag", ["id", "type_symbol", "label_alt_id", "label_asym_id", "B_iso_or_equiv"])
def test_mmcif_files_without_a_column_that_has_a_default(tmp_path: Path, tag: str) -> None:
    from gemmi import cif

    formats.write(tmp_path / "x.cif", [helix()])
    document = cif.read(str(tmp_path / "x.cif"))
    table = document.sole_block().find_mmcif_category("_atom_site.")
    table.loop.remove_column(f"_atom_site.{tag}")
    document.write_file(str(tmp_path / "x.cif"))
    assert np.abs(coordinates(formats.read(tmp_path / "x.cif", fail)[0]) - coordinates(helix())).max() < 6e-4


def test_repeated_model_numbers_are_refused_with_the_line(tmp_path: Path) -> None:
    model = "MODEL        1"
    path = edited(tmp_path / "x.pdb", lambda lines: [model, *lines[:-1], "ENDMDL", model])
    with pytest.raises(DataError, match=r"x.pdb: cannot be read as PDB \(Problem in line \d+: .*MODEL"):
        formats.read(path, fail)


def test_ligands_waters_and_ions_are_no_residues(tmp_path: Path) -> None:
    extra = [
        "HETATM  900  O   HOH A 201      10.000  10.000  10.000  1.00  0.00           O",
        "HETATM  901 CA    CA A 202      12.000  10.000  10.000  1.00  0.00          CA",
        "HETATM  902  C1  GOL A 203      14.000  10.000  10.000  1.00  0.00           C",
    ]

    def edit(lines: list[str]) -> list[str]:
        k = next(i for i, line in enumerate(lines) if line.startswith("TER"))
        return [*lines[: k + 1], *extra, *lines[k + 1 :]]

    assert len(coordinates(formats.read(edited(tmp_path / "x.pdb", edit), fail)[0])) == 12


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pdb", b"", "empty"),
        ("x.cif", b"", "empty"),
        ("x.cif", b"data_x\n_cell.length_a 3\n", "x.cif: no _atom_site category"),
        ("x.cif", b"loop_ loop_ nonsense", "not an mmCIF file"),
        ("x.pdb", b"ATOM\0\0\0", "not a text file"),
        ("x.pdb.gz", gzip.compress(b"ATOM" * 99, mtime=0)[:-9], "breaks off"),
    ],
)
def test_broken_files_get_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        formats.read(tmp_path / name, fail)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_bad_records_are_skipped_when_asked(tmp_path: Path) -> None:
    torn = Backbone("t", coordinates(helix()) + 9.0 * (np.arange(12) > 5)[:, None, None], "A" * 12)
    formats.write(tmp_path / "x.pdb", [helix(), torn, helix()])
    bad: list[DataError] = []
    good = formats.read(tmp_path / "x.pdb", bad.append)
    assert len(good) == 2 and len(bad) == 1
    assert "chain B of model 2" in str(bad[0])


def test_far_and_undefined_coordinates_are_still_written(tmp_path: Path) -> None:
    wild = coordinates(helix()).copy()
    wild[3] = 1e6
    wild[4] = np.nan
    for suffix in (".pdb", ".cif"):
        formats.write(tmp_path / f"x{suffix}", [Backbone("x", wild, drawn=True)])
        with pytest.raises(DataError, match="not finite"):
            formats.read(tmp_path / f"x{suffix}", fail)


def test_many_models_share_a_chain_name(tmp_path: Path) -> None:
    formats.write(tmp_path / "x.pdb", [helix(8, None)] * 63)
    text = (tmp_path / "x.pdb").read_text()
    assert "HELIX" not in text.replace("NO HELIX", "") and "NO HELIX AND SHEET" in text
    assert len(formats.read(tmp_path / "x.pdb", fail)) == 63
