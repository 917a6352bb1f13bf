"""Checkpoints: one safetensors file with weights and a JSON header; nothing in it runs code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from molgen.core.errors import CheckpointError
from molgen.io.files import atomic
from molgen.io.header import FORMAT, read_header


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and a header atomically.

    Arguments:
        path: the file.
        tensors: by name; stored contiguous on the CPU.
        header: anything JSON can hold.
    """
    text = json.dumps({"format": FORMAT, **header}, allow_nan=True)
    # Tensors that share memory (tied weights) are stored apart, which safetensors asks for.
    stored = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic(Path(path)) as temporary:
        # Written by us, since safetensors' own writer makes files that only their owner can read.
        temporary.write_bytes(save(stored, metadata={"molgen": text}))


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a checkpoint.

    Errors: `CheckpointError` as for `read_header`.
    """
    header = read_header(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or truncated ({error}); copy it again") from None


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """A nested state (dicts, lists, tuples, tensors, scalars) as JSON and named tensors.

    Example:
        >>> import torch
        >>> plain, tensors = flatten({0: (torch.ones(2), "a")})
        >>> unflatten(plain, tensors)
        {0: (tensor([1., 1.]), 'a')}
    """
    tensors: dict[str, Tensor] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, Tensor):
            name = f"state.{len(tensors)}"
            tensors[name] = node
            return {"tensor": name}
        if isinstance(node, Mapping):
            return {"items": [[walk(k), walk(v)] for k, v in node.items()]}
        if isinstance(node, tuple):
            return {"tuple": [walk(v) for v in node]}
        if isinstance(node, list):
            return [walk(v) for v in node]
        if node is None or isinstance(node, (bool, int, float, str)):
            return node
        raise CheckpointError(f"a {type(node).__name__} cannot be stored in a checkpoint: {node!r}")

    return walk(tree), tensors


def unflatten(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nested state that `flatten` took apart."""
    if isinstance(plain, list):
        return [unflatten(v, tensors) for v in plain]
    if isinstance(plain, dict):
        if "tensor" in plain:
            return tensors[plain["tensor"]]
        if "tuple" in plain:
            return tuple(unflatten(v, tensors) for v in plain["tuple"])
        return {unflatten(k, tensors): unflatten(v, tensors) for k, v in plain["items"]}
    return plain
