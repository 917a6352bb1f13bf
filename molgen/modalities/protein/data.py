"""The data sets: `pdb_chains` and the embedded `ideal`."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.data import DataSource, data_folder
from molgen.modalities.protein.backbone import LETTERS, Backbone
from molgen.modalities.protein.bank import fetch
from molgen.modalities.protein.ideal import traces
from molgen.modalities.protein.rebuild import rebuild
from molgen.modalities.protein.secondary import contents

FILE = "pdb_chains/pdb_chains.npz"
_SPLITS = {"train": b"train", "valid": b"val", "test": b"test"}


def load_chains(split: str, lengths: tuple[int, int] = (40, 256), folder: Path | None = None) -> Records:
    """Chains of a split of `pdb_chains` with a length in an inclusive range; downloaded if not there yet.

    Arguments:
        split: ``"train"``, ``"valid"`` or ``"test"``.
        lengths: shortest and longest chain, in residues.
        folder: the data folder; None for the user's.
    """
    if split not in _SPLITS:
        raise DataError(f"no split {split!r}", file=FILE, fix=f"choose among {', '.join(_SPLITS)}")
    path = (data_folder() if folder is None else folder) / FILE
    if not path.is_file():
        fetch(path)
    table = _arrays(path, path.stat().st_mtime_ns)
    size = np.diff(table["offsets"])
    picks = np.flatnonzero((table["split"] == _SPLITS[split]) & (size >= lengths[0]) & (size <= lengths[1]))
    letters = np.array(list(LETTERS))
    items = []
    for i in picks:
        rows = slice(table["offsets"][i], table["offsets"][i + 1])
        items.append(
            Backbone(
                table["id"][i].decode(),
                table["coords"][rows],
                "".join(letters[table["aatype"][rows]]),
                table["chain"][i].decode(),
            )
        )
    labels = {
        "length": size[picks].astype(np.float32),
        "helix": table["helix"][picks],
        "strand": table["strand"][picks],
    }
    return Records(items, labels, "pdb_chains")


@functools.lru_cache(1)
def _arrays(path: Path, stamp: int) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def load_ideal(split: str) -> Records:
    """Bundles and sheets made by formula; every tenth is for validation and every tenth for testing."""
    if split not in _SPLITS:
        raise DataError(f"no split {split!r}", file="ideal", fix=f"choose among {', '.join(_SPLITS)}")
    part = {"valid": (8,), "test": (9,)}.get(split, tuple(range(8)))
    chosen = [(i, trace) for i, trace in enumerate(traces()) if i % 10 in part]
    coords = [atoms for atoms, _ in rebuild([trace for _, trace in chosen])]
    items = [Backbone(f"ideal_{i}", x.astype(np.float32)) for (i, _), x in zip(chosen, coords, strict=True)]
    share = [contents(x) for x in coords]
    labels = {name: np.array([s[name] for s in share], np.float32) for name in ("helix", "strand")}
    return Records(items, {"length": np.array([float(len(x)) for x in coords], np.float32)} | labels, "ideal")


def sources() -> dict[str, DataSource]:
    """The data sets by name; `pdb_chains_128` is the part of `pdb_chains` with at most 128 residues."""
    bank = "Protein Data Bank, https://www.rcsb.org"
    short = functools.partial(load_chains, lengths=(40, 128))
    return {
        "pdb_chains": DataSource("pdb_chains", load_chains, 5339, bank, "CC0", (FILE,)),
        "pdb_chains_128": DataSource("pdb_chains_128", short, 3328, bank, "CC0", (FILE,)),
        "ideal": DataSource("ideal", load_ideal, 240, "made by formula", "CC0"),
    }
