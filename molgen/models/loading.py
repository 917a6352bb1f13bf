"""Models from files, from the weights that ship with molgen, and from the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molgen.core.errors import CheckpointError, ConfigError, UnsupportedError
from molgen.core.registry import get_family
from molgen.io.header import need, read_header
from molgen.io.hub import fetch, is_repo

if TYPE_CHECKING:
    from molgen.models.base import GenerativeModel

WEIGHTS = Path(__file__).parents[1] / "weights"


def list_weights() -> dict[str, dict[str, Any]]:
    """The headers of the shipped weights by name, read without torch."""
    return {path.stem: read_header(path) for path in sorted(WEIGHTS.glob("*.safetensors"))}


def find_weights(path_or_name: str | Path) -> Path:
    """The file of a checkpoint, of shipped weights, or of a repository of the Hub, which is fetched.

    Errors: `ConfigError` suggesting the nearest shipped name, `CheckpointError` if a file is not there.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    if isinstance(path_or_name, str) and is_repo(path_or_name):
        return fetch(path_or_name)
    if isinstance(path_or_name, Path) or path.suffix or len(path.parts) != 1:
        raise CheckpointError(f"{path}: no such file; give a checkpoint or the name of shipped weights")
    shipped = WEIGHTS / f"{path_or_name}.safetensors"
    if not shipped.is_file():
        raise ConfigError.unknown("weights", path_or_name, (p.stem for p in WEIGHTS.glob("*.safetensors")))
    return shipped


def load(path_or_name: str | Path) -> GenerativeModel:
    """A model with its weights from a checkpoint, from weights that ship with molgen, or from the Hub.

    Arguments:
        path_or_name: a file written by `save`, a shipped name, e.g. ``"diffusion-molecule"``, or a repository
            of the Hugging Face Hub, ``"user/repo"`` or ``"user/repo@revision"``, of which nothing but
            ``model.safetensors`` is fetched.

    Errors: `CheckpointError` if the file is missing, truncated, of another version, not a model, or of a
        family or modality that is not installed; `ConfigError` for an unknown name.
    """
    from molgen.io import checkpoint

    path = find_weights(path_or_name)
    header = read_header(path)
    if header.get("content") != "model":
        raise CheckpointError(
            f"{path}: holds a {header.get('content')}, expected a model; give what save wrote"
        )
    try:
        family = get_family(need(header, "family", str, path))
        tensors = checkpoint.read(path)[0]
        _plausible(header, sum(t.numel() for t in tensors.values()), path)
        model: GenerativeModel = family.from_header(header, path)
        model.load_weights(tensors, path)
    except (ConfigError, UnsupportedError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (RuntimeError, TypeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: its header does not describe a network ({why})") from None
    return model


def _plausible(header: Mapping[str, Any], numbers: int, path: Path) -> None:
    """Refuses sizes that no network of so many stored numbers can have, before anything is built."""
    for group in ("options", "trunk_options"):
        for name, value in need(header, group, dict, path).items():
            if isinstance(value, int) and abs(value) > max(numbers, 1000):
                raise CheckpointError(
                    f"{path}: {name}={value} cannot belong to the {numbers:,} numbers that it holds; "
                    "the file is damaged or hostile"
                )
