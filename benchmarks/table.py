"""`python -m benchmarks table [--readme]`: the table of measured figures, from benchmarks/results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from molgen.core.errors import DataError
from molgen.core.files import atomic

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- table: python -m benchmarks table --readme -->", "<!-- end of table -->"

SHOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "image": (
        ("frechet", "Frechet distance"),
        ("coverage", "coverage"),
        ("class_min_share", "rarest digit over an even share"),
    ),
    "smiles": (("valid_x_unique", "valid x unique"), ("fcd", "FCD"), ("novelty", "novelty")),
    "graph": (("valid_x_unique", "valid x unique"), ("fcd", "FCD"), ("novelty", "novelty")),
    "molecule": (
        ("atom_stable", "atoms stable"),
        ("molecule_stable", "molecules stable"),
        ("valid_x_unique", "valid x unique"),
    ),
    "protein": (
        ("frechet", "Frechet distance"),
        ("ca_ca", "CA-CA within 3.8 +- .1 A"),
        ("helix", "helix"),
        ("strand", "strand"),
        ("clashes", "clashes per 100"),
    ),
}
"""The scores in the table per modality; all scores stand in the JSON files."""


def main(argv: list[str]) -> int:
    """Prints the table, or writes it into the README between its markers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    parser.add_argument("--readme", action="store_true", help="write it into README.md")
    args = parser.parse_args(argv)
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = table([r for r in results if r.get("kind") != "conditions"])
    text += conditions([r for r in results if r.get("kind") == "conditions"])
    if not args.readme:
        print(text)
        return 0
    page = README.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise DataError(f"no line {BEGIN!r} followed by {END!r}", file=README, fix="put them back")
    before, rest = page.split(BEGIN, 1)
    with atomic(README) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    return 0


def table(results: list[dict[str, Any]]) -> str:
    """Results as a Markdown table, floors beside their distances."""
    rows = [
        "| weights | data | figures (floor: training against test records) | n | seed | steps | samples/s "
        "| parameters | trained |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        modality = r["cell"].split("-")[1]
        figures = "; ".join(
            _figure(r["scores"], key, label) for key, label in SHOWN[modality] if key in r["scores"]
        )
        training = r["training"]
        budget = (
            f"{training['seconds'] / 60:.0f} min of {_threads(training)}, {training['samples']:,} samples"
        )
        rows.append(
            f"| `{r['cell']}` | {r['data']} | {figures} | {r['n']:,} | {r['seed']} | {r['options']['steps']} "
            f"| {r['samples_per_second']:g} | {r['parameters']:,} | {budget} |"
        )
    dates = ", ".join(sorted({r["date"] for r in results}))
    machines = ", ".join(sorted({r["machine"] for r in results}))
    return "\n".join([*rows, "", f"Measured {dates} on {machines} (`python -m benchmarks score CELL`)."])


def _threads(training: dict[str, Any]) -> str:
    machine = training["runs"][-1]["machine"] if training["runs"] else ""
    return "1 CPU core" if "1 thread" in machine else machine.split(", ")[-1]


def _figure(scores: dict[str, Any], key: str, label: str) -> str:
    value, shown = scores[key], "-"
    if value is not None:
        shown = f"{value:.3g}"
    for prefix, word in (("floor/", "floor"), ("data/", "data")):
        if scores.get(prefix + key) is not None:
            shown += f" ({word} {scores[prefix + key]:.3g})"
    return f"{label} {shown}"


def conditions(results: list[dict[str, Any]]) -> str:
    """How well samples follow their conditions, one line each."""
    lines = []
    for r in results:
        figures = ", ".join(f"{key} {value:.3g}" for key, value in r["scores"].items())
        drawn = f"n {r['n']}, seed {r['seed']}, guidance {r['guidance']:g}"
        lines.append(f"- `{r['cell']}` asked for {r['condition']}: {figures} ({drawn})")
    return "\n\nConditions (`python -m benchmarks conditions CELL`):\n\n" + "\n".join(lines) if lines else ""
