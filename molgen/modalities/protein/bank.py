"""Makes `pdb_chains` on a user's machine: mmCIF files from the PDB, cut to the chains of a shipped table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from molgen.core.errors import DataError
from molgen.io.console import bar, warn
from molgen.io.data import download
from molgen.io.files import load_arrays, read_bytes, save_arrays
from molgen.modalities.protein.backbone import LETTERS, coordinates, sequence
from molgen.modalities.protein.reading import backbone, parse_cif, pieces
from molgen.modalities.protein.secondary import contents

TABLE = Path(__file__).parent / "assets" / "pdb_chains_table.npz"
ADDRESS = "https://files.rcsb.org/download/"
TOLERATED = 0.05
"""Share of chains that may fail: entries of the PDB are revised and withdrawn."""

_KEPT = ("id", "pdb", "chain", "sequence", "method", "split", "resolution", "whole", "cluster")


def build_table(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The table that ships, from the arrays of `pdb_chains.npz`: everything but what coordinates tell.

    Chains that are not in the PDB under a four-letter code are left out.
    """
    keep = np.char.str_len(arrays["pdb"]) == 4
    return {name: arrays[name][keep] for name in _KEPT}


def fetch(path: Path, address: str = ADDRESS, table: Path = TABLE, workers: int = 4) -> Path:
    """Downloads and converts all chains; goes on where an earlier call broke off.

    Arguments:
        path: `pdb_chains.npz`, which shall exist afterwards.
        address: where `<code>.cif.gz` lie.
        table: ids, chains, sequences and splits.
        workers: files fetched at the same time.

    Errors: `DataError` if the server cannot be reached or too many chains are missing.
    """
    rows = load_arrays(table)
    parts = path.parent / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    count = len(rows["id"])
    warn(f"fetching {count} mmCIF files from {address} to {path.parent}; this can be broken off and resumed")

    def one(i: int) -> DataError | None:
        target = parts / f"{rows['id'][i].decode()}.npy"
        if target.is_file():
            return None
        try:
            found = _one(
                rows["pdb"][i].decode(),
                rows["chain"][i].decode(),
                rows["sequence"][i].decode(),
                target.with_suffix(".cif.gz"),  # one for each chain: some entries are fetched twice
                address,
            )
        except DataError as error:
            return error
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.save(file, found)
        os.replace(temporary, target)
        return None

    failures: list[DataError] = []
    with bar(count, "PDB chains") as advance, ThreadPoolExecutor(workers) as pool:
        for error in pool.map(one, range(count)):
            advance(1)
            if error is not None:
                failures.append(error)
                unreachable = "cannot be downloaded" in error.problem and "HTTP 4" not in error.problem
                if unreachable or len(failures) > TOLERATED * count:
                    pool.shutdown(cancel_futures=True)
                    raise error
    if failures:
        warn(f"{path.name}: {len(failures)} of {count} chains are missing; the first: {failures[0]}")
    save_arrays(path, assemble(rows, parts))
    return path


def _one(code: str, chain: str, letters: str, file: Path, address: str) -> np.ndarray:
    download(f"{address}{code}.cif.gz", file, progress=False)
    try:
        return extract(read_bytes(file).decode("utf-8", "replace"), chain, letters)
    except DataError as error:
        raise error.at(file=file, record=f"chain {chain}") from None
    finally:
        file.unlink(missing_ok=True)


def extract(text: str, chain: str, letters: str) -> np.ndarray:
    """The residues of an mmCIF file that have this sequence, `(N, 4, 3)` in Angstrom.

    Arguments:
        text: of the file.
        chain: where to look first; other chains of the first model are copies that do as well.
        letters: the one-letter sequence of an unbroken piece.

    Errors: `DataError` if no unbroken piece of a chain has that sequence.
    """
    content = parse_cif(text)
    first = min((model for model, _ in content.chains), default=1)
    names = [name for model, name in content.chains if model == first]
    for name in sorted(names, key=lambda name: name != chain):
        for run, _ in pieces(content.chains[first, name]):
            if len(run) >= len(letters):
                found = backbone(run, "", name)
                start = (sequence(found) or "").find(letters)
                if start >= 0:
                    return coordinates(found)[start : start + len(letters)]
    raise DataError(
        f"no unbroken piece with the {len(letters)} residues of the table", fix="it may be revised"
    )


def assemble(rows: Mapping[str, np.ndarray], parts: Path) -> dict[str, np.ndarray]:
    """The arrays of `pdb_chains.npz` from a table and a file of coordinates per chain."""
    ids = [i for i in range(len(rows["id"])) if (parts / f"{rows['id'][i].decode()}.npy").is_file()]
    chains: list[np.ndarray] = []
    for i in ids:
        x = np.load(parts / f"{rows['id'][i].decode()}.npy", allow_pickle=False).astype(np.float32)
        chains.append(x - x[:, 1].mean(0))
    share = [contents(x) for x in chains]
    made: dict[str, Any] = {
        "coords": np.concatenate(chains),
        "aatype": np.concatenate([_types(rows["sequence"][i]) for i in ids]),
        "offsets": np.cumsum([0, *map(len, chains)]).astype(np.int64),
        "helix": np.array([s["helix"] for s in share], np.float32),
        "strand": np.array([s["strand"] for s in share], np.float32),
        "rg": np.array([np.sqrt((x[:, 1] ** 2).sum(1).mean()) for x in chains], np.float32),
    }
    return {name: rows[name][ids] for name in _KEPT} | made


def _types(letters: bytes) -> np.ndarray:
    return np.array([LETTERS.index(letter) for letter in letters.decode()], np.uint8)
