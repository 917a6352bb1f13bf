"""The parts of the trunks: products, packing, bases."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from molgen.core import linear as products
from molgen.core.linear import Linear, linear
from molgen.nn.check import assert_close, assert_equivariant, random_rotation
from molgen.nn.layers import GatedMLP, Modulation, RadialBasis, rotary, rotate, sinusoid, softmax
from molgen.nn.pairs import pack, partners, unpack, unpack_first


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products go through oneDNN where it is there, not only where it pays."""
    monkeypatch.setattr(products, "_PRODUCT", products._OPERATOR)


@pytest.mark.parametrize("shape", [(1,), (7,), (64,), (3, 5), (64, 29), (2, 3, 16)])
@pytest.mark.parametrize("widths", [(1, 1), (5, 3), (32, 48)])
def test_linear_equals_the_plain_one(shape: tuple[int, ...], widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    inputs, outputs = widths
    x, w, b = torch.randn(*shape, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    leaves = [t.requires_grad_() for t in (x, w, b)]
    g = torch.randn(*shape, outputs)
    results = []
    for f in (linear, F.linear):
        y = f(*leaves)
        first = torch.autograd.grad(y, leaves, g, retain_graph=True)
        twice = torch.autograd.grad((y**3).sum(), (x, w), create_graph=True)
        results.append([y, *first, *torch.autograd.grad(sum(t.square().sum() for t in twice), leaves)])
    for i, (a, b_) in enumerate(zip(*results, strict=True)):
        assert_close(f"result {i}", a, b_, 2e-5)


def test_linear_takes_every_type_and_emptiness() -> None:
    layer = Linear(4, 3)
    assert layer(torch.zeros(0, 4)).shape == (0, 3)
    assert layer.double()(torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float64
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_linear_takes_strided_input() -> None:
    x, w = torch.randn(6, 32), torch.randn(5, 6)
    assert_close("transposed", linear(x.t(), w), F.linear(x.t(), w))
    wide = torch.randn(16, 40, requires_grad=True)
    weight = torch.randn(5, 20, requires_grad=True)
    ours, plain = (
        torch.autograd.grad(f(wide[:, ::2], weight).square().sum(), (wide, weight))
        for f in (linear, F.linear)
    )
    for a, b in zip(ours, plain, strict=True):
        assert_close("gradient of a strided input", a, b)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9])
def test_packing(n: int) -> None:
    z = torch.randn(2, n, n, 3, dtype=torch.float64)
    z = z + z.transpose(1, 2)
    packed = pack(z)
    assert packed.shape == (2, n, n // 2 + 1, 3)
    assert torch.equal(unpack(packed), z)
    assert torch.equal(unpack_first(packed), z.permute(0, 3, 1, 2))
    site = torch.randn(2, n, 3, dtype=torch.float64)
    assert torch.equal(unpack(site[:, :, None] * partners(site)), site[:, :, None] * site[:, None])


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_gradients_of_packing(n: int) -> None:
    z = torch.randn(1, n, n // 2 + 1, 2, dtype=torch.float64, requires_grad=True)
    full = torch.randn(1, n, n, 2, dtype=torch.float64, requires_grad=True)
    site = torch.randn(1, n, 2, dtype=torch.float64, requires_grad=True)
    for f, x in ((unpack, z), (unpack_first, z), (pack, full), (partners, site)):
        torch.autograd.gradcheck(f, x)
        torch.autograd.gradgradcheck(f, x)


def test_radial_basis_resolves_bond_lengths() -> None:
    basis = RadialBasis().double()
    d = torch.tensor([0.7, 0.71, 1.1, 1.11, 4.0, 4.1], dtype=torch.float64)
    values = basis(d)
    assert bool(((values >= 0) & (values <= 1)).all())
    # One hundredth of a unit moves some Gaussian by several hundredths at bond lengths.
    for i in (0, 2, 4):
        assert (values[i] - values[i + 1]).abs().max() > 0.03
    direct = torch.exp(-0.5 * (31 * torch.exp(-d[:, None] / 2) - torch.arange(32)) ** 2)
    assert_close("basis", values, direct)


@pytest.mark.parametrize("n", [1, 5, 15, 16, 40])
def test_softmax(n: int) -> None:
    x = torch.randn(3, n, dtype=torch.float64)
    assert_close("softmax", softmax(x), x.softmax(-1))


def test_rotary_depends_on_differences() -> None:
    q, k = torch.randn(1, 8, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64)
    cos, sin = rotary(10, 8, q)
    dots = (rotate(q.expand(10, -1), cos, sin) @ rotate(k.expand(10, -1), cos, sin).T).diagonal(2)
    assert_close("dots at distance two", dots, dots[:1].expand(8))


def test_modulation_and_mlp_start_at_zero() -> None:
    assert all(torch.equal(v, 0 * v) for v in Modulation(3, 4, 2)(torch.randn(2, 3)))
    assert torch.equal(GatedMLP(4, 8)(torch.randn(2, 4)), torch.zeros(2, 4))
    assert sinusoid(torch.arange(3), 5).shape == (3, 5)


def test_assert_equivariant_finds_faults() -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="vectors of the turned input"):
        assert_equivariant(lambda x: (x.abs(), None), x)
    with pytest.raises(AssertionError, match="scalars of the turned input"):
        assert_equivariant(lambda x: (None, x.norm()), x)
    r = random_rotation(torch.Generator().manual_seed(0))
    assert_close("orthogonality", r @ r.T, torch.eye(3, dtype=torch.float64))


def test_heavy_packages_are_imported_only_where_needed() -> None:
    code = "import sys, molgen.nn.pair; print([m for m in ('e3nn', 'torch_geometric') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
