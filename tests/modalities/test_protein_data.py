"""`pdb_chains` from mmCIF files as the PDB serves them, here from a server on this machine."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from molgen.core.errors import DataError
from molgen.io.data import DataSource
from molgen.io.files import load_arrays, save_arrays
from molgen.modalities.protein import ProteinModality, bank
from molgen.modalities.protein.backbone import LETTERS, Backbone, sequence, trace
from molgen.modalities.protein.data import load_chains
from molgen.modalities.protein.ideal import traces
from molgen.modalities.protein.rebuild import rebuild
from molgen.modalities.protein.writing import cif_text


def chain(i: int) -> Backbone:
    atoms = rebuild([traces()[i]])[0][0]
    letters = "".join(LETTERS[k % 20] for k in range(i, i + len(atoms)))
    return Backbone(f"{i}", atoms.astype(np.float32), letters)


def table(path: Path, count: int) -> Path:
    """A table of chains 1xx0, 1xx1, ..., without their first and last residues."""
    rows = range(count)
    arrays = {
        "id": np.array([f"1xx{i}_A" for i in rows], "S10"),
        "pdb": np.array([f"1xx{i}" for i in rows], "S7"),
        "chain": np.array(["A"] * count, "S3"),
        "sequence": np.array([(sequence(chain(i)) or "")[1:-1] for i in rows], "S256"),
        "method": np.array(["XRAY"] * count, "S4"),
        "split": np.array(["train", "val", "test"] * count, "S5")[:count],
        "resolution": np.full(count, 2.0, np.float32),
        "whole": np.ones(count, bool),
        "cluster": np.arange(count, dtype=np.int32),
    }
    save_arrays(path, arrays)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    folder, asked = tmp_path / "bank", list[str]()
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/", folder, asked
        running.shutdown()


def test_chains_are_fetched_converted_and_found(
    tmp_path: Path, server: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, asked = server
    for i in range(4):
        (folder / f"1xx{i}.cif.gz").write_bytes(gzip.compress(cif_text([chain(i)]).encode()))
    path = tmp_path / "data" / "pdb_chains" / "pdb_chains.npz"
    # Chain 2 came in an earlier call that was broken off.
    (path.parent / "parts").mkdir(parents=True)
    np.save(path.parent / "parts" / "1xx2_A.npy", chain(2).arrays[0][1:-1])
    bank.fetch(path, address, table(tmp_path / "table.npz", 4), workers=2)
    assert sorted(asked) == ["/1xx0.cif.gz", "/1xx1.cif.gz", "/1xx3.cif.gz"]
    arrays = load_arrays(path)
    assert arrays["coords"].dtype == np.float32 and arrays["offsets"].dtype == np.int64
    assert len(arrays["id"]) == 4 and arrays["offsets"][-1] == len(arrays["coords"]) == len(arrays["aatype"])
    monkeypatch.setenv("MOLGEN_DATA", str(tmp_path / "data"))
    train = load_chains("train")
    assert len(train) == 2 and train[0].id == "1xx0_A"
    a, b = trace(train[0]), trace(chain(0))[1:-1]
    assert np.abs(a - (b - b.mean(0))).max() < 2e-3
    assert sequence(train[0]) == (sequence(chain(0)) or "")[1:-1]
    assert len(load_chains("train", (0, 30))) == 0
    assert set(train.labels) == {"length", "helix", "strand"}


def test_what_is_missing_is_told(tmp_path: Path, server: tuple[str, Path, list[str]]) -> None:
    address, folder, _ = server
    (folder / "1xx0.cif.gz").write_bytes(gzip.compress(cif_text([chain(0)]).encode()))
    path = tmp_path / "pdb_chains.npz"
    with pytest.raises(DataError, match="1xx1.*HTTP 404"):
        bank.fetch(path, address, table(tmp_path / "table.npz", 2), workers=1)
    assert not path.exists()
    assert (tmp_path / "parts" / "1xx0_A.npy").exists()  # the next call goes on from here


def test_extraction_finds_a_piece_and_a_copy() -> None:
    whole = chain(0)
    text, letters = cif_text([whole]), sequence(whole) or ""
    assert np.abs(bank.extract(text, "A", letters[5:30]) - whole.arrays[0][5:30]).max() < 1e-3
    assert len(bank.extract(text, "%A", letters[5:30])) == 25  # named otherwise, the same molecule
    with pytest.raises(DataError, match="no unbroken piece with the 4 residues"):
        bank.extract(text, "A", "WWWW")


def test_the_shipped_table_is_whole() -> None:
    rows = load_arrays(bank.TABLE)
    assert len(rows["id"]) == 5295 and set(map(len, rows["pdb"])) == {4}
    assert set(rows["split"].tolist()) == {b"train", b"val", b"test"}
    assert set(b"".join(rows["sequence"][:200].tolist()).decode()) <= set(LETTERS)


def test_sources(tmp_path: Path) -> None:
    sources = ProteinModality().datasets
    assert set(sources) == {"pdb_chains", "pdb_chains_128", "ideal"}
    assert all(isinstance(source, DataSource) for source in sources.values())
    assert sources["ideal"].present
    parts = [sources["ideal"].load(split) for split in sources["ideal"].splits]
    assert sum(map(len, parts)) == sources["ideal"].records
    with pytest.raises(DataError, match="choose among train, valid, test"):
        sources["ideal"].load("all")
    with pytest.raises(DataError, match="choose among train, valid, test"):
        load_chains("all", folder=tmp_path)
