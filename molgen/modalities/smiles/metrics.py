"""The scores of strings are those of molecules."""

from molgen.modalities.chemistry.metrics import build_reference, evaluate

__all__ = ["build_reference", "evaluate"]
