"""Training: order as a function of (seed, step), budgets, and losses that are not finite."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from molgen import ConfigError, DiffusionModel, MolgenError
from molgen.core.batch import collate
from molgen.train import DataModule, Loader, parse_time
from tests.models.cells import records, tiny


def data(count: int = 100) -> object:
    rng = np.random.default_rng(0)
    return collate([{"i": np.full((rng.integers(1, 9),), i, np.int64)} for i in range(count)])


def drawn(loader: Loader) -> list[list[int]]:
    return [batch.values["i"][:, 0].tolist() for batch in loader]


def test_an_epoch_sees_every_sample_once() -> None:
    seen = sorted(i for batch in drawn(Loader(data(), 8, seed=0)) for i in batch)
    assert seen == list(range(100))


def test_order_is_a_function_of_seed_and_step() -> None:
    whole = Loader(data(), 8, seed=3)
    first, second = drawn(whole), drawn(whole)
    assert first != second
    assert drawn(Loader(data(), 8, seed=3)) == first
    assert drawn(Loader(data(), 8, seed=3, start=5)) == first[5:]
    assert drawn(Loader(data(), 8, seed=3, start=len(first) + 2)) == second[2:]
    assert drawn(Loader(data(), 8, seed=4)) != first


def test_processes_share_an_epoch() -> None:
    parts = [drawn(Loader(data(96), 8, seed=0, rank=r, world=2)) for r in (0, 1)]
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(96))


def test_batches_hold_like_sizes() -> None:
    spread = [int(batch.sizes.max() - batch.sizes.min()) for batch in Loader(data(400), 8, seed=0)]
    assert np.mean(spread) < 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("00:30:00", 1800), ("01:00:00:01", 86401)]
)
def test_times_are_read(text: str, seconds: int) -> None:
    assert parse_time(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "10", "-5m", "0s", "1:2"])
def test_bad_times_say_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="10m"):
        parse_time(text)


def test_a_character_that_only_held_out_records_have_is_known() -> None:
    strings, apart = ["CCO", "CCC", "CO"] * 13 + ["CBr"], 0
    for seed in range(40):
        model = tiny("smiles")
        data = DataModule(model, strings, seed=seed)
        data.setup()
        held = data.held
        assert held is not None and "B" in model.modality.config()["vocabulary"]
        apart += "CBr" in list(model.decode(held))
    assert apart  # some seed does hold it out


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    model = tiny("smiles").fit(records("smiles"), max_steps=1, batch_size=8)
    with torch.no_grad():
        next(iter(model.trained.parameters())).fill_(float("nan"))
    with pytest.raises(MolgenError, match=r"tokens.*step 0"):
        model.fit(records("smiles"), max_steps=1, batch_size=8)


def test_torch_randomness_outside_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny("smiles").fit(records("smiles"), max_steps=1, batch_size=8).sample(1, steps=2)
    assert (torch.rand(3) == expected).all()


def test_the_scores_of_a_run_are_logged(tmp_path: Path) -> None:
    tiny("smiles").fit(
        records("smiles", 60), max_steps=4, batch_size=8, root_dir=tmp_path, trainer={"log_every_n_steps": 1}
    )
    log = (tmp_path / "log" / "metrics.csv").read_text()
    assert "train/tokens" in log
    assert (tmp_path / "state.safetensors").is_file()


class Unread:
    """Records that fail the test when anybody reads them."""

    def __len__(self) -> int:
        raise AssertionError("the data were read")


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        ({}, {"max_time": "soon"}, "soon"),
        ({}, {"ckpt_path": "no-such-state"}, "no-such-state"),
        ({"trunk": "par"}, {}, "par"),
        ({"trunk_options": {"widht": 32}}, {}, "widht"),
    ],
)
def test_what_can_be_refused_is_refused_before_data_are_read(
    model: dict[str, object], options: dict[str, object], error: str
) -> None:
    with pytest.raises(MolgenError, match=error):
        DiffusionModel("graph", **model).fit(Unread(), **options)
