"""What training passes to a loss: how far it is, and where numbers are logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor


def _ignore(name: str, value: Tensor) -> None:
    """Logs nothing."""


@final
@dataclass(frozen=True)
class TrainingStep:
    """The step of training at which a loss is computed.

    Arguments:
        progress: share of the training budget that is spent, in [0, 1], for losses that change with it.
        log: `log(name, value)` records a number that belongs in the log and not in the loss.
    """

    progress: float = 1.0
    log: Callable[[str, Tensor], None] = _ignore


TRAINED = TrainingStep()
"""The end of training, without a log."""
