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
"""The scores of each modality."""

SUMMARY: dict[str, tuple[str, str]] = {
    "image": ("digits: x floor", "frechet"),
    "smiles": ("strings: valid x unique %", "valid_x_unique"),
    "graph": ("graphs: valid x unique %", "valid_x_unique"),
    "molecule": ("3D: valid x unique %", "valid_x_unique_table"),
    "protein": ("backbones: x floor", "frechet"),
}
"""The one score of each modality in the README."""

FAMILIES: dict[str, tuple[str, str]] = {
    "autoregressive": ("[van den Oord 2016](https://arxiv.org/abs/1601.06759)", "best strings, exact log p"),
    "consistency": ("[Song 2023](https://arxiv.org/abs/2303.01469)", "samples in 1 to 4 steps"),
    "diffusion": ("[Karras 2022](https://arxiv.org/abs/2206.00364)", "best samples of most data"),
    "energy": ("[Song 2019](https://arxiv.org/abs/1907.05600)", "an energy of any record"),
    "flow": ("[Lipman 2023](https://arxiv.org/abs/2210.02747)", "invertible, log p"),
    "gan": ("[Goodfellow 2014](https://arxiv.org/abs/1406.2661)", "fast: one pass"),
    "vae": ("[Kingma 2014](https://arxiv.org/abs/1312.6114)", "a code of each record"),
}
"""The best-known paper of a family, and its strength."""


def main(argv: list[str]) -> int:
    """Prints the tables, or writes them into the pages between their markers and beside the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks table", description=__doc__)
    parser.add_argument(
        "--readme", action="store_true", help="write README.md, the guide and benchmarks/results/README.md"
    )
    args = parser.parse_args(argv)
    of = measured()
    full = f"{table(of['scores'])}\n\n{made(of['scores'])} Each row by `python -m benchmarks score CELL`."
    full += peers.table(of["peers"]) + costs.table(of["costs"])
    if not args.readme:
        print(short(of), full, sep="\n\n")
        return 0
    for page, make in PAGES.items():
        text = filled(page, make(of))
        with atomic(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic(RESULTS / "README.md") as temporary:
        temporary.write_text(f"# Measured figures\n\n{full}\n", encoding="utf-8")
    return 0


def measured() -> dict[str, list[dict[str, Any]]]:
    """The results in `results`, by kind."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.json")):
        result = read_json(path)
        of[result.get("kind", "scores")].append({"name": path.stem, **result})
    return of


def short(of: Mapping[str, list[dict[str, Any]]]) -> str:
    """The tables that pages show: headline figures, conditions, likelihoods."""
    return overview(of["scores"]) + conditions(of["conditions"]) + likelihoods(of["likelihood"])


def summary(of: Mapping[str, list[dict[str, Any]]]) -> str:
    """The table of the README: for each family the best score of its shipped kinds on each modality."""
    best: dict[tuple[str, str], tuple[float, bool]] = {}
    floors = _floors(of["scores"])
    for r in of["scores"]:
        cell = CELLS.get(r["cell"])
        if cell is None or r["name"] != cell.name or not cell.shipped or cell.data in ASIDE:
            continue
        value = r["scores"].get(SUMMARY[cell.modality][1])
        if value is None or not cell.weights.is_file():
            continue
        # From here on larger is better: distances have a negative sign.
        gain = 100 * value if not _is_distance(cell.modality) else -value / floors[cell.modality]["frechet"]
        key = cell.family, cell.modality
        best[key] = max(best.get(key, (gain, False)), (gain, r["n"] < cell.n))
    top = {m: max((gain for (_, at), (gain, _) in best.items() if at == m), default=None) for m in SUMMARY}
    lines = [
        f"| family | paper | strength | {' | '.join(title for title, _ in SUMMARY.values())} |",
        f"|---|---|---|{'---|' * len(SUMMARY)}",
    ]
    for family, (paper, strength) in FAMILIES.items():
        shown = [_marked(best.get((family, m)), top[m]) for m in SUMMARY]
        lines.append(f"| {family} | {paper} | {strength} | {' | '.join(shown)} |")
    shown = [_floor(m, floors[m].get(SUMMARY[m][1])) for m in SUMMARY]
    return "\n".join([*lines, f"| floor | | training records | {' | '.join(shown)} |"])


def _marked(found: tuple[float, bool] | None, top: float | None) -> str:
    """A score, the best one in bold, with a dagger where it is of fewer samples."""
    if found is None:
        return "-"
    gain, few = found
    text = f"{abs(gain):.1f}"
    return (f"**{text}**" if gain == top else text) + ("†" if few else "")


def _is_distance(modality: str) -> bool:
    return SUMMARY[modality][1] == "frechet"


def _floor(modality: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"1.0 (= {value:.2f})" if _is_distance(modality) else f"{100 * value:.1f}"


def _floors(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Floors of each modality by score, of the protocol's number of samples.

    Distances of fewer samples are divided by that floor too: floors grow faster with fewer samples than
    distances do, so that dividing by their own floor would be too favourable.
    """
    floors: dict[str, dict[str, float]] = defaultdict(dict)
    for r in sorted(results, key=lambda r: r["n"]):
        if r["cell"] in CELLS and r["data"] not in ASIDE:
            of = {k.removeprefix("floor/"): v for k, v in r["scores"].items() if k.startswith("floor/")}
            floors[CELLS[r["cell"]].modality].update(of)
    return floors


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
    """Families by kinds of data: the headline scores with the minutes of training."""
    rows: dict[str, dict[str, str]] = {}
    floors = _floors(results)
    for r in results:
        cell = CELLS.get(r["cell"])
        # A result under another name has other settings than the cell.
        if cell is not None and r["name"] == cell.name and cell.shipped and cell.data not in ASIDE:
            floor = floors[cell.modality].get("frechet")
            rows.setdefault(_row(cell), {})[cell.modality] = _headline(cell, r, floor)
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


def _headline(cell: Cell, r: dict[str, Any], floor: float | None) -> str:
    scores, minutes = r["scores"], r["training"]["seconds"] / 60
    parts = []
    for key in HEADLINE[cell.modality][1]:
        value = scores.get(key)
        if value is None:
            parts.append("-")
        elif key == "frechet" and floor is not None:
            parts.append(f"{value / floor:.1f} x")
        else:
            parts.append(f"{value:.2f}" if key == "fcd" else f"{100 * value:.1f}")
    few = "" if r["n"] == cell.n else f", n {r['n']:,}"
    return f"{', '.join(parts)} ({minutes:.0f} min{few}{_kept(cell)})"


def likelihoods(results: list[dict[str, Any]]) -> str:
    """Likelihoods of test records, one line each."""
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
    """How well samples satisfy their conditions, one line each."""
    lines = []
    for r in results:
        figures = ", ".join(f"{key} {value:.3g}" for key, value in r["scores"].items())
        drawn = f"n {r['n']}, seed {r['seed']}, guidance {r['guidance']:g}"
        lines.append(f"- `{r['cell']}` with the condition {r['condition']}: {figures} ({drawn})")
    return "\n\nConditions (`python -m benchmarks conditions CELL`):\n\n" + "\n".join(lines) if lines else ""


PAGES = {ROOT / "README.md": summary, ROOT / "docs" / "pages" / "families.md": short}
"""The pages that show a table between the two markers, and what makes it."""
