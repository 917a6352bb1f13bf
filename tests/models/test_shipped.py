"""The shipped models give what they gave when they were trained: networks and likelihoods, on any machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import molgen
from tests import goldens

STORED: dict[str, Any] = json.loads(goldens.STORED.read_text())


def test_every_shipped_model_has_stored_values() -> None:
    assert sorted(STORED) == sorted(molgen.api.list_weights())


@pytest.mark.parametrize("name", sorted(STORED))
def test_a_shipped_model_gives_the_stored_values(name: str) -> None:
    model, stored = molgen.load(name), STORED[name]
    found = goldens.forward(model)
    assert sorted(found) == sorted(stored["forward"])
    for part, values in stored["forward"].items():
        torch.testing.assert_close(found[part], values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(goldens.log_prob(model), stored["log_prob"], rtol=1e-3, atol=1e-3)
