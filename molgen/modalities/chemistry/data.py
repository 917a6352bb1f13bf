"""The molecular data sets as 2D records: QM9, ZINC250k, and the embedded GDB-like enumeration."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, final, overload

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Mol

from molgen.core.data import DataSource, Records
from molgen.core.errors import ConfigError
from molgen.modalities.chemistry.parse import canonical
from molgen.modalities.chemistry.properties import LABELS

Form = Literal["smiles", "graph"]
SPLITS = ("train", "valid", "test")


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
    """The data sets with records of a form: canonical SMILES, or molecules."""

    def source(name: str, load: Callable[[str], Records], **about: Any) -> DataSource:
        return DataSource(name, lambda split: in_form(load(_checked(split)), form), **about)

    return {
        "qm9": source(
            "qm9",
            qm9,
            records=130_831,
            source="Ramakrishnan et al. 2014, https://ndownloader.figshare.com/files/3195389",
            licence="CC0",
            files=("qm9/qm9.npz",),
        ),
    }


def in_form(records: Records, form: Form) -> Records:
    """Records of SMILES as strings or as molecules."""
    return records if form == "smiles" else Records(Molecules(records.items), records.labels, records.name)


@lru_cache(maxsize=3)
def qm9(split: str) -> Records:
    """The characterised molecules of QM9 as canonical SMILES, with its labels; NaN where a molecule has none.

    Arguments:
        split: ``"train"`` (100,000), ``"valid"`` (17,748) or ``"test"`` (13,083), the split of Cormorant and EDM.
    """
    with np.load(_file("qm9/qm9.npz"), allow_pickle=False) as file:
        rows = np.flatnonzero(file["split"] == SPLITS.index(split) + 1)
        smiles = [canonical(s.decode()) for s in file["smiles"][rows]]
        labels = {name: file[name][rows] for name in LABELS}
    return Records(smiles, labels, f"qm9/{split}")


def _file(name: str) -> Path:
    from molgen.core.data import data_folder

    return data_folder() / name


def _checked(split: str) -> str:
    if split not in SPLITS:
        raise ConfigError.unknown("split", split, SPLITS)
    return split
