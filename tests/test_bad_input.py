"""Bad input from end to end: one clear line with file, record and fix, status 2, and nothing harmed."""

from __future__ import annotations

import gzip
import json
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from molgen import cli
from molgen.io.header import read_header

SMALL = [f"--option=trunk_options.{k}={v}" for k, v in {"width": 16, "depth": 1, "heads": 2}.items()]
GOOD = [f"{'C' * i}{end}" for i in range(1, 9) for end in "CNO"]
Make = Callable[[Path], Path]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Runs a command; its status and the lines of its error stream."""

    def call(*arguments: object) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = cli.main([str(a) for a in arguments])
        return status, capsys.readouterr().err.splitlines()

    return call


# ---------------------------------------------------------------------- files that are as they should be


def sdf(smiles: str = "CCO", seed: int = 1) -> str:
    """A record of an SDF file with coordinates."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=seed)
    return str(Chem.MolToMolBlock(mol)) + "$$$$\n"


def xyz(count: int = 3) -> str:
    """Water, said to have `count` atoms."""
    return f"{count}\nwater\nO 0 0 0.12\nH 0 0.76 -0.48\nH 0 -0.76 -0.48\n"


def helix(residues: int = 40, leave_out: tuple[int, str] | None = None) -> list[str]:
    """The ATOM lines of an alpha helix by formula, one of them left out if asked for."""
    atoms = {"N": (1.55, -27.6, -0.9), "CA": (2.28, 0.0, 0.0), "C": (1.65, 26.3, 1.06), "O": (2, 24, 2.27)}
    lines: list[str] = []
    for i in range(residues):
        for name, (radius, phase, rise) in atoms.items():
            if (i + 1, name) == leave_out:
                continue
            angle = math.radians(100 * i + phase)
            x, y, z = radius * math.cos(angle), radius * math.sin(angle), 1.5 * i + rise
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3} ALA A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00           {name[0]}"
            )
    return lines


def save(name: str, content: str | bytes) -> Make:
    """A file of that name with that content."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def lines(name: str, count: int, bad: dict[int, str]) -> Make:
    """A file of `count` good SMILES with bad ones in some lines."""
    return save(name, "".join(bad.get(i, GOOD[i % len(GOOD)]) + "\n" for i in range(1, count + 1)))


def pictures(**bad: Image.Image | bytes) -> Make:
    """A folder of grey 8 x 8 pictures and some bad ones."""

    def make(folder: Path) -> Path:
        path = folder / "pictures"
        path.mkdir()
        for i in range(4):
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(path / f"{i}.png")
        for name, picture in bad.items():
            if isinstance(picture, bytes):
                (path / f"{name}.png").write_bytes(picture)
            else:
                picture.save(path / f"{name}.png")
        return path

    return make


def arrays(name: str, **content: Any) -> Make:
    """An npz file."""

    def make(folder: Path) -> Path:
        with (folder / name).open("wb") as file:
            np.savez(file, **content)
        return folder / name

    return make


SDF, NO_END = sdf(), sdf().replace("M  END\n", "")
HELIX = helix()
NAN_LINE = HELIX[5][:30] + "     nan" + HELIX[5][38:]
SHORT_IDX = gzip.compress(bytes([0, 0, 8, 3]) + bytes(20), mtime=0)
HALF = gzip.compress(("\n".join(GOOD) + "\n").encode() * 20, mtime=0)[:60]

# (name, modality, file, what the line must say besides the file's name)
FILES: list[tuple[str, str, Make, list[str]]] = [
    ("empty .smi", "smiles", save("a.smi", ""), ["empty"]),
    ("blank .smi", "smiles", save("a.smi", "\n\n"), ["no records"]),
    ("empty .csv", "graph", save("a.csv", ""), ["empty"]),
    ("empty .sdf", "molecule", save("a.sdf", ""), ["empty"]),
    ("empty .xyz", "molecule", save("a.xyz", ""), ["empty"]),
    ("empty .pdb", "protein", save("a.pdb", ""), ["empty"]),
    ("empty .npz", "image", save("a.npz", ""), ["empty"]),
    ("empty folder", "image", lambda folder: folder, ["no .png"]),
    ("truncated gzip of lines", "smiles", save("a.smi.gz", HALF), ["gzip", "breaks off"]),
    (
        "truncated gzip of an SDF",
        "molecule",
        save("a.sdf.gz", gzip.compress(SDF.encode(), mtime=0)[:99]),
        ["gzip"],
    ),
    (
        "truncated gzip of a PDB",
        "protein",
        save("a.pdb.gz", gzip.compress(SDF.encode(), mtime=0)[:99]),
        ["gzip"],
    ),
    ("truncated IDX", "image", save("a-idx3-ubyte.gz", SHORT_IDX), ["expected"]),
    ("not a gzip", "graph", save("a.smi.gz", "CCO\n"), ["gzip"]),
    ("malformed SMILES", "smiles", lines("a.smi", 1500, {1234: "C1CC"}), ["line 1234", "C1CC"]),
    ("valence in a graph", "graph", lines("a.smi", 1500, {1234: "C(C)(C)(C)(C)C"}), ["line 1234"]),
    ("csv without SMILES", "smiles", save("a.csv", "name,mass\nx,1\n"), ["smiles"]),
    ("binary for text", "smiles", save("a.smi", b"C\n\0\1\2\n"), ["line 2", "text"]),
    ("SDF without END", "molecule", save("a.sdf", SDF + NO_END), ["record 2", "END"]),
    ("SDF cut off", "molecule", save("a.sdf", SDF + SDF[:200]), ["record 2"]),
    ("wrong atom count", "molecule", save("a.xyz", xyz() + xyz(5) + xyz()), ["record 2", "5"]),
    ("atom count is no number", "molecule", save("a.xyz", xyz() + "many\n\n"), ["record 2", "many"]),
    ("NaN in XYZ", "molecule", save("a.xyz", xyz() + xyz().replace("0.12", "nan")), ["record 2"]),
    ("missing atom", "protein", save("a.pdb", "\n".join(helix(40, (20, "CA")))), ["ALA 20", "no atom CA"]),
    ("chain break", "protein", save("a.pdb", "\n".join(HELIX[:40] + HELIX[60:])), ["ALA 10", "ALA 16"]),
    ("NaN in PDB", "protein", save("a.pdb", "\n".join([*HELIX[:5], NAN_LINE, *HELIX[6:]])), ["not finite"]),
    ("broken ATOM line", "protein", save("a.pdb", "\n".join(HELIX).replace("2.280", "?", 1)), ["line 2"]),
    ("PDB without atoms", "protein", save("a.pdb", "HEADER    NOTHING\nEND\n"), ["no ATOM"]),
    ("mmCIF without atom_site", "protein", save("a.cif", "data_x\n_cell.length_a 1.0\n"), ["_atom_site"]),
    ("not mmCIF", "protein", save("a.cif", "hello\nworld\n"), ["mmCIF"]),
    (
        "image of another size",
        "image",
        pictures(odd=Image.new("L", (9, 8))),
        ["odd.png", "expected 8 x 8 x 1", "9"],
    ),
    ("image of another mode", "image", pictures(odd=Image.new("LA", (8, 8))), ["odd.png", "LA"]),
    ("colour among grey", "image", pictures(odd=Image.new("RGB", (8, 8))), ["odd.png", "8 x 8 x 3"]),
    ("not an image", "image", pictures(odd=b"hello"), ["odd.png"]),
    ("npz without images", "image", arrays("a.npz", pixels=np.zeros((3, 8, 8), np.uint8)), ["images"]),
    ("npz with objects", "image", arrays("a.npz", images=np.array([{}, []], object)), ["npz"]),
    ("npz with NaN", "image", arrays("a.npz", images=np.full((3, 8, 8, 1), np.nan)), ["uint8"]),
    ("npz that is text", "image", save("a.npz", "hello"), ["npz"]),
    ("unknown suffix", "graph", save("a.doc", "CCO\n"), ["choices", ".smi"]),
]


@pytest.mark.parametrize(("modality", "make", "says"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_a_bad_file_stops_a_fit(
    command: Callable[..., tuple[int, list[str]]],
    tmp_path: Path,
    modality: str,
    make: Make,
    says: list[str],
) -> None:
    source, out = tmp_path / "data", tmp_path / "model.safetensors"
    source.mkdir()
    path = make(source)
    out.write_bytes(b"written before")
    status, said = command("fit", "diffusion", modality, "--data", path, "--out", out, "--max-steps", 1)
    assert status == 2, said
    assert len(said) == 1, said
    assert path.name in said[0]
    for words in says:
        assert words.lower() in said[0].lower()
    assert ";" in said[0] or "did you mean" in said[0] or "choices" in said[0], "what to do about it"
    assert out.read_bytes() == b"written before"


@pytest.mark.parametrize(
    ("modality", "make", "counts"),
    [
        ("smiles", lines("a.smi", 60, {12: "C1CC", 34: "xyz"}), "2 of 60"),
        ("graph", lines("a.smi", 60, {12: "C1CC"}), "1 of 60"),
        ("molecule", save("a.xyz", (xyz() * 9) + xyz().replace("0.12", "nan")), "1 of 10"),
        ("molecule", save("a.sdf", SDF + NO_END + SDF * 4), "1 of 6"),
        ("image", pictures(odd=Image.new("L", (9, 8)), bad=b"hello"), "2 of 6"),
    ],
)
def test_bad_records_are_counted_and_skipped_when_asked_to(
    command: Callable[..., tuple[int, list[str]]], tmp_path: Path, modality: str, make: Make, counts: str
) -> None:
    source, out = tmp_path / "data", tmp_path / "model.safetensors"
    source.mkdir()
    fit = ["fit", "diffusion", modality, "--data", make(source), "--out", out, "--max-steps", 1]
    options = SMALL if modality not in ("image",) else ["--option=trunk_options.width=16"]
    status, said = command(*fit, *options, "--batch-size", 4, "--skip-invalid")
    assert status == 0, said
    assert sum(f"skipped {counts}" in line for line in said) == 1, said
    assert out.is_file()


# ---------------------------------------------------------------------- data sets by name


def test_data_sets_that_cannot_be_had(
    command: Callable[..., tuple[int, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLGEN_DATA", str(tmp_path))
    monkeypatch.setattr("molgen.io.data._fetch", lambda url, *rest: "broke off after 1 of 2 bytes")
    out = tmp_path / "model.safetensors"
    placed = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    for modality, name, says in [
        ("image", "mnist", "broke off"),
        ("image", "binarized_mnist", "no official address"),
        ("smiles", "qm9", "qm9"),
        ("smiles", "zinc250k", "place it there"),
        ("molecule", "qm9", "qm9"),
        ("protein", "pdb_chains", "pdb_chains"),
    ]:
        status, said = command("fit", "diffusion", modality, "--data", name, "--out", out)
        announced = [line for line in said if "fetching" in line]  # many files are announced first
        assert (status, len(said) - len(announced)) == (2, 1), said
        assert str(tmp_path) in said[-1], "where it would be put"
        assert says in said[-1]
    placed.parent.mkdir(exist_ok=True)
    placed.write_bytes(b"something else")
    status, said = command("fit", "diffusion", "image", "--data", "mnist", "--out", out)
    assert (status, len(said)) == (2, 1), said
    assert str(placed) in said[0] and "expected f68b3c2dcbeaaa9fbdd348bbdeb94873" in said[0]
    assert placed.read_bytes() == b"something else"
    assert not out.exists()


# ---------------------------------------------------------------------- properties and checkpoints


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    data = lines("a.smi", 24, {})(folder)
    path = folder / "good.safetensors"
    fit = ["fit", "diffusion", "smiles", *SMALL, "--data", str(data), "--out", str(path), "--max-steps", "1"]
    assert cli.main(fit) == 0
    return path


def test_a_property_that_is_not_there(command: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    path = lines("a.smi", 24, {})(tmp_path)
    fit = ["fit", "diffusion", "smiles", "--data", path, "--out", tmp_path / "a.safetensors"]
    for name in ("gap", "no_such_property"):
        status, said = command(*fit, "--condition", name)
        assert status == 2, said
        assert len(said) == 1
        assert name in said[0]


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """The outer header and the tensors' bytes of a safetensors file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def joined(outer: Any, body: bytes) -> bytes:
    text = outer if isinstance(outer, bytes) else json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + body


def changed(**changes: Any) -> Callable[[Path], bytes]:
    """The same checkpoint with other entries in molgen's header."""

    def make(path: Path) -> bytes:
        outer, body = parts(path)
        header = json.loads(outer["__metadata__"]["molgen"]) | changes
        outer["__metadata__"]["molgen"] = json.dumps(header)
        return joined(outer, body)

    return make


class Trap:
    """What a hostile pickle would run."""

    def __reduce__(self) -> Any:
        return (Path("trap").touch, ())


CHECKPOINTS: list[tuple[str, Callable[[Path], bytes], str]] = [
    ("empty", lambda path: b"", "not a safetensors checkpoint"),
    ("truncated in the header", lambda path: path.read_bytes()[:500], "truncated"),
    ("truncated in the tensors", lambda path: path.read_bytes()[:-100], "truncated"),
    ("one byte of length", lambda path: b"\7", "truncated"),
    ("a huge header", lambda path: struct.pack("<Q", 2**62) + b"{}", "length"),
    ("a pickle", lambda path: pickle.dumps(Trap()), "not a safetensors checkpoint"),
    ("not JSON", lambda path: joined(b"{hello}", b""), "not a safetensors checkpoint"),
    ("deep nesting", lambda path: joined(b"[" * 200_000, b""), "not a safetensors checkpoint"),
    ("a list for a header", lambda path: joined([1], b""), "without molgen's header"),
    ("somebody else's", lambda path: joined({"__metadata__": {"a": "b"}}, b""), "without molgen's header"),
    ("another format", changed(format=99), "format 99"),
    ("another modality version", changed(modality_version=99), "version 99"),
    ("an unknown family", changed(family="difusion"), "did you mean 'diffusion'"),
    ("a path for a family", changed(family="../../evil:Class"), "unknown family"),
    ("an unknown modality", changed(modality="os.system"), "unknown modality"),
    ("a number for a family", changed(family=7), "'family' is int"),
    ("a missing configuration", changed(modality_config=None), "modality_config"),
    ("options that nobody takes", changed(options={"evil": 1}), "does not describe"),
    ("configuration that nobody takes", changed(modality_config={"evil": 1}), "does not describe"),
    ("another network", changed(trunk_options={"width": 32, "depth": 1, "heads": 2}), "expected"),
    ("a network too large", changed(trunk_options={"width": 10**9, "depth": 1, "heads": 2}), "width"),
    ("a network too deep", changed(trunk_options={"width": 16, "depth": 10**9, "heads": 2}), "depth"),
    ("a network of words", changed(trunk_options={"width": "wide", "depth": 1, "heads": 2}), "trunk"),
    ("an unknown trunk", changed(trunk="evil"), "evil"),
    ("an unknown view", changed(view="evil"), "evil"),
    ("an unknown condition", changed(conditions=[{"kind": "Evil"}]), "Evil"),
    ("another kind", changed(content="training state"), "expected a model"),
]


@pytest.mark.parametrize(("make", "says"), [c[1:] for c in CHECKPOINTS], ids=[c[0] for c in CHECKPOINTS])
def test_checkpoints(
    command: Callable[..., tuple[int, list[str]]],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], bytes],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    bad, out = tmp_path / "bad.safetensors", tmp_path / "out.smi"
    bad.write_bytes(make(model))
    out.write_text("written before")
    status, said = command("sample", bad, "-n", 1, "--steps", 1, "-o", out)
    assert status == 2, said
    assert len(said) == 1
    assert "bad.safetensors" in said[0]
    assert says in said[0]
    assert out.read_text() == "written before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.safetensors", "out.smi"]


def test_the_checkpoint_that_the_bad_ones_were_made_of_is_good(
    command: Callable[..., tuple[int, list[str]]], model: Path, tmp_path: Path
) -> None:
    assert read_header(model)["content"] == "model"
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(changed()(model))
    status, said = command("sample", copy, "-n", 1, "--steps", 1, "-o", tmp_path / "out.smi")
    assert status == 0, said
