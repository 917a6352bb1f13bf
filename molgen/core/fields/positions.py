"""Coordinates in space up to translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
from torch import Tensor

from molgen.core.fields.frequencies import six_digits
from molgen.core.fields.gaussian import GaussianField
from molgen.core.schedules import GaussianSchedule, Window


@final
class Positions(GaussianField):
    r"""Coordinates in space up to translation: every value has its centre of mass at zero.

    The density lives in the :math:`3 (N - 1)` dimensions of centred configurations; `project` is the
    one place that removes translation.

    Arguments:
        sd: standard deviation of one centred coordinate in the data, in the data's unit.
        noise: smallest and largest noise in units of `sd`.
        window, weight: as for `Continuous`.

    Source: Hoogeboom et al., Equivariant Diffusion for Molecule Generation in 3D (2022).

    Example:
        >>> import torch
        >>> mask = torch.tensor([[True, True, False]])
        >>> x = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0], [9.0, 9, 9]]])
        >>> Positions().project(x, mask)[0, :, 0].tolist()
        [-1.0, 1.0, 0.0]
    """

    stream: Literal["site", "pair", "point"] = "point"

    def __init__(
        self,
        *,
        sd: float = 1.0,
        noise: tuple[float, float] = (0.002, 10.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        self.shape = (3,)
        self.mean, self.sd = 0.0, sd
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(noise[0] * sd, noise[1] * sd, window=self.window)

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        flat = np.concatenate([np.asarray(v, np.float64) - v.mean(0) for v in values])
        return {"sd": six_digits(flat.std()) or 1.0}

    def invariants(self, value: np.ndarray) -> np.ndarray:
        x = np.asarray(value, np.float64)
        first, second = np.triu_indices(len(x), 1)
        distances: np.ndarray = np.linalg.norm(x[first] - x[second], axis=-1)[:, None]
        return distances

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        real = self.valid(mask)
        centre = (x * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
        return (x - centre) * real

    def dimension(self, mask: Tensor) -> Tensor:
        return (mask.sum(1) - 1).clamp_min(1) * self.channels
