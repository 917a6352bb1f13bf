"""`Batch`, the only type that crosses from a modality to a family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

Sample = dict[str, np.ndarray]
"""One unpadded sample: an array per field, sites first; what a modality encodes to and decodes from."""


@final
@dataclass(frozen=True)
class Batch:
    r"""Dense, padded, channels-last tensors, one per field, with one mask.

    A sample has sites on an *extent*: `(N,)` for strings, sets, graphs and chains, `(H, W)` for grids.

    Arguments:
        values: per field `(B, *extent, C)` reals, `(B, *extent)` integers, or for pairs `(B, N, N)`.
        mask: which sites are real, boolean, `(B, *extent)`.
        conditions: labels per sample, `(B,)`; NaN or a negative class means "not given".
        pairs: names of the values with two site axes.

    Example:
        >>> batch = Batch({"x": torch.ones(2, 3, 1)}, torch.tensor([[1, 1, 1], [1, 0, 0]]).bool())
        >>> batch.sizes.tolist(), batch[1:].trimmed().values["x"].shape
        ([3, 1], torch.Size([1, 1, 1]))
    """

    values: Mapping[str, Tensor]
    mask: Tensor
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    pairs: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return self.mask.shape[0]

    @property
    def sizes(self) -> Tensor:
        """Number of real sites of each sample, `(B,)`."""
        return self.mask.flatten(1).sum(1)

    @property
    def device(self) -> torch.device:
        return self.mask.device

    def replace(self, **changes: Any) -> Batch:
        """A changed copy."""
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return self._map(lambda x: x.to(device))

    def __getitem__(self, index: Any) -> Batch:
        """The samples that a slice, an index tensor or a boolean tensor picks."""
        return self._map(lambda x: x[index])

    def trimmed(self) -> Batch:
        """The same samples without the padding that none of them needs."""
        if self.mask.dim() > 2 or len(self) == 0:
            return self
        n = max(int(self.sizes.max()), 1)
        values = {k: v[:, :n, :n] if k in self.pairs else v[:, :n] for k, v in self.values.items()}
        return self.replace(values=values, mask=self.mask[:, :n])

    def _map(self, function: Any) -> Batch:
        return Batch(
            {k: function(v) for k, v in self.values.items()},
            function(self.mask),
            {k: function(v) for k, v in self.conditions.items()},
            self.pairs,
        )


def collate(
    samples: Sequence[Sample],
    pairs: frozenset[str] = frozenset(),
    extent: tuple[int, ...] | None = None,
    conditions: Mapping[str, np.ndarray] | None = None,
) -> Batch:
    """Pads samples to one dense batch.

    Arguments:
        samples: unpadded arrays, sites first; every field of a sample has the same number of sites.
        pairs: names of the fields with two site axes, `(n, n)`.
        extent: the grid `(H, W)` that every sample fills; None where samples have sizes of their own.
        conditions: a value per sample for each label.

    Example:
        >>> batch = collate([{"x": np.zeros((2, 1))}, {"x": np.zeros((3, 1))}])
        >>> batch.values["x"].shape, batch.sizes.tolist()
        (torch.Size([2, 3, 1]), [2, 3])
    """
    count = len(samples)
    if extent is None:
        sizes = [len(next(iter(sample.values()))) for sample in samples]
        shape: tuple[int, ...] = (max(sizes, default=0),)
        mask = torch.arange(shape[0])[None] < torch.tensor(sizes, dtype=torch.long)[:, None]
    else:
        sizes, shape = [], extent
        mask = torch.ones((count, *extent), dtype=torch.bool)
    values = {}
    for name, first in (samples[0] if samples else {}).items():
        sites = shape * 2 if name in pairs else shape
        if extent is not None:
            values[name] = torch.from_numpy(np.stack([sample[name] for sample in samples]))
            continue
        padded = np.zeros((count, *sites, *first.shape[len(sites) :]), first.dtype)
        for row, sample, n in zip(padded, samples, sizes, strict=True):
            row[(slice(n),) * len(sites)] = sample[name]
        values[name] = torch.from_numpy(padded)
    labels = {k: torch.as_tensor(np.asarray(v)) for k, v in (conditions or {}).items()}
    return Batch(values, mask, labels, pairs)


def split(batch: Batch) -> list[Sample]:
    """The unpadded samples of a batch; the inverse of `collate`."""
    arrays = {k: v.detach().cpu().numpy() for k, v in batch.values.items()}
    if batch.mask.dim() > 2:
        return [{k: v[i] for k, v in arrays.items()} for i in range(len(batch))]
    return [
        {k: v[i, :n, :n] if k in batch.pairs else v[i, :n] for k, v in arrays.items()}
        for i, n in enumerate(batch.sizes.tolist())
    ]
