"""The demonstration, with fewer samples and less training than a user sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from molgen import api, demo
from molgen.core.registry import get_modality

# One of each family and modality; all take minutes.
SHOWN = (
    "diffusion-image",
    "energy-image-dbm",
    "consistency-image",
    "autoregressive-smiles",
    "flow-graph",
    "gan-graph",
    "autoregressive-molecule",
    "vae-protein",
)


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "COUNTS", dict.fromkeys(demo.COUNTS, 10))
    some = {name: header for name, header in api.list_weights().items() if name in SHOWN}
    assert len(some) == len(SHOWN)
    monkeypatch.setattr(demo, "list_weights", lambda: some)
    said: list[str] = []
    demo.run(tmp_path / "out", seconds=2, echo=said.append)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"scores.json", "small.safetensors", "small.smi", "small.png"} <= made
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["trained here"]["n"] == 200
    for name, header in some.items():
        suffix = get_modality(header["modality"]).formats[0].suffixes[0]
        assert {name + suffix, f"{name}.png"} <= made
        assert scores[name]
        assert any(line.startswith(f"{name}: 10 samples") for line in said)
    assert "minutes" in said[-1]
