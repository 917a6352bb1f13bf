"""The molecular data sets as 2D records: QM9, ZINC250k, and the embedded enumeration `gdb6`.

Records are RDKit's canonical SMILES without stereochemistry and explicit hydrogens, or the molecules of
these.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, final, overload

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Mol

from molgen.core.errors import ConfigError, DataError
from molgen.core.records import Records
from molgen.io.data import DataSource, find_or_download
from molgen.io.files import atomic, load_arrays, read_bytes, read_lines
from molgen.modalities.chemistry.enumerate import enumerate_molecules
from molgen.modalities.chemistry.parse import canonical
from molgen.modalities.chemistry.properties import LABELS
from molgen.modalities.chemistry.qm9 import FILE, find

Form = Literal["smiles", "graph"]
SPLITS = ("train", "valid", "test")
GDB6 = Path(__file__).parent / "assets" / "gdb6.smi.gz"
_ZINC, _ZINC_SPLITS = "zinc250k/zinc250k.smi.gz", "zinc250k/splits.json.gz"


@final
class Molecules(Sequence[Mol]):
    """Molecules kept as SMILES and parsed when asked for, since strings take a hundredth of the memory.

    Example:
        >>> Molecules(["CC", "O"])[0].GetNumAtoms()
        2
    """

    def __init__(self, smiles: Sequence[str]) -> None:
        self.smiles = list(smiles)

    def __len__(self) -> int:
        return len(self.smiles)

    @overload
    def __getitem__(self, index: int) -> Mol: ...
    @overload
    def __getitem__(self, index: slice) -> Molecules: ...
    def __getitem__(self, index: int | slice) -> Mol | Molecules:
        if isinstance(index, slice):
            return Molecules(self.smiles[index])
        with rdBase.BlockLogs():
            return Chem.MolFromSmiles(self.smiles[index])


def datasets(form: Form) -> Mapping[str, DataSource]:
    """The data sets with records of a form: canonical SMILES, or molecules.

    Example:
        >>> len(datasets("smiles")["gdb6"].load("test"))
        385
    """

    def source(name: str, load: Callable[[str], Records], **about: Any) -> DataSource:
        return DataSource(name, lambda split: in_form(load(_checked(split)), form), **about)

    return {
        "qm9": source(
            "qm9",
            qm9,
            records=130_831,
            source="Ramakrishnan et al. 2014, https://ndownloader.figshare.com/files/3195389",
            licence="CC0",
            files=(FILE,),
        ),
        "zinc250k": source(
            "zinc250k",
            zinc250k,
            records=249_455,
            source="ZINC (Irwin et al. 2012), as chosen by Gomez-Bombarelli et al. 2018",
            licence="free to use, not to redistribute in bulk",
            files=(_ZINC, _ZINC_SPLITS),
        ),
        "gdb6": source(
            "gdb6",
            gdb6,
            records=3_491,
            source="enumerated with RDKit, ships with molgen",
            licence="CC0",
        ),
    }


def in_form(records: Records, form: Form) -> Records:
    """Records of SMILES as strings or as molecules."""
    return records if form == "smiles" else Records(Molecules(records.items), records.labels, records.name)


@lru_cache(maxsize=3)
def qm9(split: str) -> Records:
    """The characterised molecules of QM9 as canonical SMILES, with its labels; NaN where a molecule has none.

    Arguments:
        split: ``"train"`` (100,000), ``"valid"`` (17,748) or ``"test"`` (13,083), the split of Cormorant
        and EDM.
    """
    path = find()
    arrays = load_arrays(path)
    try:
        rows = np.flatnonzero(arrays["split"] == SPLITS.index(split) + 1)
        smiles = [canonical(s.decode()) for s in arrays["smiles"][rows]]
        labels = {name: arrays[name][rows] for name in LABELS}
    except KeyError as missing:
        raise DataError(f"no array {missing}", file=path, fix="convert the official files again") from None
    return Records(smiles, labels, f"qm9/{split}")


@lru_cache(maxsize=3)
def zinc250k(split: str) -> Records:
    """ZINC250k as canonical SMILES without stereochemistry.

    The test part is the one of MoFlow and GDSS (24,887); the validation part is JT-VAE's without molecules
    of the former (21,986); the others are for training (202,582). A user brings the files, there is no
    official address.

    Arguments:
        split: ``"train"``, ``"valid"`` or ``"test"``.
    """
    strings = [line.split()[0] for _, line in read_lines(find_or_download(_ZINC, [])) if line.strip()]
    parts = json.loads(read_bytes(find_or_download(_ZINC_SPLITS, [])))
    code = np.zeros(len(strings), np.uint8)
    code[np.array(parts["jtnn_valid_idx"])] = 1
    code[np.array(parts["moflow_gdss_test_idx"])] = 2
    smiles = [canonical(strings[i]) for i in np.flatnonzero(code == SPLITS.index(split))]
    return Records(smiles, name=f"zinc250k/{split}")


@lru_cache(maxsize=3)
def gdb6(split: str) -> Records:
    """The embedded molecules of up to six heavy atoms of C, N, O, F; see `enumerate`.

    A checksum of the string chooses the part: a tenth each for validation and testing.

    Arguments:
        split: ``"train"``, ``"valid"`` or ``"test"``.
    """
    part = {0: "valid", 1: "test"}
    smiles = [s for _, s in read_lines(GDB6) if part.get(zlib.crc32(s.encode()) % 10, "train") == split]
    return Records(smiles, name=f"gdb6/{split}")


def write_gdb6(path: Path = GDB6) -> None:
    """Enumerates the embedded data set again and writes it; the same bytes every time."""
    text = "".join(f"{s}\n" for s in enumerate_molecules())
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _checked(split: str) -> str:
    if split not in SPLITS:
        raise ConfigError.unknown("split", split, SPLITS)
    return split
