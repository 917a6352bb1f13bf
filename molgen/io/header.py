"""The JSON header of a checkpoint, readable without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molgen.core.errors import CheckpointError

FORMAT = 2
_LIMIT = 64 * 2**20  # no header of ours comes near this many bytes


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a checkpoint, without its tensors and without torch.

    Errors: `CheckpointError` if the file is missing, truncated, not of molgen, or of another version.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LIMIT or length > path.stat().st_size:
                raise ValueError("its length field is out of range")
            outer = json.loads(file.read(length).decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a safetensors checkpoint, or truncated ({error}); copy it again"
        ) from None
    metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
    text = metadata.get("molgen") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise CheckpointError(
            f"{path}: a safetensors file without molgen's header; give a file saved by molgen"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: its header is not JSON; the file is damaged") from None
    if isinstance(header, dict) and header.get("format") == 1:
        header = migrated(header)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        got = header.get("format") if isinstance(header, dict) else header
        raise CheckpointError(
            f"{path}: checkpoint format {got!r}, this molgen reads {FORMAT}; use the matching version"
        )
    return header


_RENAMED = {
    "penalty": "r1_gamma",
    "blur": "instance_noise",
    "corrections": "corrector_steps",
    "contrast": "cd_weight",
    "sweeps": "gibbs_steps",
    "recall": "site_state",
    "hops": "graph_hops",
    "spread": "code_channels",
}


def migrated(header: dict[str, Any]) -> dict[str, Any]:
    """A header of format 1 as one of format 2, whose options are yet to be resolved."""
    if header.get("kind") != "model":
        return header
    old = dict(header)
    hyper = {name: value for name, value in old.pop("hyper").items() if value is not None}
    for name, new in _RENAMED.items():
        if name in hyper:
            hyper[new] = hyper.pop(name)
    if hyper.pop("nearest", False):
        hyper["pair_order"] = "nearest"
    stage = hyper.pop("latent") if isinstance(hyper.get("latent"), dict) else None
    old |= {"format": 2, "content": old.pop("kind"), "kind": hyper.pop("kind", None), "resolved": False}
    old |= {"history": old.pop("training"), "num_parameters": old.pop("parameters"), "options": hyper}
    if stage is not None:
        old["first_stage"] = {**migrated({"kind": "model", **stage}), "shipped": stage.get("shipped")}
    return old


def need(header: Mapping[str, Any], key: str, kind: type, path: str | Path) -> Any:
    """A header's entry of the expected type; `CheckpointError` otherwise."""
    value = header.get(key)
    if not isinstance(value, kind):
        raise CheckpointError(
            f"{path}: header entry {key!r} is {type(value).__name__}, expected {kind.__name__}; "
            "the file is damaged or not a model"
        )
    return value


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Scores as JSON that every reader takes: NaN and infinities become null."""
    return {k: (float(v) if math.isfinite(v) else None) for k, v in values.items()}
