"""`python -m molgen.modalities.protein.tables`: makes the shipped tables from `pdb_chains`."""

from __future__ import annotations

from molgen.io.data import data_folder
from molgen.io.files import load_arrays, save_arrays
from molgen.modalities.protein import bank, rebuild
from molgen.modalities.protein.backbone import coordinates
from molgen.modalities.protein.data import FILE, load_chains


def main() -> None:
    """Writes the table of peptide planes and the table of chains to fetch."""
    train = load_chains("train")
    save_arrays(rebuild.TABLE, rebuild.build_table(coordinates(chain) for chain in train))
    save_arrays(bank.TABLE, bank.build_table(load_arrays(data_folder() / FILE)))
    for path in (rebuild.TABLE, bank.TABLE):
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
