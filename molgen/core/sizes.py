"""The histogram of sizes: how many sites a sample has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from molgen.core.errors import ConfigError
from molgen.core.rng import Key, generator


@final
class Sizes:
    """A histogram of sizes that is drawn from by `(seed, index)`.

    Arguments:
        counts: how often each size occurs, e.g. ``{9: 100}``; keys may be strings, as JSON has them.

    Example:
        >>> sizes = Sizes({"3": 1, "5": 3})
        >>> round(sizes.log(5), 4), sizes.log(4)
        (-0.2877, -inf)
        >>> sizes.draw(0, [0, 1]) == sizes.draw(0, [0]) + sizes.draw(0, [1])
        True
    """

    def __init__(self, counts: Mapping[Any, int]) -> None:
        self.counts = {int(k): int(v) for k, v in sorted(counts.items(), key=lambda item: int(item[0]))}
        if not self.counts or min(self.counts) < 1 or min(self.counts.values()) < 1:
            raise ConfigError("sizes: expected a histogram of positive sizes with positive counts")
        self._total = sum(self.counts.values())
        self._keys = np.array(list(self.counts))
        self._steps = np.cumsum(np.array(list(self.counts.values())) / self._total)

    @classmethod
    def of(cls, sizes: Iterable[int]) -> Sizes:
        """The histogram of these sizes."""
        return cls(Counter(int(n) for n in sizes))

    def draw(self, seed: int, indices: Sequence[int], size: int | None = None) -> list[int]:
        """A size for every index; all equal to `size` where that is given."""
        if size is not None:
            if int(size) < 1:
                raise ConfigError(f"size={size}: expected a positive number of sites")
            return [int(size)] * len(indices)
        # The third part of the key keeps sizes independent of the noise of sample (seed, index).
        u = [
            float(torch.rand((), generator=generator(seed, i, Key.SIZE), dtype=torch.float64))
            for i in indices
        ]
        picks = np.searchsorted(self._steps, u, side="right").clip(0, len(self._keys) - 1)
        return [int(n) for n in self._keys[picks]]

    def log(self, n: int) -> float:
        """Logarithm of p(n) in nats; minus infinity for a size that the data do not have."""
        count = self.counts.get(int(n), 0)
        return math.log(count / self._total) if count else -math.inf

    def config(self) -> dict[str, int]:
        """The counts with string keys, as JSON has them."""
        return {str(k): v for k, v in self.counts.items()}
