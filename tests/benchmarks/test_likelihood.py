"""The likelihood of test records: what a model cannot read is counted, not judged."""

from __future__ import annotations

import pytest

from benchmarks.cells import Cell
from benchmarks.measure import log_p
from benchmarks.report import asked
from molgen.core.records import Records
from tests.models.cells import fitted, records


def test_what_a_model_cannot_read_is_left_out_of_its_likelihood_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = fitted("smiles", "autoregressive")
    known = list(records("smiles")[:3])
    monkeypatch.setattr("molgen.io.resolve.resolve", lambda *_: Records([known[0], "[Fe]", *known[1:]]))
    found = log_p(model, Cell("autoregressive", "smiles", "gdb6"), 10, 0)
    assert found["nats"] == pytest.approx(float(model.log_prob(known).mean()))
    assert asked(found) == "n 3; it cannot read 1 of 4"
    monkeypatch.setattr("molgen.io.resolve.resolve", lambda *_: Records(known))
    assert asked(log_p(model, Cell("autoregressive", "smiles", "gdb6"), 10, 0)) == "n 3"
