"""Drawing samples: sizes, labels, batches of similar size, and the order of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.conditions import Condition
from molgen.core.errors import ConfigError, MolgenError
from molgen.core.modality import Modality, View
from molgen.core.rng import Key, RandomSource, SampleRandom, generator
from molgen.io.console import bar
from molgen.io.samples import Samples
from molgen.models.options import FitOptions

_PRECISIONS = ("fp32", "bf16")
_WINDOW = 8
"""Batches that are drawn together: enough for batches of similar sizes, few enough for flat memory."""


class Generator(Protocol):
    """What a sampler needs of a model."""

    modality: Modality
    conditions: tuple[Condition, ...]
    fit_options: FitOptions

    @property
    def view(self) -> View:
        """The view that the model works in."""

    @property
    def trained(self) -> nn.Module:
        """The network."""

    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], rng: RandomSource, *args: Any, **options: Any
    ) -> dict[str, Tensor]:
        """Values of every field."""

    def decode(self, batch: Batch, rng: RandomSource | None = None) -> Samples:
        """A batch to domain objects."""


@final
class Sampler:
    """Draws samples of a model; sample i depends on (seed, i).

    Arguments:
        model: a trained model.
        seed, batch_size, condition, precision: as for `GenerativeModel.sample`.
        options: keyword arguments of `generate`.

    Errors: `ConfigError` for an unknown condition or precision.
    """

    def __init__(
        self,
        model: Generator,
        seed: int,
        batch_size: int | None,
        condition: Mapping[str, Any],
        precision: str,
        options: Mapping[str, Any],
    ) -> None:
        if precision not in _PRECISIONS:
            raise ConfigError.unknown("precision", precision, _PRECISIONS)
        self.model, self.seed, self.precision, self.options = model, seed, precision, dict(options)
        self.batch_size = batch_size or model.fit_options.sample_batch or 1
        self.labels, self.fixed = parse_conditions(model, condition)

    def stream(self, n: int, progress: bool, valid_only: bool) -> Iterator[list[Any]]:
        """n samples a few batches at a time, in order, so that memory stays flat."""
        if n < 0:
            raise ConfigError(f"n is {n}, expected 0 or more")
        return self._stream(n, progress, valid_only)

    def _stream(self, n: int, progress: bool, valid_only: bool) -> Iterator[list[Any]]:
        size, done, drawn = self.batch_size, 0, 0
        with bar(n, "sampling", progress) as advance:
            while done < n:
                count = size if valid_only else min(_WINDOW * size, n - done)
                chunk = self.draw(range(drawn, drawn + count), None if valid_only else advance)
                drawn += count
                if valid_only:
                    chunk = [r for r in chunk if self.model.modality.is_valid(r)][: n - done]
                    if done == 0 and not chunk and drawn >= max(10 * size, 1000):
                        raise MolgenError(
                            f"none of the first {drawn} samples is valid; train longer or sample "
                            "without valid_only"
                        )
                    advance(len(chunk))
                done += len(chunk)
                yield chunk

    @torch.no_grad()
    def draw(self, indices: range, advance: Callable[[int], None] | None = None) -> list[Any]:
        """The samples of these indices, in order."""
        model, modality = self.model, self.model.modality
        device = next(model.trained.eval().parameters()).device
        sizes = modality.draw_sizes(self.seed, indices, **self.fixed)
        records: dict[int, Any] = {}
        # Samples of similar size go together, so that little of a batch is padding.
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            mask = modality.make_mask([sizes[i] for i in part]).to(device)
            own = [indices[i] for i in part]
            labels = {k: torch.full((len(part),), v, device=device) for k, v in self.labels.items()}
            labels |= {k: v.to(device) for k, v in self.drawn_labels(own).items()}
            rng = SampleRandom(self.seed, own)
            batch = Batch(self.values(mask, labels, rng), mask, {}, model.view.pairs)
            records.update(zip(part, model.decode(batch, rng), strict=True))
            if advance is not None:
                advance(len(part))
        return [records[i] for i in range(len(sizes))]

    def values(self, mask: Tensor, labels: Mapping[str, Tensor], rng: RandomSource) -> dict[str, Tensor]:
        """`generate` at the precision; the values themselves are always in full precision."""
        if self.precision == "fp32":
            return self.model.generate(mask, labels, rng, **self.options)
        with torch.autocast(mask.device.type, torch.bfloat16):
            values = self.model.generate(mask, labels, rng, **self.options)
        whole = {k: v.float() if v.is_floating_point() else v for k, v in values.items()}
        return {k: self.model.view.fields[k].project(v, mask) for k, v in whole.items()}

    def drawn_labels(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Labels, if none was named, drawn as in the data; several are not independent."""
        conditions = self.model.conditions
        together = len(conditions) == 1 or all(c.joint for c in conditions)
        if not together or any(c.name in self.labels for c in conditions):
            return {}
        places = [float(torch.rand(1, generator=generator(self.seed, i, Key.LABEL))) for i in indices]
        drawn = {c.name: [c.draw(u) for u in places] for c in conditions}
        known = {name: [v for v in values if v is not None] for name, values in drawn.items()}
        whole = places and all(len(values) == len(places) for values in known.values())
        return {name: torch.tensor(values) for name, values in known.items()} if whole else {}


def parse_conditions(
    model: Generator, condition: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """A request's conditions as labels of the network and constraints on the size.

    Errors: `ConfigError` for a name or a value that the model does not have.
    """
    known = {c.name: c for c in model.conditions}
    labels, fixed = {}, {}
    for name, value in condition.items():
        if name in known:
            labels[name] = known[name].missing() if value is None else known[name].parse(value)
        elif name in model.modality.size_options:
            fixed[name] = value
        else:
            choices = [*known, *model.modality.size_options]
            raise ConfigError.unknown("condition of this model", name, choices)
    return labels, fixed
