"""EnergyModel: an unnormalised density, sampled by Markov chains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from molgen.core.annealing import Partition
from molgen.io.samples import Samples
from molgen.models.base import GenerativeModel


class EnergyModel(GenerativeModel):
    r"""An energy, low where data are, whose Markov chains make samples.

    .. math:: p(x) = e^{-E(x)} / Z

    Models of every kind have `energy(records)`, `sample_from(records)`, and `log_partition()`, an estimate
    of log Z.

    Kinds: ``"neural"`` is a network's energy of data under noise, for every kind of data; ``"dbm"`` a deep
    Boltzmann machine over any view of classes.

    Arguments:
        modality: a registered name or a `Modality`.
        kind: ``"neural"`` for `NeuralEnergy`, ``"dbm"`` for `BoltzmannMachine`.
        options: those of the kind; see there.

    Errors: `ConfigError` for an option that is not of this kind; `UnsupportedError` if no view suits it.

    Source: see the kinds, `molgen.models.energy.neural` and `boltzmann`.

    Example:
        >>> from molgen import EnergyModel
        >>> model = EnergyModel("smiles", chains=4, trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0, steps=2)), model.energy(["CCO"]).shape
        (3, torch.Size([1]))
        >>> isinstance(EnergyModel("smiles", kind="dbm"), EnergyModel)
        True
    """

    family: ClassVar[str] = "energy"
    kind: ClassVar[str] = "neural"
    kinds: ClassVar[dict[str, type[Any]]] = {}

    @abstractmethod
    def energy(self, records: Sequence[Any]) -> Tensor:
        """E of records in nats, `(n,)`, up to a constant; low where data are."""

    @abstractmethod
    def log_partition(self) -> Partition:
        """An estimate of log Z in nats by annealed importance sampling."""

    @abstractmethod
    def sample_from(self, records: Sequence[Any]) -> Samples:
        """Samples of chains that start at records, one each."""
