"""Monotone rational-quadratic splines: one number to another, invertible in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST = 1e-3
"""Least share of a bin in the interval, and least slope at a knot."""
_UNIT = math.log(math.expm1(1 - _LEAST))
"""What softplus takes to the slope one."""


def spline_outputs(bins: int) -> int:
    """The number of network outputs for the spline of one number."""
    return 3 * bins - 1


def spline(x: Tensor, raw: Tensor, bound: float, inverse: bool = False) -> tuple[Tensor, Tensor]:
    r"""A monotone spline of `[-bound, bound]` onto itself, the identity outside and where `raw` is zero.

    In a bin of slope :math:`s` with slopes :math:`d_0, d_1` at its ends, at the share :math:`\xi` of its
    width,

    .. math:: y = y_0 + h \frac{s \xi^2 + d_0 \xi (1 - \xi)}{s + (d_0 + d_1 - 2 s) \xi (1 - \xi)}

    whose inverse is the root of a quadratic equation.

    Arguments:
        x: numbers, `(...)`.
        raw: any reals `(..., 3 K - 1)`: widths and heights of K bins, slopes at the knots between them.
        bound: half the length of the interval.
        inverse: whether to map y to x.

    Returns: the image `(...)` and the logarithm of the slope there, `(...)`, in the requested direction.

    Source: Durkan et al., Neural Spline Flows (2019).

    Example:
        >>> x, raw = torch.tensor([-7.0, 0.3, 2.0]), torch.randn(3, 11)
        >>> y, slope = spline(x, raw, 5.0)
        >>> back, other = spline(y, raw, 5.0, inverse=True)
        >>> torch.allclose(back, x, atol=1e-5), torch.allclose(slope, -other, atol=1e-4), y[0].item()
        (True, True, -7.0)
    """
    bins = (raw.shape[-1] + 1) // 3
    # Bins come first: short rows are slow on a CPU.
    raw = raw.movedim(-1, 0).contiguous()
    slopes = F.pad(_LEAST + F.softplus(raw[2 * bins :] + _UNIT), (0, 0) * x.dim() + (1, 1), value=1.0)
    knots = torch.stack([*_knots(raw[: 2 * bins].reshape(2, bins, *x.shape), bound), slopes])
    given, inside = x, x.abs() < bound
    # Outside the interval a number inside replaces x, so that no gradient is infinite.
    x = torch.where(inside, x, torch.zeros_like(x))
    found = (x >= knots[int(inverse), 1:-1]).sum(0)
    ends = torch.stack([found, found + 1]).expand(3, 2, *x.shape)
    (x0, x1), (y0, y1), (d0, d1) = knots.gather(1, ends).unbind(0)
    w, h = x1 - x0, y1 - y0
    s = h / w
    bend = d0 + d1 - 2 * s
    if inverse:
        rise = x - y0
        a, b, c = h * (s - d0) + rise * bend, h * d0 - rise * bend, -s * rise
        # This form of the root loses no digits where a is small.
        xi = 2 * c / (-b - (b * b - 4 * a * c).clamp_min(0).sqrt())
        out = x0 + w * xi
    else:
        xi = (x - x0) / w
    mixed = xi * (1 - xi)
    below = s + bend * mixed
    if not inverse:
        out = y0 + h * (s * xi * xi + d0 * mixed) / below
    slope = s * s * (d1 * xi * xi + 2 * s * mixed + d0 * (1 - xi) ** 2) / below**2
    log_slope = -slope.log() if inverse else slope.log()
    return torch.where(inside, out, given), torch.where(inside, log_slope, torch.zeros_like(x))


def _knots(raw: Tensor, bound: float) -> Tensor:
    """K + 1 increasing knots from `-bound` to `bound`, `(2, K + 1, ...)` from `(2, K, ...)`."""
    bins = raw.shape[1]
    shares = _LEAST + (1 - _LEAST * bins) * raw.softmax(1)
    inner = 2 * bound * shares[:, :-1].cumsum(1) - bound
    end = torch.full_like(inner[:, :1], bound)
    return torch.cat([-end, inner, end], 1)
