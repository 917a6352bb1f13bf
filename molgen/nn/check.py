"""Public checks of symmetry, for tests of trunks and of other equivariant functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def random_rotation(generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """A uniformly distributed rotation, `(3, 3)`; row vectors rotate by `x @ rotation`.

    Example:
        >>> bool((torch.linalg.det(random_rotation()) - 1).abs() < 1e-12)
        True
    """
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    out: Tensor = q * torch.linalg.det(q)
    return out.to(dtype)


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative error that rounding may cause in a network."""
    return {torch.float64: 1e-10, torch.float32: 1e-5}.get(dtype, 1e-2)


def assert_close(name: str, got: Tensor, expected: Tensor, bound: float | None = None) -> None:
    """Raises `AssertionError` with the values unless two tensors agree, relative to the larger one."""
    bound = tolerance(expected.dtype) if bound is None else bound
    if got.shape != expected.shape:
        raise AssertionError(f"{name}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
    if not got.numel():
        return
    error = (got - expected).abs()
    size = max(1.0, expected.abs().max().item())
    worst = int(error.argmax())
    if not error.max().item() <= bound * size:
        a, b = got.flatten()[worst].item(), expected.flatten()[worst].item()
        raise AssertionError(
            f"{name}: got {a:.8g}, expected {b:.8g}; "
            f"error {error.max().item():.3g} over {bound:.1g} x {size:.3g}"
        )


def assert_equivariant(
    function: Callable[[Tensor], tuple[Tensor | None, Tensor | None]],
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    bound: float | None = None,
) -> None:
    r"""Raises `AssertionError` unless vectors rotate with the input and scalars stay, under x -> x R + t.

    Arguments:
        function: coordinates `(..., 3)` to `(vectors (..., 3) or None, scalars or None)`.
        x: coordinates.
        generator: source of the rotation and the translation.
        bound: relative error allowed; `tolerance` of the type if None.

    Example:
        >>> assert_equivariant(lambda x: (x - x.mean(0), x.std(0).norm()), torch.randn(4, 3).double())
    """
    rotation = random_rotation(generator, x.dtype)
    shift = torch.randn(3, generator=generator, dtype=torch.float64).to(x.dtype)
    vectors, scalars = function(x)
    turned_vectors, turned_scalars = function(x @ rotation + shift)
    if vectors is not None and turned_vectors is not None:
        assert_close("vectors of the turned input", turned_vectors, vectors @ rotation, bound)
    if scalars is not None and turned_scalars is not None:
        assert_close("scalars of the turned input", turned_scalars, scalars, bound)


def assert_chiral(function: Callable[[Tensor], Tensor | None], x: Tensor, *, least: float = 1e-4) -> None:
    """Raises `AssertionError` unless scalars of the input and of its mirror image differ.

    Arguments:
        function: coordinates `(..., 3)` to scalars.
        x: coordinates without mirror symmetry.
        least: smallest difference that counts.
    """
    scalars, mirrored = function(x), function(-x)
    if scalars is None or mirrored is None or not (scalars - mirrored).abs().max().item() > least:
        raise AssertionError("the function does not tell mirror images apart")
