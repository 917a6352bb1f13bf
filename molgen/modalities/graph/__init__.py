"""Molecules as graphs of heavy atoms and bonds."""

from molgen.modalities.graph.modality import GraphModality

__all__ = ["GraphModality"]
