"""Backbones to PDB and mmCIF text, with secondary structure and remarks on what was generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from Bio.PDB.Structure import Structure

from molgen.modalities.protein.backbone import (
    ATOMS,
    TO_NAME,
    Backbone,
    Number,
    coordinates,
    residues,
)
from molgen.modalities.protein.backbone import sequence as sequence_of
from molgen.modalities.protein.reading import MARK
from molgen.modalities.protein.secondary import HELIX, STRAND, assign, segments, sheets

CHAINS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

NAMELESS = "RESIDUES ARE NAMED GLY: NO SEQUENCE WAS GENERATED"
BFACTOR = (
    "B-FACTOR: MEAN DISTANCE (ANGSTROM) FROM THE LOCAL CA GEOMETRY TO THE EIGHT REAL",
    "ONES FROM WHICH N, C AND O WERE REBUILT; REAL CHAINS HAVE 0.5, UNREAL ONES OVER 1",
)
SECONDARY = "SECONDARY STRUCTURE FROM BACKBONE HYDROGEN BONDS (KABSCH AND SANDER, PYDSSP)"


@final
@dataclass(frozen=True)
class Chain:
    """What is written of one structure."""

    chain: str
    coords: np.ndarray
    names: list[str]
    numbers: list[Number]
    bfactor: np.ndarray
    drawn: bool
    nameless: bool

    @classmethod
    def of(cls, structure: Structure) -> Chain:
        """Reads a structure; `DataError` if it lacks a backbone atom."""
        coords, letters = coordinates(structure), sequence_of(structure)
        if isinstance(structure, Backbone) and structure.untouched:
            _, _, numbers, bfactor = structure.arrays
            chain = structure.chain
        else:
            rows = residues(structure)
            numbers = [(int(r.id[1]), str(r.id[2])) for r in rows]
            bfactor = np.array([r["CA"].bfactor for r in rows])
            chain = str(rows[0].parent.id) if rows else "A"
        if letters is None:
            names = ["GLY"] * len(coords)
        else:
            names = [TO_NAME.get(letter, "UNK") for letter in letters]
        drawn = bool(getattr(structure, "drawn", False))
        return cls(chain.strip() or "A", coords, names, numbers, bfactor, drawn, letters is None)

    def remarks(self) -> list[str]:
        """What the header has to say."""
        drawn = [f"{MARK}: GEOMETRY AS DRAWN, NOTHING REPAIRED", *BFACTOR] if self.drawn else []
        return drawn + ([NAMELESS] if self.nameless else [])

    def classes(self) -> np.ndarray:
        """Secondary structure per residue."""
        if len(self.coords) == 0 or not np.isfinite(self.coords).all():
            return np.zeros(len(self.coords), np.int64)
        return assign(self.coords)


def pdb_text(structures: Sequence[Structure]) -> str:
    """A PDB file with one MODEL per structure, in order.

    HELIX and SHEET name a chain but no model, so chains of several models get names of their own
    (A, B, ..., 62 of them); with more models than names both records are left out.
    """
    chains = [Chain.of(structure) for structure in structures]
    names = _chain_names([c.chain[:1] for c in chains])
    many = names is None
    names = [c.chain[:1] for c in chains] if names is None else names
    lines = [f"REMARK   6 {text}" for text in _header(chains)]
    if many:
        lines.append("REMARK   6 NO HELIX AND SHEET RECORDS: THERE ARE MORE MODELS THAN CHAIN NAMES")
    else:
        lines.append(f"REMARK   6 {SECONDARY}")
        parts = [(c, name, c.classes()) for c, name in zip(chains, names, strict=True)]
        lines += _helices(parts) + _strands(parts)
    for model, (chain, name) in enumerate(zip(chains, names, strict=True), 1):
        lines.append(f"MODEL     {model:>4}")
        lines += _pdb_atoms(chain, name)
        lines.append("ENDMDL")
    return "\n".join([*lines, "END   ", ""])


def _header(chains: Sequence[Chain]) -> list[str]:
    return list(dict.fromkeys(text for chain in chains for text in chain.remarks()))


def _chain_names(names: list[str]) -> list[str] | None:
    """Distinct names, the given ones where they are; None if there are not enough."""
    if len(set(names)) == len(names):
        return names
    return list(CHAINS[: len(names)]) if len(names) <= len(CHAINS) else None


def _pdb_atoms(chain: Chain, name: str) -> list[str]:
    lines, serial = [], 0
    for row, residue, (number, code), b in zip(
        chain.coords.tolist(), chain.names, chain.numbers, chain.bfactor.tolist(), strict=True
    ):
        for atom, xyz in zip(ATOMS, row, strict=True):
            serial += 1
            place = "".join(_column(x, 3, 8) for x in xyz)
            lines.append(
                f"ATOM  {serial % 100000:>5}  {atom:<3} {residue:>3} {name}{number:>4}{code}   "
                f"{place}  1.00{_column(b, 2, 6)}          {atom[0]:>2}"
            )
    if lines:
        number, code = chain.numbers[-1]
        lines.append(f"TER   {(serial + 1) % 100000:>5}      {chain.names[-1]:>3} {name}{number:>4}{code}")
    return lines


def _column(value: float, digits: int, width: int) -> str:
    """A number in its column, with fewer digits where it would not fit."""
    while digits >= 0:
        text = f"{value:>{width}.{digits}f}"
        if len(text) <= width:
            return text
        digits -= 1
    return f"{np.nan:>{width}}"  # no place for it


Parts = Sequence[tuple[Chain, str, np.ndarray]]


def _helices(parts: Parts) -> list[str]:
    lines: list[str] = []
    for chain, name, classes in parts:
        for kind, first, last in segments(classes):
            if kind == HELIX:
                k = (len(lines) + 1) % 1000
                a, b = (_end(chain, name, i, " ") for i in (first, last))
                lines.append(f"HELIX  {k:>3} {k:>3} {a} {b} 1{'':30} {last - first + 1:>5}")
    return lines


def _strands(parts: Parts) -> list[str]:
    lines, sheet = [], 0
    for chain, name, classes in parts:
        runs = [(first, last) for kind, first, last in segments(classes) if kind == STRAND]
        for group in sheets(chain.coords[:, 1], runs):
            sheet += 1
            for k, (first, last, sense) in enumerate(group, 1):
                a, b = (_end(chain, name, i, "") for i in (first, last))
                lines.append(f"SHEET  {k % 1000:>3} {sheet % 1000:>3}{len(group) % 100:>2} {a} {b}{sense:>2}")
    return lines


def _end(chain: Chain, name: str, i: int, gap: str) -> str:
    number, code = chain.numbers[i]
    return f"{chain.names[i]:>3} {name}{gap}{number:>4}{code}"


def cif_text(structures: Sequence[Structure], name: str = "molgen") -> str:
    """An mmCIF file with one model per structure, in order; every model has a `label_asym_id` of its own.

    Helices are in `struct_conf`, strands in `struct_sheet_range`, remarks in `pdbx_database_remark`.
    """
    chains = [Chain.of(structure) for structure in structures]
    block = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name) or "molgen"
    lines = [f"data_{block}", f"_entry.id {block}"]
    remarks = [*_header(chains), SECONDARY]
    lines += _loop(
        "pdbx_database_remark", ("id", "text"), [(str(6 + i), f"'{t}'") for i, t in enumerate(remarks)]
    )
    lines += _loop("entity", ("id", "type"), [("1", "polymer")])
    lines += _loop("entity_poly", ("entity_id", "type"), [("1", "'polypeptide(L)'")])
    own = [_letters(i) for i in range(len(chains))]
    lines += _loop("struct_asym", ("id", "entity_id"), [(label, "1") for label in own])
    helices: list[tuple[str, ...]] = []
    strands: list[tuple[str, ...]] = []
    sheet = 0
    for chain, label in zip(chains, own, strict=True):
        runs = segments(chain.classes())
        for kind, first, last in runs:
            if kind == HELIX:
                row = ("HELX_P", f"HELX_P{len(helices) + 1}", "1", str(last - first + 1))
                helices.append(row + _cif_end(chain, label, first) + _cif_end(chain, label, last))
        for group in sheets(chain.coords[:, 1], [run[1:] for run in runs if run[0] == STRAND]):
            sheet += 1
            for k, (first, last, _) in enumerate(group, 1):
                ends = _cif_end(chain, label, first) + _cif_end(chain, label, last)
                strands.append((str(sheet), str(k), *ends))
    ends = tuple(f"{side}_{tag}" for side in ("beg", "end") for tag in _END)
    lines += _loop(
        "struct_conf", ("conf_type_id", "id", "pdbx_PDB_helix_class", "pdbx_PDB_helix_length", *ends), helices
    )
    if helices:
        lines += _loop("struct_conf_type", ("id",), [("HELX_P",)])
    lines += _loop("struct_sheet", ("id",), [(str(i + 1),) for i in range(sheet)])
    lines += _loop("struct_sheet_range", ("sheet_id", "id", *ends), strands)
    rows: list[tuple[str, ...]] = []
    for model, (chain, label) in enumerate(zip(chains, own, strict=True), 1):
        rows += _cif_atoms(chain, label, model, len(rows))
    return "\n".join([*lines, *_loop("atom_site", _SITE, rows), ""])


_END = (
    "label_comp_id",
    "label_asym_id",
    "label_seq_id",
    "auth_comp_id",
    "auth_asym_id",
    "auth_seq_id",
    "ins_code",
)
_SITE = (
    "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
    "label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy",
    "B_iso_or_equiv", "auth_seq_id", "auth_comp_id", "auth_asym_id", "auth_atom_id", "pdbx_PDB_model_num",
)  # fmt: skip


def _cif_end(chain: Chain, label: str, i: int) -> tuple[str, ...]:
    number, code = chain.numbers[i]
    residue = chain.names[i]
    return (residue, label, str(i + 1), residue, chain.chain, str(number), code.strip() or "?")


def _cif_atoms(chain: Chain, label: str, model: int, done: int) -> list[tuple[str, ...]]:
    rows = []
    for i, row in enumerate(chain.coords.tolist()):
        number, code = chain.numbers[i]
        residue, b = chain.names[i], f"{chain.bfactor[i]:.2f}"
        for atom, xyz in zip(ATOMS, row, strict=True):
            done += 1
            place = tuple(f"{x:.3f}" for x in xyz)
            rows.append(
                ("ATOM", str(done), atom[0], atom, ".", residue, label, "1", str(i + 1), code.strip() or "?")
                + place
                + ("1.00", b, str(number), residue, chain.chain, atom, str(model))
            )
    return rows


def _loop(category: str, tags: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """One category as a loop; nothing where it has no rows."""
    if not rows:
        return []
    return ["#", "loop_", *(f"_{category}.{tag}" for tag in tags), *(" ".join(row) for row in rows)]


def _letters(i: int) -> str:
    """A, B, ..., Z, AA, AB, ...: a name for every model's chain."""
    text = ""
    i += 1
    while i:
        i, digit = divmod(i - 1, 26)
        text = chr(ord("A") + digit) + text
    return text
