"""A wheel built from the checkout works elsewhere: weights, assets and statistics are in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import molgen

ROOT = Path(molgen.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what belongs to the package, without network."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "molgen", copy / "molgen", ignore=shutil.ignore_patterns("__pycache__"))
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), str(copy)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (found,) = out.glob("molgen-*.whl")
    return found


def test_the_wheel_has_all_data_of_the_package(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("molgen/")}
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "molgen").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == here
    assert wheel.stat().st_size < 100e6


@pytest.mark.slow
def test_the_demonstration_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which sees the dependencies but not this checkout."""
    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    own = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(own)
    # Of the dependencies' folder only the path is taken: the checkout's own link lies in a .pth file there.
    (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["MOLGEN_DATA"] = str(tmp_path / "no-data")
    where = "import molgen; print(molgen.__file__)"
    run = subprocess.run([python, "-c", where], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert run.stdout.decode().startswith(own)
    command = [python, "-m", "molgen", "demo", "--out", "demo"]
    made = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert {"scores.json", "small.safetensors"} <= {p.name for p in (tmp_path / "demo").iterdir()}
