"""The bijective flows against theory: inverses, determinants, normalisation, padding, round trips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from molgen import ConfigError, FlowModel, UnsupportedError
from molgen.core.batch import Batch
from molgen.core.fields import Categorical, Continuous, Positions
from molgen.core.rng import BatchRandom, SampleRandom, generator
from molgen.core.trunk import TrunkSpec
from molgen.models.flow.bijections import (
    Bijection,
    Chain,
    Coarse,
    Coupling,
    FlowContext,
    Half,
    Mixing,
    Scaling,
    Shift,
    Spline,
    alternating,
    halving,
)
from molgen.models.flow.invertible import Invertible
from molgen.models.flow.nice import Perceptrons
from molgen.nn.spline import spline
from molgen.nn.transformer import Transformer
from tests.models.cells import TRUNKS, fitted, records, tiny
from tests.models.test_flow import Toy

CELLS = [(k, m) for k in ("flow-coupling", "flow-nice") for m in ("graph", "image", "protein", "smiles")]


class Points(Toy):
    """Samples of one field with a real trunk."""

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Transformer:
        return Transformer(spec, width=16, depth=1, heads=2)


def shaken(module: torch.nn.Module, scale: float = 0.3) -> torch.nn.Module:
    """The same module in float64, away from the identity at which it starts."""
    source = generator(7)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=source))
    return module.double().eval()


# ---------------------------------------------------------------------- the spline


def test_a_spline_is_monotone_and_the_identity_outside() -> None:
    raw = 3 * torch.randn(1, 23, generator=generator(0), dtype=torch.float64).expand(2001, -1)
    x = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    y, log_slope = spline(x, raw, 4.0)
    assert (y.diff() > 0).all()
    outside = x.abs() >= 4
    assert torch.equal(y[outside], x[outside])
    assert (log_slope[outside] == 0).all()
    assert (y[~outside].abs() < 4).all()
    back, other = spline(y, raw, 4.0, inverse=True)
    assert torch.allclose(back, x, atol=1e-8)
    assert torch.allclose(other, -log_slope, atol=1e-6)


def test_the_slope_of_a_spline_is_its_derivative() -> None:
    raw = 2 * torch.randn(50, 11, generator=generator(1), dtype=torch.float64)
    x = (4 * torch.randn(50, generator=generator(2), dtype=torch.float64)).requires_grad_()
    y, log_slope = spline(x, raw, 5.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), log_slope, atol=1e-9)


def test_a_silent_network_gives_the_identity() -> None:
    x = torch.linspace(-6, 6, 99, dtype=torch.float64)
    y, log_slope = spline(x, torch.zeros(99, 23, dtype=torch.float64), 5.0)
    assert torch.allclose(y, x, atol=1e-12)
    assert torch.allclose(log_slope, torch.zeros_like(x), atol=1e-12)


# ---------------------------------------------------------------------- layers


class Local(torch.nn.Module):
    """A conditioner that says the same smooth function of all that is seen for each real."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, generator=generator(3)))

    def forward(
        self, z: Mapping[str, Tensor], seen: Mapping[str, Tensor], layer: int, mask: Tensor, labels: Any
    ) -> dict[str, Tensor]:
        known = torch.stack([(z[k] * seen[k]).flatten(1).sum(1) for k in z]).sum(0)
        out = {}
        for k, v in z.items():
            base = (known + layer).reshape(-1, *(1,) * v.dim())
            out[k] = (base * self.weight).sin().expand(*v.shape, -1)
        return out


def stack(grid: bool, transform: Any, partition: Any, mixing: bool) -> Coupling:
    channels = {"a": 2} if grid else {"a": 2, "b": 2}
    mixings = [Mixing(channels) for _ in range(4)] if mixing else []
    return Coupling(Local(transform.outputs), 4, transform, partition, mixings)


LAYERS: dict[str, tuple[bool, Any]] = {
    "mixing": (False, lambda: Mixing({"a": 2, "b": 2})),
    "scaling": (False, lambda: Scaling({"a": (2,), "b": (2,)})),
    "splines": (False, lambda: stack(False, Spline(6, 4.0), halving, True)),
    "shifts": (False, lambda: stack(False, Shift(), alternating, False)),
    "chain": (False, lambda: Chain(Mixing({"a": 2, "b": 2}), Scaling({"a": (2,), "b": (2,)}))),
    "grid": (
        True,
        lambda: Coarse(Chain(Mixing({"a": 4}), Half(stack(True, Spline(6, 4.0), halving, True)))),
    ),
}


def packed(z: Mapping[str, Tensor], n: int) -> Tensor:
    """The free numbers of one sample: sites, and pairs above the diagonal."""
    upper = torch.triu_indices(n, n, 1)
    return torch.cat([z["a"][0, :n].flatten(), z["b"][0][upper[0], upper[1]].flatten()])


def unpacked(v: Tensor, n: int, padded: int) -> dict[str, Tensor]:
    upper = torch.triu_indices(n, n, 1)
    a = torch.nn.functional.pad(v[: 2 * n].reshape(1, n, 2), (0, 0, 0, padded - n))
    b = v.new_zeros(1, padded, padded, 2).index_put(
        (torch.tensor([0]), upper[0], upper[1]), v[2 * n :].reshape(-1, 2)
    )
    return {"a": a, "b": b + b.transpose(1, 2)}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_inverts_and_knows_its_determinant(layer: str) -> None:
    grid, make = LAYERS[layer]
    bijection = shaken(make())
    assert isinstance(bijection, Bijection)
    if grid:
        mask = torch.ones(1, 4, 4, dtype=torch.bool)
        sites = FlowContext(mask, {"a": mask[..., None].double()}, {})
        v = torch.randn(16, generator=generator(4), dtype=torch.float64)

        def run(v: Tensor) -> Tensor:
            return bijection({"a": v.reshape(1, 4, 4, 1)}, sites)[0]["a"].flatten()

        z, log_det = bijection({"a": v.reshape(1, 4, 4, 1)}, sites)
        back = bijection.inverse(z, sites)["a"].flatten()
    else:
        n, padded = 3, 5
        mask = torch.arange(padded)[None] < n
        off = ~torch.eye(padded, dtype=torch.bool)
        pairs = mask[:, :, None] & mask[:, None] & off
        sites = FlowContext(mask, {"a": mask[..., None].double(), "b": pairs[..., None].double() / 2}, {})
        v = torch.randn(2 * n + n * (n - 1), generator=generator(4), dtype=torch.float64)

        def run(v: Tensor) -> Tensor:
            return packed(bijection(unpacked(v, n, padded), sites)[0], n)

        z, log_det = bijection(unpacked(v, n, padded), sites)
        assert (z["a"][~mask] == 0).all()
        assert (z["b"][~pairs] == 0).all()
        assert torch.allclose(z["b"], z["b"].transpose(1, 2))
        back = packed(bijection.inverse(z, sites), n)
    assert torch.allclose(back, v, atol=1e-5)
    jacobian = torch.autograd.functional.jacobian(run, v)
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(log_det.item(), abs=1e-4)
    assert abs(log_det.item()) > 1e-3 or layer == "shifts"


def test_the_published_network_on_a_grid_keeps_volume_and_inverts() -> None:
    shapes = {"a": (2, 3, 2)}
    bijection = shaken(Coupling(Perceptrons(shapes, (), 4, 8), 4, Shift(), alternating), 0.1)
    assert isinstance(bijection, Bijection)
    mask = torch.ones(5, 2, 3, dtype=torch.bool)
    sites = FlowContext(mask, {"a": mask[..., None].double()}, {})
    x = torch.randn(5, 2, 3, 2, generator=generator(5), dtype=torch.float64)
    z, log_det = bijection({"a": x}, sites)
    assert (z["a"] != x).all()
    assert torch.equal(log_det, torch.zeros_like(log_det))
    assert torch.allclose(bijection.inverse(z, sites)["a"], x, atol=1e-10)


# ---------------------------------------------------------------------- densities


@pytest.mark.parametrize("kind", ["coupling", "nice"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_fitted_density_integrates_to_one(kind: str, channels: int) -> None:
    """The likelihood of a small fitted model, summed over a fine lattice of the line or the plane."""
    source = np.random.default_rng(0)
    data = source.normal(size=(200, 1, channels)) * 0.3 + source.choice([-1.0, 1.0], size=(200, 1, 1))
    model = FlowModel(Points(Continuous(channels, mean=0.0, sd=1.0), sites=1), kind=kind, layers=4)
    assert model.likelihood == "exact"
    model.fit([x.astype(np.float32) for x in data], max_steps=15, batch_size=100, lr=5e-3)
    # The logistic distribution has wider tails.
    n, reach = (1001, 15.0) if channels == 1 else (301, 11.0 if kind == "nice" else 8.0)
    line = torch.linspace(-reach, reach, n)
    points = line[:, None] if channels == 1 else torch.cartesian_prod(line, line)
    cell = float(line[1] - line[0]) ** channels
    mass = 0.0
    for part in points.split(20_000):
        batch = Batch({"x": part[:, None]}, torch.ones(len(part), 1, dtype=torch.bool))
        with torch.no_grad():
            mass += float(model.log_density(batch, BatchRandom(generator(0))).double().exp().sum()) * cell
    assert mass == pytest.approx(1, abs=1e-3)


def test_more_draws_tighten_the_bound_of_discrete_values() -> None:
    model = FlowModel(Points(Categorical(3), sites=2), kind="coupling", layers=4)
    words = [np.array(w) for w in [(0, 0), (1, 1), (2, 2), (0, 1)]] * 8
    model.fit(words, words, max_steps=60, batch_size=32, lr=5e-3)
    assert model.likelihood == "lower bound"
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3)).repeat(60, 1)
    batch = Batch({"x": every}, torch.ones(len(every), 2, dtype=torch.bool))
    with torch.no_grad():
        scores = [model.log_density(batch, BatchRandom(generator(0)), draws=k) for k in (1, 16)]
    one, many = (score.reshape(60, 9).mean(0) for score in scores)
    assert many.mean() > one.mean()
    assert one.exp().sum() < many.exp().sum() < 1.02


# ---------------------------------------------------------------------- whole models


@pytest.mark.parametrize(("family", "name"), CELLS)
def test_records_come_back_through_the_model(family: str, name: str) -> None:
    model = fitted(name, family)
    assert isinstance(model, Invertible)
    data = records(name)[-4:]
    batch, z = model.encode(data), model.forward(data, seed=3)[0]
    values = model.from_noise(model.trained, z, batch.mask, {})
    for k, f in model.view.fields.items():
        expected = f.project(batch.values[k], batch.mask)
        if expected.is_floating_point():
            assert torch.allclose(values[k], expected, atol=1e-4)
        else:
            assert (values[k] == expected).all()
    assert len(model.inverse(z, batch.sizes.tolist())) == 4


@pytest.mark.parametrize(("family", "name"), [c for c in CELLS if c[1] != "image"])
def test_padding_changes_nothing(family: str, name: str) -> None:
    model = fitted(name, family)
    assert isinstance(model, Invertible)
    batch = model.encode(records(name)[:3])
    wide = {}
    for k, v in batch.values.items():
        axes = 2 if k in batch.pairs else 1
        wide[k] = torch.nn.functional.pad(v, (0, 0) * (v.dim() - 1 - axes) + (0, 4) * axes)
    padded = batch.replace(values=wide, mask=torch.nn.functional.pad(batch.mask, (0, 4)))
    scores = []
    with torch.no_grad():
        for b in (batch, padded):
            z, log_det = model.to_noise(model.trained, b, {}, SampleRandom(1, range(3)))
            for k, f in model.view.fields.items():
                valid = f.valid(b.mask)
                valid = valid if valid.dim() == z[k].dim() else valid[..., None]
                assert (z[k] * ~valid == 0).all()
            scores.append(log_det)
    assert torch.allclose(*scores, rtol=1e-4, atol=1e-3)


def test_noise_of_temperature_zero_is_one_sample() -> None:
    model = fitted("image", "flow-coupling")
    first, second = model.sample(2, temperature=0.0)
    assert (first == second).all()


# ---------------------------------------------------------------------- refusals


def test_what_cannot_work_is_refused_at_construction() -> None:
    for kind in ("coupling", "nice"):
        with pytest.raises(UnsupportedError, match="molecule.*cartesian|cartesian.*molecule"):
            FlowModel("molecule", kind=kind, view="cartesian")
        with pytest.raises(UnsupportedError, match="cartesian"):
            FlowModel("protein", kind=kind, view="cartesian")
        with pytest.raises(UnsupportedError, match="full dimension"):
            FlowModel(Points(Positions()), kind=kind)
        assert FlowModel("protein", kind=kind).view.name == "internal"
    assert FlowModel("protein").view.name == "cartesian"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "nice", "solver": "euler"}, "solver"),
        ({"kind": "nice", "bins": 8}, "bins"),
        ({"kind": "coupling", "pairing": True}, "pairing"),
        ({"layers": 3}, "layers"),
        ({"kind": "planar"}, "planar"),
        ({"kind": "coupling", "layers": 0}, "layers"),
        ({"kind": "coupling", "bound": -1.0}, "bound"),
        ({"kind": "coupling", "temperature": -1.0}, "temperature"),
        ({"kind": "nice", "hidden": 8}, "hidden"),
    ],
)
def test_an_option_of_another_kind_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        FlowModel("smiles", **options)


def test_calls_of_another_kind_are_refused() -> None:
    model = fitted("smiles", "flow-coupling")
    with pytest.raises(ConfigError, match="steps"):
        model.sample(1, steps=3)
    with pytest.raises(ConfigError, match="probes"):
        model.log_prob(["CCO"], probes=2)
    with pytest.raises(ConfigError, match="draws"):
        model.log_prob(["CCO"], draws=0)
    continuous = tiny("smiles", "flow")
    assert isinstance(continuous, FlowModel)
    with pytest.raises(UnsupportedError, match="bijection"):
        continuous.forward(["CCO"])
    with pytest.raises(ConfigError, match="no trunk"):
        FlowModel("image", kind="nice", trunk_options=TRUNKS["image"])
    with pytest.raises(ConfigError, match="shape"):
        cast(FlowModel, model).inverse({"x": torch.zeros(1, 2, 3)}, [2])
    assert math.isfinite(float(model.log_prob(["CCO"])[0]))
