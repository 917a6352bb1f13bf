"""What annealed importance sampling says of a normalising constant."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor


class Partition(NamedTuple):
    """An estimate of log Z in nats, with the logarithms of Z -+ three standard errors."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, log_w: Tensor, base: float = 0.0, clusters: Tensor | None = None) -> Self:
        r"""From the logarithms of the weights of chains, `(C,)`.

        .. math:: Z \approx \frac{Z_0}{C} \sum_c w_c

        Arguments:
            log_w: the logarithms.
            base: :math:`\log Z_0`, of where the chains began.
            clusters: the cluster of each chain, `(C,)` from 0; only chains of different ones are
                independent. By default all are.

        Source: Neal, Annealed Importance Sampling (2001).

        Example:
            >>> import torch
            >>> Partition.of(torch.tensor([2.0, 2.0]), base=1.0)
            Partition(value=3.0, low=3.0, high=3.0)
        """
        top = log_w.double().max()
        w = (log_w.double() - top).exp()
        cluster = torch.arange(len(w)) if clusters is None else clusters
        count = int(cluster.max()) + 1
        # The variance of a mean over clusters: the sum over those of squared sums within.
        apart = w.new_zeros(count).index_add(0, cluster.to(w.device), w / w.mean() - 1)
        error = float(apart.norm()) / len(w) * math.sqrt(count / (count - 1)) if count > 1 else math.inf
        value = base + float(top + w.mean().log())
        low = math.log1p(-3 * error) if 3 * error < 1 else -math.inf
        return cls(value, value + low, value + math.log1p(3 * error))

    def inverse(self) -> Self:
        """Of 1 / Z."""
        return type(self)(-self.value, -self.high, -self.low)


class Bounds(NamedTuple):
    r"""log Z from both ends: forward errs downwards, reverse upwards.

    .. math:: E[\log \hat Z] \le \log Z \le -E[\log \widehat{1 / Z}]

    by Jensen's inequality, the second if the reverse chains begin at samples of the model. How far the two
    are apart bounds the error of either.

    Source: Grosse, Ghahramani and Adams, Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo
    (2015); Burda, Grosse and Salakhutdinov, Accurate and Conservative Estimates of MRF Log-likelihood Using
    Reverse Annealing (2015).
    """

    forward: Partition
    reverse: Partition

    @property
    def gap(self) -> float:
        """Nats from the forward estimate to the reverse one."""
        return self.reverse.value - self.forward.value

    @property
    def agree(self) -> bool:
        """Whether the two intervals of three standard errors meet."""
        return self.reverse.low <= self.forward.high and self.forward.low <= self.reverse.high


@runtime_checkable
class Bounded(Protocol):
    """A model whose log Z is estimated from both ends."""

    def log_partition_bounds(self, *, chains: int, temperatures: int, seed: int = 0) -> Bounds:
        """log Z in nats by annealed importance sampling, forward and in reverse."""
        ...
