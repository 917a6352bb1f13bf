"""What the trunks with points and pairs promise: symmetry, indifference to padding, gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.errors import ConfigError
from molgen.core.trunk import Streams, Trunk, TrunkSpec
from molgen.nn.check import assert_chiral, assert_close, assert_equivariant
from molgen.nn.equivariant import EquivariantTrunk
from molgen.nn.message import MessageTrunk
from molgen.nn.pair import PairTransformer

from .samples import mapped, randomised, streams

FULL = TrunkSpec(site=3, pair=2, point=2, context=4, pair_out=True, point_out=True)
SMALL: dict[str, Callable[..., Trunk]] = {
    "pair": partial(PairTransformer, width=24, pair_width=8, depth=2, heads=4, vectors=3),
    "chain": partial(PairTransformer, width=24, pair_width=8, depth=2, heads=4, vectors=3, neighbours=2),
    "equivariant": partial(EquivariantTrunk, width=12, pair_width=8, depth=3, vectors=4, tensors=3),
    "message": partial(MessageTrunk, width=24, pair_width=8, depth=2, vectors=3),
}


@pytest.fixture(params=SMALL)
def make(request: pytest.FixtureRequest) -> Callable[..., Trunk]:
    return SMALL[request.param]


def built(make: Callable[..., Trunk], spec: TrunkSpec = FULL, **options: Any) -> Trunk:
    torch.manual_seed(0)
    return randomised(make(spec, **options).double())


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotation_and_translation(make: Callable[..., Trunk], ordered: bool, dtype: torch.dtype) -> None:
    trunk = built(make, ordered=ordered).to(dtype)
    s, mask, context = streams(FULL, dtype=dtype)
    real = mask[..., None]

    def function(x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        out = trunk(replace(s, point=x), mask, context)
        assert out.pair is not None and out.site is not None and out.point is not None
        return out.point, torch.cat([out.site.flatten(), out.pair.flatten()])

    point = function(s.point)[0]
    assert point is not None and point.abs().max() > 1e-2  # the check would pass on zeros
    assert torch.equal(point * ~real, torch.zeros_like(point))
    # e3nn holds its constants in single precision.
    bound = 1e-8 if isinstance(trunk, EquivariantTrunk) and dtype == torch.float64 else None
    assert_equivariant(function, s.point, generator=torch.Generator().manual_seed(2), bound=bound)


def test_mirror_images_are_told_apart(make: Callable[..., Trunk]) -> None:
    trunk = built(make)
    s, mask, context = streams(FULL)
    assert_chiral(lambda x: trunk(replace(s, point=x), mask, context).site, s.point)


def test_without_handedness_there_is_nothing_to_tell(make: Callable[..., Trunk]) -> None:
    trunk = built(make)
    s, mask, context = streams(FULL)
    flat = s.point * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    with pytest.raises(AssertionError, match="mirror"):
        assert_chiral(lambda x: trunk(replace(s, point=x), mask, context).site, flat)


def test_permutation(make: Callable[..., Trunk]) -> None:
    s, mask, context = streams(FULL)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))

    def permuted(x: Tensor, axes: int) -> Tensor:
        x = x[:, order]
        return x[:, :, order] if axes == 2 else x

    free, bound = built(make, ordered=False), built(make, ordered=True)
    out, moved = free(s, mask, context), free(mapped(s, permuted), mask[:, order], context)
    for name in ("site", "pair", "point"):
        assert_close(name, getattr(moved, name), permuted(getattr(out, name), 1 + (name == "pair")))
    out, moved = bound(s, mask, context), bound(mapped(s, permuted), mask[:, order], context)
    assert (moved.site - out.site[:, order]).abs().max() > 1e-2


@pytest.mark.parametrize("n", [1, 2, 6, 7])
def test_padding_changes_nothing(make: Callable[..., Trunk], n: int) -> None:
    trunk = built(make)
    s, mask, context = streams(FULL, batch=min(n, 3), n=n)
    junk = mapped(s, lambda x, axes: F.pad(x, (0, 0) * (x.dim() - 1 - axes) + (0, 3) * axes, value=9.0))
    out, padded = trunk(s, mask, context), trunk(junk, F.pad(mask, (0, 3)), context)
    for name in ("site", "pair", "point"):
        a, b = getattr(out, name), getattr(padded, name)
        b = b[:, :n, :n] if name == "pair" else b[:, :n]
        assert_close(name, b, a)
        assert torch.equal(a * ~(mask[..., None, None] if name == "pair" else mask[..., None]), 0 * a)


def test_pairs_are_symmetric(make: Callable[..., Trunk]) -> None:
    s, mask, context = streams(FULL)
    pair = built(make)(s, mask, context).pair
    assert pair is not None
    assert_close("pair", pair, pair.transpose(1, 2))


def test_gradients_reach_every_parameter(make: Callable[..., Trunk]) -> None:
    for spec in (FULL, TrunkSpec(point=1, point_out=True), TrunkSpec(site=2, point=1, context=3)):
        trunk = built(make, spec)
        s, mask, context = streams(spec)
        out = trunk(s, mask, context)
        outputs = [x for x in (out.site, out.pair, out.point) if x is not None]
        torch.stack([x.square().sum() for x in outputs]).sum().backward()
        idle = [
            name for name, p in trunk.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)
        ]
        # Without a reader of pairs or displacements, the ends of their branches have no use.
        assert spec is not FULL or not idle, idle
        assert len(idle) <= 4, idle


def test_gradients_reach_the_input_twice(make: Callable[..., Trunk]) -> None:
    # Energies need the gradient by coordinates, and their training the gradient of that.
    trunk = built(make, depth=1)
    s, mask, context = streams(FULL, batch=2, n=4)
    x = s.point.clone().requires_grad_()
    pair = s.pair.clone().requires_grad_()
    energy = trunk(replace(s, point=x, pair=pair), mask, context).site.square().mean()
    force, pull = torch.autograd.grad(energy, (x, pair), create_graph=True)
    (force.square().sum() + pull.square().sum()).backward()
    weight = trunk.get_parameter("site_in.mix.weight")
    assert weight.grad is not None and weight.grad.abs().max() > 0

    def at(h: float) -> Tensor:
        moved = trunk(replace(s, point=s.point + h * force.detach()), mask, context).site
        return moved.square().mean()

    slope = (at(1e-4) - at(-1e-4)) / 2e-4
    assert_close("slope along the force", slope, force.square().sum(), 1e-5)


def test_shapes_and_missing_streams(make: Callable[..., Trunk]) -> None:
    for spec in (TrunkSpec(point=1), TrunkSpec(site=2, point=2, pair_out=True), replace(FULL, context=0)):
        trunk = make(spec)
        s, mask, context = streams(spec, dtype=torch.float32)
        out = trunk(s, mask, context)
        assert out.site is not None and out.site.shape == (3, 7, trunk.width)
        assert (out.pair is None) == (not spec.pair_out) and (out.point is None) == (not spec.point_out)
        if out.pair is not None:
            assert out.pair.shape == (3, 7, 7, trunk.pair_width)


def test_context_may_be_missing(make: Callable[..., Trunk]) -> None:
    s, mask, _ = streams(FULL)
    assert bool(built(make)(s, mask, None).site.isfinite().all())


def test_displacements_start_at_zero(make: Callable[..., Trunk]) -> None:
    s, mask, context = streams(FULL, dtype=torch.float32)
    assert torch.equal(make(FULL)(s, mask, context).point, torch.zeros(3, 7, 3))


@pytest.mark.parametrize("name", ["equivariant", "message"])
def test_far_sites_have_no_edge(name: str) -> None:
    trunk = built(SMALL[name], cutoff=3.0, ordered=False)
    s, mask, context = streams(FULL, batch=1, n=6)
    x = s.point.clone()
    x[:, 3:] += 100.0
    one = trunk(replace(s, point=x), mask, context).site
    changed = s.site.clone()
    changed[:, 3:] += 1.0
    two = trunk(replace(s, point=x, site=changed), mask, context).site
    assert_close("sites without an edge to the changed ones", two[:, :3], one[:, :3])
    assert (two[:, 3:] - one[:, 3:]).abs().max() > 1e-2


def test_graphs_have_no_points() -> None:
    spec = TrunkSpec(site=3, pair=2, context=4, pair_out=True)
    s, mask, context = streams(spec)
    for name in ("pair", "message"):
        out: Streams = built(SMALL[name], spec)(s, mask, context)
        assert out.point is None and out.pair is not None and bool(out.pair.isfinite().all())
    with pytest.raises(ConfigError, match="needs coordinates"):
        SMALL["equivariant"](spec)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="width=10 .* heads=4"):
        PairTransformer(FULL, width=10, heads=4)
    with pytest.raises(ConfigError, match="point_out"):
        PairTransformer(TrunkSpec(site=1, point_out=True))
    with pytest.raises(ConfigError, match="point_out"):
        MessageTrunk(TrunkSpec(site=1, point_out=True))
