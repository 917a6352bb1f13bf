"""Molecules as strings."""

from molgen.modalities.smiles.modality import SmilesModality

__all__ = ["SmilesModality"]
