"""Noise schedules: global time in [0, 1] to the noise level of one field.

Time 1 is pure noise and time 0 is data. A field may live in a window of the global time: before its
window opens (sampling runs from 1 to 0) it is pure noise, after the window closes it is data, so one
model can resolve one field before another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from molgen.core.errors import ConfigError


@final
@dataclass(frozen=True)
class Window:
    """The part of global time in which a field changes.

    Arguments:
        start: where the field is data, in [0, 1).
        end: where the field is pure noise, in (start, 1].

    Example:
        >>> Window(0.5, 1.0).local(torch.tensor([0.25, 0.5, 0.75, 1.0])).tolist()
        [0.0, 0.0, 0.5, 1.0]
    """

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ConfigError(f"window ({self.start}, {self.end}): expected 0 <= start < end <= 1")

    def local(self, t: Tensor) -> Tensor:
        """Time inside the window, clamped to [0, 1]."""
        return ((t - self.start) / (self.end - self.start)).clamp(0, 1)

    def active(self, t: Tensor) -> Tensor:
        """Whether the field is partly noise and still resolving at this time."""
        return (t > self.start) & (t <= self.end)


@final
@dataclass(frozen=True)
class GaussianSchedule:
    r"""Noise of standard deviation sigma(t) added to data, levels evenly spaced in sigma^(1/rho).

    .. math:: \sigma(t) = (\sigma_{min}^{1/\rho} + t (\sigma_{max}^{1/\rho} - \sigma_{min}^{1/\rho}))^\rho,
              \quad \sigma(0) = 0

    Arguments:
        low, high: smallest and largest standard deviation, in the unit of the data.
        rho: how much the levels crowd at low noise.
        window: where in global time the field changes.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022).

    Example:
        >>> GaussianSchedule(0.002, 80.0).sigma(torch.tensor([0.0, 1.0])).round().tolist()
        [0.0, 80.0]
    """

    low: float
    high: float
    rho: float = 7.0
    window: Window = Window()

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation at time `t`; exactly zero once the window has closed."""
        u = self.window.local(t)
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        level: Tensor = (low + u * (high - low)) ** self.rho
        return torch.where(u > 0, level, torch.zeros_like(level))

    def local(self, sigma: float) -> float:
        """The time within the window at which the noise has this standard deviation."""
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        share: float = (sigma ** (1 / self.rho) - low) / (high - low)
        return min(max(share, 0.0), 1.0)


@final
@dataclass(frozen=True)
class StraightSchedule:
    r"""Noise levels of the straight path from data to standard normal noise.

    .. math:: z_t = (1 - t) z_0 + t \varepsilon, \quad z_t / (1 - t) = z_0 + \sigma(t) \varepsilon,
              \quad \sigma(t) = s \frac{t}{1 - t}

    so that the path of flow matching is the noising process seen in other coordinates. It ends at the
    largest noise, a little before there is nothing but noise.

    Arguments:
        scale: s, the standard deviation of the noise at the path's far end, in the unit of the data.
        high: largest noise in data coordinates, at time 1.
        window: where in global time the field changes.

    Source: Lipman et al., Flow Matching for Generative Modeling (2023).

    Example:
        >>> StraightSchedule(1.0, 9.0).sigma(torch.tensor([0.0, 5 / 9, 1.0])).round(decimals=4).tolist()
        [0.0, 1.0, 9.0]
    """

    scale: float
    high: float
    window: Window = Window()

    @property
    def low(self) -> float:
        """The smallest noise that a network is asked about."""
        return 1e-3 * self.scale

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation at time `t`."""
        u = self.window.local(t) * self._end
        return self.scale * u / (1 - u)

    def local(self, sigma: float) -> float:
        """The time within the window at which the noise has this standard deviation."""
        return min(sigma / (sigma + self.scale) / self._end, 1.0)

    @property
    def _end(self) -> float:
        return self.high / (self.high + self.scale)


@final
@dataclass(frozen=True)
class JumpSchedule:
    r"""A token keeps its value up to time t with probability alpha(t) = 1 - t, else it is redrawn.

    Arguments:
        window: where in global time the field changes.

    Source: Austin et al., Structured Denoising Diffusion Models in Discrete State-Spaces (2021).
    """

    window: Window = Window()

    def alpha(self, t: Tensor) -> Tensor:
        """The probability of having kept the value up to time `t`."""
        return 1 - self.window.local(t)
