"""A field of molgen's kind, defined outside of it: fractional coordinates around the cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.fields import CircularField
from molgen.core.fields.field import own_shape
from molgen.core.rng import RandomSource
from molgen.core.schedules import GaussianSchedule, Window


def wrapped(x: Any) -> Any:
    """Differences of fractional coordinates the short way around, in [-1/2, 1/2); arrays or tensors.

    Example:
        >>> wrapped(np.array([0.9, -0.6, 0.5])).round(3).tolist()
        [-0.1, 0.4, -0.5]
    """
    return (x + 0.5) % 1 % 1 - 0.5  # the first remainder of a tiny negative number rounds to one


@final
class Torus(CircularField):
    r"""Fractional coordinates modulo one, as seen from the first site, under wrapped Gaussian noise.

    Translation acts on all sites alike, so differences to the first site are what is left of
    :math:`T^{3N}` without it: the density lives on the :math:`T^{3(N-1)}` of the other sites, and the first
    one, at the origin, has no value. Noise of standard deviation :math:`\sigma` has the density

    .. math:: \sum_k N(x + k; 0, \sigma^2) = 1 + 2 \sum_{k \ge 1} e^{-2 \pi^2 k^2 \sigma^2} \cos 2 \pi k x

    a theta function; see `CircularField` for the process and what is predicted.

    Arguments:
        channels: coordinates per site.
        cut: where the circle is cut open, so that values are in [cut, cut + 1): where data are fewest, since
            flows of plain reals cannot cross it.
        noise: smallest and largest noise, as fractions of the cell; 0.65 is uniform to 1e-3.
        window, weight, components: as for `molgen.core.fields.Continuous`.

    Source: Jing et al., Torsional Diffusion for Molecular Conformer Generation (2022); Jiao et al., Crystal
    Structure Prediction by Joint Equivariant Diffusion (2023).

    Example:
        >>> field, mask = Torus(1), torch.ones(1, 3, dtype=torch.bool)
        >>> field.project(torch.tensor([[[0.5], [0.75], [1.25]]]), mask)[0, :, 0].tolist()
        [0.0, -0.25, 0.25]
    """

    period = 1.0
    harmonics = (1, 2)
    floor = 1e-3
    orders = (1.0, 2.0, 4.0, 8.0)

    def __init__(
        self,
        channels: int = 3,
        *,
        cut: float = -0.5,
        noise: tuple[float, float] = (0.002, 0.65),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
        components: int = 8,
    ) -> None:
        self.shape, self.components = (channels,), components
        self.cut, self.mean, self.sd, self.centre = cut, 0.0, 12**-0.5, cut + 0.5
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, window=self.window)

    # -- geometry

    def valid(self, mask: Tensor) -> Tensor:
        others = mask.clone()
        others[:, :1] = False
        return others[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        lift = (x - self.cut) % 1 % 1 + self.cut
        # Next to the cut, rounding must not leave a value that the next projection would move.
        lift = torch.where(lift >= self.cut + 1, torch.full_like(lift, self.cut), lift)
        return torch.where(self.valid(mask), lift, torch.zeros_like(lift))

    def relative(self, places: np.ndarray) -> np.ndarray:
        """Coordinates `(n, channels)` as the field holds them: float32, seen from the first site."""
        seen = torch.from_numpy((places - places[:1]).astype(np.float32))[None]
        return self.project(seen, torch.ones(1, len(places), dtype=torch.bool))[0].numpy()

    def logmap(self, x: Tensor, x0: Tensor) -> Tensor:
        gap: Tensor = wrapped(x - x0)
        return gap

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        """The cut: the bin of 48 around the circle that is farthest from values."""
        flat = np.concatenate([v[1:].ravel() for v in values])
        counts = np.bincount((flat % 1 * 48).astype(int) % 48, minlength=48)
        near = [np.exp(-abs(k) / 2) * np.roll(counts, k) for k in range(-24, 24)]
        return {"cut": round((int(np.sum(near, 0).argmin()) + 0.5) / 48, 4) - 1}

    def invariants(self, value: np.ndarray) -> np.ndarray:
        x = self.turn * np.asarray(value[1:], np.float64).reshape(-1, self.channels)
        return np.concatenate([np.cos(x), np.sin(x)], 1)

    # -- process

    def prior(self, mask: Tensor, rng: RandomSource) -> Tensor:
        return self.project(rng.uniform(mask, own_shape(mask, self.channels)), mask)
