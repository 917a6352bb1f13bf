"""EnergyModel: an unnormalised density, sampled by Markov chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from molgen.models.kinds import FamilyOfKinds

if TYPE_CHECKING:
    from torch import Tensor

    from molgen.core.annealing import Partition
    from molgen.core.samples import Samples
    from molgen.models.energy.dbm import BoltzmannMachine
    from molgen.models.energy.neural import NeuralEnergy


class EnergyModel(FamilyOfKinds):
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

    Source: see the kinds, `molgen.models.energy.neural` and `dbm`.

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
    smallest = {"": {}, "dbm": {"kind": "dbm", "hidden": (12, 8), "chains": 8, "sweeps": 2}}
    kinds: ClassVar[Mapping[str, str]] = {
        "neural": "molgen.models.energy.neural:NeuralEnergy",
        "dbm": "molgen.models.energy.dbm:BoltzmannMachine",
    }

    @overload
    def __new__(cls, *args: Any, kind: Literal["dbm"], **options: Any) -> BoltzmannMachine: ...
    @overload
    def __new__(cls, *args: Any, kind: Literal["neural"] = ..., **options: Any) -> NeuralEnergy: ...
    def __new__(cls, *args: Any, **options: Any) -> EnergyModel:
        """A model of the kind."""
        return super().__new__(cls, *args, **options)

    if TYPE_CHECKING:

        def energy(self, records: Sequence[Any], *args: Any, **options: Any) -> Tensor: ...
        def log_partition(self, *args: Any, **options: Any) -> Partition: ...
        def sample_from(self, records: Sequence[Any], *args: Any, **options: Any) -> Samples: ...
