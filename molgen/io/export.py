"""Networks as programs of `torch.export`: tensors in, tensors out, and molgen needed no more."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten_with_path, tree_map

from molgen.core.errors import ConfigError, UnsupportedError
from molgen.core.rng import RandomSource
from molgen.io.files import atomic

NOTE = "molgen.json"
"""Beside the program in its file: the checkpoint's header, and names and shapes of the inputs."""


@runtime_checkable
class Exportable(Protocol):
    """A network that knows what its forward takes.

    In `forward` the number of samples is `mask.shape[0]`: `len(mask)` would fix it in a program.
    """

    fixed_size: bool
    """Whether samples of another number of sites need another program."""

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward` by name, for the sites of a mask: tensors, or dicts of them."""


def program(
    network: nn.Module,
    mask: Tensor,
    rng: RandomSource,
    what: str,
    path: str | Path | None,
    header: Mapping[str, Any],
) -> torch.export.ExportedProgram:
    """A network as a program, written to a file if there is a path.

    Arguments:
        network: an `Exportable`; it is copied.
        mask: of an example, at least two samples, `(B, *extent)`; any B will do for the program.
        rng: of the example.
        what: the network's name, for errors.
        path: a file that ends in ``.pt2``.
        header: recorded in the file.

    Errors: `ConfigError` for another file name; `UnsupportedError` for what torch.export cannot follow.
    """
    if path is not None and Path(path).suffix != ".pt2":
        raise ConfigError(f"path is {str(path)!r}, expected a file that ends in .pt2")
    if not isinstance(network, Exportable):
        raise UnsupportedError(f"{what} cannot be exported: {type(network).__name__} has no `example`")
    own = copy.deepcopy(network).eval().requires_grad_(False)
    inputs = own.example(mask, rng)
    with torch.no_grad():
        own(**inputs)  # what is computed once for a number of sites must not be remembered from a trace
        sites = None if own.fixed_size or mask.dim() > 2 else mask.shape[1]
        dynamic = tree_map(lambda x: _free(x, sites), inputs)
        try:
            found = torch.export.export(own, (), inputs, dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # torch has many, of many modules
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UnsupportedError(f"{what}: torch.export cannot follow this network ({why})") from error
    told = _shapes(found, inputs)
    fixed = [name for name, shape in told.items() if shape[0] != "batch"]
    if fixed:
        raise UnsupportedError(f"{what}: torch.export fixes the number of samples of {', '.join(fixed)}")
    if path is not None:
        note = json.dumps({**header, "inputs": told, "smallest_batch": _least(found, inputs)}, indent=1)
        with atomic(path) as temporary:
            torch.export.save(found, temporary, extra_files={NOTE: note})
    return found


def _free(x: Tensor, sites: int | None) -> dict[int, Any]:
    """The axes that the program may leave free: of samples, and where they are not fixed, of sites."""
    axes = [axis for axis, size in enumerate(x.shape) if axis == 0 or size == sites]
    return dict.fromkeys(axes, torch.export.Dim.AUTO)


def _least(found: torch.export.ExportedProgram, inputs: Mapping[str, Any]) -> int:
    """The fewest samples that the program takes: torch may have traced a way that only several can go."""
    try:
        found.module()(**tree_map(lambda x: x[:1], dict(inputs)))
    except (AssertionError, RuntimeError):
        return 2
    return 1


def _shapes(found: torch.export.ExportedProgram, inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The shape of each input by its path, e.g. ``"x.tokens"``; free sizes are called batch and sites."""
    leaves = tree_flatten_with_path(inputs)[0]
    paths = [".".join(str(getattr(key, "key", key)) for key in path) for path, _ in leaves]
    named = set(found.graph_signature.user_inputs)
    nodes = [node for node in found.graph.nodes if node.op == "placeholder" and node.name in named]
    shapes = {path: list(node.meta["val"].shape) for path, node in zip(paths, nodes, strict=True)}
    return {
        path: [n if isinstance(n, int) else "batch" if axis == 0 else "sites" for axis, n in enumerate(shape)]
        for path, shape in shapes.items()
    }
