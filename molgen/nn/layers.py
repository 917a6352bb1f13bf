"""Small layers that trunks share."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.linear import Linear, linear
from molgen.core.wrappers import SILU_GAIN, preserving


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The same layer with weights and bias at zero, for the ends of residual branches."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def require_divisible(name: str, value: int, by: str, divisor: int) -> None:
    """Raises `ConfigError` unless `value` is a positive multiple of `divisor`."""
    if divisor < 1 or value < 1 or value % divisor:
        raise ConfigError(f"{name}={value} must be a positive multiple of {by}={divisor}; change one of them")


def sinusoid(x: Tensor, width: int, longest: float = 1e4) -> Tensor:
    r"""Sines and cosines of scalars at `width / 2` geometric wavelengths from 2 pi to `longest`.

    Arguments:
        x: scalars, `(...)`.
        width: an even number of channels.
        longest: the longest wavelength over :math:`2 \pi`.

    Returns:
        `(..., width)`.

    Source: Vaswani et al., Attention Is All You Need (2017).

    Example:
        >>> sinusoid(torch.zeros(2), 4).tolist()
        [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    half = width // 2
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    steps = torch.arange(half, device=x.device, dtype=dtype) / max(half - 1, 1)
    waves = x[..., None].to(dtype) * torch.exp(-math.log(longest) * steps)
    out = torch.cat([waves.sin(), waves.cos()], -1)
    return F.pad(out, (0, width - 2 * half))


@final
class Modulation(nn.Module):
    """Vectors of shift, scale and gate from the context, zero at the start of training (adaLN).

    Arguments:
        context: channels of the context; 0 makes the vectors plain parameters.
        width: channels of each vector.
        parts: number of vectors.

    Source: Peebles and Xie, Scalable Diffusion Models with Transformers (2023).

    Example:
        >>> [v.shape[-1] for v in Modulation(5, 8, 3)(torch.randn(2, 5))]
        [8, 8, 8]
    """

    def __init__(self, context: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.base = nn.Parameter(torch.zeros(parts * width))
        self.mix = zeroed(Linear(context, parts * width, bias=False)) if context else None

    def forward(self, context: Tensor | None, axes: int = 1) -> tuple[Tensor, ...]:
        """`parts` tensors `(B or 1, 1, ..., width)`, with `axes` ones to broadcast over sites."""
        out = self.base[None]
        if self.mix is not None and context is not None:
            out = out + self.mix(context)
        return out.reshape(out.shape[0], *(1,) * axes, -1).chunk(self.parts, -1)


@final
class ContextEmbedding(nn.Module):
    """A nonlinear bottleneck of the context that every block's `Modulation` reads.

    Arguments:
        context: channels of the context vector, 0 if there is none.
        width: channels given to the blocks; 0 if there is no context.
    """

    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        self.width = width if context else 0
        self.mix = preserving(Linear(context, width), SILU_GAIN) if context else None

    def forward(self, context: Tensor | None) -> Tensor | None:
        return None if self.mix is None or context is None else F.silu(self.mix(context))


@final
class SiteInput(nn.Module):
    """Site features of the input: a learned vector, channels, and the position in the sequence.

    The position counts from both ends. Attention to equal content gives equal output at every position, so
    relative positions alone do not determine the ends of a sequence of noise.

    Arguments:
        channels: of the site stream, 0 if there is none.
        width: channels out.
        ordered: whether sites have positions.
    """

    def __init__(self, channels: int, width: int, ordered: bool) -> None:
        super().__init__()
        self.width = width
        self.start = nn.Parameter(torch.randn(width) * 0.1)
        self.mix = Linear(channels, width) if channels else None
        self.place = Linear(2 * width, width, bias=False) if ordered else None
        if self.place is not None:
            # At the start of training the sinusoids of the position.
            with torch.no_grad():
                self.place.weight.copy_(torch.eye(width, 2 * width))

    def forward(self, site: Tensor | None, mask: Tensor) -> Tensor:
        """`(B, N, width)` from the stream `(B, N, channels)` and the mask `(B, N)`."""
        b, n = mask.shape
        h = self.start.expand(b, n, -1)
        if self.mix is not None and site is not None:
            h = h + self.mix(site)
        if self.place is not None:
            first = torch.arange(n, device=h.device, dtype=h.dtype).expand(b, n)
            last = mask.sum(1, keepdim=True) - 1 - first
            waves = torch.cat([sinusoid(first, self.width), sinusoid(last, self.width)], -1)
            h = h + self.place(waves)
        return h


def require_points(points: int, wanted: bool) -> None:
    """Raises `ConfigError` if displacements are requested without coordinates."""
    if wanted and not points:
        raise ConfigError("point_out needs coordinates; give the spec at least one point set")


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`norm(x) * (1 + scale) + shift` with a layer norm without parameters."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-5), 1 + scale)


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis; short rows are padded, since only whole vectors are fast on a CPU."""
    n = x.shape[-1]
    return F.pad(x, (0, 16 - n), value=-1e30).softmax(-1)[..., :n] if n < 16 else x.softmax(-1)


@final
class GatedMLP(nn.Module):
    r""":math:`W_2 (\mathrm{silu}(a) \odot b)` with :math:`(a, b) = W_1 x`; zero at the start.

    Arguments:
        width: channels in and out.
        hidden: channels of the product.

    Source: Shazeer, GLU Variants Improve Transformer (2020).
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = Linear(width, 2 * hidden)
        self.down = zeroed(Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        # Two products, since the gradient of splitting one would copy the largest tensor here.
        (u, v), (c, d) = self.up.weight.chunk(2), self.up.bias.chunk(2)
        out: Tensor = self.down(F.silu(linear(x, u, c)) * linear(x, v, d))
        return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding: channel pairs `(c, c + C / 2)` rotated by the angles of `rotary`.

    Source: Su et al., RoFormer (2021).
    """
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rotary(length: int, channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines `(length, channels / 2)` of the angles that `rotate` uses."""
    frequency = 1e4 ** (-torch.arange(0, channels, 2, device=like.device, dtype=like.dtype) / channels)
    angle = torch.arange(length, device=like.device, dtype=like.dtype)[:, None] * frequency
    return angle.cos(), angle.sin()


@final
class RadialBasis(nn.Module):
    r"""Gaussians of :math:`e^{-d / \ell}`: narrow at short range, wide at long range.

    Their width in distance is about :math:`\ell e^{d / \ell} / K`; with the defaults 0.1 at d = 1
    and 0.5 at d = 4.

    Arguments:
        count: number of Gaussians K.
        length: the length scale, in the unit of the distances.

    Source: after Unke and Meuwly, PhysNet (2019).

    Example:
        >>> RadialBasis(4)(torch.tensor([0.0, 100.0])).argmax(-1).tolist()
        [3, 0]
    """

    centres: Tensor

    def __init__(self, count: int = 32, length: float = 2.0) -> None:
        super().__init__()
        self.count, self.length = count, length
        self.register_buffer("centres", torch.arange(float(count)), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """`(..., K)` from distances `(...)`."""
        # exp(-(u (K - 1) - k)^2 / 2): neighbours overlap at one standard deviation. Powers of two are
        # several times faster than powers of e.
        unit = (0.5 / math.log(2)) ** 0.5
        scaled = torch.exp(distance / -self.length)[..., None] * (unit * (self.count - 1))
        out: Tensor = (scaled - self.centres * unit).square().neg().exp2()
        return out


def length_of(x: Tensor) -> Tensor:
    """Euclidean length over the last axis, with a finite gradient at zero."""
    return (x.square().sum(-1) + 1e-12).sqrt()
