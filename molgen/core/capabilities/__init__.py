"""Capabilities: what families ask of fields, one file each, with all kinds of fields in it.

A family names the capabilities that it needs and is refused where a field lacks one. A new kind of field
registers implementations of those that it has; a new family that needs something else brings a capability of
its own. Neither edits the other.
"""

from molgen.core.capabilities.capability import Capability, require
from molgen.core.capabilities.classes import Classes
from molgen.core.capabilities.consistency import Consistency
from molgen.core.capabilities.denoising import Denoising
from molgen.core.capabilities.dequantization import Dequantization
from molgen.core.capabilities.embedding import Embedding
from molgen.core.capabilities.entries import Entries
from molgen.core.capabilities.langevin import Langevin
from molgen.core.capabilities.likelihood import PathLikelihood
from molgen.core.capabilities.reparameterization import Reparameterization
from molgen.core.capabilities.transport import Transport

__all__ = [
    "Capability",
    "Classes",
    "Consistency",
    "Denoising",
    "Dequantization",
    "Embedding",
    "Entries",
    "Langevin",
    "PathLikelihood",
    "Reparameterization",
    "Transport",
    "require",
]
