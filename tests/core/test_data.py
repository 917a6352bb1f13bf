"""Records, the data folder, and downloads from a server on this machine that misbehaves on purpose."""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.data import DataSource, data_folder, download, find_or_download

BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()


class Server(HTTPServer):
    """Serves BODY under every name but those that mean trouble; `asked` holds (path, range)."""

    asked: list[tuple[str, str | None]]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.path == "/gone":
            return self.send_error(404)
        if self.path == "/tired" and len(self.server.asked) < 3:
            return self.send_error(503)
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if match and self.path != "/plain":
            start = int(match[1])
            if start >= len(BODY):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(BODY)}")
                self.end_headers()
                return None
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        else:
            self.send_response(200)
        body = BODY[start:] if self.path != "/wrong" else BODY[start:-1] + b"?"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/breaks":
            body = body[:30_000]
        if self.path == "/never":
            body = body[:1]
        self.wfile.write(body)
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLGEN_DATA", str(tmp_path))
    return tmp_path


def test_plain(server: Server, folder: Path) -> None:
    path = find_or_download("set/a.bin", [server.url("a")], MD5)
    assert path == folder / "set" / "a.bin"
    assert path.read_bytes() == BODY
    assert find_or_download("set/a.bin", [server.url("a")], MD5) == path
    assert server.asked == [("/a", None)]  # once
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_broken_off_goes_on(server: Server, tmp_path: Path) -> None:
    path = download(server.url("breaks"), tmp_path / "a", MD5, pause=0)
    assert path.read_bytes() == BODY
    assert [r for _, r in server.asked] == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_broken_off_goes_on_in_the_next_call(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"broke off after 4 of .*run again to go on after 4 bytes"):
        download(server.url("never"), tmp_path / "a", MD5, pause=0)
    assert not (tmp_path / "a").exists()
    assert download(server.url("a"), tmp_path / "a", MD5).read_bytes() == BODY
    assert server.asked[-1] == ("/a", "bytes=4-")


def test_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"old")
    assert download(server.url("plain"), tmp_path / "a", MD5).read_bytes() == BODY


def test_whole_part_needs_no_more(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(BODY)
    assert download(server.url("a"), tmp_path / "a", MD5).read_bytes() == BODY
    (tmp_path / "b.part").write_bytes(BODY + b"too long")
    assert download(server.url("a"), tmp_path / "b", MD5, pause=0).read_bytes() == BODY


def test_wrong_checksum(server: Server, folder: Path) -> None:
    (folder / "a").write_bytes(b"mine")
    with pytest.raises(DataError, match=f"md5 .*, expected {MD5}"):
        find_or_download("a", [server.url("a")], MD5)
    assert (folder / "a").read_bytes() == b"mine"
    with pytest.raises(DataError, match=f"wrong: md5 .*, expected {MD5}"):
        download(server.url("wrong"), folder / "b", MD5)
    assert [p.name for p in folder.iterdir()] == ["a"]  # a wrong file is not kept to go on from


def test_stale_part_of_another_version(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"?" * 100)
    with pytest.raises(DataError, match="md5"):
        download(server.url("a"), tmp_path / "a", MD5)
    assert download(server.url("a"), tmp_path / "a", MD5).read_bytes() == BODY


def test_mirror(server: Server, tmp_path: Path) -> None:
    urls = [server.url("gone"), server.url("wrong"), server.url("a")]
    assert download(urls, tmp_path / "a", MD5).read_bytes() == BODY
    assert download(server.url("tired"), tmp_path / "b", pause=0).read_bytes() == BODY


def test_dead_link_says_what_to_put_where(server: Server, folder: Path) -> None:
    url = server.url("gone")
    with pytest.raises(DataError, match="404") as error:
        find_or_download("set/a.gz", [url], MD5)
    assert len(server.asked) == 1
    line = str(error.value)
    assert "\n" not in line and url in line and str(folder / "set" / "a.gz") in line and "by hand" in line
    with pytest.raises(DataError, match="MOLGEN_DATA to a folder that has set/b"):
        find_or_download("set/b", [])


def test_two_downloads_of_one_file_wait_for_each_other(server: Server, tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        jobs = [pool.submit(download, server.url("breaks"), tmp_path / "a", MD5, pause=0.3) for _ in range(3)]
        assert all(job.result().read_bytes() == BODY for job in jobs)
    # Who comes too late to wait may download the file anew, but none goes on with the part of another.
    assert len(server.asked) in (4, 8, 12)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_whoever_waits_takes_what_the_other_has_downloaded(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"
    with ThreadPoolExecutor(1) as pool:
        with FileLock(f"{path}.lock"):
            job = pool.submit(download, server.url("a"), path, MD5)
            while "waiting for another process" not in capsys.readouterr().err:
                time.sleep(0.01)
            path.write_bytes(BODY)
        assert job.result(10) == path
    assert server.asked == []


def test_a_timeout_is_named_without_the_wrapping_of_libraries(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)  # never answers
    with pytest.raises(DataError, match=r"/a: timed out\)"):
        download(f"http://127.0.0.1:{server.server_port}/a", tmp_path / "a", pause=0, timeout=0.05)
    server.server_close()


def test_no_server(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.server_close()
    with pytest.raises(DataError, match="refused"):
        download(f"http://127.0.0.1:{server.server_port}/a", tmp_path / "a", pause=0)
    with pytest.raises(DataError, match="not an http address"):
        download("file:///etc/hostname", tmp_path / "a", pause=0)


def test_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MOLGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert data_folder() == tmp_path / "molgen"
    assert not data_folder().exists()
    source = DataSource("x", lambda split: Records([]), 0, "", "", ("x/x.npz",))
    assert not source.present
    (tmp_path / "molgen" / "x").mkdir(parents=True)
    (tmp_path / "molgen" / "x" / "x.npz").touch()
    assert source.present


def test_records() -> None:
    records = Records(["a", "b", "c"], {"size": np.array([1, 2, 3])}, "letters")
    assert records[-1] == "c"
    part = records[np.array([2, 0])]
    assert isinstance(part, Records)
    assert (list(part), part.labels["size"].tolist(), part.name) == (["c", "a"], [3, 1], "letters")
    assert list(records[1:]) == ["b", "c"]
