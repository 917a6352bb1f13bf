"""The Hub, played by a server on this machine that speaks the part of its protocol that is used."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

import molgen
from molgen.io import hub
from molgen.io.header import read_header
from tests.models.cells import fitted

REPO = "ada/strings"


class Hub(ThreadingHTTPServer):
    """Repositories in memory: files by repository and name, and what was asked for."""

    files: dict[str, dict[str, bytes]]
    asked: list[str]
    tokens: list[str | None]
    private: dict[str, bool]


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def reply(self, code: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def tell(self, value: Any, code: int = 200) -> None:
        self.reply(code, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.append(self.headers.get("Authorization"))
        place = f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            told = json.loads(body)
            repo = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
            self.server.private[repo] = bool(told.get("private") or told.get("visibility") == "private")
            self.server.files.setdefault(repo, {})
            self.tell({"url": f"{place}/{repo}", "id": repo, "name": repo})
        elif self.path == "/api/validate-yaml":
            self.tell({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            named = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in named]
            self.tell({"files": modes})
        elif self.path.endswith("/commit/main"):
            repo = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.files[repo][value["path"]] = base64.b64decode(value["content"])
            self.tell(
                {"success": True, "commitOid": "0" * 40, "commitUrl": f"{place}/{repo}/commit/{'0' * 40}"}
            )
        else:
            self.tell({"error": "not found"}, 404)

    def do_GET(self) -> None:  # noqa: N802
        self.server.asked.append(self.path)
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        if repo not in self.server.files:
            return self.reply(404, X_Error_Code="RepoNotFound")
        revision, _, name = rest.partition("/")
        content = self.server.files[repo].get(name)
        if revision != "main" and revision != "0" * 40:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        if content is None:
            return self.reply(404, X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.reply(200, content, ETag=etag, X_Repo_Commit="0" * 40)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="needs huggingface_hub: pip install -e '.[hub]'"
    )
    made = Hub(("127.0.0.1", 0), Answer)
    made.files, made.asked, made.tokens, made.private = {}, [], [], {}
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{made.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_model_goes_to_the_hub_and_comes_back(server: Hub) -> None:
    model = fitted("smiles")
    address = model.push_to_hub(REPO, token="secret", private=True)
    assert address.endswith(REPO)
    assert set(server.files[REPO]) == {hub.FILE, hub.CARD}
    assert set(server.tokens) == {"Bearer secret"}
    assert server.private[REPO]
    again = molgen.load(REPO)
    assert again.header() == model.header()
    ours, theirs = again.tensors(), model.tensors()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert molgen.load(f"{REPO}@main").sample(2, seed=1, steps=2) == model.sample(2, seed=1, steps=2)


def test_only_safetensors_are_fetched_whatever_else_there_is(server: Hub, tmp_path: Path) -> None:
    fitted("smiles").push_to_hub(REPO, token="secret")
    server.files[REPO] |= {"pytorch_model.bin": b"cos\nsystem\n", "modeling.py": b"raise SystemExit"}
    molgen.load(REPO)
    assert {path.rsplit("/", 1)[1] for path in server.asked} == {hub.FILE}
    server.files["ada/pickled"] = {hub.FILE: b"cos\nsystem\n(S'true'\ntR."}
    with pytest.raises(molgen.CheckpointError, match="not a safetensors checkpoint"):
        molgen.load("ada/pickled")


def test_what_was_fetched_needs_no_network(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted("smiles").push_to_hub(REPO, token="secret")
    molgen.load(REPO)
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the attempts at a call
    assert molgen.load(REPO).family == "diffusion"
    with pytest.raises(molgen.CheckpointError, match="ada/other: cannot be fetched from the Hub"):
        molgen.load("ada/other")


def test_what_is_not_there_is_told_in_a_line(server: Hub) -> None:
    server.files["ada/empty"] = {}
    for name in ("ada/unknown", "ada/empty", "ada/empty@v9"):
        with pytest.raises(molgen.CheckpointError, match=f"{name}: cannot be fetched") as caught:
            molgen.load(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(molgen.ConfigError, match="expected user/repo"):
        fitted("smiles").push_to_hub("strings")


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (lambda: molgen.load(REPO), lambda: fitted("smiles").push_to_hub(REPO)):
        with pytest.raises(molgen.ConfigError, match=r"pip install -e '.\[hub\]'"):
            use()


def test_files_here_go_before_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ada").mkdir()
    with pytest.raises(molgen.CheckpointError, match="no such file"):
        molgen.load(REPO)
    fitted("smiles").save(tmp_path / "ada" / "strings")
    assert molgen.load(REPO).family == "diffusion"


def test_the_card_is_written_from_the_header(tmp_path: Path) -> None:
    model = fitted("smiles")
    model.save(tmp_path / "a.safetensors")
    header = read_header(tmp_path / "a.safetensors")
    header["metrics"] = {"valid": 0.5, "a|b": 1.0, "fcd": None}
    text = hub.card(header, REPO)
    _, front, body = text.split("---\n")[:3]
    assert front.splitlines() == [
        "library_name: molgen",
        "tags:",
        '- "molgen"',
        '- "diffusion"',
        '- "smiles"',
    ]
    for part in (
        f"{model.num_parameters:,} parameters",
        f'molgen.load("{REPO}")',
        "3 steps",
        "| valid | 0.5 |",
        "a\\|b",
    ):
        assert part in body
    assert "fcd" not in body
