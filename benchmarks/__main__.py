"""`python -m benchmarks NAME ...` runs a benchmark, or `main(argv)` of the module of that name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.cells import BENCHMARKS
from molgen.core.errors import ConfigError, MolgenError


def commands() -> dict[str, str]:
    """The subcommands, modules and packages that have a `main`, with the first line of their docstrings."""
    here = Path(__file__).parent
    files = {p.stem: p for p in here.glob("*.py") if p.stem[0] != "_"}
    files |= {p.parent.name: p for p in here.glob("*/__init__.py")}
    texts = {name: p.read_text(encoding="utf-8") for name, p in sorted(files.items())}
    return {name: text.splitlines()[0].strip('"') for name, text in texts.items() if "def main(" in text}


def main(argv: list[str]) -> int:
    """Runs one subcommand; on an error of the user prints one line and returns 2."""
    known = commands()
    if argv and argv[0] in BENCHMARKS:
        argv = ["run", *argv]
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [options]\n")
        print(f"  {'|'.join(BENCHMARKS):<14}\n{'':<16} all families and baselines on this data")
        for name, line in known.items():
            print(f"  {name:<14} {line}")
        return 0 if argv else 2
    try:
        if argv[0] not in known:
            raise ConfigError.unknown("command", argv[0], known)
        importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:])
    except MolgenError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
