"""FlowModel and its kinds: a differential equation that is integrated, or a bijection in closed form."""

from molgen.models.flow.base import FlowModel
from molgen.models.flow.continuous import ContinuousFlow
from molgen.models.flow.coupling import CouplingFlow
from molgen.models.flow.nice import NICE

__all__ = ["NICE", "ContinuousFlow", "CouplingFlow", "FlowModel"]
