"""Injected randomness: where every random number of training and sampling comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import final

import torch
from torch import Tensor

_MIX = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: spreads consecutive integers over all 64 bits


@final
class Key(IntEnum):
    """What a generator is for: the part of its key beside the seed, so that no two uses share numbers.

    Members whose values are equal differ in the length of their keys.
    """

    WEIGHTS = -1
    SIZE = 1
    ORDER = 1
    NOISE = 2
    HELD_OUT = 3
    LABEL = 4
    CLASSIFIER_ORDER = 0x0DE
    CLASSIFIER_WEIGHTS = 0x3E1
    CHAIN_LENGTH = 0x51E
    ANNEALING = 0xA15
    SPAWN = 0xA9A7


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose state depends on the whole key, e.g. `(seed, step)` or `(seed, sample)`.

    Example:
        >>> a, b = generator(0, 1), generator(0, 1)
        >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
        True
    """
    state = 0
    for part in key:
        state = ((state ^ (part & 0xFFFFFFFFFFFFFFFF)) * _MIX + 0x632BE59BD9B4E019) % 2**64
        state ^= state >> 29
    return torch.Generator(device).manual_seed(state % 2**63)


class RandomSource(ABC):
    """A source of random numbers for a batch: one draw per call, in a fixed order.

    The shape of one sample's draw is given as `own`: for a sample with `n` sites it is the tuple
    with every `-1` replaced by `n`, so that padding never consumes randomness.
    """

    @abstractmethod
    def normal(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, `(B, *padded own)`; zero on padding."""

    @abstractmethod
    def uniform(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        """Numbers uniform in [0, 1), `(B, *padded own)`; zero on padding."""

    @abstractmethod
    def spawn(self, key: int) -> RandomSource:
        """An independent source by this number, whatever has been drawn from this one."""


def _padded(mask: Tensor, own: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(mask.shape[1] if n == -1 else n for n in own)


@final
class BatchRandom(RandomSource):
    """One generator for a whole batch: the noise of training.

    Arguments:
        source: the generator; numbers are drawn on its device.
    """

    def __init__(self, source: torch.Generator) -> None:
        self.source = source

    def normal(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        shape = (mask.shape[0], *_padded(mask, own))
        return torch.randn(shape, generator=self.source, device=self.source.device).to(mask.device)

    def uniform(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        shape = (mask.shape[0], *_padded(mask, own))
        return torch.rand(shape, generator=self.source, device=self.source.device).to(mask.device)

    def spawn(self, key: int) -> BatchRandom:
        return BatchRandom(generator(self.source.initial_seed(), Key.SPAWN, key, device=self.source.device))


@final
class SampleRandom(RandomSource):
    """One generator per sample, keyed by `(seed, index)`: the noise of sampling.

    The numbers of sample `i` depend on `(seed, i)` and on its own size alone, never on its
    neighbours in the batch or on the padding.

    Arguments:
        seed: any integer.
        indices: the index of each sample in the whole request.
        path: what sets the source apart from others of the same seed.

    Example:
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> both = SampleRandom(0, [4, 5]).normal(mask, (-1, 3))
        >>> alone = SampleRandom(0, [5]).normal(mask[1:, :1], (-1, 3))
        >>> bool((both[1, :1] == alone[0]).all())
        True
    """

    def __init__(self, seed: int, indices: Sequence[int], path: tuple[int, ...] = ()) -> None:
        self.seed, self.indices, self.path = seed, indices, path
        self.sources = [generator(seed, i, *path) for i in indices]

    def spawn(self, key: int) -> SampleRandom:
        return SampleRandom(self.seed, self.indices, (*self.path, Key.SPAWN, key))

    def normal(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        return self._draw(torch.randn, mask, own)

    def uniform(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        return self._draw(torch.rand, mask, own)

    def _draw(self, draw: Callable[..., Tensor], mask: Tensor, own: tuple[int, ...]) -> Tensor:
        # Always on the CPU, so that a seed means the same numbers on every device.
        out = torch.zeros(len(self.sources), *_padded(mask, own))
        sizes = mask.flatten(1).sum(1).tolist() if -1 in own else [0] * len(self.sources)
        for row, source, n in zip(out, self.sources, sizes, strict=True):
            shape = tuple(n if size == -1 else size for size in own)
            view = row[tuple(slice(size) for size in shape)]
            view.copy_(draw(shape, generator=source))
        return out.to(mask.device)


def stratified(mask: Tensor, rng: RandomSource) -> Tensor:
    """Times uniform in [0, 1), one for each sample of a batch and evenly spread over it, `(B,)`.

    They begin anywhere: samples that always stand at one place of a batch, as the smallest of few do,
    still see all times.

    Source: Kingma et al., Variational Diffusion Models (2021).
    """
    places = torch.arange(len(mask), device=mask.device) / max(len(mask), 1)
    return (places + rng.uniform(mask, ())[:1]) % 1
