"""Baselines for every score: data, copies of data, independent entries, logistic regression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from benchmarks.cells import Cell
from molgen.core.batch import Batch
from molgen.core.capabilities import Dequantization, Entries
from molgen.core.errors import UnsupportedError
from molgen.core.fields import Field
from molgen.core.fields.field import own_shape
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.core.registry import get_modality
from molgen.core.rng import SampleRandom, generator

_CHUNK = 1000
_CLASS = 0xC1A  # the purpose of a key of the injected randomness


class Baseline:
    """The interface that a baseline shares with a trained model, so that both are measured alike."""

    likelihood = "none"
    num_parameters = 0

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.history: dict[str, Any] = {"seconds": 0.0, "steps": 0, "samples": 0, "runs": []}

    @staticmethod
    def sampling_options() -> tuple[str, ...]:
        """No options."""
        return ()


@final
class Data(Baseline):
    """Records as samples: held-out ones, each once, or training records, drawn with replacement.

    Arguments:
        modality: of the records.
        records: what is drawn from.
        again: whether a record may be drawn twice.
    """

    def __init__(self, modality: Modality, records: Sequence[Any], again: bool) -> None:
        super().__init__(modality)
        self.records, self.again = records, again

    def sample(self, n: int, seed: int = 0, progress: bool = False) -> list[Any]:
        """Records in random order; without replacement at most as many as there are."""
        rng, count = np.random.default_rng(seed), len(self.records)
        picks = rng.integers(count, size=n) if self.again else rng.permutation(count)[:n]
        return [self.records[int(i)] for i in picks]


class Marginals(Baseline):
    r"""Every entry of every field, independently.

    .. math:: p(x) = \prod_i p_i(x_i)

    The i-th entry of a sample is that of a training record with such an entry, chosen independently for each
    i. Sizes are drawn from the histogram of the data. Probabilities of classes and levels are counted, with
    half a count added to each (Krichevsky and Trofimov, 1981).

    Arguments:
        modality: any; the first view that is invariant to motions of the object is used.

    Example:
        >>> model = Marginals(get_modality("smiles")).learn(Records(["CO", "NC"]))
        >>> sorted(set(model.sample(40, seed=0)))
        ['CC', 'CO', 'NC', 'NO']
        >>> model.log_prob(["CO"]).exp().tolist()  # (1.5 / 3.5)^2 of three characters
        [0.18367346938775508]
    """

    label: str | None = None
    """The label that entries are counted by; None for a single class of all records."""

    def learn(self, records: Records) -> Self:
        """Counts the records."""
        self.modality = self.modality.fit_to(records)
        self.view = self.modality.view(invariant=True)
        batch = self.modality.encode_all(records, self.view.name)
        labels = np.zeros(len(records)) if self.label is None else np.asarray(records.labels[self.label])
        given = torch.as_tensor(labels).long()
        counts = torch.bincount(given).double()
        self.log_prior = (counts / counts.sum()).log()
        self.discrete = all(Dequantization.of(f).discrete for f in self.view.fields.values())
        self.likelihood = "exact" if self.discrete else "none"
        if self.discrete and not self.view.bijective:
            self.likelihood = "lower bound"
        # Large samples first: the records that have an entry are then the first ones.
        order = batch.sizes.argsort(descending=True, stable=True)
        batch, given = batch[order], given[order]
        support = {
            k: torch.unique(Entries.of(f).to_entries(batch.values[k])) for k, f in self.view.fields.items()
        }
        self.parts = [
            {
                k: _Entries(f, batch[given == y], k, support[k] if self.discrete else None)
                for k, f in self.view.fields.items()
            }
            for y in range(len(counts))
        ]
        self.num_parameters = sum(entries.num_parameters for part in self.parts for entries in part.values())
        return self

    def sample(self, n: int, seed: int = 0, progress: bool = False) -> list[Any]:
        """Draws samples as domain objects; sample i depends on (seed, i)."""
        records: list[Any] = []
        for start in range(0, n, _CHUNK):
            records += self._draw(range(start, min(start + _CHUNK, n)), seed)
        return records

    def _draw(self, indices: range, seed: int) -> list[Any]:
        u = torch.tensor([float(torch.rand((), generator=generator(seed, i, _CLASS))) for i in indices])
        below = self.log_prior.exp().cumsum(0).to(u)
        classes = torch.searchsorted(below, u, right=True).clamp(max=len(below) - 1)
        sizes = self.modality.draw_sizes(seed, indices)
        found: dict[int, Any] = {}
        for y, part in enumerate(self.parts):
            own = (classes == y).nonzero().flatten().tolist()
            if not own:
                continue
            mask = self.modality.make_mask([sizes[i] for i in own])
            rng = SampleRandom(seed, [indices[i] for i in own])
            batch = Batch({k: e.draw(mask, rng) for k, e in part.items()}, mask, {}, self.view.pairs)
            found.update(zip(own, self.modality.decode_all(batch, self.view.name), strict=True))
        return [found[i] for i in range(len(indices))]

    def joint(self, records: Sequence[Any]) -> Tensor:
        """log p(x, y) less log p(size), in nats, `(n, classes)`."""
        if not self.discrete:
            raise UnsupportedError(f"marginals of {self.modality.name} are of reals, which are only drawn")
        out = []
        for start in range(0, len(records), _CHUNK):
            batch = self.modality.encode_all(records[start : start + _CHUNK], self.view.name)
            log_p = [sum(e.log_prob(batch) for e in part.values()) for part in self.parts]
            out.append(torch.stack([torch.as_tensor(p) for p in log_p], 1) + self.log_prior)
        return torch.cat(out) if out else torch.zeros(0, len(self.parts), dtype=torch.float64)

    def log_prob(self, records: Sequence[Any], seed: int = 0) -> Tensor:
        """log p of each record in nats, log p(size) included, `(n,)`."""
        batch = self.modality.encode_all(records, self.view.name)
        sizes = torch.tensor([self.modality.log_size(n) for n in batch.sizes.tolist()], dtype=torch.float64)
        return self.joint(records).logsumexp(1) + sizes


@final
class Bayes(Marginals):
    r"""Every entry independently given a label: naive Bayes.

    .. math:: p(x) = \sum_y p(y) \prod_i p_i(x_i | y), \qquad p(y | x) \propto p(y) \prod_i p_i(x_i | y)

    Arguments:
        modality: as for `Marginals`.
        label: the label y.
    """

    def __init__(self, modality: Modality, label: str) -> None:
        super().__init__(modality)
        self.label = label

    def predict(self, records: Sequence[Any]) -> np.ndarray:
        """log p(y | x), `(n, classes)`."""
        predicted: np.ndarray = self.joint(records).log_softmax(1).numpy()
        return predicted


class _Entries:
    """The entries of one field in the records.

    Arguments:
        field: the field.
        batch: records, the largest first.
        name: of the field in the batch.
        support: the values that an entry may have; None for reals.
    """

    def __init__(self, field: Field, batch: Batch, name: str, support: Tensor | None) -> None:
        self.field, self.name, self.support = field, name, support
        self.pairs = field.axes == 2
        self.flat = batch.values[name].dim() == Entries.of(field).to_entries(batch.values[name]).dim() - 1
        self.values = Entries.of(field).to_entries(batch.values[name])
        have = batch.mask.sum(0)  # records that have a site
        # A record has a pair if it has the later of its sites.
        self.have = torch.minimum(have[:, None], have[None]) if self.pairs else have
        self.num_parameters = self.values.numel()
        if support is not None:
            self.log_p = self._counted()
            self.num_parameters = self.log_p.numel()

    def _counted(self) -> Tensor:
        """log p of each value of the support, `(*sites, entries, K)`."""
        assert self.support is not None
        shape, k = self.values.shape[1:], len(self.support)
        place = torch.arange(shape.numel()).reshape(shape) * k
        counts = torch.zeros(shape.numel() * k, dtype=torch.float64)
        padding = torch.zeros_like(counts)
        for start in range(0, len(self.values), _CHUNK):
            rows = self.values[start : start + _CHUNK]
            codes = torch.searchsorted(self.support, rows.contiguous())
            counts += torch.bincount((place + codes).flatten(), minlength=len(counts))
        # Entries that a record lacks have the code of zero; they do not count.
        missing = (len(self.values) - self.have)[..., None].expand(shape).flatten().double()
        zero = int(torch.searchsorted(self.support, torch.zeros((), dtype=self.support.dtype)))
        if missing.any():
            padding[place.flatten() + zero] = missing
        counts = (counts - padding).reshape(*shape, k) + 0.5
        return (counts / counts.sum(-1, keepdim=True)).log()

    def draw(self, mask: Tensor, rng: SampleRandom) -> Tensor:
        """Values for the sites of `mask`, each entry from an independently chosen record."""
        sites = tuple(slice(n) for n in mask.shape[1:]) * (2 if self.pairs else 1)
        have = self.have[sites][..., None]
        u = rng.uniform(mask, own_shape(mask, Entries.of(self.field).count, axes=2 if self.pairs else 1))
        which = (u * have).long().clamp_max(have - 1).clamp_min(0)
        drawn = self.values[(slice(None), *sites)].gather(0, which)
        return self.field.project(drawn.squeeze(-1) if self.flat else drawn, mask)

    def log_prob(self, batch: Batch) -> Tensor:
        """log p of the entries of every sample, `(B,)`; -inf for a value that no record has."""
        assert self.support is not None
        x = batch.values[self.name]
        entries, mask = Entries.of(self.field).to_entries(x), batch.mask
        sites = tuple(slice(n) for n in mask.shape[1:]) * (2 if self.pairs else 1)
        codes = torch.searchsorted(self.support, entries.contiguous()).clamp_max(len(self.support) - 1)
        table = self.log_p[sites].expand(len(entries), *entries.shape[1:], len(self.support))
        log_p = table.gather(-1, codes[..., None]).squeeze(-1)
        log_p = torch.where(self.support[codes] == entries, log_p, -math.inf)
        valid = self.field.valid(mask)
        valid = valid[..., None] if self.flat else valid
        total = torch.where(valid, log_p, 0.0).flatten(1).sum(1)
        return total / 2 if self.pairs else total  # each symmetric pair occurs twice


@final
class Logistic(Baseline):
    """Logistic regression on pixels, which classifies digits and generates none."""

    def learn(self, records: Records) -> Self:
        """Fits the images and their labels."""
        from sklearn.linear_model import LogisticRegression

        self.model = LogisticRegression(max_iter=100, tol=1e-3)
        self.model.fit(self._pixels(records), np.asarray(records.labels["digit"]))
        self.num_parameters = int(self.model.coef_.size + self.model.intercept_.size)
        return self

    def predict(self, records: Sequence[Any]) -> np.ndarray:
        """log p(y | x), `(n, classes)`."""
        predicted: np.ndarray = self.model.predict_log_proba(self._pixels(records))
        return predicted

    @staticmethod
    def _pixels(records: Sequence[Any]) -> np.ndarray:
        flat: np.ndarray = np.stack(list(records)).reshape(len(records), -1).astype(np.float32) / 255
        return flat


def learned(cell: Cell) -> Any:
    """A cell's baseline, from the training records, or the held-out ones, of its data."""
    modality = get_modality(cell.modality)
    load = modality.datasets[cell.data].load
    make: Mapping[str, Callable[[], Any]] = {
        "data": lambda: Data(modality, load("valid"), again=False),
        "copies": lambda: Data(modality, load("train"), again=True),
        "marginals": lambda: Marginals(modality).learn(load("train")),
        "bayes": lambda: Bayes(modality, "digit").learn(load("train")),
        "logistic": lambda: Logistic(modality).learn(load("train")),
    }
    return make[cell.family]()
