"""What the benchmark of likelihoods reports."""

from __future__ import annotations

import json

import pytest

from benchmarks.measure import log_p_of
from benchmarks.table import likelihoods
from tests.models.cells import fitted, records
from tests.models.test_dbm import bits, images, machine


def test_a_partition_function_is_told_from_both_ends() -> None:
    model, options = machine(), {"chains": 50, "temperatures": 20}
    result = log_p_of(model, images(bits(6)[:5]), options, seed=0)
    log_z = result["log_z"]
    assert log_z["forward"]["value"] == model.log_partition(**options).value
    for end in ("forward", "reverse"):
        assert log_z[end]["low"] < log_z[end]["value"] < log_z[end]["high"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    line = likelihoods([{"cell": "energy-image-dbm", "data": "b", "seed": 0, **result}])
    assert f"log Z forward {log_z['forward']['value']:.2f} (" in line and "log Z reverse" in line


def test_other_models_have_none() -> None:
    result = log_p_of(fitted("smiles", "vae"), records("smiles")[:4], {}, seed=0)
    assert "log_z" not in result and result["nats"] == pytest.approx(result["nats"])
