"""Grey and colour images of one size."""

from molgen.modalities.image.modality import ImageModality

__all__ = ["ImageModality"]
