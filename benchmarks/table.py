"""`python -m benchmarks table [--readme]`: the tables of measured figures, from benchmarks/results."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import costs, peers
from benchmarks.cells import ASIDE, CELLS, Cell
from benchmarks.report import asked, made, table
from benchmarks.store import RESULTS, read_json
from molgen.core.errors import DataError
from molgen.io.files import atomic

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "pages" / "families.md",)
"""The pages that show the short tables between the two markers."""
BEGIN, END = "<!-- table: python -m benchmarks table --readme -->", "<!-- end of table -->"

HEADLINE: dict[str, tuple[str, tuple[str, ...]]] = {
    "image": ("MNIST: Frechet distance / floor", ("frechet",)),
    "smiles": ("QM9 strings: valid x unique %, FCD", ("valid_x_unique", "fcd")),
    "graph": ("QM9 graphs: valid x unique %, FCD", ("valid_x_unique", "fcd")),
    "molecule": (
        "QM9 in 3D: atoms stable %, molecules stable %, valid x unique %",
        ("atom_stable", "molecule_stable", "valid_x_unique_table"),
    ),
    "protein": ("chains: Frechet distance / floor", ("frechet",)),
}
"""What a family is compared by on each modality."""


def main(argv: list[str]) -> int:
    """Prints the tables, or writes them into the pages between their markers and beside the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    parser.add_argument(
        "--readme", action="store_true", help="write the guide and benchmarks/results/README.md"
    )
    args = parser.parse_args(argv)
    of = measured()
    full = f"{table(of['scores'])}\n\n{made(of['scores'])} Each row by `python -m benchmarks score CELL`."
    full += peers.table(of["peers"]) + costs.table(of["costs"])
    if not args.readme:
        print(short(of), full, sep="\n\n")
        return 0
    for page in PAGES:
        text = filled(page, short(of))
        with atomic(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic(RESULTS / "README.md") as temporary:
        temporary.write_text(f"# Measured figures\n\n{full}\n", encoding="utf-8")
    return 0


def measured() -> dict[str, list[dict[str, Any]]]:
    """What lies in `results`, by kind."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.json")):
        result = read_json(path)
        of[result.get("kind", "scores")].append({"name": path.stem, **result})
    return of


def short(of: Mapping[str, list[dict[str, Any]]]) -> str:
    """The tables that pages show: headline figures, conditions, likelihoods."""
    return overview(of["scores"]) + conditions(of["conditions"]) + likelihoods(of["likelihood"])


def filled(page: Path, shown: str) -> str:
    """The text of a page with the tables between its markers.

    Errors: `DataError` where there are no markers.
    """
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise DataError(f"no line {BEGIN!r} followed by {END!r}", file=page, fix="put them back")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{shown}\n{END}{rest.split(END, 1)[1]}"


def overview(results: list[dict[str, Any]]) -> str:
    """Families by kinds of data, the headline figures with the minutes of training behind them."""
    rows: dict[str, dict[str, str]] = {}
    # Distances of fewer samples stand over the floor of the protocol's number too: floors grow faster with
    # fewer samples than distances do, so that their own would flatter them.
    floors = {
        CELLS[r["cell"]].modality: r["scores"].get("floor/frechet")
        for r in sorted(results, key=lambda r: r["n"])
        if r["cell"] in CELLS and r["data"] not in ASIDE
    }
    for r in results:
        cell = CELLS.get(r["cell"])
        # A result of another name is of other settings than the cell's.
        if cell is not None and r["name"] == cell.name and cell.shipped and cell.data not in ASIDE:
            rows.setdefault(_row(cell), {})[cell.modality] = _headline(cell, r, floors[cell.modality])
    lines = [
        f"| | {' | '.join(title for title, _ in HEADLINE.values())} |",
        f"|---|{'---|' * len(HEADLINE)}",
        *(
            f"| {name} | {' | '.join(found.get(m, '-') for m in HEADLINE)} |"
            for name, found in sorted(rows.items())
        ),
    ]
    return "\n".join(lines)


def _row(cell: Cell) -> str:
    kind = cell.variant or cell.model.get("kind", "")
    return f"{cell.family}, {kind}" if kind else cell.family


def _headline(cell: Cell, r: dict[str, Any], floor: float) -> str:
    scores, minutes = r["scores"], r["training"]["seconds"] / 60
    parts = []
    for key in HEADLINE[cell.modality][1]:
        value = scores.get(key)
        if value is None:
            parts.append("-")
        elif key == "frechet":
            parts.append(f"{value / floor:.1f} x")
        else:
            parts.append(f"{value:.2f}" if key == "fcd" else f"{100 * value:.1f}")
    few = "" if r["n"] == cell.n else f", n {r['n']:,}"
    return f"{', '.join(parts)} ({minutes:.0f} min{few}{_kept(cell)})"


def likelihoods(results: list[dict[str, Any]]) -> str:
    """What models say of test records, one line each."""
    lines = [
        f"- `{r['cell']}` on {r['data']}: {_nats(r)}"
        + (f", {r['bits_per_dim']:.3f} bits per dimension" if "bits_per_dim" in r else "")
        + f" ({r['likelihood']}; {asked(r)}, seed {r['seed']}{_trained(r)}{_kept(CELLS[r['cell']])})"
        + "".join(_log_z(end, found) for end, found in r.get("log_z", {}).items())
        for r in results
    ]
    head = "\n\nlog p of test records (`python -m benchmarks likelihood CELL`):\n\n"
    return head + "\n".join(lines) if lines else ""


def _trained(r: dict[str, Any]) -> str:
    return f", {r['training']['seconds'] / 60:.0f} min" if "training" in r else ""


def _kept(cell: Cell) -> str:
    return "" if cell.weights.is_file() else ", not shipped"


def _nats(r: dict[str, Any]) -> str:
    if r["nats"] is None:
        return f"impossible for {r['impossible']:.1%} of them"
    return f"{r['nats']:.2f} +- {r['error']:.2f} nats"


def _log_z(end: str, found: dict[str, float | None]) -> str:
    """log Z from one end, with three standard errors."""
    value, low, high = (
        "-" if x is None else f"{x:.2f}" for x in (found[k] for k in ("value", "low", "high"))
    )
    return f"; log Z {end} {value} ({low} to {high})"


def conditions(results: list[dict[str, Any]]) -> str:
    """How well samples follow their conditions, one line each."""
    lines = []
    for r in results:
        figures = ", ".join(f"{key} {value:.3g}" for key, value in r["scores"].items())
        drawn = f"n {r['n']}, seed {r['seed']}, guidance {r['guidance']:g}"
        lines.append(f"- `{r['cell']}` asked for {r['condition']}: {figures} ({drawn})")
    return "\n\nConditions (`python -m benchmarks conditions CELL`):\n\n" + "\n".join(lines) if lines else ""
