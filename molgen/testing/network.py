"""The promises of the network of a modality: no influence of padding, equivariance, symmetric pairs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from molgen.core.batch import Batch
from molgen.core.errors import ConfigError
from molgen.core.modality import Modality, View
from molgen.core.rng import BatchRandom, generator
from molgen.core.wrappers.denoiser import Denoiser
from molgen.nn.check import assert_close, random_rotation
from molgen.testing.report import Complaint
from molgen.testing.subject import SMALL, Subject, randomised


def check_trunk(subject: Subject) -> None:
    """The network ignores padding, is equivariant, keeps pairs symmetric, works in float64."""
    m = subject.fitted
    for view in m.views.values():
        if not view.denoisable:
            continue
        network = _denoiser(m, view)
        batch = subject.batch(view.name)
        t = torch.full((len(batch),), 0.3, dtype=torch.float64)
        rng = BatchRandom(generator(0))
        noisy = {
            k: f.diffuse(_double(batch.values[k]), torch.zeros_like(t), t, batch.mask, rng)
            for k, f in view.fields.items()
        }
        with torch.no_grad():
            out = network(noisy, t, batch.mask)
            shortest = int(batch.sizes.argmin())
            own = slice(shortest, shortest + 1)
            alone = batch.replace(values=noisy)[own].trimmed()
            single = network(alone.values, t[own], alone.mask)
            _check_padding(view, {k: v[own] for k, v in out.items()}, single, alone)
            _check_turning(view, network, noisy, t, batch.mask, out)
        for k in batch.pairs & set(out):
            _claim(
                f"output for {k!r} on the pair (j, i)",
                out[k].transpose(1, 2),
                out[k],
                "treat both sites of a pair alike",
            )


def _denoiser(m: Modality, view: View) -> Denoiser:
    """The smallest denoiser of a view, in float64, with no parameter at zero."""
    error: ConfigError | None = None
    for options in SMALL:
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                network = Denoiser(view.fields, partial(m.trunk, name=None, **options), width=16)
        except (TypeError, ConfigError) as failed:
            error = failed if isinstance(failed, ConfigError) else ConfigError(str(failed))
            continue
        randomised(network)
        return network.double().eval()
    raise error or ConfigError("no trunk could be built")


def _check_padding(view: View, out: Mapping[str, Tensor], single: Mapping[str, Tensor], alone: Batch) -> None:
    n = alone.mask.shape[1]
    for k, f in view.fields.items():
        grid = alone.mask.dim() > 2
        inside = out[k] if grid else out[k][:, :n, :n] if f.axes == 2 else out[k][:, :n]
        valid = f.valid(alone.mask)
        valid = valid if valid.dim() == inside.dim() else valid[..., None]
        _claim(
            f"output for {k!r} of a sample beside longer ones",
            inside * valid,
            single[k] * valid,
            "mask attention, sums and convolutions, so that padding never reaches real sites",
        )


def _check_turning(
    view: View,
    network: Denoiser,
    noisy: Mapping[str, Tensor],
    t: Tensor,
    mask: Tensor,
    out: Mapping[str, Tensor],
) -> None:
    points = {k for k, f in view.fields.items() if f.stream == "point"}
    if not points:
        return
    turn = random_rotation(generator(0, 2))
    turned = network({k: v @ turn if k in points else v for k, v in noisy.items()}, t, mask)
    for k, value in out.items():
        _claim(
            f"output for {k!r} of turned points",
            turned[k],
            value @ turn if k in points else value,
            "use an equivariant trunk (molgen.nn.stock: pair, equivariant or message)",
        )


def _claim(name: str, got: Tensor, expected: Tensor, fix: str) -> None:
    try:
        assert_close(name, got, expected, 1e-6)
    except AssertionError as error:
        raise Complaint(str(error), fix) from None


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x.long()
