"""The stock networks by name, and the default for a set of streams."""

from __future__ import annotations

from typing import Any

from molgen.core.errors import ConfigError
from molgen.core.trunk import Trunk, TrunkSpec

SEQUENCES, GRIDS = ("transformer", "pair", "message", "equivariant"), ("unet", "convnet", "mlp")
SIZES: dict[str, dict[str, Any]] = {
    "transformer": {"width": 192, "depth": 4, "heads": 6},
    "pair": {"width": 96, "pair_width": 24, "depth": 4, "heads": 8, "ordered": True},
}
"""Sizes for data of small extent, where they differ from a network's own."""


def stock(
    spec: TrunkSpec,
    name: str | None = None,
    extent: tuple[int, ...] | None = None,
    what: str = "trunk",
    **options: Any,
) -> Trunk:
    """A stock network: on grids a U-Net, with pairs or points a pair transformer, else a transformer.

    On grids that a wrapper evaluates many times, plain convolutions; on grids of fewer than 16 cells a side
    the U-Net works on single cells instead of patches. All except those on grids use the order of sites.

    Arguments:
        spec: the streams.
        name: one of `SEQUENCES`, or on a grid one of `GRIDS`; None chooses.
        extent: the grid `(H, W)`, or None.
        what: the subject of the error message.
        options: of the network, in place of its own.

    Errors: `ConfigError` for an unknown name, or a network without support for the streams.

    Example:
        >>> type(stock(TrunkSpec(site=3, context=2), depth=1)).__name__
        'Transformer'
        >>> type(stock(TrunkSpec(point=1, point_out=True), depth=1)).__name__
        'PairTransformer'
    """
    choices = SEQUENCES if extent is None or len(extent) < 2 else GRIDS
    if name is not None and name not in choices:
        raise ConfigError.unknown(what, name, choices)
    if choices is GRIDS:
        from molgen.nn.convnet import ConvNet
        from molgen.nn.mlp import MLP
        from molgen.nn.unet import UNet

        if name == "mlp":
            assert extent is not None
            return MLP(spec, extent=extent, **options)
        if name == "convnet" or (name is None and spec.calls > 1):
            return ConvNet(spec, **options)
        # Patches are too coarse for small images.
        small = {"patch": 1} if extent is not None and min(extent) < 16 else {}
        return UNet(spec, **{**small, **options})
    related = spec.pair or spec.point or spec.pair_out or spec.point_out
    name = name or ("pair" if related else "transformer")
    options = {**SIZES.get(name, {}), **options}
    if name == "transformer":
        from molgen.nn.transformer import Transformer

        return Transformer(spec, **options)
    if name == "pair":
        from molgen.nn.pair import PairTransformer

        return PairTransformer(spec, **options)
    if name == "message":
        from molgen.nn.message import MessageTrunk

        return MessageTrunk(spec, **options)
    from molgen.nn.equivariant import EquivariantTrunk

    return EquivariantTrunk(spec, **options)
