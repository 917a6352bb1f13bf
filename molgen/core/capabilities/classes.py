"""Classes as units of a Boltzmann machine."""

from __future__ import annotations

from abc import ABC
from typing import final

from torch import Tensor
from torch.nn import functional as F

from molgen.core.capabilities.capability import Capability
from molgen.core.fields.categorical import Categorical


class Classes(Capability[Categorical], ABC):
    """Values that are one of several classes."""

    what = "classes"

    @property
    def num_classes(self) -> int:
        """Classes that an entry is one of."""
        return self.field.classes

    def unique_mask(self, mask: Tensor) -> Tensor:
        """Which entries are real, `(B, ...)`; of a symmetric pair only one."""
        valid = self.field.valid(mask)
        return valid.triu(1) if self.field.axes == 2 else valid

    def one_hot(self, x: Tensor) -> Tensor:
        """Classes `(...)` as `(..., num_classes)`."""
        return F.one_hot(x.long(), self.num_classes).float()

    def argmax(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The value of the largest scores `(B, ..., num_classes)`."""
        return self.field.project(scores.argmax(-1), mask)


@Classes.register(Categorical)
@final
class TokenClasses(Classes):
    """Of tokens, as above."""
