"""Densities of single numbers under a network's outputs: what a decoder says about each entry of a field.

A density is made from raw outputs `(..., P)` and speaks about values `(...)`. Draws invert the
distribution at given uniforms `(..., 2)`, so that all randomness stays an argument.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F


@final
@dataclass(frozen=True)
class Sharpen:
    """How draws are made more probable than the density says.

    Arguments:
        temperature: above 0; logits are divided by it, continuous spreads multiplied.
        top_k: only the k most probable classes (or components) remain; 0 keeps all.
        top_p: only the smallest set of classes with at least this probability remains, in (0, 1].
        real_temperature: of mixtures, if it is not that of classes.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    real_temperature: float | None = None

    @property
    def reals(self) -> Sharpen:
        """How mixtures are drawn from."""
        return self if self.real_temperature is None else replace(self, temperature=self.real_temperature)

    def logits(self, logits: Tensor) -> Tensor:
        """The logits after temperature, top-k and top-p, in this order."""
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k, -1).values[..., -1:]
            logits = logits.masked_fill(logits < least, -math.inf)
        if self.top_p < 1:
            ranked, order = logits.sort(-1, descending=True)
            p = ranked.softmax(-1)
            # A class stays if those before it have not reached the mass yet; the first always stays.
            beyond = p.cumsum(-1) - p >= self.top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)
        return logits


PLAIN = Sharpen()
"""Draws as the density says."""


def pick(weights: Tensor, u: Tensor) -> Tensor:
    """A class by inversion of unnormalised weights `(..., K)` at uniforms `u` `(...)`.

    Example:
        >>> pick(torch.tensor([1.0, 0.0, 3.0]), torch.tensor(0.2)), pick(torch.ones(4), torch.tensor(0.6))
        (tensor(0), tensor(2))
    """
    edges = weights.cumsum(-1)
    # A class without weight has an empty interval, so rounding never picks it but at the very end.
    index = (u[..., None] * edges[..., -1:] >= edges).sum(-1)
    return index.clamp_max(weights.shape[-1] - 1)


class Density(ABC):
    """The distribution of one number per entry."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p of values `(...)`, in nats."""

    @abstractmethod
    def draw(self, u: Tensor, how: Sharpen = PLAIN) -> Tensor:
        """Values `(...)` by inversion at uniforms `(..., 2)`."""

    @abstractmethod
    def centre(self) -> Tensor:
        """The value `(...)` that stands for all: the median, a mean direction, the most probable class."""


@final
class Discrete(Density):
    """A class out of K.

    Arguments:
        logits: `(..., K)`.

    Example:
        >>> Discrete(torch.zeros(4)).log_prob(torch.tensor(2)).exp()
        tensor(0.2500)
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def log_prob(self, x: Tensor) -> Tensor:
        return -F.cross_entropy(
            self.logits.movedim(-1, 1) if x.dim() else self.logits, x.long(), reduction="none"
        )

    def draw(self, u: Tensor, how: Sharpen = PLAIN) -> Tensor:
        return pick(how.logits(self.logits).softmax(-1), u[..., 0])

    def centre(self) -> Tensor:
        return self.logits.argmax(-1)


class Mixture(Density):
    """A mixture of M components with a location and a scale each.

    Arguments:
        raw: `(..., 3 M)`: logits, locations, logarithms of scales, in a unit in which the data have
            mean 0 and standard deviation 1.
        shift, scale: the data's mean and standard deviation.
        floor: smallest scale of a component, in the data's unit.
    """

    def __init__(self, raw: Tensor, shift: float, scale: float, floor: float) -> None:
        self.logits, place, spread = raw.chunk(3, -1)
        # The locations start apart, or all components would learn the same.
        m = place.shape[-1]
        grid = torch.linspace(-1.5, 1.5, m, dtype=raw.dtype, device=raw.device) if m > 1 else 0.0
        self.place = shift + scale * (place + grid)
        self.spread = floor + scale * F.softplus(spread)

    @abstractmethod
    def below(self, x: Tensor) -> Tensor:
        """The probability of less than `x` `(...)`."""

    def median(self) -> Tensor:
        """The value that half of the mass is below, `(...)`; sharper than the mean where modes are apart."""
        # At the least location no component has more than half of its mass below, at the largest no less.
        low, high = self.place.amin(-1), self.place.amax(-1)
        for _ in range(20):
            middle = (low + high) / 2
            under = self.below(middle) < 0.5
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
        return (low + high) / 2

    def _component(self, u: Tensor, how: Sharpen) -> tuple[Tensor, Tensor]:
        """Location and sharpened scale of a component drawn, `(...)` each."""
        k = pick(how.logits(self.logits).softmax(-1), u[..., 0])[..., None]
        return self.place.gather(-1, k).squeeze(-1), how.temperature * self.spread.gather(-1, k).squeeze(-1)


@final
class Gaussians(Mixture):
    r"""A mixture of Gaussians on the line, or wrapped around a circle.

    .. math:: p(x) = \sum_m \pi_m \sum_{k} N(x + k L; \mu_m, s_m^2)

    with k = 0 on the line and k = -1, 0, 1 around a circle of circumference L (wider components lose
    what lies beyond, so that the density on the circle is a lower bound).

    Arguments:
        raw, shift, scale, floor: as for `Mixture`.
        period: L; None on the line.

    Example:
        >>> flat = Gaussians(torch.zeros(3), shift=0.0, scale=1.0, floor=0.0)
        >>> bool(flat.log_prob(torch.tensor(5.0)) < flat.log_prob(torch.tensor(0.0)))
        True
    """

    def __init__(
        self, raw: Tensor, shift: float, scale: float, floor: float, period: float | None = None
    ) -> None:
        super().__init__(raw, shift, scale, floor)
        self.period = period

    def log_prob(self, x: Tensor) -> Tensor:
        gap = x[..., None] - self.place
        if self.period is None:
            kernel = self._kernel(gap)
        else:
            gap = torch.remainder(gap + self.period / 2, self.period) - self.period / 2
            lifts = [self._kernel(gap + k * self.period) for k in (-1, 0, 1)]
            kernel = torch.stack(lifts).logsumexp(0)
        return (self.logits.log_softmax(-1) + kernel).logsumexp(-1)

    def _kernel(self, gap: Tensor) -> Tensor:
        return -0.5 * (gap / self.spread) ** 2 - self.spread.log() - 0.5 * math.log(2 * math.pi)

    def draw(self, u: Tensor, how: Sharpen = PLAIN) -> Tensor:
        place, spread = self._component(u, how.reals)
        x: Tensor = place + spread * torch.special.ndtri(u[..., 1].clamp(1e-6, 1 - 1e-6))
        if self.period is None:
            return x
        wrapped: Tensor = torch.remainder(x + self.period / 2, self.period) - self.period / 2
        return wrapped

    def below(self, x: Tensor) -> Tensor:
        each: Tensor = torch.special.ndtr((x[..., None] - self.place) / self.spread)
        return (self.logits.softmax(-1) * each).sum(-1)

    def centre(self) -> Tensor:
        if self.period is None:
            return self.median()
        # The mean direction; a component's resultant shrinks with its spread.
        turn = 2 * math.pi / self.period
        share = self.logits.softmax(-1) * torch.exp(-0.5 * (turn * self.spread) ** 2)
        y, x = ((share * part(turn * self.place)).sum(-1) for part in (torch.sin, torch.cos))
        return torch.atan2(y, x) / turn


class LogisticMixture(Mixture):
    r"""A mixture of logistic distributions over levels, each of which has an interval of the line.

    .. math:: P(k) = \sum_m \pi_m [F_m(b_k) - F_m(a_k)], \qquad F_m(x) = \sigma((x - \mu_m) / s_m)
    """

    @abstractmethod
    def level(self, x: Tensor) -> Tensor:
        """The value in [-1, 1] of the level whose interval holds a point of the line."""

    def draw(self, u: Tensor, how: Sharpen = PLAIN) -> Tensor:
        place, spread = self._component(u, how.reals)
        return self.level(place + spread * torch.logit(u[..., 1].clamp(1e-6, 1 - 1e-6)))

    def centre(self) -> Tensor:
        return self.level(self.median())

    def below(self, x: Tensor) -> Tensor:
        return (self.logits.softmax(-1) * ((x[..., None] - self.place) / self.spread).sigmoid()).sum(-1)

    @staticmethod
    def between(a: Tensor, b: Tensor, width: Tensor) -> Tensor:
        """log(F(b) - F(a)) of the standard logistic, exact in both tails; `width` is b - a."""
        return F.logsigmoid(b) + F.logsigmoid(-a) + torch.log(-torch.expm1(-width))


@final
class Logistics(LogisticMixture):
    r"""A mixture of logistic distributions over equidistant levels in [-1, 1].

    .. math:: P(x) = \sum_m \pi_m [F_m(x + h) - F_m(x - h)]

    with F the logistic distribution function and 2h the distance of levels; the outermost levels take
    the tails, so that the probabilities sum to one.

    Arguments:
        raw, shift, scale, floor: as for `Mixture`.
        levels: number of levels.

    Source: Salimans et al., PixelCNN++ (2017).

    Example:
        >>> levels = torch.linspace(-1, 1, 5)
        >>> p = Logistics(torch.ones(6), 0.0, 0.5, 0.0, 5)
        >>> round(float(sum(p.log_prob(x).exp() for x in levels)), 5)
        1.0
    """

    def __init__(self, raw: Tensor, shift: float, scale: float, floor: float, levels: int) -> None:
        super().__init__(raw, shift, scale, floor)
        self.levels = levels

    def log_prob(self, x: Tensor) -> Tensor:
        half = 1 / (self.levels - 1)
        x = x[..., None]
        above = (x - half - self.place) / self.spread
        below = (x + half - self.place) / self.spread
        inside = self.between(above, below, below - above)
        lowest, highest = F.logsigmoid(below), F.logsigmoid(-above)
        mass = torch.where(x < half - 1, lowest, torch.where(x > 1 - half, highest, inside))
        return (self.logits.log_softmax(-1) + mass).logsumexp(-1)

    def level(self, x: Tensor) -> Tensor:
        step = 2 / (self.levels - 1)
        return ((x + 1) / step).round().clamp(0, self.levels - 1) * step - 1


@final
class LogisticCells(LogisticMixture):
    r"""A mixture of logistic distributions over cells as probable as the levels are frequent.

    .. math:: P(k) = \sum_m \pi_m [F_m(e_{k+1}) - F_m(e_k)], \qquad e_k = \mathrm{logit} \sum_{j < k} p_j

    with F the logistic distribution function and p the shares of K equidistant levels in [-1, 1]. One
    standard logistic gives the shares themselves, whatever their spikes: only how far an entry is from them
    is left to be learned.

    Arguments:
        raw: as for `Mixture`.
        shares: of the levels, `(K,)`, positive, in float64; they sum to one.

    Source: after Salimans et al., PixelCNN++ (2017); for the cells see
    `molgen.core.capabilities.dequantization`.

    Example:
        >>> shares = torch.tensor([0.7, 0.1, 0.2], dtype=torch.float64)
        >>> p = LogisticCells(torch.tensor([0.0, 0.0, 0.5413]), shares)  # softplus(0.5413) is 1
        >>> [round(float(p.log_prob(torch.tensor(x)).exp()), 3) for x in (-1.0, 0.0, 1.0)]
        [0.7, 0.1, 0.2]
    """

    def __init__(self, raw: Tensor, shares: Tensor) -> None:
        super().__init__(raw, 0.0, 1.0, 1e-3)
        inner = torch.logit(shares.cumsum(0)[:-1].clamp(_RARE, 1 - _RARE))
        # The outermost cells take the tails; infinite edges would have no gradient.
        edges = F.pad(F.pad(inner, (1, 0), value=-_FAR), (0, 1), value=_FAR).to(raw.device)
        self.edges, self.widths = edges.to(raw.dtype), edges.diff().to(raw.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        last = len(self.widths) - 1
        k = ((x + 1) / 2 * last).round().long().clamp(0, last)
        low = (self.edges[k][..., None] - self.place) / self.spread
        high = (self.edges[k + 1][..., None] - self.place) / self.spread
        mass = self.between(low, high, self.widths[k][..., None] / self.spread)
        return (self.logits.log_softmax(-1) + mass).logsumexp(-1)

    def level(self, x: Tensor) -> Tensor:
        k = torch.searchsorted(self.edges[1:-1].contiguous(), x.contiguous(), right=True)
        return (2 / (len(self.widths) - 1) * k - 1).to(x.dtype)


_RARE = 1e-12
"""The least probability beyond an edge of a cell, so that rounding makes no edge infinite."""

_FAR = 1e4
"""Where the outermost cells end: no logistic reaches so far."""
