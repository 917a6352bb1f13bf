"""Molecules in 3D, with explicit hydrogens, charges and bonds."""

from molgen.modalities.molecule.modality import MoleculeModality

__all__ = ["MoleculeModality"]
