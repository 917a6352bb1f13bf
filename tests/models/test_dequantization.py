"""Learned dequantisation against theory: a bound of exact probabilities that only tightens, and inverts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from molgen import ConfigError, FlowModel
from molgen.core.batch import Batch
from molgen.core.fields import Categorical, Continuous, Field
from molgen.core.rng import BatchRandom, RandomSource, SampleRandom, generator
from molgen.models.flow.bijections import Coupling, Dequantized, FlowContext, Spline, beside
from molgen.models.flow.invertible import Invertible
from tests.models.cells import records, tiny
from tests.models.test_flow_kinds import Local, Points, shaken

FIELDS: dict[str, Field] = {
    "levels": Continuous(2, levels=3, mean=0.0, sd=0.8),
    "levels of known shares": Continuous(2, levels=3, shares=[0.6, 0.1, 0.3]),
    "classes": Categorical(2, marginal=[0.7, 0.3]),
}


@dataclass(frozen=True)
class Fixed(RandomSource):
    """Uniform numbers that are known."""

    u: Tensor

    def normal(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        raise AssertionError("nothing here is normal")

    def uniform(self, mask: Tensor, own: tuple[int, ...]) -> Tensor:
        return self.u

    def spawn(self, key: int) -> Fixed:
        return self


def repeated(values: Tensor, times: int) -> Batch:
    """Each value so many times in a row, as samples of one site."""
    x = values.repeat_interleave(times, 0)
    return Batch({"x": x[:, None]}, torch.ones(len(x), 1, dtype=torch.bool))


@pytest.mark.parametrize("name", FIELDS)
def test_the_bound_lies_below_the_exact_probability_and_tightens(name: str) -> None:
    """The flow is fixed, so that its probability of a value is the integral over the square of its u.

    What maximises the bound then minimises the divergence of q(u | x) from p(u | x), from where it is
    the bound of uniform dequantisation.
    """
    field = FIELDS[name]
    model = FlowModel(Points(field, sites=1), kind="coupling", layers=2, bins=4, dequantization="variational")
    network = model._built(0)
    assert isinstance(network, Dequantized)
    source = generator(1)
    with torch.no_grad():
        for p in network.inner.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=source))
    network.inner.requires_grad_(False)
    three = torch.linspace(-1, 1, 3)
    every = torch.arange(2) if name == "classes" else torch.cartesian_prod(three, three)

    n = 50
    even = (torch.arange(n) + 0.5) / n
    line, weight = even**2 * (3 - 2 * even), 6 * even * (1 - even)  # denser at the ends, which are tails
    square = torch.cartesian_prod(line, line)[:, None].repeat(len(every), 1, 1)
    with torch.no_grad():
        inside = model._score(network.inner, repeated(every, n * n), {}, Fixed(square))
    log_weight = (weight[:, None] * weight).log().flatten() - 2 * math.log(n)
    exact = (inside.reshape(len(every), -1) + log_weight).logsumexp(1)
    assert exact.exp().sum() < 1.01

    def bound(flow: torch.nn.Module) -> Tensor:
        with torch.no_grad():
            scores = model._score(flow, repeated(every, 500), {}, BatchRandom(generator(2)))
        return scores.reshape(len(every), -1).mean(1)

    uniform = bound(network.inner)
    assert torch.allclose(bound(network), uniform, atol=1e-4)  # silent at the start
    optimizer = torch.optim.Adam(network.within.parameters(), lr=1e-2)
    for step in range(60):
        loss = -model._score(network, repeated(every, 32), {}, BatchRandom(generator(3, step))).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    learned = bound(network)
    assert (learned < exact + 0.01).all()
    assert (exact - learned).mean() < 0.6 * (exact - uniform).mean()


def test_places_in_cells_invert_and_know_their_density() -> None:
    within = shaken(Coupling(Local(17), 2, Spline(6, 1.0), beside), 0.5)
    assert isinstance(within, Coupling)
    flow = Dequantized(Coupling(Local(17), 2, Spline(6, 1.0), beside), within, coarse=True)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    sites = FlowContext(mask, {"a": mask[..., None].double()}, {})
    middle = {"a": torch.randn(1, 4, 4, 1, generator=generator(0), dtype=torch.float64)}
    u = torch.rand(16, generator=generator(1), dtype=torch.float64)

    def place(u: Tensor) -> Tensor:
        return flow.variational_dequantize({"a": u.reshape(1, 4, 4, 1)}, lambda: middle, sites)[0][
            "a"
        ].flatten()

    _, log_q = flow.variational_dequantize({"a": u.reshape(1, 4, 4, 1)}, lambda: middle, sites)
    placed = place(u)
    assert ((placed > 0) & (placed < 1) & (placed != u)).all()
    jacobian = torch.autograd.functional.jacobian(place, u)
    assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(-log_q.item(), abs=1e-4)
    coarse = torch.cat([middle["a"], middle["a"]], -1)[:, ::2, ::2]
    there, _ = within({"a": coarse}, sites.coarse())
    assert torch.equal(there["a"][..., 0], coarse[..., 0])  # the middles stay
    assert torch.allclose(within.inverse(there, sites.coarse())["a"], coarse, atol=1e-5)


@contextmanager
def doubles() -> Iterator[None]:
    """New tensors are of float64: reals are placed nearer to the edge of a cell than float32 returns."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["graph", "image", "smiles", "molecule"])
def test_placed_reals_are_still_those_of_the_value(name: str) -> None:
    # All values are seen: cells of unseen ones are narrower than the rounding of a flow and back.
    model = tiny(name, "flow-coupling", dequantization="variational").fit(
        records(name), records(name), max_steps=2, batch_size=8, lr=0.02
    )
    assert isinstance(model, Invertible)
    network = model.trained.double()
    assert isinstance(network, Dequantized)
    with torch.no_grad():
        for p in network.within.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator(1)))
    batch = model.encode(records(name)[-3:])
    exact = {k: v.double() if v.is_floating_point() else v for k, v in batch.values.items()}
    batch, rng = batch.replace(values=exact), SampleRandom(3, range(3))
    with torch.no_grad(), doubles():
        z, _ = model.to_noise(network, batch, {}, rng)
        plain, _ = model.to_noise(network.inner, batch, {}, rng)
        values = model.from_noise(network, z, batch.mask, {})
    assert any((z[k] - plain[k]).abs().max() > 1e-2 for k in z)
    for k, f in model.view.fields.items():
        expected = f.project(batch.values[k], batch.mask)
        assert torch.allclose(values[k].to(expected), expected, atol=1e-4)


def test_where_nothing_is_discrete_there_is_nothing_to_learn() -> None:
    with pytest.raises(ConfigError, match="no discrete values"):
        FlowModel("protein", kind="coupling", dequantization="variational")
    with pytest.raises(ConfigError, match="gaussian"):
        FlowModel("smiles", kind="coupling", dequantization="gaussian")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dequantization"):
        FlowModel("smiles", kind="nice", dequantization="variational")
