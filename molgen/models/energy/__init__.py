"""Energy-based models: a neural energy under noise, and the deep Boltzmann machine."""

from molgen.models.energy.neural import EnergyModel

__all__ = ["EnergyModel"]
