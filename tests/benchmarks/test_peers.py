"""The harness of the comparisons with peers: order, medians, ratios, and what becomes of failures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import costs, peers
from benchmarks.__main__ import commands
from benchmarks.peers.shared import Step, nearest, size
from benchmarks.peers.timing import Contest, alternated, compared


class Work:
    """Two pieces of work that move a clock by hand."""

    def __init__(self, ours: list[float], theirs: list[float]) -> None:
        self.now, self.order = 0.0, ""
        self.left = {"A": list(ours), "B": list(theirs)}

    def clock(self) -> float:
        return self.now

    def run(self, who: str) -> None:
        self.order += who
        self.now += self.left[who].pop(0)

    def contest(self) -> Contest:
        return Contest("work", "nothing", lambda: self.run("A"), lambda: self.run("B"), (3, 4), 6, "things")


def test_both_run_in_turn_after_a_run_that_does_not_count() -> None:
    work = Work([100, 1, 2, 4], [200, 3, 4, 6])
    seconds = alternated(lambda: work.run("A"), lambda: work.run("B"), 3, work.clock)
    assert work.order == "AB" * 4
    assert seconds == ([1, 2, 4], [3, 4, 6])


def test_medians_and_ratios_by_hand() -> None:
    result = compared([1, 2, 4], [3, 4, 6])  # ratios 3, 2, 1.5
    assert result == {
        "seconds": 2,
        "peer_seconds": 4,
        "ratio": 2,
        "ratio_least": 1.5,
        "ratio_most": 3,
        "repeats": 3,
    }


def test_a_contest_tells_sizes_and_rates() -> None:
    row = Work([0, 2, 2], [0, 4, 6]).contest().result(2, iter([0, 2, 2, 6, 6, 8, 8, 14]).__next__)
    assert (row["parameters"], row["ratio"]) == ([3, 4], 2.5)
    page = peers.table([{"peers": {"other": _peer([row])}}])
    assert "| other 1.0 | work | nothing | 3 and 4 | 3 things | 1.2 things | 2.50 (2.00 to 3.00) |" in page


def _peer(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "tasks": rows,
        "clock": "cpu",
        "threads": 1,
        "machine": "a machine",
        "date": "today",
    }


def test_a_contest_that_fails_is_a_row_with_its_error() -> None:
    good, bad = Work([1] * 2, [1] * 2).contest(), Work([], []).contest()
    rows = peers.run([bad, good], 1, "cpu")
    assert rows[0]["error"].startswith("IndexError") and "ratio" in rows[1]
    assert "failed: IndexError" in peers.table([{"peers": {"other": _peer(rows)}}])


def test_contests_that_cannot_be_set_up_are_a_row_too() -> None:
    def contests() -> Any:
        yield Work([1] * 2, [1] * 2).contest()
        raise RuntimeError("no data\nhere")

    first, second = peers.run(contests(), 1, "cpu")
    assert "ratio" in first and second["error"] == "RuntimeError: no data here"


def test_what_is_missing_is_told_in_a_line_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> Any:
        if name.endswith("zuko"):
            raise ModuleNotFoundError("No module named 'zuko'")
        return SimpleNamespace(contests=lambda: [Work([1] * 4, [2] * 4).contest()])

    monkeypatch.setattr(peers, "RESULTS", tmp_path / "peers.json")
    monkeypatch.setattr(peers, "importlib", SimpleNamespace(import_module=load))
    monkeypatch.setattr(peers, "version", lambda name: "1.0")
    assert peers.main(["zuko", "fcd_torch", "--repeats", "1"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("zuko")]
    assert len(lines) == 1 and "pip install" in lines[0] and "[bench]" in lines[0]
    assert list(json.loads(peers.RESULTS.read_text())["peers"]) == ["fcd_torch"]
    # A second run measures what has no result yet, in the order of the list.
    assert peers.main(["--repeats", "1"]) == 0
    found = json.loads(peers.RESULTS.read_text())["peers"]
    assert list(found) == [name for name in peers.PEERS if name != "zuko"]
    assert "zuko" in capsys.readouterr().err  # which is tried again


def test_unknown_peers_are_refused() -> None:
    with pytest.raises(SystemExit):
        peers.main(["zucko"])


def test_the_nearest_size_is_found_and_a_step_moves_it() -> None:
    import torch
    from torch import nn

    network = nearest(30, lambda width: nn.Linear(width, 2), range(1, 40))
    assert size(network) == 30
    step = Step(network, lambda: network(torch.ones(1, 14)).square().sum())
    before = [p.detach().clone() for p in network.parameters()]
    step()
    assert all((p != b).any() for p, b in zip(network.parameters(), before, strict=True))
    assert all((p != b).any() for p, b in zip(step.average.parameters(), before, strict=True))


def test_costs_tell_the_power_of_growth() -> None:
    assert costs.exponent([10, 20, 40], [1, 2, 4]) == pytest.approx(1)
    assert costs.exponent([10, 20, 40], [5, 5, 5]) == pytest.approx(0)
    with pytest.raises(SystemExit):
        costs.main(["samplling"])


def test_folders_are_commands_too() -> None:
    found = commands()
    assert found["peers"].startswith("`python -m benchmarks peers") and "costs" in found
    assert "results" not in found
