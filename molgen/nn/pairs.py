"""Symmetric pairs stored once: a rectangular packing of the N x N matrix.

The pair {i, j} lives at row i and column k = (j - i) mod N where k <= N / 2: a rectangle `(N, N // 2 +
1)`. It halves the work on pairs, makes their symmetry exact, and needs no scatter. (For even N the last
column holds its pairs twice, with equal values.)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, final

import torch
from torch import Tensor

Places = tuple[Tensor, Tensor, Tensor, Tensor]


def _places(n: int, device: torch.device) -> Places:
    """Flat indices: of each (i, j) in the packing, of (i, i + k) and (i + k, i) in the matrix.

    The last entry marks the places of the packing that also represent (i + k, i).
    """
    # While a network is exported n may be a symbol, which is computed with and not remembered.
    return _find(n, device) if isinstance(n, torch.SymInt) else _known(n, device)


@lru_cache(maxsize=64)
def _known(n: int, device: torch.device) -> Places:
    with torch.inference_mode(False):
        return _find(n, device)


def _find(n: int, device: torch.device) -> Places:
    columns = n // 2 + 1
    i = torch.arange(n, device=device)
    step = (i[None] - i[:, None]) % n
    back = (i[:, None] - i[None]) % n
    own = step < columns
    place = torch.where(own, i[:, None] * columns + step, i[None] * columns + back)
    k = torch.arange(columns, device=device)
    j = (i[:, None] + k) % n
    both = ((n - k) % n >= columns).expand(n, columns)
    return place.flatten(), (i[:, None] * n + j).flatten(), (j * n + i[:, None]).flatten(), both.flatten()


def _take(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """`index_select`, by the faster of two implementations."""
    if axis == x.dim() - 1:
        return x.gather(axis, index.expand(*x.shape[:-1], -1))
    return x.index_select(axis, index)


@final
class _Expand(torch.autograd.Function):
    """Packed `(..., N K, ...)` to `(..., N N, ...)` along an axis."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, n: int, axis: int) -> Tensor:
        ctx.n, ctx.axis = n, axis
        return _take(packed, _places(n, packed.device)[0], axis)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _contract(grads[0], ctx.n, ctx.axis), None, None


@final
class _Contract(torch.autograd.Function):
    """The transpose of `_Expand`: sums the entries that share a place."""

    @staticmethod
    def forward(ctx: Any, full: Tensor, n: int, axis: int) -> Tensor:
        ctx.n, ctx.axis = n, axis
        _, forth, back, both = _places(n, full.device)
        shape = [1] * full.dim()
        shape[axis] = -1
        twin = _take(full, back, axis).mul_(both.to(full.dtype).reshape(shape))
        return _take(full, forth, axis).add_(twin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _expand(grads[0], ctx.n, ctx.axis), None, None


def _expand(packed: Tensor, n: int, axis: int) -> Tensor:
    out: Tensor = _Expand.apply(packed, n, axis)  # type: ignore[no-untyped-call]
    return out


def _contract(full: Tensor, n: int, axis: int) -> Tensor:
    out: Tensor = _Contract.apply(full, n, axis)  # type: ignore[no-untyped-call]
    return out


def pack(full: Tensor) -> Tensor:
    """`(B, N, N, C)` to its symmetric part, packed, `(B, N, N // 2 + 1, C)`.

    Example:
        >>> z = torch.randn(2, 5, 5, 3)
        >>> z = z + z.transpose(1, 2)
        >>> bool((unpack(pack(z)) - z).abs().max() < 1e-6)
        True
    """
    b, n, _, c = full.shape
    _, forth, back, _ = _places(n, full.device)
    flat = full.reshape(b, n * n, c)
    return ((flat[:, forth] + flat[:, back]) / 2).reshape(b, n, n // 2 + 1, c)


def unpack(packed: Tensor) -> Tensor:
    """`(B, N, N // 2 + 1, C)` to the full symmetric `(B, N, N, C)`."""
    b, n, k, c = packed.shape
    out = _expand(packed.reshape(b, n * k, c), n, 1)
    return out.reshape(b, n, n, c)


def unpack_first(packed: Tensor) -> Tensor:
    """Channels first: `(B, N, K, C)` to `(B, C, N, N)`, the layout of an attention bias."""
    n = packed.shape[1]
    out = _expand(packed.flatten(1, 2).transpose(1, 2), n, 2)
    return out.reshape(*out.shape[:2], n, n)


def partners(x: Tensor) -> Tensor:
    """The value at site j of every packed pair, a view: `(B, N, C)` to `(B, N, K, C)`.

    The value at site i is `x[:, :, None]`.
    """
    n = x.shape[1]
    columns = n // 2 + 1
    if isinstance(n, torch.SymInt):  # `unfold` would fix the number of sites in a program
        i = torch.arange(n, device=x.device)
        return x[:, (i[:, None] + i[:columns]) % n]
    return torch.cat([x, x[:, : columns - 1]], 1).unfold(1, columns, 1).transpose(2, 3)
