"""The benchmark of anomalies: what a model can read, what is missing, and going on where it stopped."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import anomaly
from benchmarks.drawing.shelf import Shelf
from molgen import AutoregressiveModel, EnergyModel
from molgen.core.errors import ConfigError
from molgen.metrics.anomaly import Background

SMALL = {"width": 16, "depth": 1, "heads": 2}
NAMES = ["autoregressive-smiles", "energy-smiles", "vae-smiles"]
TASK = anomaly.Task(
    "small",
    "smiles",
    "gdb6",
    lambda records, n, seed: {"sulphur": ["CSC"] * 3, "half": ["CSC", "C" * 30, "CCO"]},
    {name: (5, {}) for name in NAMES},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models of three."""
    folder = tmp_path_factory.mktemp("weights")
    for family, name in ((AutoregressiveModel, NAMES[0]), (EnergyModel, NAMES[1])):
        model = family("smiles", trunk_options=SMALL).fit("gdb6", max_steps=1, batch_size=8, progress=False)
        model.save(folder / f"{name}.safetensors")
    return folder


def test_rows_say_what_cannot_be_read_and_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(anomaly, "TASKS", (TASK,))
    monkeypatch.setattr(Shelf, "has", lambda self, name: (folder / f"{name}.safetensors").is_file())
    plain = Shelf.path
    monkeypatch.setattr(
        Shelf, "path", lambda self, name: plain(self, name if self.has(name) else f"{name}-nowhere")
    )
    out = tmp_path / "anomaly.json"
    ask = ["--n", "4", "--weights", str(folder), "--out", str(out)]
    anomaly.main(ask)
    result = json.loads(out.read_text())
    cells = {row["cell"]: row for row in result["rows"]}
    assert "vae-smiles" in cells["vae-smiles"]["missing"]
    row = cells["autoregressive-smiles"]["anomalies"]["half"]
    assert (row["readable"], row["of"]) == (2, 3)
    assert row["log_p"] is None and row["per_entry"] is not None  # a length that the data never have
    assert cells["autoregressive-smiles"]["anomalies"]["sulphur"] == {"n": 0, "readable": 0, "of": 3}
    assert set(row["auroc"]) == set(anomaly.RULES)
    assert cells["energy-smiles"]["measure"] == "energy, unnormalised"
    assert "can read 2 of 3 records of half" in capsys.readouterr().out
    anomaly.main(ask)
    assert "autoregressive-smiles: there already" in capsys.readouterr().out
    assert json.loads(out.read_text()) == result
    with pytest.raises(ConfigError, match="cell"):
        anomaly.main(["nobody", "--out", str(out)])


def test_log_p_given_the_size_and_of_the_size_add_up(folder: Path) -> None:
    model = Shelf(folder).load(NAMES[0])
    records = ["CCO", "CN", "CC(C)O"]
    background = Background(anomaly.symbols(model, r) for r in records)
    said = anomaly.say(model, records, background, 0, {})
    assert np.allclose(said.log_p, model.log_prob(records).numpy())
    sizes = np.array([model.modality.log_size(len(r)) for r in records])
    assert np.allclose(said.rate * [3, 2, 6] + sizes, said.log_p)
