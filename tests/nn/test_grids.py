"""The trunks on a line and on a grid."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from molgen.core.errors import ConfigError
from molgen.core.trunk import CausalTrunk, Streams, TrunkSpec
from molgen.nn.check import assert_close
from molgen.nn.convnet import ConvNet
from molgen.nn.layers import rotary, rotate
from molgen.nn.mlp import MLP
from molgen.nn.pixelcnn import PixelCNN
from molgen.nn.rowwise import RowTransformer
from molgen.nn.transformer import Transformer
from molgen.nn.unet import UNet

from .samples import randomised, streams

LINE = TrunkSpec(site=3, context=4)


def transformer(causal: bool = False, **options: bool) -> Transformer:
    torch.manual_seed(0)
    spec = TrunkSpec(site=3, context=4, causal=causal)
    trunk = Transformer(spec, width=16, depth=2, heads=2, **options).double()
    randomised(trunk)
    return trunk


@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(rotary: bool, causal: bool) -> None:
    trunk = transformer(rotary=rotary, causal=causal)
    s, mask, context = streams(LINE)
    out = trunk(s, mask, context).site
    junk = torch.nn.functional.pad(s.site, (0, 0, 0, 4), value=9.0)
    padded = trunk(Streams(junk), torch.nn.functional.pad(mask, (0, 4)), context).site
    assert_close("site", padded[:, :7], out)
    assert torch.equal(out * ~mask[..., None], 0 * out)


def test_a_causal_transformer_does_not_look_ahead() -> None:
    s, mask, context = streams(LINE, batch=1)
    changed = s.site.clone()
    changed[:, 4:] += 1
    for causal in (True, False):
        trunk = transformer(causal=causal)
        change = (
            (trunk(Streams(changed), mask, context).site - trunk(s, mask, context).site).abs().amax(-1)[0]
        )
        assert bool((change[:4] < 1e-12).all()) == causal
        assert bool((change[4:] > 1e-3).all())


@pytest.mark.parametrize("rotary", [True, False])
def test_order_matters(rotary: bool) -> None:
    trunk = transformer(rotary=rotary)
    s, mask, context = streams(LINE, batch=1)
    flipped = trunk(Streams(s.site.flip(1)), mask, context).site.flip(1)
    assert (flipped - trunk(s, mask, context).site).abs().max() > 1e-2


def test_rotary_products_depend_on_relative_positions_only() -> None:
    q, k = torch.randn(2, 8, dtype=torch.float64).unbind(0)
    cos, sin = rotary(12, 8, q)
    products = [rotate(q, cos[i], sin[i]) @ rotate(k, cos[i + 3], sin[i + 3]) for i in range(9)]
    assert max(products) - min(products) < 1e-10


def test_sites_of_equal_content_know_their_place_from_both_ends() -> None:
    trunk = transformer()
    _, mask, context = streams(LINE, batch=1)
    same = Streams(torch.ones(1, mask.shape[1], 3, dtype=torch.float64))
    out = trunk(same, mask, context).site[0]
    apart = (out[:, None] - out[None]).abs().amax(-1) + torch.eye(len(out))
    assert apart.min() > 1e-3
    longer = trunk(Streams(torch.ones(1, 9, 3, dtype=torch.float64)), torch.ones(1, 9) > 0, context).site[0]
    assert (longer[: len(out)] - out).abs().amax(-1).min() > 1e-3


def test_an_empty_sample_gives_finite_values() -> None:
    s, mask, context = streams(LINE)
    assert bool(transformer()(s, torch.zeros_like(mask), context).site.isfinite().all())


def test_transformer_gradients_reach_every_parameter() -> None:
    trunk = transformer()
    s, mask, context = streams(LINE)
    trunk(s, mask, context).site.square().sum().backward()
    assert not [k for k, p in trunk.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]


def unet(spec: TrunkSpec = TrunkSpec(site=2, context=4), **options: object) -> UNet:  # noqa: B008
    torch.manual_seed(0)
    trunk = UNet(spec, **{"width": 8, "groups": 4, **options})  # type: ignore[arg-type]
    randomised(trunk)
    return trunk


@pytest.mark.parametrize("size", [(7, 5), (28, 28), (8, 8), (1, 1), (32, 30)])
def test_grids_of_any_size(size: tuple[int, int]) -> None:
    trunk = unet()
    mask = torch.ones(2, *size, dtype=torch.bool)
    x = torch.randn(2, *size, 2, generator=torch.Generator().manual_seed(0))
    out = trunk(Streams(x), mask, torch.zeros(2, 4)).site
    assert out.shape == (2, *size, trunk.width) and bool(out.isfinite().all())


def test_every_cell_is_seen_from_every_other() -> None:
    trunk = unet().double()
    x = torch.randn(1, 12, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    out = trunk(Streams(x), torch.ones(1, 12, 12, dtype=torch.bool), None).site
    (slope,) = torch.autograd.grad(out[0, 0, 0].sum(), x)
    assert bool((slope.abs().amax(-1) > 0).all())


def test_samples_do_not_mix() -> None:
    trunk = unet().double()
    x = torch.randn(3, 8, 8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 8, 8, dtype=torch.bool)
    alone = trunk(Streams(x[1:2]), mask[1:2], c[1:2]).site
    assert_close("site", trunk(Streams(x), mask, c).site[1:2], alone)


def test_unet_gradients_and_context() -> None:
    trunk = unet()
    x = torch.randn(2, 8, 8, 2, generator=torch.Generator().manual_seed(0))
    mask, c = torch.ones(2, 8, 8, dtype=torch.bool), torch.randn(2, 4)
    out = trunk(Streams(x), mask, c).site
    assert (out - trunk(Streams(x), mask, c + 1).site).abs().max() > 1e-3
    out.square().sum().backward()
    assert not [k for k, p in trunk.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]


def test_a_network_of_convolutions_sees_as_far_as_it_says() -> None:
    """A 3 x 3 convolution at the start and one in each block: one cell further each."""
    torch.manual_seed(0)
    trunk = ConvNet(TrunkSpec(site=2, context=4), width=8, depth=2).double()
    randomised(trunk)
    x = torch.randn(2, 9, 11, 2, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 4, dtype=torch.float64)
    mask = torch.ones(2, 9, 11, dtype=torch.bool)
    out = trunk(Streams(x), mask, c).site
    assert (out - trunk(Streams(x), mask, c + 1).site).abs().max() > 1e-3
    (slope,) = torch.autograd.grad(out[0, 4, 5].sum(), x)
    seen = slope.abs().amax(-1) > 0
    assert seen[0, 1:8, 2:9].all() and int(seen.sum()) == 49
    assert_close("site", trunk(Streams(x[1:]), mask[1:], c[1:]).site, out[1:])


@pytest.mark.parametrize("pooled", [False, True])
def test_fully_connected_layers_see_all_cells_of_their_own_sample(pooled: bool) -> None:
    torch.manual_seed(0)
    trunk = MLP(TrunkSpec(site=3, context=4, pooled=pooled), extent=(5, 4), width=16, told=2).double()
    randomised(trunk)
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 4, dtype=torch.float64)
    mask = torch.ones(2, 5, 4, dtype=torch.bool)
    out = trunk(Streams(x), mask, c).site
    assert out.shape == ((2, 1, 1, 16) if pooled else (2, 5, 4, trunk.width))
    assert (out - trunk(Streams(x), mask, c + 1).site).abs().max() > 1e-3
    (slope,) = torch.autograd.grad(out[0, -1, -1].sum(), x, retain_graph=True)
    assert bool((slope[0].abs().amax(-1) > 0).all()) and not bool(slope[1].any())
    assert_close("site", trunk(Streams(x[1:]), mask[1:], c[1:]).site, out[1:])
    out.square().sum().backward()
    assert not [k for k, p in trunk.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]
    mask[0, 3:] = False
    padded = trunk(Streams(x.masked_fill(~mask[..., None], 7.0)), mask, c).site
    assert_close("site", padded, trunk(Streams(x * mask[..., None]), mask, c).site)


def test_fully_connected_layers_refuse_another_grid() -> None:
    trunk = MLP(TrunkSpec(site=1), extent=(5, 4), width=8)
    with pytest.raises(ConfigError, match="unet"):
        trunk(Streams(torch.randn(1, 4, 5, 1)), torch.ones(1, 4, 5, dtype=torch.bool), None)


@pytest.mark.parametrize("spec", [TrunkSpec(pair=1), TrunkSpec(point=1), TrunkSpec(pair_out=True)])
def test_pairs_and_points_are_refused(spec: TrunkSpec) -> None:
    for make in (Transformer, UNet, ConvNet, partial(MLP, extent=(4, 4))):
        with pytest.raises(ConfigError, match="PairTransformer"):
            make(spec)


def test_options_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="heads"):
        Transformer(LINE, width=20, heads=3)
    with pytest.raises(ConfigError, match="groups"):
        UNet(TrunkSpec(site=1), width=10, groups=8)
    with pytest.raises(ConfigError, match="attention has 1 entries for 2"):
        UNet(TrunkSpec(site=1), multipliers=(1, 2), attention=(True,))


CAUSAL = TrunkSpec(site=3, context=4, causal=True)


def causal_trunks() -> list[CausalTrunk]:
    torch.manual_seed(0)
    trunks: list[CausalTrunk] = [
        Transformer(CAUSAL, width=16, depth=2, heads=2).double(),
        PixelCNN(CAUSAL, extent=(3, 4), width=8, depth=3).double(),
        RowTransformer(CAUSAL, extent=(3, 4), width=8, depth=3, row_width=16, row_depth=2, heads=2).double(),
    ]
    for trunk in trunks:
        randomised(trunk)
    return trunks


@pytest.mark.parametrize("which", [0, 1, 2], ids=["transformer", "pixelcnn", "rows"])
@torch.no_grad()
def test_writing_site_by_site_gives_the_same_features(which: int) -> None:
    trunk = causal_trunks()[which]
    site, context = torch.randn(2, 12, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    mask = torch.ones(2, 12, dtype=torch.bool)
    whole = trunk(Streams(site), mask, context).site
    assert whole is not None
    memory = trunk.begin(mask, context)
    for t in range(12):
        assert_close(f"site {t}", trunk.extend(site[:, t], memory), whole[:, t])


@pytest.mark.parametrize("which", [0, 1, 2], ids=["transformer", "pixelcnn", "rows"])
def test_a_site_sees_all_sites_before_it_and_none_after(which: int) -> None:
    """The Jacobian is lower triangular; the stacks of the PixelCNN leave no blind spot within their reach."""
    trunk = causal_trunks()[which]
    context = torch.randn(1, 4, dtype=torch.float64)
    mask = torch.ones(1, 12, dtype=torch.bool)
    site = torch.randn(12, 3, dtype=torch.float64)

    def read(x: torch.Tensor) -> torch.Tensor:
        out = trunk(Streams(x[None]), mask, context).site
        assert out is not None
        return out[0].sum(-1)

    seen = torch.autograd.functional.jacobian(read, site).abs().sum(-1) > 0  # type: ignore[no-untyped-call]
    assert bool((seen == torch.ones(12, 12).tril().bool()).all())
