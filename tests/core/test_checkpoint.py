"""Checkpoints: round trips, and files that are damaged, foreign or hostile."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

import molgen
from molgen.core.errors import CheckpointError
from molgen.io import checkpoint
from molgen.io.header import read_header
from tests.models.cells import fitted


def test_states_round_trip_bit_for_bit(tmp_path: Path) -> None:
    state = {
        "optimizer": [{0: {"step": torch.tensor(3.0), "avg": torch.randn(2, 2)}, "lr": 1e-3}],
        (1, "a"): None,
        "nested": ({"x": True}, [1, 2.5, "text"]),
    }
    plain, tensors = checkpoint.flatten(state)
    checkpoint.write(tmp_path / "s.safetensors", tensors, {"state": plain})
    read, header = checkpoint.read(tmp_path / "s.safetensors")
    back = checkpoint.unflatten(header["state"], read)
    assert (back["optimizer"][0][0]["avg"] == state["optimizer"][0][0]["avg"]).all()  # type: ignore[index]
    assert back[(1, "a")] is None
    assert back["nested"] == state["nested"]


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(CheckpointError, match="object"):
        checkpoint.flatten({"x": object()})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    fitted("smiles").save(path)
    return path


def rewrite(path: Path, change: Any) -> None:
    """Rewrites the header of a checkpoint after `change(header)`."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    outer = json.loads(raw[8 : 8 + length])
    header = json.loads(outer["__metadata__"]["molgen"])
    header = change(header) or header
    outer["__metadata__"]["molgen"] = header if isinstance(header, str) else json.dumps(header)
    text = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update(format=99),
        lambda h: h.update(modality_version=99),
        lambda h: h.pop("modality_config"),
        lambda h: h.update(modality="nonsense"),
        lambda h: h.update(family=["diffusion"]),
        lambda h: h.update(modality_config={"no_such": 1}),
        lambda h: h.update(options={"no_such": 1}),
        lambda h: h.update(trunk_options={"width": 64}),
        lambda h: h.update(trunk_options={"no_such": 64}),
        lambda h: h.update(view="no such"),
        lambda h: h.update(conditions=[{"kind": "os.system"}]),
        lambda h: h.update(kind="training state"),
        lambda h: "not json {",
        lambda h: "[" * 100_000,
    ],
)
def test_a_changed_header_is_one_clear_error(saved: Path, change: Any) -> None:
    rewrite(saved, change)
    with pytest.raises(molgen.MolgenError) as error:
        molgen.load(saved)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 4, 100, 3000, -10])
def test_a_truncated_file_is_named(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        molgen.load(saved)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError):
        molgen.load(tmp_path / "model.safetensors")


def test_a_failed_write_harms_nothing(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.write(saved, {}, {"x": object()})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_the_header_says_where_weights_come_from(saved: Path) -> None:
    header = read_header(saved)
    assert header["family"] == "diffusion"
    run = header["history"]["runs"][0]
    assert run["seed"] == 0
    assert {"data", "fingerprint", "samples", "seconds", "machine", "date"} <= run.keys()


def test_half_precision_weights_load(saved: Path, tmp_path: Path) -> None:
    fitted("smiles").save(tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * saved.stat().st_size
    pairs = zip(
        molgen.load(saved).trained.parameters(),
        molgen.load(tmp_path / "half.safetensors").trained.parameters(),
        strict=True,
    )
    for a, b in pairs:
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)
