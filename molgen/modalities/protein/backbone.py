"""`Backbone`: a Bio.PDB structure of one chain that stays four arrays until somebody looks inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from Bio.PDB.Atom import Atom
from Bio.PDB.Chain import Chain
from Bio.PDB.Model import Model
from Bio.PDB.Residue import Residue
from Bio.PDB.Structure import Structure

from molgen.core.errors import DataError

ATOMS = ("N", "CA", "C", "O")
LETTERS = "ACDEFGHIKLMNPQRSTVWY"
NAMES = ("ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER THR VAL TRP TYR").split()
TO_NAME = dict(zip(LETTERS, NAMES, strict=True))
TO_LETTER = {name: letter for letter, name in TO_NAME.items()}

# Bio.PDB has types for a few of its functions only.
_MODEL: Any = Model
_CHAIN: Any = Chain
_RESIDUE: Any = Residue

Number = tuple[int, str]
"""A residue's number in its file: `(sequence number, insertion code or " ")`."""


@final
class Backbone(Structure):
    """A `Bio.PDB.Structure.Structure` with one model, one chain and the atoms N, CA, C and O.

    Thousands of chains are thousands of small arrays; models, residues and atoms are made when they
    are first asked for, and then they are the truth.

    Arguments:
        id: the structure's name.
        coords: `(N, 4, 3)` in Angstrom, atoms N, CA, C, O.
        sequence: one-letter codes; None if the residues are not known (they are named GLY).
        chain: the chain's name.
        numbers: the residues' original numbers; None for 1, 2, ...
        bfactor: `(N,)`, written to the B-factor column.
        drawn: whether a model drew it.

    Example:
        >>> chain = Backbone("demo", np.zeros((2, 4, 3)), "AG")
        >>> [residue.get_resname() for residue in chain.get_residues()]
        ['ALA', 'GLY']
    """

    def __init__(
        self,
        id: str,
        coords: np.ndarray,
        sequence: str | None = None,
        chain: str = "A",
        numbers: Sequence[Number] | None = None,
        bfactor: np.ndarray | None = None,
        drawn: bool = False,
    ) -> None:
        self._built: tuple[list[Any], dict[Any, Any]] | None = None
        self._coords, self.sequence, self.chain = coords, sequence, chain
        self._numbers, self._bfactor, self.drawn = numbers, bfactor, drawn
        start: Any = super().__init__
        start(id)
        self._built = None

    @property
    def child_list(self) -> list[Any]:
        return self._build()[0]

    @child_list.setter
    def child_list(self, value: list[Any]) -> None:
        self._built = (value, {} if self._built is None else self._built[1])

    @property
    def child_dict(self) -> dict[Any, Any]:
        return self._build()[1]

    @child_dict.setter
    def child_dict(self, value: dict[Any, Any]) -> None:
        self._built = ([] if self._built is None else self._built[0], value)

    @property
    def arrays(self) -> tuple[np.ndarray, str | None, list[Number], np.ndarray]:
        """Coordinates `(N, 4, 3)`, sequence, numbers and B-factors, if nobody has looked inside yet."""
        n = len(self._coords)
        numbers = [(i + 1, " ") for i in range(n)] if self._numbers is None else list(self._numbers)
        return self._coords, self.sequence, numbers, np.zeros(n) if self._bfactor is None else self._bfactor

    @property
    def untouched(self) -> bool:
        """Whether the arrays are still the truth."""
        return self._built is None

    def _build(self) -> tuple[list[Any], dict[Any, Any]]:
        if self._built is None:
            coords, sequence, numbers, bfactor = self.arrays
            model: Any = _MODEL(0)
            chain: Any = _CHAIN(self.chain)
            self._built = ([model], {0: model})
            model.set_parent(self)
            model.add(chain)
            serial = 0
            for i, (number, code) in enumerate(numbers):
                name = "GLY" if sequence is None else TO_NAME.get(sequence[i], "UNK")
                residue: Any = _RESIDUE((" ", number, code), name, " ")
                for atom, xyz in zip(ATOMS, coords[i], strict=True):
                    serial += 1
                    full = f" {atom:<3}"
                    residue.add(Atom(atom, xyz, float(bfactor[i]), 1.0, " ", full, serial, element=atom[0]))
                chain.add(residue)
        return self._built


def coordinates(structure: Structure) -> np.ndarray:
    """N, CA, C and O of every residue, `(N, 4, 3)` in Angstrom; `DataError` where one is missing.

    Example:
        >>> coordinates(Backbone("demo", np.ones((2, 4, 3)))).shape
        (2, 4, 3)
    """
    if isinstance(structure, Backbone) and structure.untouched:
        return structure.arrays[0]
    rows = []
    for residue in residues(structure):
        try:
            rows.append([residue[name].coord for name in ATOMS])
        except KeyError as missing:
            raise DataError(
                f"residue {label(residue)} has no atom {missing}",
                fix="give a complete backbone, or cut the residue off",
            ) from None
    return np.array(rows, np.float32).reshape(-1, 4, 3)


def trace(structure: Structure) -> np.ndarray:
    """The CA atoms, `(N, 3)` in Angstrom."""
    return coordinates(structure)[:, 1]


def residues(structure: Structure) -> list[Any]:
    """The residues of the only chain of the first model; `DataError` if there is not exactly one chain."""
    if not isinstance(structure, Structure):
        raise DataError(
            f"a record of type {type(structure).__name__}, expected Bio.PDB.Structure.Structure",
            fix="read it with Bio.PDB.PDBParser, or give a file",
        )
    model = next(iter(structure), None)
    chains = [] if model is None else list(model)
    if len(chains) != 1:
        raise DataError(
            f"a structure with {len(chains)} chains where one was expected",
            fix="choose one, e.g. file.cif:A",
        )
    return list(chains[0])


def sequence(structure: Structure) -> str | None:
    """One-letter codes, X for a residue that is none of the twenty; None where they were never known."""
    if isinstance(structure, Backbone):
        if structure.sequence is None or structure.untouched:
            return structure.sequence
    return "".join(TO_LETTER.get(residue.get_resname(), "X") for residue in residues(structure))


def label(residue: Any) -> str:
    """A residue's name and number as in its file, e.g. ``GLY 52A``."""
    _, number, code = residue.id
    return f"{residue.get_resname()} {number}{code.strip()}"
