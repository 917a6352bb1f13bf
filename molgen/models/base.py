"""What the families share: construction, fitting, sampling, scoring, saving."""

from __future__ import annotations

import inspect
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Capability, Embedding, require
from molgen.core.conditions import Condition
from molgen.core.data import Records
from molgen.core.errors import ConfigError, MolgenError, UnsupportedError
from molgen.core.modality import Modality, View
from molgen.core.noise import Noise, SampleNoise, generator
from molgen.core.options import called
from molgen.core.registry import FAMILIES, Table, get_modality
from molgen.core.samples import Samples
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.models.stored import Stored

if TYPE_CHECKING:
    from molgen.train import TrainingModule

_LABEL = 4  # what a key of the injected randomness is for
_PRECISIONS = ("fp32", "bf16")
_WINDOW = 8
"""Batches that are drawn together: enough for batches of like sizes, few enough for flat memory."""


class GenerativeModel(Stored):
    """A family of deep generative models over any modality.

    A family says which view it needs, builds its networks, and gives `losses` and `generate`;
    everything else is here.

    Arguments:
        modality: a registered name or a `Modality`.
        view: the view of the modality to use; None takes the first that suits the family.
        trunk: an alternative trunk that the modality names; None takes its default.
        trunk_options: keyword arguments for the trunk, e.g. ``{"width": 64}``.
        hyper: the family's own options, recorded in the checkpoint.
    """

    family: ClassVar[str]
    needs: Mapping[str, bool] = {}
    """Properties that the view must have."""
    capabilities: ClassVar[tuple[type[Capability[Any]], ...]] = ()
    """What every field of the view must be able to do."""
    continuous: ClassVar[tuple[type[Capability[Any]], ...]] = ()
    """What every field must be able to do once its values are embedded in reals."""
    likelihood: str = "none"
    smallest: ClassVar[Mapping[str, Mapping[str, Any]]] = {"": {}}
    """Options of the smallest model of each kind, the default one under ``""``: what checks construct."""
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)
    """How long the optimizer remembers gradients and their squares."""

    def __init__(
        self,
        modality: str | Modality,
        view: str | None,
        trunk: str | None,
        trunk_options: Mapping[str, Any] | None,
        **hyper: Any,
    ) -> None:
        if not 0 <= (dropout := hyper.get("label_dropout", 0.0)) <= 1:
            raise ConfigError(f"label_dropout is {dropout}, expected a share, 0 to 1")
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
        self.hyper: dict[str, Any] = json.loads(json.dumps(hyper))
        self.conditions: tuple[Condition, ...] = ()
        self.training: dict[str, Any] = {"seconds": 0.0, "steps": 0, "samples": 0, "runs": []}
        self.metrics: dict[str, float | None] = {}
        self.network: nn.Module | None = None
        self.progress = 1.0
        """Share of the training budget that is spent, for losses that change on the way."""
        self.logged: dict[str, Tensor] = {}
        """What `losses` found that belongs in the log but not in the loss."""

    @classmethod
    def arguments(cls) -> tuple[str, ...]:
        """Names of the arguments that the constructor takes, whatever the kind."""
        return tuple(inspect.signature(cls.__init__).parameters)[1:]

    # ------------------------------------------------------------------ what a family gives

    def fitted(self) -> None:
        """Called once training has ended; a family may look whether its model has collapsed."""
        self.progress = 1.0

    @abstractmethod
    def build(self) -> nn.Module:
        """The family's networks for the current modality and conditions."""

    @abstractmethod
    def losses(self, network: nn.Module, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """The terms of the training loss, named; their sum is minimised."""

    @abstractmethod
    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], noise: Noise, *args: Any, **options: Any
    ) -> dict[str, Tensor]:
        """Values of every field for the sites of `mask`, `(B, *extent)`."""

    def log_density(self, batch: Batch, noise: Noise, *args: Any, **options: Any) -> Tensor:
        """log p(values | size) in nats, `(B,)`."""
        have = [name for name, family in Table(FAMILIES).items() if family.likelihood != "none"]
        raise UnsupportedError(f"{self.family} has no likelihood; families that have one: {', '.join(have)}")

    sampling: tuple[str, ...] = ()
    """Names of the options that `generate` takes."""

    # ------------------------------------------------------------------ parts

    @property
    def view(self) -> View:
        """The view of the modality that the model works in."""
        return self.modality.views[self._view]

    def option(self, name: str, default: Any) -> Any:
        """A hyper-parameter, or the modality's recipe for it, or a default."""
        value = self.hyper.get(name)
        return self.view.recipe.get(name, default) if value is None else value

    def student_options(self) -> dict[str, Any]:
        """The options with which a consistency model has this model's network, beside view, trunk and width.

        Errors: `UnsupportedError` where it has another one: a teacher predicts the clean end of noisy values.
        """
        raise UnsupportedError(
            f"{self!r} cannot be distilled; give a diffusion model, or a flow of kind 'continuous'"
        )

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
            torch.manual_seed(int(generator(seed, -1).initial_seed() % 2**31))
            return self.build()

    @property
    def parameters(self) -> int:
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
        """Trains on data, or goes on training.

        Arguments:
            data: a data set's name, a path, a sequence of domain objects, or where the modality reads
                them an array, a pandas frame or a PyG data set.
            validation: the same; by default the data set's own split, else a held-out twentieth.
            max_epochs, max_steps, max_time: where to stop, whichever comes first; time as
                ``"DD:HH:MM:SS"``, ``"HH:MM:SS"``, ``"10m"``, ``"1h"``; without any, 10 epochs.
            batch_size, lr: by default the modality's recipe.
            seed: of weights, order and noise.
            ckpt_path: the training state of a run that was cut off; goes on bit for bit.
            trainer: keyword arguments for a Lightning `Trainer`, or a `Trainer`.
            condition: labels or properties to condition on.
            skip_invalid: skip bad records of a file, counting them, instead of stopping.
            patience: stop after so many validations without a gain.
            root_dir: where logs and the training state go; without it nothing is written.
            progress: whether to show a progress bar; by default on a terminal.

        Errors: `DataError` for bad data, `ConfigError` for bad options, `CheckpointError` for a
            bad state, `MolgenError` naming the term if a loss is not finite.
        """
        from molgen import train

        # Reading a data set may take minutes: what can be refused is refused before.
        train.check(max_time, ckpt_path)
        if self.network is None and (self.trunk is not None or self.trunk_options):
            self._built(seed)
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
        *,
        warmup: int | None = None,
        ema: float = 0.9995,
        clip: float = 1.0,
        weight_decay: float = 0.01,
    ) -> TrainingModule:
        """The module that `fit` trains, for a Lightning `Trainer` of one's own.

        With a `molgen.DataModule`, which is made first, `Trainer(...).fit(module, data)` gives the model the
        weights that `fit` with the same options gives it; see there for an example.

        Arguments:
            lr: peak learning rate; by default the modality's recipe.
            seed: of the noise.
            warmup, ema, clip, weight_decay: see `TrainingModule`.

        Errors: `ConfigError` for a model that has not seen data yet.
        """
        from molgen.train import TrainingModule

        if self.network is None:
            raise ConfigError("this model has seen no data yet: make molgen.DataModule(model, data) first")
        return TrainingModule(
            self, lr or self.option("lr", 1e-3), seed, warmup, ema=ema, clip=clip, weight_decay=weight_decay
        )

    def prepared(self, records: Records, known: Records, condition: Sequence[str], seed: int) -> Batch:
        """Records as a batch; a new model learns what it must know of data from `known` and gets its network.

        Errors: `ConfigError` for an unknown condition, or others than those of a model that goes on training.
        """
        fresh = self.network is None
        if fresh:
            self.modality = self.modality.fitted(known)
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
        """Domain objects to a batch of this model's view, with the conditions it knows."""
        labels = getattr(records, "labels", {})
        values = {}
        for c in self.conditions:
            if c.name in labels:
                values[c.name] = np.asarray(labels[c.name], dtype=np.float32)
            else:
                measured = [self.modality.measure(r, c.name) for r in records]
                values[c.name] = np.asarray(measured, dtype=np.float32)
        return self.modality.encode_all(records, self._view, values)

    def decode(self, batch: Batch, noise: Noise | None = None) -> Samples:
        """A batch of this model's view to domain objects, in order; noise as for `Modality.decode_all`."""
        return Samples(self.modality.decode_all(batch, self._view, noise), self.modality)

    def told(self, batch: Batch) -> dict[str, Tensor]:
        """The labels of a batch that the model is conditioned on."""
        return {c.name: batch.conditions[c.name] for c in self.conditions}

    def relaxed(self, batch: Batch) -> dict[str, Tensor]:
        """The values of a batch as reals that gradients flow through."""
        return {k: e.embed(batch.values[k], batch.mask) for k, e in Embedding.each(self.view.fields).items()}

    def withheld(self, batch: Batch, noise: Noise, share: float) -> dict[str, Tensor]:
        """The labels of a batch, a share of them hidden, so that the network learns to do without."""
        labels = self.told(batch)
        for c in self.conditions:
            drop = noise.uniform(batch.mask, ()) < share
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
                is named, labels are drawn as they are in the data, where the model remembers them, since
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
        if n < 0:
            raise ConfigError(f"n is {n}, expected 0 or more")
        if precision not in _PRECISIONS:
            raise ConfigError.unknown("precision", precision, _PRECISIONS)
        self._takes(options)
        labels, fixed = self._wanted(condition or {})
        size = batch_size or self.option("sample_batch", 4 * self.option("batch_size", 64))
        from molgen.core.console import bar

        done = drawn = 0
        with bar(n, "sampling", progress) as advance:
            while done < n:
                count = size if valid_only else min(_WINDOW * size, n - done)
                seen = None if valid_only else advance
                part = range(drawn, drawn + count)
                chunk = self._draw(part, size, seed, labels, fixed, precision, options, seen)
                drawn += count
                if valid_only:
                    chunk = [r for r in chunk if self.modality.is_valid(r)][: n - done]
                    if done == 0 and not chunk and drawn >= max(10 * size, 1000):
                        raise MolgenError(
                            f"none of the first {drawn} samples is valid; train longer or sample "
                            "without valid_only"
                        )
                    advance(len(chunk))
                done += len(chunk)
                yield chunk

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        """Names of the sampling options that a model of the family may take, whatever its kind."""
        return cls.sampling

    def _takes(self, options: Iterable[str]) -> None:
        """Refuses sampling options that the family has not, naming families that have them."""
        for name in options:
            if name in self.sampling:
                continue
            have = [other for other, family in Table(FAMILIES).items() if name in family.offered()]
            if have and self.family not in have:  # else another kind of this family has it
                raise UnsupportedError(
                    f"{self.family} has no {name} to sample with; families that have: {', '.join(have)}"
                )
            raise ConfigError.unknown(f"sampling option of {self.family}", name, self.sampling)

    def heat(self, temperature: float | None) -> float:
        """The factor on the spread of the noise that samples are made from, by default the model's."""
        value = self.hyper["temperature"] if temperature is None else temperature
        if value < 0:
            raise ConfigError(f"temperature is {value}, expected 0 or more")
        return float(value)

    def _wanted(self, condition: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
        """A request's conditions, parted into labels of the network and constraints on the size."""
        known = {c.name: c for c in self.conditions}
        labels, fixed = {}, {}
        for name, value in condition.items():
            if name in known:
                labels[name] = known[name].missing() if value is None else known[name].parse(value)
            elif name in self.modality.size_options:
                fixed[name] = value
            else:
                raise ConfigError.unknown(
                    "condition of this model", name, [*known, *self.modality.size_options]
                )
        return labels, fixed

    def _labels(self, seed: int, indices: Sequence[int], named: Mapping[str, float]) -> dict[str, Tensor]:
        """Labels, if nobody named one, drawn as in the data; several are not independent."""
        together = len(self.conditions) == 1 or all(c.joint for c in self.conditions)
        if not together or any(c.name in named for c in self.conditions):
            return {}
        places = [float(torch.rand(1, generator=generator(seed, i, _LABEL))) for i in indices]
        drawn = {c.name: [c.draw(u) for u in places] for c in self.conditions}
        known = {name: [v for v in values if v is not None] for name, values in drawn.items()}
        whole = places and all(len(values) == len(places) for values in known.values())
        return {name: torch.tensor(values) for name, values in known.items()} if whole else {}

    def generated(
        self, mask: Tensor, labels: Mapping[str, Tensor], noise: Noise, precision: str, **options: Any
    ) -> dict[str, Tensor]:
        """`generate` at a precision; the values themselves are always in full precision."""
        if precision == "fp32":
            return self.generate(mask, labels, noise, **options)
        with torch.autocast(mask.device.type, torch.bfloat16):
            values = self.generate(mask, labels, noise, **options)
        whole = {k: v.float() if v.is_floating_point() else v for k, v in values.items()}
        return {k: self.view.fields[k].project(v, mask) for k, v in whole.items()}

    @torch.no_grad()
    def _draw(
        self,
        indices: range,
        size: int,
        seed: int,
        labels: Mapping[str, float],
        fixed: Mapping[str, Any],
        precision: str,
        options: Mapping[str, Any],
        advance: Callable[[int], None] | None,
    ) -> list[Any]:
        network = self.trained.eval()
        device = next(network.parameters()).device
        sizes = self.modality.draw_sizes(seed, indices, **fixed)
        records: dict[int, Any] = {}
        # Samples of like size go together, so that little of a batch is padding.
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            mask = self.modality.template([sizes[i] for i in part]).to(device)
            own = [indices[i] for i in part]
            given = {k: torch.full((len(part),), v, device=device) for k, v in labels.items()}
            given |= {k: v.to(device) for k, v in self._labels(seed, own, labels).items()}
            noise = SampleNoise(seed, own)
            values = self.generated(mask, given, noise, precision, **options)
            batch = Batch(values, mask, {}, self.view.pairs)
            records.update(zip(part, self.decode(batch, noise), strict=True))
            if advance is not None:
                advance(len(part))
        return [records[i] for i in range(len(sizes))]

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
            taken = list(inspect.signature(self.log_density).parameters)[2:]  # beside batch and noise
            for name in options:
                if name not in taken:
                    raise ConfigError.unknown(f"scoring option of {self.family}", name, taken)
        out = []
        with torch.no_grad():
            size = batch_size or self.option("batch_size", 64)
            for start in range(0, len(records), size):
                chunk = records[start : start + size]
                batch = self.encode(chunk).trimmed().to(device)
                noise = SampleNoise(seed, range(start, start + len(batch)))
                value = self.log_density(batch, noise, **options).double().cpu()
                sizes = [self.modality.log_size(n) for n in batch.sizes.tolist()]
                out.append(value + torch.tensor(sizes, dtype=torch.float64))
        return torch.cat(out) if out else torch.zeros(0, dtype=torch.float64)

    def __repr__(self) -> str:
        size = "unfitted" if self.network is None else f"{self.parameters:,} parameters"
        return f"{type(self).__name__}({self.modality.name!r}, view={self._view!r}, {size})"
