"""What the families share: construction, fitting, sampling, scoring."""

from __future__ import annotations

import inspect
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.call import called
from molgen.core.capabilities import Capability, Embedding, require
from molgen.core.conditions import Condition
from molgen.core.errors import ConfigError, UnsupportedError
from molgen.core.modality import Modality, View
from molgen.core.records import Records
from molgen.core.registry import FAMILIES, Table, get_modality
from molgen.core.rng import Key, RandomSource, SampleRandom, generator
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.io.samples import Samples
from molgen.models.declaration import Declaration
from molgen.models.options import FitOptions
from molgen.models.sampler import Sampler
from molgen.models.stored import Stored


class GenerativeModel(Declaration, Stored):
    """A family of deep generative models over any modality.

    A family declares its options and the properties that a view must have, builds its networks, and gives
    `losses` and `generate`; everything else is here. A family of several kinds is an abstract class whose
    subclasses are declared with a kind, ``class CouplingFlow(FlowModel, kind="coupling")``; calling the
    family makes a model of the class that `kind` names.

    Arguments:
        modality: a registered name or a `Modality`.
        view: the view of the modality to use; None takes the first that suits the family.
        trunk: an alternative trunk that the modality names; None takes its default.
        trunk_options: keyword arguments for the trunk, e.g. ``{"width": 64}``.
        kind: of a family of several kinds; None takes its default.
        options: the family's own, see `options_type`.

    Errors: `ConfigError` for an unknown kind or option, or a bad value; `UnsupportedError` if no view suits.
    """

    needs: ClassVar[Mapping[str, bool]] = {}
    """Properties that the view must have."""
    capabilities: ClassVar[tuple[type[Capability[Any]], ...]] = ()
    """What every field of the view must be able to do."""
    continuous: ClassVar[tuple[type[Capability[Any]], ...]] = ()
    """What every field must be able to do once its values are embedded in reals."""
    likelihood: str = "none"
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)
    """Decay rates of the optimizer's averages of gradients and of their squares."""

    def __init__(
        self,
        modality: str | Modality,
        *,
        view: str | None = None,
        trunk: str | None = None,
        trunk_options: Mapping[str, Any] | None = None,
        kind: str | None = None,
        **options: Any,
    ) -> None:
        self.modality = get_modality(modality) if isinstance(modality, str) else modality
        try:
            self._view = self.modality.view(view, **({} if view else self.needs)).name
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.family} does not take this kind of data: {error}") from None
        for name, wanted in self.needs.items():
            if getattr(self.view, name) != wanted:
                raise UnsupportedError(
                    f"{self.family} needs a view that is {name}; view {self._view!r} of "
                    f"{self.modality.name!r} is not"
                )
        where = f"view {self._view!r} of {self.modality.name!r}"
        needed = (*self.capabilities, *((Embedding,) if self.continuous else ()))
        require(self.family, where, self.view.fields, needed)
        if self.continuous:
            reals = {k: e.continuous() for k, e in Embedding.each(self.view.fields).items()}
            require(self.family, where, reals, self.continuous)
        self.trunk = trunk
        # What is recorded is what JSON gives back, so that a loaded model is the model that was saved.
        self.trunk_options: dict[str, Any] = json.loads(json.dumps(dict(trunk_options or {})))
        self.options = self.options_type.resolve(self.title(), options, self.view.defaults)
        self.fit_options = FitOptions.resolve(self.title(), {}, self.view.defaults)
        self.conditions: tuple[Condition, ...] = ()
        self.history: dict[str, Any] = {"seconds": 0.0, "steps": 0, "samples": 0, "runs": []}
        self.metrics: dict[str, float | None] = {}
        self.network: nn.Module | None = None

    # ------------------------------------------------------------------ what a family gives

    @abstractmethod
    def build(self) -> nn.Module:
        """The family's networks for the current modality and conditions."""

    @abstractmethod
    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        """The terms of the training loss, named; their sum is minimised."""

    @abstractmethod
    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], rng: RandomSource, *args: Any, **options: Any
    ) -> dict[str, Tensor]:
        """Values of every field for the sites of `mask`, `(B, *extent)`; keywords are `sample`'s options."""

    def log_density(self, batch: Batch, rng: RandomSource, *args: Any, **options: Any) -> Tensor:
        """log p(values | size) in nats, `(B,)`."""
        have = [name for name, family in Table(FAMILIES).items() if family.likelihood != "none"]
        raise UnsupportedError(f"{self.family} has no likelihood; families that have one: {', '.join(have)}")

    def on_fit_end(self, logged: Mapping[str, Tensor]) -> None:
        """Called when training has ended, with the last values logged; a family may warn of a collapse."""

    def distillation_config(self) -> dict[str, Any]:
        """Options with which a consistency model has this model's network, besides view, trunk and width.

        Errors: `UnsupportedError` where it has another one: a teacher predicts the clean end of noisy values.
        """
        raise UnsupportedError(
            f"{self!r} cannot be distilled; give a diffusion model, or a flow of kind 'continuous'"
        )

    # ------------------------------------------------------------------ parts

    @property
    def view(self) -> View:
        """The view of the modality that the model works in."""
        return self.modality.views[self._view]

    def make_trunk(self, spec: TrunkSpec, options: Mapping[str, Any] | None = None) -> Trunk:
        """The modality's trunk for these streams, with the model's options or others."""
        make = self.modality.causal_trunk if spec.causal else self.modality.trunk
        given = self.trunk_options if options is None else options
        # Where a model has both, its trunk's name is that of the first.
        name = self.trunk if options is None else None
        try:
            return make(spec, name, **given)
        except TypeError as error:  # an option that the trunk's constructor does not take
            raise ConfigError(f"trunk of {self.modality.name!r}: {error}") from None

    @property
    def trained(self) -> nn.Module:
        """The network; `ConfigError` before it exists."""
        if self.network is None:
            raise ConfigError(f"this {type(self).__name__} has no weights: call fit, or molgen.load")
        return self.network

    def _built(self, seed: int) -> nn.Module:
        # Initial weights come from torch's global generator: seed it inside a fork.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, Key.WEIGHTS).initial_seed() % 2**31))
            return self.build()

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(p.numel() for p in self.trained.parameters())

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        data: Any,
        validation: Any = None,
        max_epochs: int | None = None,
        max_steps: int | None = None,
        max_time: str | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        ckpt_path: str | Path | None = None,
        trainer: Any = None,
        condition: Sequence[str] = (),
        skip_invalid: bool = False,
        patience: int | None = None,
        root_dir: str | Path | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Trains on data, or continues training.

        Arguments:
            data: a data set's name, a path, a sequence of domain objects, or where the modality reads
                them an array, a pandas frame or a PyG data set.
            validation: the same; by default the data set's own split, else a held-out twentieth.
            max_epochs, max_steps, max_time: where to stop, whichever comes first; time as
                ``"DD:HH:MM:SS"``, ``"HH:MM:SS"``, ``"10m"``, ``"1h"``; without any, 10 epochs.
            batch_size, lr: by default `fit_options`.
            seed: of weights, order and noise.
            ckpt_path: the training state of an interrupted run, which continues bit for bit.
            trainer: keyword arguments for a Lightning `Trainer`, or a `Trainer`.
            condition: labels or properties to condition on.
            skip_invalid: skip bad records of a file, counting them, instead of stopping.
            patience: stop after so many validations without a gain.
            root_dir: where logs and the training state go; without it nothing is written.
            progress: whether to show a progress bar; by default on a terminal.

        Errors: `DataError` for bad data, `ConfigError` for bad options, `CheckpointError` for a
            bad state, `MolgenError` naming the term if a loss is not finite.
        """
        from molgen import train  # which imports Lightning

        if self.network is None and (self.trunk is not None or self.trunk_options):
            self._built(seed)  # Reading a data set may take minutes: what can be refused is refused before.
        train.run(
            self,
            train.DataModule(self, data, validation, batch_size, seed, condition, skip_invalid),
            max_epochs=max_epochs,
            max_steps=max_steps,
            max_time=max_time,
            lr=lr,
            seed=seed,
            ckpt_path=ckpt_path,
            trainer=trainer,
            patience=patience,
            root_dir=root_dir,
            progress=progress,
        )
        return self

    def lightning_module(
        self,
        lr: float | None = None,
        seed: int = 0,
        warmup: int | None = None,
        ema: float = 0.9995,
        clip: float = 1.0,
        weight_decay: float = 0.01,
    ) -> Any:
        """The model as a Lightning module, for a `Trainer` of one's own.

        Arguments:
            lr: peak learning rate; by default that of `fit_options`.
            seed: of the noise.
            warmup, ema, clip, weight_decay: see `molgen.train.TrainingModule`.
        """
        from molgen.train import TrainingModule  # which imports Lightning

        return TrainingModule(
            self, lr or self.fit_options.lr, seed, warmup, ema=ema, clip=clip, weight_decay=weight_decay
        )

    def setup(self, records: Records, known: Records, condition: Sequence[str], seed: int) -> Batch:
        """Records as a batch; a new model is fitted to `known` (vocabulary, sizes) and gets its network.

        Errors: `ConfigError` for an unknown condition, or others than those of a model that was trained.
        """
        fresh = self.network is None
        if fresh:
            self.modality = self.modality.fit_to(known)
            self.conditions = self._conditions(condition, records)
        elif condition and {c.name for c in self.conditions} != set(condition):
            raise ConfigError(
                f"this model was trained with conditions {[c.name for c in self.conditions]}, "
                f"got {list(condition)}; start a new model to change them"
            )
        batch = self.encode(records)
        self.conditions = tuple(c.seen(batch.conditions[c.name]) for c in self.conditions)
        if fresh:
            self.network = self._built(seed)
        return batch

    def _conditions(self, names: Sequence[str], records: Records) -> tuple[Condition, ...]:
        known = self.modality.conditions
        for name in names:
            if name not in known:
                raise ConfigError.unknown(f"condition of {self.modality.name}", name, known)
        return tuple(known[name] for name in names)

    def encode(self, records: Sequence[Any]) -> Batch:
        """Domain objects to a batch of this model's view, with the labels that it is conditioned on."""
        labels = getattr(records, "labels", {})
        values = {}
        for c in self.conditions:
            if c.name in labels:
                values[c.name] = np.asarray(labels[c.name], dtype=np.float32)
            else:
                measured = [self.modality.measure(r, c.name) for r in records]
                values[c.name] = np.asarray(measured, dtype=np.float32)
        return self.modality.encode_all(records, self._view, values)

    def decode(self, batch: Batch, rng: RandomSource | None = None) -> Samples:
        """A batch of this model's view to domain objects, in order; noise as for `Modality.decode_all`."""
        return Samples(self.modality.decode_all(batch, self._view, rng), self.modality)

    def labels(self, batch: Batch) -> dict[str, Tensor]:
        """The labels of a batch that the model is conditioned on."""
        return {c.name: batch.conditions[c.name] for c in self.conditions}

    def relaxed(self, batch: Batch) -> dict[str, Tensor]:
        """The values of a batch as reals that gradients flow through."""
        return {k: e.embed(batch.values[k], batch.mask) for k, e in Embedding.each(self.view.fields).items()}

    def drop_labels(self, batch: Batch, rng: RandomSource, share: float) -> dict[str, Tensor]:
        """The labels of a batch with a share of them missing, so that the network learns to do without."""
        labels = self.labels(batch)
        for c in self.conditions:
            drop = rng.uniform(batch.mask, ()) < share
            value = labels[c.name]
            labels[c.name] = torch.where(drop, torch.full_like(value, c.missing()), value)
        return labels

    # ------------------------------------------------------------------ sample

    def sample(
        self,
        n: int,
        seed: int = 0,
        batch_size: int | None = None,
        condition: Mapping[str, Any] | None = None,
        progress: bool = False,
        valid_only: bool = False,
        precision: str = "fp32",
        **options: Any,
    ) -> Samples:
        """Draws samples as domain objects.

        Arguments:
            n: how many.
            seed: sample i depends on (seed, i).
            batch_size: samples at a time; the result does not depend on it but for rounding.
            condition: values of the labels the model was trained with, e.g. ``{"digit": 7}``. If none
                is named, labels are drawn as they are in the data, where the model has recorded them, since
                p(x) is the mean of p(x | label); ``{"digit": None}`` withholds it from the network.
            progress: whether to show a progress bar.
            valid_only: draw on until n samples are valid; by default all are returned as drawn.
            precision: ``"fp32"``, or ``"bf16"`` for products of matrices with 8 bits of mantissa, which is
                faster where the processor multiplies them itself (AMX, GPUs) and the products are large.
            options: the family's, e.g. `steps`.

        Errors: `ConfigError` for an option that the family does not take.

        Returns: a list of n domain objects, invalid ones included unless `valid_only`; notebooks draw it.
        """
        chunks = self.stream(n, seed, batch_size, condition, progress, valid_only, precision, **options)
        return Samples(chain.from_iterable(chunks), self.modality)

    def stream(
        self,
        n: int,
        seed: int = 0,
        batch_size: int | None = None,
        condition: Mapping[str, Any] | None = None,
        progress: bool = False,
        valid_only: bool = False,
        precision: str = "fp32",
        **options: Any,
    ) -> Iterator[list[Any]]:
        """`sample` a few batches at a time, in order, so that memory stays flat."""
        self.check_sampling(options)
        sampler = Sampler(self, seed, batch_size, condition or {}, precision, options)
        return sampler.stream(n, progress, valid_only)

    def check_sampling(self, options: Iterable[str]) -> None:
        """Refuses options of `sample` that the family does not take, naming families that do."""
        known = self.sampling_options()
        for name in options:
            if name in known:
                continue
            have = [other for other, family in Table(FAMILIES).items() if name in family.sampling_options()]
            if have and self.family not in have:  # else another kind of this family has it
                raise UnsupportedError(
                    f"{self.family} has no {name} to sample with; families that have: {', '.join(have)}"
                )
            raise ConfigError.unknown(f"sampling option of {self.family}", name, known)

    def resolved(self, **given: Any) -> Any:
        """The options with those of a call in place of the model's own; None leaves an option as it is."""
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(self.options, **changes) if changes else self.options

    # ------------------------------------------------------------------ score

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """The modality's scores of records against a reference; see `Modality.evaluate`.

        Errors: `ConfigError` naming the nearest option for one that the modality does not take.
        """
        what = f"scoring option of {self.modality.name}"
        return called(what, self.modality.evaluate, records, reference, **options)

    def log_prob(
        self, records: Sequence[Any], seed: int = 0, batch_size: int | None = None, **options: Any
    ) -> Tensor:
        """log p of each record in nats, log p(size) included; see `likelihood` for what it is.

        Arguments:
            records: domain objects.
            seed: of the estimate's noise.
            batch_size: records at a time.
            options: the family's.

        Errors: `UnsupportedError` where the family has no likelihood; `ConfigError` for an option that it
            does not take.

        Returns: `(n,)` in float64.
        """
        network = self.trained.eval()
        device = next(network.parameters()).device
        if self.likelihood != "none":
            taken = list(inspect.signature(self.log_density).parameters)[2:]  # besides batch and noise
            for name in options:
                if name not in taken:
                    raise ConfigError.unknown(f"scoring option of {self.family}", name, taken)
        out = []
        with torch.no_grad():
            size = batch_size or self.fit_options.batch_size
            for start in range(0, len(records), size):
                chunk = records[start : start + size]
                batch = self.encode(chunk).trimmed().to(device)
                rng = SampleRandom(seed, range(start, start + len(batch)))
                value = self.log_density(batch, rng, **options).double().cpu()
                sizes = [self.modality.log_size(n) for n in batch.sizes.tolist()]
                out.append(value + torch.tensor(sizes, dtype=torch.float64))
        return torch.cat(out) if out else torch.zeros(0, dtype=torch.float64)

    def __repr__(self) -> str:
        size = "unfitted" if self.network is None else f"{self.num_parameters:,} parameters"
        return f"{type(self).__name__}({self.modality.name!r}, view={self._view!r}, {size})"
