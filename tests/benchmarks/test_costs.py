"""Costs: what a child uses is its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import costs


def test_memory_of_a_child_is_its_own() -> None:
    """A child of 64 MB, asked for by a process that holds 512 MB."""
    held = np.ones(2**26)
    work = [sys.executable, "-c", "x = b'1' * 2**26"]
    seconds, megabytes = costs.used(work)
    assert 64 < megabytes < 256 < held.nbytes / 2**20 and 0 < seconds < 10


def test_a_failing_child_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        costs.used([sys.executable, "-c", "raise SystemExit(3)"])
