"""CIF files: a block for each crystal, in order, written in P1; whatever symmetry is read is spelt out."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import gemmi

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.files import atomic, read_bytes
from molgen_crystal.crystal import Crystal

_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
_ATOM = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")


def read_cif(path: Path, on_error: Callable[[DataError], None]) -> Records:
    """The crystals of a file, all atoms of the cell spelt out."""
    try:
        document = gemmi.cif.read_string(read_bytes(path).decode("utf-8"))
    except (ValueError, RuntimeError) as error:
        raise DataError(f"not a CIF ({error})", file=path, fix="give a crystallographic CIF") from None
    found = []
    for number, block in enumerate(document, 1):
        small = gemmi.make_small_structure_from_block(block)
        sites = small.get_all_unit_cell_sites()
        if not sites or not small.cell.is_crystal():
            why = "no atoms with fractional coordinates" if small.cell.is_crystal() else "no cell"
            on_error(DataError(why, file=path, record=number, fix="remove the block"))
            continue
        found.append(
            Crystal(
                small.cell.parameters[:3],
                small.cell.parameters[3:],
                tuple(site.element.name for site in sites),
                tuple((site.fract.x % 1, site.fract.y % 1, site.fract.z % 1) for site in sites),
            )
        )
    return Records(found, name=path.name)


def write_cif(path: Path, records: Sequence[Crystal]) -> None:
    """A block for each crystal, impossible ones included."""
    document = gemmi.cif.Document()
    for number, crystal in enumerate(records, 1):
        block = document.add_new_block(f"crystal_{number}")
        for key, value in zip(_CELL, (*crystal.lengths, *crystal.angles), strict=True):
            block.set_pair(f"_cell_{key}", f"{value:.6f}")
        block.set_pair("_symmetry_space_group_name_H-M", "'P 1'")
        loop = block.init_loop("_atom_site_", list(_ATOM))
        for i, (element, place) in enumerate(zip(crystal.species, crystal.places, strict=True), 1):
            loop.add_row([f"{element}{i}", element, *(f"{x:.6f}" for x in place)])
    data = document.as_string().encode()
    if path.suffix.lower() == ".gz":
        data = gzip.compress(data, mtime=0)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
