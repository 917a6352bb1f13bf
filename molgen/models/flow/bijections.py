"""Bijections of the reals of all fields, each with its inverse and the logarithm of its determinant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, final

import torch
from torch import Tensor, nn

from molgen.core.solvers import State
from molgen.nn.spline import spline, spline_outputs


@final
@dataclass(frozen=True)
class FlowContext:
    """Where the reals stand, and what is known besides.

    Arguments:
        mask: real sites, `(B, *extent)`.
        weight: per field `(B, ..., 1)`: 1 on a real site, 1/2 on both places of a pair, else 0.
        labels: conditions, `(B,)` each.
    """

    mask: Tensor
    weight: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]

    def total(self, name: str, per_real: Tensor) -> Tensor:
        """The sum over the reals of a field, each once, `(B,)`."""
        return (per_real * self.weight[name]).flatten(1).sum(1)

    def only(self, name: str, x: Tensor) -> Tensor:
        """The reals with zero on padding."""
        return x * (self.weight[name] > 0)

    def coarse(self) -> FlowContext:
        """The blocks of 2 x 2 sites of a grid."""
        weight = {k: v[:, ::2, ::2] for k, v in self.weight.items()}
        return replace(self, mask=self.mask[:, ::2, ::2], weight=weight)


class Bijection(nn.Module, ABC):
    """An invertible map of the reals of all fields, `(B, ..., C)` each; padding stays zero."""

    @abstractmethod
    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        """The image, and the logarithm of the determinant of the Jacobian, `(B,)`."""

    @abstractmethod
    def inverse(self, z: State, sites: FlowContext) -> State:
        """What `forward` takes to `z`."""

    def variational_dequantize(
        self, u: State, middle: Callable[[], State], sites: FlowContext
    ) -> tuple[State, Tensor]:
        """Where in their cells values lie, in (0, 1), and the log-density of that, `(B,)`; uniform here.

        Arguments:
            u: uniform in (0, 1), of the discrete fields.
            middle: gives the reals in the middle of each value's cell.
        """
        return u, torch.zeros(sites.mask.shape[0], device=sites.mask.device)


@final
class Chain(Bijection):
    """Bijections one after the other."""

    def __init__(self, *steps: Bijection) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        total = torch.zeros(sites.mask.shape[0], device=sites.mask.device)
        for step in self.steps:
            z, log_det = step(z, sites)
            total = total + log_det
        return z, total

    def inverse(self, z: State, sites: FlowContext) -> State:
        for step in reversed(self.steps):
            assert isinstance(step, Bijection)
            z = step.inverse(z, sites)
        return z


@final
class Coarse(Bijection):
    """A bijection of blocks of 2 x 2 sites of a grid, whose reals become channels of one site (squeeze)."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        z, log_det = self.inner({k: _squeezed(v) for k, v in z.items()}, sites.coarse())
        return {k: _spread(v) for k, v in z.items()}, log_det

    def inverse(self, z: State, sites: FlowContext) -> State:
        z = self.inner.inverse({k: _squeezed(v) for k, v in z.items()}, sites.coarse())
        return {k: _spread(v) for k, v in z.items()}


_COLOURS = [0, 3, 2, 1]
"""The sites of a block in an order in which both halves are colours of a checkerboard; its own inverse."""


def _squeezed(x: Tensor) -> Tensor:
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).flatten(3, 4)
    return blocks[..., _COLOURS, :].flatten(3)


def _spread(x: Tensor) -> Tensor:
    b, h, w, c = x.shape
    blocks = x.reshape(b, h, w, 4, c // 4)[..., _COLOURS, :].reshape(b, h, w, 2, 2, c // 4)
    return blocks.permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


@final
class Half(Bijection):
    """A bijection of the second half of the channels; the first is factored out as it is."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        out, rest = _halves(z)
        rest, log_det = self.inner(rest, sites)
        return {k: torch.cat([out[k], rest[k]], -1) for k in z}, log_det

    def inverse(self, z: State, sites: FlowContext) -> State:
        out, rest = _halves(z)
        rest = self.inner.inverse(rest, sites)
        return {k: torch.cat([out[k], rest[k]], -1) for k in z}


def _halves(z: State) -> tuple[State, State]:
    out = {k: v[..., : v.shape[-1] // 2] for k, v in z.items()}
    return out, {k: v[..., v.shape[-1] // 2 :] for k, v in z.items()}


_GAIN = 5.0
"""How many times faster a factor is learned than a weight."""


@final
class Scaling(Bijection):
    """Every real times its own factor: one for each of the given shape, e.g. `(*extent, C)` or `(C,)`."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        # Keys are prefixed: a field may be named like an attribute of a module.
        self.log_scale = nn.ParameterDict(
            {f"field_{k}": nn.Parameter(torch.zeros(*shape)) for k, shape in shapes.items()}
        )

    def _log(self, name: str) -> Tensor:
        # Nothing else may change the volume: at steps of the usual size it would take thousands.
        log_factor: Tensor = _GAIN * self.log_scale[f"field_{name}"]
        return log_factor

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        scaled = {k: v * self._log(k).exp() for k, v in z.items()}
        parts = [sites.total(k, self._log(k).expand_as(v)) for k, v in z.items()]
        return scaled, torch.stack(parts).sum(0)

    def inverse(self, z: State, sites: FlowContext) -> State:
        return {k: v * self._log(k).neg().exp() for k, v in z.items()}


@final
class _Affine(nn.Module):
    """:math:`y = W x + b` of one field's channels, with W as a product of triangular matrices."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def factors(self) -> tuple[Tensor, Tensor]:
        """L with ones on its diagonal, and U."""
        unit = torch.eye(len(self.shift), dtype=self.shift.dtype, device=self.shift.device)
        return self.lower.tril(-1) + unit, self.upper.triu(1) + self.log_scale.exp().diag()


@final
class Mixing(Bijection):
    r"""An invertible linear map of the channels of each site, and a shift.

    .. math:: z = L U x + b, \quad \log |\det| = \sum_i \log U_{ii}

    U's diagonal and b are what an activation normalisation before it would add; the reals of a field have
    zero mean and unit variance to begin with, so the map starts at the identity. Nothing permutes the
    channels: the halves of couplings take turns anyway, and the first ones see the data as they are.

    Source: Kingma and Dhariwal, Glow (2018).
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({f"field_{k}": _Affine(c) for k, c in channels.items()})

    def _map(self, name: str) -> _Affine:
        found = self.maps[f"field_{name}"]
        assert isinstance(found, _Affine)
        return found

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        out, parts = {}, []
        for k, x in z.items():
            affine = self._map(k)
            lower, upper = affine.factors()
            out[k] = sites.only(k, x @ (lower @ upper).T + affine.shift)
            parts.append(sites.total(k, affine.log_scale.expand_as(x)))
        return out, torch.stack(parts).sum(0)

    def inverse(self, z: State, sites: FlowContext) -> State:
        out = {}
        for k, y in z.items():
            affine = self._map(k)
            lower, upper = affine.factors()
            rows = (y - affine.shift).flatten(0, -2)
            half = torch.linalg.solve_triangular(lower.T, rows, upper=True, left=False, unitriangular=True)
            x = torch.linalg.solve_triangular(upper.T, half, upper=False, left=False)
            out[k] = sites.only(k, x.reshape(y.shape))
        return out


class Transform(Protocol):
    """A monotone map of one number, given by `outputs` numbers that a network says."""

    @property
    def outputs(self) -> int:
        """Numbers that the network says."""

    def __call__(self, x: Tensor, raw: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """The image and the logarithm of the slope, `(...)` each, from `(...)` and `(..., outputs)`."""


@final
@dataclass(frozen=True)
class Shift:
    """:math:`y = x + m`."""

    outputs: int = 1

    def __call__(self, x: Tensor, raw: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        shift = raw.squeeze(-1)
        return (x - shift if inverse else x + shift), torch.zeros_like(x)


@final
@dataclass(frozen=True)
class Spline:
    """A rational-quadratic spline with so many bins on `[-bound, bound]`."""

    bins: int
    bound: float

    @property
    def outputs(self) -> int:
        """Widths, heights and inner slopes."""
        return spline_outputs(self.bins)

    def __call__(self, x: Tensor, raw: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        return spline(x, raw, self.bound, inverse)


Partition = Callable[[Tensor, int], Tensor]
"""Which reals `(B, ..., C)` a layer sees; the others it changes. Symmetric on pairs."""


def alternating(x: Tensor, layer: int) -> Tensor:
    """Reals at even places and at odd ones in turn; a real's place is the sum of its indices."""
    return ((_places(x) + torch.arange(x.shape[-1], device=x.device) + layer) % 2 == 0).expand_as(x)


def halving(x: Tensor, layer: int) -> Tensor:
    """The second half of the channels, the first half, sites at even places, at odd ones, in turn."""
    channels = x.shape[-1]
    if layer % 4 >= 2 or channels == 1:
        return ((_places(x) + layer) % 2 == 0).expand_as(x)
    first = torch.arange(channels, device=x.device) < channels // 2
    return (~first if layer % 2 == 0 else first).expand_as(x)


def _places(x: Tensor) -> Tensor:
    """The sum of the indices of a site, or of the two of a pair, `(..., 1)`."""
    places = torch.zeros(1, dtype=torch.long, device=x.device)
    for n in x.shape[1:-1]:
        places = places[..., None] + torch.arange(n, device=x.device)
    return places[0][..., None]


@final
class Coupling(Bijection):
    r"""A stack of layers, in each of which one half is transformed given the other.

    .. math:: y_A = x_A, \quad y_B = f(x_B; m(x_A))

    Arguments:
        conditioner: m, a module from `(z, seen, layer, mask, labels)` to raw parameters of all reals.
        layers: how many.
        transform: f.
        partition: which half is A.
        mixings: a bijection before each layer, or none.

    Source: Dinh et al., NICE (2014).
    """

    def __init__(
        self,
        conditioner: nn.Module,
        layers: int,
        transform: Transform,
        partition: Partition,
        mixings: Sequence[Bijection] = (),
    ) -> None:
        super().__init__()
        self.conditioner, self.layers = conditioner, layers
        self.transform, self.partition = transform, partition
        self.mixings = nn.ModuleList(mixings)

    def _layer(self, z: State, layer: int, sites: FlowContext, inverse: bool) -> tuple[State, Tensor]:
        seen = {k: self.partition(v, layer) for k, v in z.items()}
        raw = self.conditioner(z, seen, layer, sites.mask, sites.labels)
        out, parts = {}, []
        for k, x in z.items():
            # Which reals change is the same for all samples.
            index = (~seen[k][0]).flatten().nonzero().squeeze(1)
            flat, params = x.flatten(1), raw[k].flatten(1, -2)
            y, log_slope = self.transform(flat[:, index], params[:, index].to(x), inverse)
            out[k] = sites.only(k, flat.index_copy(1, index, y).reshape(x.shape))
            slopes = torch.zeros_like(flat).index_copy(1, index, log_slope).reshape(x.shape)
            parts.append(sites.total(k, slopes))
        return out, torch.stack(parts).sum(0)

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        total = torch.zeros(sites.mask.shape[0], device=sites.mask.device)
        for layer in range(self.layers):
            if self.mixings:
                z, log_det = self.mixings[layer](z, sites)
                total = total + log_det
            z, log_det = self._layer(z, layer, sites, inverse=False)
            total = total + log_det
        return z, total

    def inverse(self, z: State, sites: FlowContext) -> State:
        for layer in reversed(range(self.layers)):
            z, _ = self._layer(z, layer, sites, inverse=True)
            if self.mixings:
                mixing = self.mixings[layer]
                assert isinstance(mixing, Bijection)
                z = mixing.inverse(z, sites)
        return z


def beside(x: Tensor, layer: int) -> Tensor:
    """The whole first half of the channels, and of the second half even and odd places in turn."""
    first, second = x.chunk(2, -1)
    return torch.cat([torch.ones_like(first, dtype=torch.bool), alternating(second, layer)], -1)


@final
class Dequantized(Bijection):
    r"""A bijection that is told where in their cells discrete values lie by a flow q(u | x) of its own.

    .. math:: \log p(x) \ge E_{q(u | x)}[\log p(x, u) - \log q(u | x)]

    Arguments:
        inner: the bijection.
        within: maps uniform numbers of [-1, 1] to such, given the middles of the cells; the middles are
            the first half of its channels and stay as they are.
        coarse: whether `within` works on blocks of 2 x 2 sites of a grid.

    Source: Ho et al., Flow++ (2019).
    """

    def __init__(self, inner: Bijection, within: Coupling, coarse: bool) -> None:
        super().__init__()
        self.inner, self.within, self.coarse = inner, within, coarse

    def forward(self, z: State, sites: FlowContext) -> tuple[State, Tensor]:
        out: tuple[State, Tensor] = self.inner(z, sites)
        return out

    def inverse(self, z: State, sites: FlowContext) -> State:
        return self.inner.inverse(z, sites)

    def variational_dequantize(
        self, u: State, middle: Callable[[], State], sites: FlowContext
    ) -> tuple[State, Tensor]:
        parts = {k: (m, 2 * u[k] - 1) for k, m in middle().items()}
        if self.coarse:
            parts, sites = {k: (_squeezed(m), _squeezed(v)) for k, (m, v) in parts.items()}, sites.coarse()
        placed, log_det = self.within({k: torch.cat(both, -1) for k, both in parts.items()}, sites)
        where = {k: v.chunk(2, -1)[1] for k, v in placed.items()}
        if self.coarse:
            where = {k: _spread(v) for k, v in where.items()}
        # Rounding may not leave the cell.
        return {k: ((v + 1) / 2).clamp(1e-6, 1 - 1e-6) for k, v in where.items()}, -log_det
