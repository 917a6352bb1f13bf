"""EnergyModel and its kinds: a neural energy of noisy data, and the deep Boltzmann machine."""

from molgen.models.energy.base import EnergyModel
from molgen.models.energy.boltzmann import BoltzmannMachine
from molgen.models.energy.neural import NeuralEnergy

__all__ = ["BoltzmannMachine", "EnergyModel", "NeuralEnergy"]
