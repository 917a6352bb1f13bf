"""What fields on a circle share: wrapped Gaussian noise."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from molgen.core.fields.gaussian import GaussianField


class CircularField(GaussianField, ABC):
    r"""Values modulo a period, under Gaussian noise that wraps around.

    With the angle :math:`\phi = 2 \pi x / p` of a value of period p, noise of standard deviation
    :math:`\sigma` in x, or :math:`s = 2 \pi \sigma / p` in angle, has the density

    .. math:: \frac{1}{p} \left(1 + 2 \sum_{k \ge 1} e^{-k^2 s^2 / 2} \cos k \phi\right)

    which forgets :math:`x_0` as :math:`\sigma` grows: the prior is uniform. The parameters of p(x0 | .) are
    directions; their argument is the mean angle and their length the concentration. A field defines
    `project` and `logmap`, and draws its `prior`.

    Attributes:
        period: p.
        centre: the value opposite to where the circle is cut open.
        floor: the smallest scale of a component in the density of one value.
        components: components of that density.
        harmonics: those of noisy values that a network sees.
        orders: harmonics of earlier entries that a network sees.

    Source: Jing et al., Torsional Diffusion for Molecular Conformer Generation (2022).
    """

    period: ClassVar[float] = 2 * math.pi
    centre: float = 0.0
    floor: ClassVar[float] = 0.01
    components: int = 8
    harmonics: ClassVar[Sequence[int]] = (1,)
    orders: ClassVar[Sequence[float]] = (1.0, 2.0, 3.0, 6.0)

    @property
    def turn(self) -> float:
        """Radians that a unit of the values stands for."""
        return 2 * math.pi / self.period

    def direction(self, x: Tensor, harmonic: int = 1) -> Tensor:
        """Cosines and sines of values, `(B, ..., 2 C)`."""
        angle = harmonic * self.turn * x
        return torch.cat([angle.cos(), angle.sin()], -1)

    def tangent(self, v: Tensor, mask: Tensor) -> Tensor:
        # Noise lives on the line and is wrapped once it is added.
        return v * self.valid(mask)

    def x0_mean(self, params: Tensor) -> Tensor:
        cosine, sine = params.chunk(2, -1)
        return torch.atan2(sine, cosine) / self.turn

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        # Half the squared first coefficient of the series, twice: all others are far smaller.
        return self.dimension(mask) * math.exp(-((self.turn * self.schedule.high) ** 2))
