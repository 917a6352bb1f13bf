"""Atomic writing, and complaints that name the file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from molgen.core.errors import DataError
from molgen.io.files import atomic, check_writable, load_arrays, read_bytes, read_lines, save_arrays


def test_atomic_file_replaces_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with atomic(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_folder(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    for _ in range(2):
        with atomic(target) as temporary:
            temporary.mkdir()
            (temporary / "a").write_text("1")
        assert (target / "a").read_text() == "1"
        (target / "a").unlink()
    (target / "mine").write_text("keep")
    with pytest.raises(DataError, match="not empty"), atomic(target) as temporary:
        raise AssertionError
    assert (target / "mine").read_text() == "keep"


def test_a_missing_file_inside_the_body_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic(tmp_path / "out"):
        (tmp_path / "elsewhere").read_text()


def test_unwritable_paths_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not a folder"):
        check_writable(tmp_path / "file" / "below")
    with pytest.raises(DataError, match="cannot be written"):
        check_writable("/proc/molgen/out.smi")
    check_writable(tmp_path / "new" / "out.smi")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"):
        check_writable(tmp_path / "out.smi")


def test_missing_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "molecules.smi").write_text("C\n")
    with pytest.raises(DataError, match=r"did you mean .*molecules\.smi"):
        read_bytes(tmp_path / "molecule.smi")
    with pytest.raises(DataError, match="no folder"):
        read_bytes(tmp_path / "none" / "a.smi")
    with pytest.raises(DataError, match="a folder, expected a file"):
        read_bytes(tmp_path)


def test_empty_and_broken_gzip(tmp_path: Path) -> None:
    empty, packed = tmp_path / "a.smi", tmp_path / "b.smi.gz"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        read_bytes(empty)
    whole = gzip.compress(os.urandom(1000))
    for bad, why in [
        (whole[:500], "breaks off"),
        (b"plain text", "gzip"),
        (whole[:500] + b"xxxx" + whole[504:], "gzip"),
        (gzip.compress(b"", mtime=0), "empty"),
    ]:
        packed.write_bytes(bad)
        with pytest.raises(DataError, match=why):
            read_bytes(packed)


def test_lines(tmp_path: Path) -> None:
    for name, data in [("a.smi", "\ufeffC\r\n\r\nN".encode()), ("b.smi.gz", gzip.compress(b"C\n\nN\n"))]:
        path = tmp_path / name
        path.write_bytes(data)
        assert list(read_lines(path)) == [(1, "C"), (2, ""), (3, "N")]
    path.with_name("c.smi").write_bytes(b"C\n\xff\xfe\n")
    with pytest.raises(DataError, match="line 2"):
        list(read_lines(path.with_name("c.smi")))


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = {"x": np.arange(6.0).reshape(2, 3), "text": np.array([b"a", b"bc"])}
    for compressed in (True, False):
        save_arrays(path, arrays, compressed)
        loaded = load_arrays(path)
        assert loaded.keys() == arrays.keys()
        assert all(np.array_equal(loaded[k], v) for k, v in arrays.items())
    with pytest.raises(DataError, match="Python objects"):
        save_arrays(path, {"x": np.array([{}], dtype=object)})
    assert np.array_equal(load_arrays(path)["x"], arrays["x"])  # unharmed
    whole = path.read_bytes()
    for bad in (whole[:-30], b"hello", whole[:60] + bytes(20) + whole[80:]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"a\.npz"):
            load_arrays(path)
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(path)
    with pytest.raises(DataError, match="single array"):
        load_arrays(path)
    np.savez(path, x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="damaged"):
        load_arrays(path)
