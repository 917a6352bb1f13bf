"""The plugin keeps what molgen promises of every kind of data, and tables come back as they went in."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from molgen_tabular import Tabular

from molgen.core.capabilities import Entries
from molgen.core.errors import ConfigError, DataError
from molgen.io.formats import read, write
from molgen.io.resolve import resolve
from molgen.models.autoregressive import AutoregressiveModel
from molgen.testing import Cell, Subject, check_modality, modality_checks

FAMILIES = ["autoregressive", "consistency", "diffusion", "energy", "flow", "gan", "vae"]
ROWS = [
    {"size": 1.5 * i % 7, "rooms": 1 + i % 4, "heat": ["gas", "oil", None][i % 3], "year.built": None}
    if i % 5
    else {"size": None, "rooms": 1 + i % 4, "heat": "gas", "year.built": 1900 + i}
    for i in range(40)
]


def test_conformance() -> None:
    check_modality(Tabular(), ROWS, families=[])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str) -> None:
    checks = [c for c in modality_checks(Tabular(), ROWS, [family]) if str(c).startswith(family)]
    for check in checks:
        check()


def test_no_family_but_the_boltzmann_machine_refuses_a_table() -> None:
    subject = Subject(Tabular(), ROWS)
    assert not any(Cell(subject, family).refusal for family in FAMILIES)


@pytest.mark.parametrize("name", ["diabetes", "wine"])
def test_data_sets_come_back_from_encoding(name: str) -> None:
    rows = Tabular().datasets[name].load("train")
    table = Tabular().fit_to(rows)
    for row in rows:
        back = table.decode(table.encode(row, "row"), "row")
        assert [value is None for value in back.values()] == [value is None for value in row.values()]
        assert back == {k: pytest.approx(v, rel=1e-6) if isinstance(v, float) else v for k, v in row.items()}


def test_a_column_of_each_kind_is_told_from_the_data() -> None:
    table = Tabular().fit_to(ROWS)
    assert table.columns["heat"] == {"values": ["gas", "oil", None]}
    assert table.columns["rooms"]["levels"] == 4 and not table.columns["rooms"]["gaps"]
    assert table.columns["year.built"]["levels"] and table.columns["year.built"]["gaps"]
    assert table.columns["size"]["levels"] is None
    codes = Tabular(columns={"rooms": "category"}).fit_to(ROWS)
    assert codes.columns["rooms"] == {"values": ["1", "2", "3", "4"]}
    assert type(codes)(**json.loads(json.dumps(codes.config()))).config() == codes.config()


def test_reals_come_back_with_the_places_of_the_data() -> None:
    rows = [{"price": i + 0.25, "tiny": 1e-7 * i} for i in range(20)]
    table = Tabular().fit_to(rows)
    sample = {"price": np.array([[0.123456]], np.float32), "tiny": np.array([[0.5]], np.float32)}
    drawn = table.decode(sample, "row")
    assert drawn["price"] == round(drawn["price"], 2) and drawn["tiny"] == pytest.approx(1.2383e-6, rel=1e-3)


def test_gaps_are_filled_with_the_distribution_of_what_is_known() -> None:
    draw = np.random.default_rng(0)
    rows = [{"id": i, "x": None if i % 2 else 5 + 3 * draw.normal()} for i in range(4000)]
    table = Tabular().fit_to(rows)
    z = np.array([table.encode(row, "row")["x"].item() for row in rows if row["x"] is None])
    # The mean and the variance of 2,000 standard normal numbers, within four standard errors.
    assert abs(z.mean()) < 4 / math.sqrt(2000) and abs(z.var() - 1) < 4 * math.sqrt(2 / 2000)


def test_a_filler_depends_on_its_row_alone() -> None:
    table = Tabular().fit_to(ROWS)
    row = {"size": None, "rooms": 2, "heat": "oil", "year.built": None}
    first = table.encode(row, "row")
    table.encode(ROWS[0], "row")
    again = table.encode(dict(row), "row")
    assert all((first[key] == again[key]).all() for key in first)
    assert table.encode({**row, "rooms": 3}, "row")["size"] != first["size"]


def test_whole_numbers_are_levels_whose_density_is_a_probability() -> None:
    table = Tabular().fit_to([{"dots": 1 + i % 6} for i in range(60)])
    field = table.fields["dots"]
    density = Entries.of(field).likelihood(torch.zeros(6, 1, 24))
    every = torch.tensor([[table.encode({"dots": k}, "row")["dots"].item()] for k in range(1, 7)])
    assert density.log_prob(every).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_whole_numbers_beyond_those_seen_are_kept() -> None:
    table = Tabular().fit_to([{"dots": 1 + i % 60} for i in range(60)])
    for k in (-40, 0, 61, 900):
        assert table.decode(table.encode({"dots": k}, "row"), "row") == {"dots": k}


def test_log_p_of_a_table_of_classes_sums_to_one() -> None:
    rows = [{"a": "xy"[i % 2], "b": "pqr"[i % 3]} for i in range(24)]
    model = AutoregressiveModel(Tabular(), trunk_options={"width": 16, "depth": 1, "heads": 2})
    model.fit(rows, max_steps=3, batch_size=8, seed=0)
    every = [{"a": a, "b": b} for a in "xy" for b in "pqr"]
    assert model.likelihood == "exact"
    assert model.log_prob(every).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_csv_and_frames(tmp_path) -> None:
    table = Tabular().fit_to(ROWS)
    for suffix in (".csv", ".csv.gz"):
        write(table, tmp_path / f"rows{suffix}", ROWS)
        for kind in (table, Tabular()):
            back = read(kind, tmp_path / f"rows{suffix}")
            assert [{k: None if pd.isna(v) else v for k, v in row.items()} for row in back] == ROWS
    frame = pd.DataFrame(ROWS)
    found = Tabular().fit_to(resolve(Tabular(), frame))
    assert found.columns == table.columns


def test_codes_with_zeros_in_front_stay_texts(tmp_path) -> None:
    rows = [{"zip": f"0{i}", "n": i} for i in range(10, 30)]
    table = Tabular().fit_to(rows)
    write(table, tmp_path / "zip.csv", rows)
    assert list(read(table, tmp_path / "zip.csv")) == rows


def test_bad_rows_are_named(tmp_path) -> None:
    table = Tabular().fit_to(ROWS)
    path = tmp_path / "bad.csv"
    path.write_text("size,rooms,heat,year.built\n1.0,2,gas,\n1.0,2,coal,\n1.0,2.5,gas,\n")
    with pytest.raises(DataError, match="line 3: heat 'coal', which was not in the data"):
        read(table, path)
    assert len(read(table, path, skip_invalid=True)) == 1
    with pytest.raises(DataError, match="year 'soon', expected a number"):
        Tabular(columns={"year": "real"}).fit_to([{"year": "soon"}])
    with pytest.raises(DataError, match="no column 'zip' among size"):
        Tabular(columns={"zip": "category"}).fit_to(ROWS)
    with pytest.raises(ConfigError, match="unknown kind of column 'float'"):
        Tabular(columns={"zip": "float"})


def test_scores_need_no_fitted_modality() -> None:
    rows = list(Tabular().datasets["wine"].load("train"))[::2]  # they are sorted
    scores = Tabular().evaluate(rows, "wine")
    assert scores["valid"] == 1 and scores["marginal/target"] < 0.1
    narrow = [{**row, "target": "class_0"} for row in rows]
    assert Tabular().evaluate(narrow, "wine")["marginal/target"] > 0.2
