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
    """Outputs of a network that the spline of one number is made from."""
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
        inverse: whether to go from y to x.

    Returns: the image `(...)` and the logarithm of the slope there, `(...)`, of the direction asked for.

    Source: Durkan et al., Neural Spline Flows (2019).

    Example:
        >>> x, raw = torch.tensor([-7.0, 0.3, 2.0]), torch.randn(3, 11)
        >>> y, slope = spline(x, raw, 5.0)
        >>> back, other = spline(y, raw, 5.0, inverse=True)
        >>> torch.allclose(back, x, atol=1e-5), torch.allclose(slope, -other, atol=1e-4), y[0].item()
        (True, True, -7.0)
    """
    bins = (raw.shape[-1] + 1) // 3
    widths, heights, slopes = torch.split(raw, [bins, bins, bins - 1], -1)
    xs, ys = _knots(widths, bound), _knots(heights, bound)
    slopes = F.pad(_LEAST + F.softplus(slopes + _UNIT), (1, 1), value=1.0)
    given, inside = x, x.abs() < bound
    # Outside, a number of the interval stands in, so that no gradient there is infinite.
    x = torch.where(inside, x, torch.zeros_like(x))
    found = torch.searchsorted(
        (ys if inverse else xs)[..., 1:-1].contiguous(), x[..., None].contiguous(), right=True
    )

    def at(values: Tensor) -> Tensor:
        return values.gather(-1, found).squeeze(-1)

    x0, y0, d0, d1 = at(xs[..., :-1]), at(ys[..., :-1]), at(slopes[..., :-1]), at(slopes[..., 1:])
    w, h = at(xs.diff(dim=-1)), at(ys.diff(dim=-1))
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
    """K + 1 rising knots from `-bound` to `bound`."""
    bins = raw.shape[-1]
    shares = _LEAST + (1 - _LEAST * bins) * raw.softmax(-1)
    inner = 2 * bound * shares[..., :-1].cumsum(-1) - bound
    return F.pad(F.pad(inner, (1, 0), value=-bound), (0, 1), value=bound)
