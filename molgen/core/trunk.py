"""The wall between the core's roles and the networks: three streams in, three streams out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn


@final
@dataclass(frozen=True)
class TrunkSpec:
    """What a role feeds a trunk and reads from it.

    Arguments:
        site: channels of the site stream, 0 if there is none.
        pair: channels of the pair stream, 0 if there is none.
        point: number of point sets (0 if there are none): noisy coordinates first, then e.g. the
            self-conditioning estimate.
        context: channels of the global vector (noise levels, conditions).
        pair_out: whether the role reads features of pairs.
        point_out: whether the role reads a displacement per site.
        pooled: whether the role takes the mean over sites; a trunk over a grid may then give features of
            coarser cells.
        calls: how often the role runs the trunk on one sample; the more often, the smaller a modality's
            default should be.
        causal: whether a site may see only sites up to itself, and the trunk is a `CausalTrunk`.
    """

    site: int = 0
    pair: int = 0
    point: int = 0
    context: int = 0
    pair_out: bool = False
    point_out: bool = False
    pooled: bool = False
    calls: int = 1
    causal: bool = False


@final
@dataclass(frozen=True)
class Streams:
    """Features on sites, on pairs of sites, and coordinates.

    Arguments:
        site: `(B, *extent, C)`, or None.
        pair: `(B, N, N, P)`, symmetric, or None.
        point: input `(B, N, S, 3)` for S point sets; output `(B, N, 3)` displacements; or None.
    """

    site: Tensor | None = None
    pair: Tensor | None = None
    point: Tensor | None = None


class Trunk(nn.Module, ABC):
    """A network from streams, a mask and a context to streams of features.

    Constructed by a modality for a `TrunkSpec`. Output channels are `width` on sites and
    `pair_width` on pairs; the core adds the heads. Padding in the input never changes real sites.
    """

    width: int
    pair_width: int

    @abstractmethod
    def forward(self, streams: Streams, mask: Tensor, context: Tensor | None) -> Streams:
        """Features of every site (and pair, and displacement where the spec asks for them).

        Where the spec says `pooled`, sites may be those of a coarser grid.

        Arguments:
            streams: input features, with the channels of the spec.
            mask: real sites, `(B, *extent)`.
            context: `(B, spec.context)`, or None where the spec has none.
        """


class CausalTrunk(Trunk):
    """A trunk over a sequence of sites, each of which sees only sites up to itself.

    It can be run site by site: `extend` gives what `forward` gives, at the cost of one site. If `shares`,
    sequences that begin alike can be run as one until they part.
    """

    shares: ClassVar[bool] = False
    """Whether `pick` is there, and worth its copies."""

    @abstractmethod
    def begin(self, mask: Tensor, context: Tensor | None) -> Any:
        """What is remembered of a sequence that is about to be written, of real sites `(B, N)`."""

    @abstractmethod
    def extend(self, site: Tensor, memory: Any) -> Tensor:
        """The features `(B, width)` of the next site, given its channels `(B, C)`; updates the memory."""

    def pick(self, memory: Any, index: Tensor) -> Any:
        """The memory of the sequences `(R,)` that an index names, each as often as it is named."""
        raise NotImplementedError(f"{type(self).__name__} does not share: its `shares` must stay False")
