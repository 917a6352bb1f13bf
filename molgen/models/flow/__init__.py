"""FlowModel and its kinds: an equation that is followed, or a bijection that is written down."""

from molgen.models.flow.model import FlowModel

__all__ = ["FlowModel"]
