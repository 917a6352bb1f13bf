"""The files of the SMILES modality."""

from __future__ import annotations

from molgen.core.modality import Format
from molgen.modalities.chemistry.formats import LINES, TABLES, read_strings, write_lines, write_table

FORMATS = (Format(LINES, read_strings, write_lines), Format(TABLES, read_strings, write_table))
