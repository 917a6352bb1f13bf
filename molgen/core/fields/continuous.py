"""Real vectors on sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.errors import ConfigError
from molgen.core.fields.frequencies import probabilities, six_digits
from molgen.core.fields.gaussian import GaussianField
from molgen.core.schedules import GaussianSchedule, Window


@final
class Continuous(GaussianField):
    r"""Real vectors on sites: pixels, or any channels on a line or a grid.

    Corrupted by :math:`x_t = x_0 + \sigma(t) \varepsilon`, denoised by
    :math:`D = c_{skip} x_t + c_{out} F(c_{in} x_t)` with loss :math:`\lambda(\sigma) |D - x_0|^2`.

    Arguments:
        channels: numbers per site.
        levels: number of equidistant levels in [-1, 1] if the data are quantised; likelihoods are
            then of the discrete value.
        shares: frequency of each level in the data, or None if unknown.
        mean, sd: mean and standard deviation of the data.
        noise: smallest and largest noise in units of `sd`.
        window: the part of global time in which the field changes.
        weight: share in a loss over several fields.
        components: of the mixture that the likelihood of one entry is.
        whole: one vector for the whole sample, say the cell of a crystal; it stands on the first site, and
            zeros on all others, which are no values.

    Example:
        >>> mask = torch.ones(1, 3, dtype=torch.bool)
        >>> Continuous(2, whole=True).project(torch.ones(1, 3, 2), mask).tolist()
        [[[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]]
    """

    def __init__(
        self,
        channels: int,
        *,
        levels: int | None = None,
        shares: Sequence[float] | None = None,
        mean: float = 0.0,
        sd: float = 0.5,
        noise: tuple[float, float] = (0.004, 160.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
        components: int = 8,
        whole: bool = False,
    ) -> None:
        self.whole = whole
        self.shape, self.components = (channels,), components
        if shares is not None and len(shares) != levels:
            raise ConfigError(f"shares has {len(shares)} entries, expected one for each of {levels} levels")
        self.levels, self.mean, self.sd = levels, mean, sd
        self.shares = None if shares is None else probabilities(shares)
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(noise[0] * sd, noise[1] * sd, window=self.window)

    def valid(self, mask: Tensor) -> Tensor:
        if not self.whole:
            return super().valid(mask)
        first = torch.zeros_like(mask.flatten(1))
        first[:, :1] = mask.flatten(1)[:, :1]
        return first.reshape(mask.shape)[..., None]

    def invariants(self, value: np.ndarray) -> np.ndarray:
        return super().invariants(value)[: 1 if self.whole else None]

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        flat = np.concatenate([self.invariants(v).ravel() for v in values])
        found: dict[str, Any] = {"mean": six_digits(flat.mean()), "sd": six_digits(flat.std()) or 1.0}
        if self.levels is not None:
            level = np.rint((flat + 1) / 2 * (self.levels - 1)).astype(np.int64).clip(0, self.levels - 1)
            shares = np.bincount(level, minlength=self.levels) / len(level)
            found["shares"] = [six_digits(share) for share in shares]
        return found

    def level_of(self, x: Tensor) -> Tensor:
        """The level of each quantised number."""
        assert self.levels is not None
        return ((x + 1) / 2 * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
