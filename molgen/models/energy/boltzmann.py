"""The deep Boltzmann machine: layers of binary units over any view of classes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from molgen.core.annealing import Bounds, Partition
from molgen.core.batch import Batch
from molgen.core.capabilities import Classes, Embedding
from molgen.core.errors import ConfigError, DataError, MolgenWarning, UnsupportedError
from molgen.core.modality import Modality
from molgen.core.rng import BatchRandom, Key, RandomSource, SampleRandom, generator
from molgen.core.step import TRAINED, TrainingStep
from molgen.io.samples import Samples
from molgen.models.energy.base import EnergyModel
from molgen.models.energy.classifier import Classifier
from molgen.models.options import Options, option
from molgen.nn.annealer import Annealer
from molgen.nn.boltzmann import DeepBoltzmann, State, Visible

_FAR = 0.5
"""Nats per entry between the mean energies of data and chains at which training has diverged."""


@final
class Inference(nn.Module):
    """A machine's mean field: what is exported of it."""

    fixed_size = True  # a machine has units for its largest sample

    def __init__(self, machine: DeepBoltzmann, iterations: int) -> None:
        super().__init__()
        self.machine, self.iterations = machine, iterations

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward`, see `Exportable`."""
        fields = self.machine.visible.fields
        return {
            "values": {
                k: e.round(e.continuous().prior(mask, rng), mask) for k, e in Embedding.each(fields).items()
            },
            "mask": mask,
        }

    def forward(self, values: Mapping[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the hidden units `(B, units)`, and the free energy in nats `(B,)`."""
        net = self.machine
        v, real = net.visible.encode(values, mask), net.visible.real(mask)
        state = net.mean_field(v, real, self.iterations)
        return torch.cat(state[1:], 1), net.free_energy(state, real)


@final
@dataclass(frozen=True, kw_only=True)
class BoltzmannOptions(Options):
    """Options of `BoltzmannMachine`."""

    hidden: tuple[int, ...] = option(
        (500, 500, 500), "units of each hidden layer, from the visible one upwards", ge=1
    )
    pretraining: float = option(
        0.3, "share of the budget of a first fit for training layer by layer", ge=0, lt=1
    )
    chains: int = option(100, "number of persistent chains", ge=1)
    gibbs_steps: int = option(5, "sweeps of Gibbs sampling between two steps of training", ge=1)
    iterations: int = option(10, "iterations of mean field", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden:
            raise ConfigError("hidden is empty, expected the units of at least one layer")


@final
class BoltzmannMachine(EnergyModel, kind="dbm"):
    r"""A deep Boltzmann machine over any view whose values are classes.

    .. math:: p(v) = \frac{1}{Z} \sum_h e^{-E(v, h)}, \quad
              E(s) = -\sum_l b_l^T s_l - \sum_l (s_l - m_l)^T W_l (s_{l+1} - m_{l+1})

    Each entry is a group of visible units, one for each of its classes but the first, and m are the rates
    of the data below and a half above. In the first share of the budget each pair of layers is trained by
    itself as a restricted machine; then all of them by the gradient of log p(v), with the data's hidden
    units under mean field and the model's from persistent chains. With samples of several sizes, Z and p(v)
    are those of each size.

    Arguments:
        modality: a registered name or a `Modality`.
        kind: ``"dbm"``.
        view: see `GenerativeModel`; by default the first view of classes alone.
        trunk, trunk_options: none, there is no trunk.
        {options}

    Errors: `UnsupportedError` if a view has values other than classes, or for conditions.

    Source: Salakhutdinov and Hinton, Deep Boltzmann Machines (2009); Tieleman, Training Restricted Boltzmann
    Machines using Approximations to the Likelihood Gradient (2008) for the chains; Montavon and Mueller, Deep
    Boltzmann Machines and the Centering Trick (2012) for m.

    Example:
        >>> from molgen.models.energy.boltzmann import BoltzmannMachine
        >>> model = BoltzmannMachine("smiles", hidden=(8, 4), chains=4)
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=4, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0, gibbs_steps=5)), model.features(["CCO"]).shape
        (3, torch.Size([1, 12]))
    """

    needs: ClassVar[Mapping[str, bool]] = {"discrete": True}
    capabilities = (Classes,)
    likelihood = "estimate"
    options_type: ClassVar[type[Options]] = BoltzmannOptions
    options: BoltzmannOptions

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        if self.trunk is not None or self.trunk_options:
            raise ConfigError("a Boltzmann machine has no trunk; its size is hidden=")
        self._partitions: dict[tuple[int | None, ...], Partition] = {}

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        return {"hidden": (12, 8), "chains": 8, "gibbs_steps": 2}

    def build(self) -> nn.Module:
        sizes = [math.prod(self.modality.extent or (self.modality.max_size,))]
        visible = Visible(self.view.fields, self.modality.make_mask(sizes))
        own = self.modality.draw_sizes(0, range(self.options.chains))
        real = visible.real(self.modality.make_mask(own))
        return DeepBoltzmann(visible, self.options.hidden, real)

    def _conditions(self, names: Sequence[str], records: Any) -> tuple[Any, ...]:
        if names:
            raise UnsupportedError(f"energy of kind 'dbm' takes no conditions, got {', '.join(names)}")
        return ()

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        r"""Mean energies, those of the data less those of the model, in nats per entry.

        .. math:: -\nabla \log p(v) = E_{q(h|v)}[\nabla E(v, h)] - E_{p(v, h)}[\nabla E(v, h)]

        Its gradient is meant, its value is about zero; in evaluation the loss is instead the cross-entropy
        of the visible units given the means of the hidden ones.
        """
        net = cast(DeepBoltzmann, network)
        batch = batch[batch.sizes <= net.visible.template[0].numel()].trimmed()
        v, real = net.visible.encode(batch.values, batch.mask), net.visible.real(batch.mask)
        entries = real.sum().clamp_min(1) / max(len(real), 1)
        if not network.training:
            return {"reconstruction": self._reconstruction(net, v, real)}
        net.count(v, real)
        share = 0.0 if self.history["runs"] else self.options.pretraining
        if step.progress < share:
            layer = int(step.progress / share * len(net.weights))
            loss = net.pair_contrast(layer, v, real, rng.uniform(batch.mask, (net.draws,)))
            net.advance(rng, 1)  # the chains follow from the start
            return {f"layer{layer + 1}": loss.mean() / entries}
        positive = net.mean_field(v, real, self.options.iterations)
        negative = net.advance(rng, self.options.gibbs_steps)
        gap = (net.energy(positive, real).mean() - net.energy(negative, net.real).mean()) / entries
        step.log("gap", gap.detach())
        return {"contrast": gap}

    def _reconstruction(self, net: DeepBoltzmann, v: Tensor, real: Tensor) -> Tensor:
        state = net.mean_field(v, real, self.options.iterations)
        field = net.field(state, 0, real)
        log_p = (field * v).sum(1) - (net.visible.units.log_sum(field) * real).sum(1)
        return -log_p.sum() / real.sum().clamp_min(1)

    def on_fit_end(self, logged: Mapping[str, Tensor]) -> None:
        """Warns if the chains have parted from the data: training has diverged."""
        self._partitions.clear()
        gap = float(logged.get("gap", torch.zeros(())))
        if not abs(gap) < _FAR:
            warnings.warn(
                f"divergence: mean energies of data and of persistent chains are {gap:.2f} nats per entry "
                "apart at the end of training; lower lr, or raise gibbs_steps",
                MolgenWarning,
                stacklevel=2,
            )

    def load_weights(self, tensors: Mapping[str, Tensor], path: Any = "checkpoint") -> None:
        super().load_weights(tensors, path)
        self._partitions.clear()

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        init: Mapping[str, Tensor] | None = None,
        *,
        gibbs_steps: int = 1000,
    ) -> dict[str, Tensor]:
        """Gibbs sampling, each sample a chain of its own.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: none.
            rng: the source of randomness.
            init: values to start from; by default random ones.
            gibbs_steps: of all layers.
        """
        _positive("gibbs_steps", gibbs_steps)
        net = self._network
        self._known(mask)
        real, own = net.visible.real(mask), (net.draws,)
        u = rng.uniform(mask, own)
        if init is None:
            state = net.random(real, u)
        else:
            v = net.visible.encode(init, mask)
            means = net.mean_field(v, real, self.options.iterations)
            state = [v, *(net.draw(i, means[i].logit(), real, u) for i in range(1, len(means)))]
        for _ in range(gibbs_steps):
            state = net.sweep(state, real, rng.uniform(mask, own))
        return net.visible.decode(state[0], mask)

    @torch.no_grad()
    def sample_from(self, records: Sequence[Any], gibbs_steps: int = 100, seed: int = 0) -> Samples:
        """Gibbs sampling that starts at records, of each one chain."""
        if not len(records):
            return Samples([], self.modality)
        batch = self.encode(records)
        rng = SampleRandom(seed, range(len(batch)))
        values = self.generate(batch.mask, {}, rng, gibbs_steps=gibbs_steps, init=batch.values)
        return self.decode(batch.replace(values=values))

    # ------------------------------------------------------------------ likelihood

    @torch.no_grad()
    def energy(self, records: Sequence[Any]) -> Tensor:
        """The variational free energy of records in nats, `(n,)`: about -log p(v) - log Z, not less."""
        if not len(records):
            return torch.zeros(0)
        net, (v, real) = self._network, self._units(records)
        return net.free_energy(net.mean_field(v, real, self.options.iterations), real)

    @torch.no_grad()
    def log_partition(
        self,
        *,
        chains: int = 100,
        temperatures: int = 1000,
        seed: int = 0,
        reverse: bool = False,
        burn_in: int = 1000,
        size: int | None = None,
    ) -> Partition:
        """log Z in nats by annealed importance sampling, and log (Z -+ 3 standard errors).

        Arguments:
            chains: independent runs.
            temperatures: steps from the base-rate model to this one.
            seed: of the runs.
            reverse: anneal from this model to the base-rate model, which errs upwards where the other way
                errs downwards. Runs that begin at the same persistent chain count as one for the error.
            burn_in: Gibbs sweeps from the persistent chains to where reverse runs begin.
            size: sites; by default the largest number.
        """
        _positive("chains", chains)
        _positive("temperatures", temperatures)
        net = self._network
        sites = net.visible.template[0].numel() if size is None else size
        mask = self.modality.make_mask([sites]).to(net.real.device)
        self._known(mask)
        key = (chains, temperatures, seed, burn_in if reverse else None, sites)
        if key in self._partitions:
            return self._partitions[key]
        annealer = Annealer(net, net.visible.real(mask)[0])
        rng = BatchRandom(generator(seed, Key.ANNEALING, reverse))
        betas = [k / temperatures for k in range(temperatures + 1)]
        if reverse:
            which = torch.arange(chains) % len(net.chains)
            chained = list(torch.split(net.chains[which].to(net.biases[0]), net.sizes, 1))
            start, _ = annealer.run(chained, [1.0] * (burn_in + 1), rng)
            log_w = annealer.run(start, betas[::-1], rng)[1]
            found = Partition.of(log_w, -annealer.base, which).inverse()
        else:
            log_w = annealer.run(annealer.start(chains, rng), betas, rng)[1]
            found = Partition.of(log_w, annealer.base)
        return self._partitions.setdefault(key, found)

    def log_partition_bounds(
        self, *, chains: int = 100, temperatures: int = 1000, seed: int = 0, size: int | None = None
    ) -> Bounds:
        """log Z from both ends, each with its spread; arguments as of `log_partition`."""
        return Bounds(
            *(
                self.log_partition(
                    chains=chains, temperatures=temperatures, seed=seed, reverse=reverse, size=size
                )
                for reverse in (False, True)
            )
        )

    def log_density(
        self, batch: Batch, rng: RandomSource, *, chains: int = 100, temperatures: int = 1000
    ) -> Tensor:
        r"""The variational lower bound less an estimate of log Z, `(B,)`.

        .. math:: \log p(v) \ge E_q[-E(v, h)] + H(q) - \log Z
        """
        net = self._network
        known = batch.sizes <= net.visible.template[0].numel()
        out = torch.full((len(batch),), -math.inf, dtype=torch.float64, device=batch.device)
        part = batch[known].trimmed()
        if not len(part):
            return out
        v, real = net.visible.encode(part.values, part.mask), net.visible.real(part.mask)
        free = net.free_energy(net.mean_field(v, real, self.options.iterations), real).double()
        log_z = {
            n: self.log_partition(chains=chains, temperatures=temperatures, size=n).value
            for n in set(part.sizes.tolist())
        }
        out[known] = -free - torch.tensor([log_z[n] for n in part.sizes.tolist()]).to(free)
        return out

    def parts(self) -> dict[str, nn.Module]:
        """``"features"``: values to the means of the hidden units, and the variational free energy."""
        return {"features": Inference(self._network, self.options.iterations)}

    # ------------------------------------------------------------------ features

    @torch.no_grad()
    def features(self, records: Sequence[Any], layer: int | None = None) -> Tensor:
        """Means of the hidden units under mean field, `(n, units)`.

        Arguments:
            records: domain objects.
            layer: a hidden layer, counted from 1; by default all of them in a row.
        """
        depth = len(self.options.hidden)
        if layer is not None and not 1 <= layer <= depth:
            raise ConfigError(f"layer is {layer}, expected 1 to {depth}")
        state = self._inferred(records)
        return torch.cat(state[1:], 1) if layer is None else state[layer]

    def classifier(
        self,
        records: Sequence[Any],
        labels: Sequence[int],
        *,
        pretrained: bool = True,
        steps: int = 500,
        lr: float = 1e-3,
        batch_size: int = 64,
        seed: int = 0,
    ) -> Classifier:
        """A network with this machine's layers and one more, trained to predict labels.

        Arguments:
            records: domain objects.
            labels: a class for each, from 0.
            pretrained: start with the machine's weights; else with random ones.
            steps, lr, batch_size: of Adam.
            seed: of weights and order.
        """
        return Classifier.fit(
            self._network,
            lambda some: self._units(some)[0],
            records,
            labels,
            pretrained=pretrained,
            steps=steps,
            lr=lr,
            batch_size=batch_size,
            seed=seed,
        )

    # ------------------------------------------------------------------ parts

    @property
    def _network(self) -> DeepBoltzmann:
        return cast(DeepBoltzmann, self.trained.eval())

    def _known(self, mask: Tensor) -> None:
        largest = self._network.visible.template[0].numel()
        if mask.numel() and int(mask.flatten(1).sum(1).max()) > largest:
            raise DataError(
                f"a sample of {int(mask.flatten(1).sum(1).max())} sites; this machine has units for "
                f"{largest}, the largest of its training data",
                fix="leave larger ones out, or fit a new model on data that have them",
            )

    def _units(self, records: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Visible units and entries of records."""
        net = self._network
        batch = self.encode(records).to(net.real.device)
        self._known(batch.mask)
        return net.visible.encode(batch.values, batch.mask), net.visible.real(batch.mask)

    def _inferred(self, records: Sequence[Any]) -> State:
        if not len(records):
            return [torch.zeros(0, n) for n in self._network.sizes]
        return self._network.mean_field(*self._units(records), self.options.iterations)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(f"{name} is {value}, expected 1 or more")
