"""EnergyModel and its kinds: a neural energy under noise, and the deep Boltzmann machine."""

from molgen.models.energy.model import EnergyModel

__all__ = ["EnergyModel"]
