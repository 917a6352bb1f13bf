"""Protein backbones: one chain, atoms N, CA, C and O."""

from molgen.modalities.protein.modality import ProteinModality

__all__ = ["ProteinModality"]
