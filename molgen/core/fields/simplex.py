"""Classes as reals: Gaussian noise on one-hot vectors, and logits as the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from molgen.core.fields.gaussian import GaussianField
from molgen.core.schedules import GaussianSchedule, Window

_DISTANCE = 8**0.5  # of two vertices, for any number of classes


@final
class Simplex(GaussianField):
    r"""Vectors of -1 and one 1 per site or symmetric pair, under Gaussian noise.

    The parameters of p(x0 | x_t) are logits. Masked tokens have no noise left to follow to a value; this
    field is the form of a `Categorical` for families that need gradients or a deterministic path.

    Arguments:
        classes: number of classes K.
        pairs: values on symmetric pairs `(B, N, N, K)` with a zero diagonal.
        frequencies: of the classes in the data; uniform if None.
        noise: smallest and largest noise: below the first no class is in doubt, above the second none is
            known.
        window, weight: as for `Continuous`.

    Source: Dieleman et al., Continuous Diffusion for Categorical Data (2022); Eijkelboom et al.,
    Variational Flow Matching (2024).

    Example:
        >>> field = Simplex(3)
        >>> field.x0_mean(torch.tensor([[[0.0, 9.0, 0.0]]])).round().tolist()
        [[[-1.0, 1.0, -1.0]]]
    """

    def __init__(
        self,
        classes: int,
        *,
        pairs: bool = False,
        frequencies: Sequence[float] | None = None,
        noise: tuple[float, float] = (0.2, 10.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        self.axes, self.stream = (2, "pair") if pairs else (1, "site")
        self.shape = (classes,)
        shares = torch.tensor([1.0] * classes if frequencies is None else list(frequencies))
        self.log_frequencies = (shares / shares.sum()).clamp_min(1e-6).log()
        self.mean, self.sd = 2 / classes - 1, 2 * max(classes - 1, 1) ** 0.5 / classes
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, rho=4.0, window=self.window)

    @property
    def unit(self) -> float:
        # Half the distance of two vertices. The standard deviation is less and says nothing here: noise
        # as small as that leaves no doubt about a class.
        return _DISTANCE / 2

    def valid(self, mask: Tensor) -> Tensor:
        if self.axes == 1:
            return mask[..., None]
        off = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        return (mask[:, :, None] & mask[:, None, :] & off)[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.symmetrize(x) * self.valid(mask)

    def count(self, mask: Tensor) -> Tensor:
        """Places that hold a class in each sample, at least one, `(B,)`; both of a pair count."""
        return self.valid(mask).flatten(1).sum(1).clamp_min(1)

    def x0_mean(self, params: Tensor) -> Tensor:
        return 2 * params.softmax(-1) - 1
