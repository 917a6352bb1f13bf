"""The runner goes on where it was cut off, and a failed cell is a row."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import Cell
from benchmarks.child import ChildError, Say, isolated, memory
from benchmarks.measure import Job
from benchmarks.report import page
from benchmarks.run import KEY, run, trained_job
from benchmarks.store import Store, write_json
from molgen.core.errors import DataError

GOOD = Cell("vae", "graph", "qm9")
BAD = Cell("gan", "graph", "qm9")
DEAD = Cell("energy", "graph", "qm9")


def fake(job: Job, say: Say) -> None:
    """A measurement that leaves a trace of every time it is made."""
    assert job.weights is not None
    with job.weights.open("a") as file:
        file.write(f"{job.cell.name} {job.seed}\n")
    say("sampling", parameters=7, samples_per_second=2.0 * job.seed, options={"steps": None})
    if job.cell.family == "gan":
        raise ValueError("no luck\nand more")
    if job.cell.family == "energy":
        os._exit(3)
    say("scoring", scores={"fcd": 1.0 + job.seed, "floor/fcd": 0.5})


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def jobs(trace: Path, *cells: Cell, seeds: int = 1, n: int = 10) -> list[Job]:
    return [Job(cell, seed, n, trace) for seed in range(1, seeds + 1) for cell in cells]


def measured(trace: Path) -> list[str]:
    return trace.read_text().splitlines() if trace.is_file() else []


def test_a_failed_cell_is_a_row_and_what_is_there_is_not_made_again(tmp_path: Path, trace: Path) -> None:
    store = Store(tmp_path / "b.json", "benchmark", KEY)
    # The file that leaves the trace also stands for weights: its contents are part of what is asked.
    trace.write_text("")
    wanted = [Job(cell, 1, 10, trace, folder=tmp_path / cell.name) for cell in (GOOD, BAD, DEAD)]
    for job in wanted:
        assert job.folder is not None
        job.folder.mkdir()
        write_json(job.folder / "costs.json", {"memory": {"peak": 3}, "warnings": ["collapse"]})
    assert run(wanted, store, tmp_path / "logs", fitting=nothing, measuring=fake) == 2
    errors = {row["cell"]: row["error"] for row in store.rows}
    assert errors == {
        "vae-graph": None,
        "gan-graph": "ValueError: no luck",
        "energy-graph": "the process ended with exit code 3",
    }
    assert all(row["parameters"] == 7 for row in store.rows), "what was found before the failure is kept"
    assert "no luck" in (tmp_path / "logs" / "trained-gan-graph-1.log").read_text()
    before = measured(trace)
    assert run(wanted, store, tmp_path / "logs", fitting=nothing, measuring=fake) == 2
    assert measured(trace) == before, "every row is there already"
    run(wanted[:2], store, tmp_path / "logs", retry=True, fitting=nothing, measuring=fake)
    assert measured(trace) == [*before, "gan-graph 1"], "only the failed one of them"
    text = page("qm9", store.rows)
    assert "**failed**: ValueError: no luck" in text and "collapse" in text and "2 (floor 0.5)" in text


def nothing(job: Job, say: Say) -> None:
    say("training")


def test_a_cut_off_run_goes_on_with_what_is_missing(tmp_path: Path, trace: Path) -> None:
    store = Store(tmp_path / "b.json", "benchmark", KEY)
    cell = Cell("vae", "graph", "qm9")
    wanted = [Job(cell, seed, 10, trace, folder=tmp_path) for seed in (1, 2)]
    run(wanted[:1], store, tmp_path / "logs", fitting=nothing, measuring=fake)
    run(wanted, store, tmp_path / "logs", fitting=nothing, measuring=fake)
    assert measured(trace) == ["vae-graph 1", "vae-graph 2"]
    assert "2.5 +- 0.707 (floor 0.5)" in page("qm9", store.rows), "the mean and spread of both seeds"
    more = [Job(cell, 1, 20, trace, folder=tmp_path)]
    run(more, store, tmp_path / "logs", fitting=nothing, measuring=fake)
    assert [(row["seed"], row["n"]) for row in store.rows] == [(1, 20), (2, 10)], "asked for more samples"


def test_shipped_weights_that_changed_are_measured_again(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.write_text("a")
    old = Job(GOOD, 1, 10, weights).request
    weights.write_text("b")
    assert Job(GOOD, 1, 10, weights).request != old


def test_a_student_is_taught_by_the_teacher_that_is_trained_beside_it(tmp_path: Path) -> None:
    teacher = Cell("diffusion", "graph", "qm9")
    student = Cell("consistency", "graph", "qm9", teacher=teacher.name)

    def taught(*cells: Cell) -> Any:
        return trained_job(student, cells, 2, None, "10m", "cpu", tmp_path).teacher

    assert taught(teacher, student) == trained_job(teacher, [], 2, None, "10m", "cpu", tmp_path).weights
    assert taught(student).name == "diffusion-graph.safetensors", "the one that ships"


def test_a_damaged_file_of_results_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    for text in ("{", "[]", json.dumps({"kind": "claims", "rows": []}), json.dumps({"kind": "benchmark"})):
        path.write_text(text)
        with pytest.raises(DataError, match=r"b\.json"):
            Store(path, "benchmark", KEY).put({"cell": "a", "weights": "none", "seed": 1})
        assert path.read_text() == text, "and left alone"


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [float("nan"), float("inf"), 1.0]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [None, None, 1.0]}


def holds(megabytes: int, say: Say) -> None:
    before = memory()
    block = bytearray(megabytes * 2**20)
    say("held", grown=memory() - before, length=len(block))


def test_peak_memory_is_that_of_the_work(tmp_path: Path) -> None:
    block = bytearray(300 * 2**20)  # which the child does not inherit
    heard: dict[str, Any] = {}
    isolated(holds, 64, log=tmp_path / "log", heard=lambda phase, found: heard.update(found))
    del block
    assert 60 <= heard["grown"] <= 70


def test_what_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="TypeError"):
        isolated(holds, log=tmp_path / "log", heard=lambda phase, found: None)
