"""Families that can work in the latent space of a VAE: two stages in one model, and in one file."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from molgen.core.errors import CheckpointError, ConfigError
from molgen.core.latent import Latent
from molgen.core.modality import Modality
from molgen.io.header import need
from molgen.models.base import GenerativeModel
from molgen.models.loading import list_weights, load
from molgen.models.vae import VAEModel

FirstStage = VAEModel | str | Path | Mapping[str, Any]

_LATENT = "latent."  # before the names of a first stage's weights


class LatentFamily(GenerativeModel, ABC):
    """A family that models the codes of a trained VAE, its first stage, if it is given one.

    Arguments:
        modality, view, trunk, trunk_options, options: see `GenerativeModel`.
        latent: a trained `VAEModel` of the same modality, a file of one, or the name of a shipped one.

    Errors: `ConfigError` if the VAE is of another modality, or no VAE.
    """

    def __init__(
        self, modality: str | Modality, *, latent: FirstStage | None = None, **arguments: Any
    ) -> None:
        self.vae: VAEModel | None = None
        self.first_stage: dict[str, Any] = {}
        """The header of the VAE, and under ``"shipped"`` its name among the shipped weights."""
        if latent is not None:
            self.vae, self.first_stage = _first_stage(latent)
            name = modality if isinstance(modality, str) else modality.name
            if name != self.vae.modality.name:
                raise ConfigError(f"latent is a VAE of {self.vae.modality.name!r}, expected one of {name!r}")
            modality, self.likelihood = Latent(self.vae), "none"
        super().__init__(modality, **arguments)

    def header(self) -> dict[str, Any]:
        return super().header() | ({"first_stage": self.first_stage} if self.vae is not None else {})

    @classmethod
    def _rebuilt(cls, modality: Modality, header: Mapping[str, Any], path: str | Path, **more: Any) -> Self:
        if "first_stage" in header:
            more["latent"] = need(header, "first_stage", dict, path)
        return super()._rebuilt(modality, header, path, **more)

    def tensors(self, whole: bool = True) -> dict[str, Tensor]:
        kept = self.vae is not None and (whole or not self.first_stage.get("shipped"))
        theirs = self.vae.tensors() if self.vae is not None and kept else {}
        return super().tensors() | {_LATENT + name: value for name, value in theirs.items()}

    def load_weights(self, tensors: Mapping[str, Tensor], path: str | Path = "checkpoint") -> None:
        super().load_weights(tensors, path)
        if self.vae is not None:
            theirs = {k.removeprefix(_LATENT): v for k, v in tensors.items() if k.startswith(_LATENT)}
            self.vae.load_weights(theirs or _shipped(self.first_stage, path).tensors(), path)

    def to(self, device: torch.device | str) -> Self:
        if self.vae is not None:
            self.vae.to(device)
        return super().to(device)


def _first_stage(given: FirstStage) -> tuple[VAEModel, dict[str, Any]]:
    """A VAE as it is, from a file or a shipped name, or without weights from its header; and its header."""
    if isinstance(given, Mapping):
        return VAEModel.from_header(given), dict(given)
    if isinstance(given, VAEModel):
        return given, given.header()
    model = load(given)
    if not isinstance(model, VAEModel):
        raise ConfigError(f"latent={given}: holds a {model.family}, expected a vae")
    ships = not Path(given).is_file() and str(given) in list_weights()
    return model, model.header() | ({"shipped": str(given)} if ships else {})


def _shipped(header: Mapping[str, Any], path: str | Path) -> GenerativeModel:
    """The first stage of a file that leaves its weights to those that ship, if they are still the same."""
    if not header.get("shipped"):
        raise CheckpointError(f"{path}: holds no weights of its first stage; save it whole")
    model = load(header["shipped"])
    if model.history != header["history"]:
        raise CheckpointError(
            f"{path}: its first stage is an earlier {header['shipped']} than the one that ships here; "
            "use the package that it was saved with"
        )
    return model
