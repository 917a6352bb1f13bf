"""What every test stands on: no network but this machine's own, one thread, no data folder of the user's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Tests that need the canonical data ask for them by this fixture's name; all others see an empty folder.
_GIVEN = os.environ.get("MOLGEN_DATA")


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLGEN_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))


@pytest.fixture
def canonical_data(_own_data_folder: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the canonical data sets; the test is skipped where there is none."""
    if not _GIVEN:
        pytest.skip("needs MOLGEN_DATA, a folder with the canonical data sets")
    monkeypatch.setenv("MOLGEN_DATA", _GIVEN)
    return Path(_GIVEN)


@pytest.fixture
def mnist(canonical_data: Path) -> Path:
    """The folder of the digits; the test is skipped where there is none."""
    if not (canonical_data / "mnist").is_dir():
        pytest.skip(f"{canonical_data} has no mnist")
    return canonical_data / "mnist"


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """Refuses connections to any other machine, so that no test can depend on one."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError(f"tests may not connect to {address[0]}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
