"""The command line from end to end: each command's work, and one line with status 2 on each mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import molgen
from molgen import cli
from molgen.io.header import read_header
from molgen.models.base import GenerativeModel

SMALL = [f"--option=trunk_options.{k}={v}" for k, v in {"width": 16, "depth": 1, "heads": 2}.items()]
FIT = ["fit", "diffusion", "smiles", *SMALL, "--batch-size", "8"]
Run = Callable[..., list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must succeed; the lines of its output."""

    def call(*arguments: object) -> list[str]:
        status = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return captured.out.splitlines()

    return call


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail; its one line."""

    def call(*arguments: object, status: int = 2) -> str:
        assert cli.main([str(a) for a in arguments]) == status
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("molgen: ")
        assert captured.err.count("\n") == 1, captured.err
        return captured.err

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "some.smi"
    path.write_text("".join(f"{'C' * i}{end}\n" for i in range(1, 9) for end in "CNO"))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    path = tmp_path_factory.mktemp("model") / "run.safetensors"
    assert cli.main([*FIT, "--data", str(data), "--max-steps", "2", "--out", str(path)]) == 0
    return path


def test_help(run: Run) -> None:
    text = "\n".join(run("--help"))
    for command in ("list", "fit", "sample", "evaluate", "score", "demo"):
        assert command in text
        assert run(command, "--help")


def test_list(run: Run) -> None:
    text = "\n".join(run("list"))
    for word in ("diffusion", "image", "smiles", "graph", "molecule", "protein", "digits", "gdb6"):
        assert word in text
    for name in molgen.api.list_weights():
        assert name in text


def test_fit_sample_evaluate_score(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    header = read_header(model)
    assert (header["family"], header["modality"], header["history"]["steps"]) == ("diffusion", "smiles", 2)
    assert (model.with_suffix(".training") / "state.safetensors").is_file()

    for name in ("a.smi", "b.smi", "c.csv"):
        run("sample", model, "-n", 11, "--seed", 3, "--steps", 2, "--batch-size", 4, "-o", tmp_path / name)
    lines = (tmp_path / "a.smi").read_text().splitlines()
    assert len(lines) == 11  # one record per sample, valid or not
    assert (tmp_path / "b.smi").read_text().splitlines() == lines

    scores = tmp_path / "scores.json"
    text = run("evaluate", tmp_path / "a.smi", "--modality", "smiles", "--json", scores)
    assert json.loads(scores.read_text())["n"] == 11
    assert text[0].split() == ["n", "11"]

    values = run("score", model, data, "--option", "steps=4", "--option", "draws=1")
    assert len(values) == 24
    assert all(float(v) < 0 for v in values)


def test_resume_a_run_that_was_cut_off(run: Run, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(*FIT, "--data", data, "--max-steps", 2, "--out", path)
    path.unlink()
    run(*FIT, "--data", data, "--max-steps", 4, "--out", path, "--resume", path)
    steps = read_header(path)["history"]["runs"][-1]["steps"]
    assert steps == 4  # of the whole run, two of them before it was cut off


def test_resume_a_finished_model_sums_the_budget(run: Run, model: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.safetensors"
    run(*FIT, "--data", data, "--max-steps", 3, "--out", path, "--resume", model)
    training = read_header(path)["history"]
    assert training["steps"] == 5
    assert [r["steps"] for r in training["runs"]] == [2, 3]


def test_conditions(run: Run, fails: Callable[..., str], data: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(*FIT, "--data", data, "--max-steps", 1, "--out", path, "--condition", "logp")
    out = tmp_path / "a.smi"
    run("sample", path, "-n", 2, "--steps", 1, "-o", out, "--condition", "logp=1.5")
    assert "did you mean 'logp'" in fails("sample", path, "-o", out, "--condition", "lgop=1")
    assert "finite number" in fails("sample", path, "-o", out, "--condition", "logp=high")
    assert "name=value" in fails("sample", path, "-o", out, "--condition", "logp")
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("fitt", "did you mean 'fit'"),
        ("fit diffusion", "Missing argument 'modality'"),
        ("fit diffusion smiles -o a.safetensors", "Missing option '--data'"),
        ("fit difusion smiles --data gdb6 -o a.safetensors", "did you mean 'diffusion'"),
        ("fit diffusion smile --data gdb6 -o a.safetensors", "did you mean 'smiles'"),
        ("fit diffusion smiles --data gdb7 -o a.safetensors", "did you mean 'gdb6'"),
        ("fit diffusion smiles --data gdb6 -o a.pt", "ends in .safetensors"),
        ("fit diffusion smiles --data gdb6 -o /proc/none/a.safetensors", "cannot be written"),
        ("fit diffusion smiles --data DATA -o a.safetensors --max-time soon", "max_time 'soon'"),
        ("fit diffusion smiles --data gdb6 -o a.safetensors --max-steps 0", "--max-steps"),
        ("fit diffusion smiles --data gdb6 -o a.safetensors --option widht=3", "did you mean 'width'"),
        ("fit diffusion smiles --data gdb6 -o a.safetensors --option width", "name=value"),
        ("fit diffusion smiles --data gdb6 -o a.safetensors --option solver=hen", "did you mean 'heun'"),
        ("fit diffusion smiles --data DATA -o a.safetensors --trunk unett", "unett"),
        ("fit diffusion smiles --data gdb6 -o a.safetensors --view pixels", "unknown view"),
        ("fit diffusion smiles --data DATA -o a.safetensors --condition weigth", "condition"),
        ("fit diffusion smiles --data gdb6 -o a.safetensors --resume no.safetensors", "no.training"),
        ("sample no.safetensors -o a.smi", "no such file"),
        ("sample diffusion-smlies -o a.smi", "unknown weights"),
        ("sample MODEL -o a.pdb", "choices: .smi"),
        ("sample MODEL -o /proc/none/a.smi", "cannot be written"),
        ("sample MODEL -o a.smi --steps 0", "--steps"),
        ("sample MODEL -o a.smi --steps 5000", "1 to 1000"),
        ("sample MODEL -o a.smi -n many", "'-n'"),
        ("sample MODEL -o a.smi --option solvr=heun", "did you mean 'solver'"),
        ("sample MODEL -o a.smi --device gpu", "choices: auto, cpu"),
        ("evaluate no.smi --modality smiles", "no.smi: no such file"),
        ("evaluate no.smi --modality smlies", "did you mean 'smiles'"),
        ("score MODEL no.smi", "no such file"),
        ("score MODEL no.smi --sed 1", "--seed"),
    ],
)
def test_mistakes(
    fails: Callable[..., str],
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = arguments.replace("MODEL", str(model)).replace("DATA", str(data)).split()
    assert says.lower() in fails(*words).lower()
    assert list(tmp_path.rglob("*.*")) == []


def test_a_read_only_place_is_found_before_the_work(
    fails: Callable[..., str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(GenerativeModel, "fit", work)
    monkeypatch.setattr(GenerativeModel, "stream", work)
    fails(*FIT, "--data", "gdb6", "--out", "/proc/none/a.safetensors")
    fails("sample", model, "--out", "/proc/none/a.smi")
    fails("evaluate", "a.smi", "--modality", "smiles", "--json", "/proc/none/a.json")


def test_what_was_written_survives_a_failure(
    fails: Callable[..., str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.smi"
    out.write_text("C\n")

    def broken(*arguments: object, **options: object) -> object:
        yield ["CC"]
        raise RuntimeError("halfway\nthrough")

    monkeypatch.setattr(GenerativeModel, "stream", broken)
    line = fails("sample", model, "-n", 3, "-o", out, status=1)
    assert "RuntimeError: halfway through" in line
    assert "MOLGEN_DEBUG" in line
    assert out.read_text() == "C\n"
    assert list(tmp_path.iterdir()) == [out]
    monkeypatch.setenv("MOLGEN_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["sample", str(model), "-o", str(out)])


def test_interrupt(
    fails: Callable[..., str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    def leave(*arguments: object, **options: object) -> None:
        raise SystemExit(1)  # what Lightning makes of it

    monkeypatch.setattr(GenerativeModel, "stream", stop)
    assert "stopped" in fails("sample", model, "-o", tmp_path / "a.smi", status=130)
    monkeypatch.setattr(GenerativeModel, "fit", leave)
    assert "stopped" in fails(*FIT, "--data", "gdb6", "-o", tmp_path / "a.safetensors", status=130)


def test_options() -> None:
    got = cli.parse_options(["a=1", "b=x", "c.d=[1, 2]", "c.e=null", "f=true"])
    assert got == {"a": 1, "b": "x", "c": {"d": [1, 2], "e": None}, "f": True}
    with pytest.raises(molgen.ConfigError, match="given a value"):
        cli.parse_options(["a=1", "a.b=2"])
