"""Embeddings: every value as reals under Gaussian noise, through which gradients flow."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, final

from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.fields.categorical import Categorical
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.simplex import Simplex

Path = Literal["data", "linear"]


class Embedding(Capability[Any]):
    """Values as reals: classes become one-hot vectors, reals stay what they are."""

    what = "embedding in reals"

    def continuous(self, path: Path = "data") -> GaussianField:
        r"""The same field over reals under Gaussian noise.

        Arguments:
            path: ``"linear"`` lets the noise follow :math:`\sigma(t) = t / (1 - t)` in the unit of the field,
                for reals the data's standard deviation: the straight paths of flow matching. ``"data"`` is
                the field's own schedule.
        """
        field = self._reals()
        return field.linear() if path == "linear" else field

    @abstractmethod
    def embed(self, x: Tensor, mask: Tensor) -> Tensor:
        """Values of this field as values of the continuous one."""

    @abstractmethod
    def round(self, reals: Tensor, mask: Tensor) -> Tensor:
        """The value nearest to reals; `round(embed(x)) == x`."""

    @abstractmethod
    def _reals(self) -> GaussianField:
        """The continuous field with its own schedule."""


@Embedding.register(GaussianField)
@final
class RealEmbedding(Embedding):
    """Reals stay what they are."""

    field: GaussianField

    def embed(self, x: Tensor, mask: Tensor) -> Tensor:
        return x

    def round(self, reals: Tensor, mask: Tensor) -> Tensor:
        return self.field.project(reals, mask)

    def _reals(self) -> GaussianField:
        return self.field


@Embedding.register(Categorical)
@final
class OneHotEmbedding(Embedding):
    """Classes as vectors of -1 and one 1."""

    field: Categorical

    def embed(self, x: Tensor, mask: Tensor) -> Tensor:
        f = self.field
        return (2 * F.one_hot(x.long(), f.classes).float() - 1) * f.valid(mask)[..., None]

    def round(self, reals: Tensor, mask: Tensor) -> Tensor:
        return self.field.project(reals.argmax(-1), mask)

    def _reals(self) -> Simplex:
        f = self.field
        return Simplex(
            f.classes,
            pairs=f.axes == 2,
            frequencies=f.frequencies.tolist(),
            window=(f.window.start, f.window.end),
            weight=f.weight,
        )
