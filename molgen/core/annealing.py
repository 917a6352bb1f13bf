"""What annealed importance sampling says of a normalising constant."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from torch import Tensor


class Partition(NamedTuple):
    """An estimate of log Z in nats, with the logarithms of Z -+ three standard errors."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, log_w: Tensor, base: float = 0.0) -> Self:
        r"""From the logarithms of the weights of independent chains, `(C,)`.

        .. math:: Z \approx \frac{Z_0}{C} \sum_c w_c

        Arguments:
            log_w: the logarithms.
            base: :math:`\log Z_0`, of where the chains began.

        Source: Neal, Annealed Importance Sampling (2001).

        Example:
            >>> import torch
            >>> Partition.of(torch.tensor([2.0, 2.0]), base=1.0)
            Partition(value=3.0, low=3.0, high=3.0)
        """
        top = log_w.double().max()
        w = (log_w.double() - top).exp()
        error = float(w.std() / w.mean() / math.sqrt(len(w))) if len(w) > 1 else math.inf
        value = base + float(top + w.mean().log())
        low = math.log1p(-3 * error) if 3 * error < 1 else -math.inf
        return cls(value, value + low, value + math.log1p(3 * error))

    def inverse(self) -> Self:
        """Of 1 / Z."""
        return type(self)(-self.value, -self.high, -self.low)
