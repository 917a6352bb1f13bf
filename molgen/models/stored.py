"""How models leave and come back: files, the Hub, and programs of `torch.export`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.conditions import Condition, condition_from
from molgen.core.errors import CheckpointError, ConfigError
from molgen.core.modality import Modality
from molgen.core.registry import get_modality
from molgen.core.rng import SampleRandom
from molgen.io import checkpoint
from molgen.io.header import finite, need
from molgen.models.options import FitOptions, Options
from molgen.version import __version__

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_TRACED = 7  # sites of an example where any number will do


class Stored(ABC):
    """What of a model does not depend on data: its header, its weights, and where they go."""

    family: ClassVar[str]
    kind: ClassVar[str]
    options_type: ClassVar[type[Options]]
    modality: Modality
    trunk: str | None
    trunk_options: dict[str, Any]
    options: Any
    fit_options: FitOptions
    conditions: tuple[Condition, ...]
    history: dict[str, Any]
    metrics: dict[str, float | None]
    network: nn.Module | None
    _view: str

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The network; `ConfigError` before it exists."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Number of trained numbers."""

    @abstractmethod
    def _built(self, seed: int) -> nn.Module:
        """A new network with the weights of a seed."""

    def header(self) -> dict[str, Any]:
        """Everything but the weights: what the checkpoint's JSON header holds."""
        return {
            "content": "model",
            "molgen": __version__,
            "family": self.family,
            "kind": self.kind or None,
            "modality": self.modality.name,
            "modality_version": self.modality.version,
            "modality_config": self.modality.config(),
            "view": self._view,
            "trunk": self.trunk,
            "trunk_options": self.trunk_options,
            "options": self.options.to_json(),
            "fit_options": self.fit_options.to_json(),
            "conditions": [c.config() for c in self.conditions],
            "num_parameters": self.num_parameters,
            "history": self.history,
            "metrics": finite({k: v for k, v in self.metrics.items() if v is not None}),
        }

    def save(self, path: str | Path, half: bool = False, whole: bool = True) -> None:
        """Writes weights and header to one safetensors file, atomically.

        Arguments:
            path: the file.
            half: store weights as float16, half the size, for shipping.
            whole: with the weights of a first stage even where these ship with molgen; if not, the file
                needs the package that it was saved with.
        """
        state = self.tensors(whole)
        if half:
            state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
        checkpoint.write(path, state, self.header())

    @classmethod
    def from_header(cls, header: Mapping[str, Any], path: str | Path = "checkpoint") -> Self:
        """A model without weights from a checkpoint's header."""
        modality_type = type(get_modality(need(header, "modality", str, path)))
        if header.get("modality_version") != modality_type.version:
            raise CheckpointError(
                f"{path}: written for version {header.get('modality_version')!r} of modality "
                f"{modality_type.name!r}, here is {modality_type.version}; use the matching package"
            )
        try:
            model = cls._rebuilt(modality_type(**need(header, "modality_config", dict, path)), header, path)
            model.conditions = tuple(condition_from(c) for c in need(header, "conditions", list, path))
            model.history = need(header, "history", dict, path)
            model.metrics = need(header, "metrics", dict, path)
        except (TypeError, ValueError, KeyError, ConfigError) as error:
            raise CheckpointError(
                f"{path}: its header does not describe a {cls.family} model ({error})"
            ) from None
        return model

    @classmethod
    def _rebuilt(cls, modality: Modality, header: Mapping[str, Any], path: str | Path, **more: Any) -> Self:
        """A model with exactly the options that a header records."""
        family: Callable[..., Self] = cls  # families take arguments of their own
        given = need(header, "options", dict, path)
        resolved = header.get("resolved", True)
        model = family(
            modality,
            kind=header.get("kind"),
            view=need(header, "view", str, path),
            trunk=header.get("trunk"),
            trunk_options=need(header, "trunk_options", dict, path),
            **more,
            **({} if resolved else given),
        )
        if resolved:
            model.options = model.options_type.from_json(given)
            model.fit_options = FitOptions.from_json(need(header, "fit_options", dict, path))
        return model

    def tensors(self, whole: bool = True) -> dict[str, Tensor]:
        """All weights by name, as `load_weights` takes them; `whole` as for `save`."""
        return dict(self.trained.state_dict())

    def load_weights(self, tensors: Mapping[str, Tensor], path: str | Path = "checkpoint") -> None:
        """Builds the network and fills it; `CheckpointError` if a tensor is missing or of another shape."""
        network = self._built(0)
        expected = network.state_dict()
        for name, tensor in expected.items():
            got = tensors.get(name)
            if got is None or got.shape != tensor.shape:
                found = "missing" if got is None else f"of shape {tuple(got.shape)}"
                raise CheckpointError(f"{path}: tensor {name!r} is {found}, expected {tuple(tensor.shape)}")
        network.load_state_dict({k: tensors[k].to(v.dtype) for k, v in expected.items()})
        self.network = network.eval()

    def warm_start(self, tensors: Mapping[str, Tensor]) -> bool:
        """Builds the network with those weights of another one whose names and shapes it has.

        Layers without a counterpart keep the weights of seed 0; inputs that a layer has beyond those of its
        counterpart, as of labels that were added, say nothing at first.

        Returns: whether all layers had one.
        """
        network = self._built(0)
        own = network.state_dict()
        known = {k: v.to(own[k].dtype) for k, v in tensors.items() if k in own and own[k].shape == v.shape}
        for k, v in tensors.items():
            if k not in own or v.dim() != 2 or own[k].dim() != 2:
                continue
            (outputs, inputs), (theirs, fewer) = own[k].shape, v.shape
            if outputs == theirs and fewer < inputs:
                own[k].copy_(F.pad(v.to(own[k].dtype), (0, inputs - fewer)))
        network.load_state_dict({**own, **known})
        self.network = network
        return len(known) == len(own)

    def parts(self) -> dict[str, nn.Module]:
        """The networks that `export` knows, by name, first the one that samples are made with."""
        return {"network": self.trained}

    def export(
        self, path: str | Path | None = None, part: str | None = None, sites: int | None = None
    ) -> ExportedProgram:
        """A network of the model as a program of `torch.export`, which runs without molgen.

        It takes tensors by name: a denoiser `x`, the noisy values of each field, `t` `(B,)` and `mask`
        `(B, N)`; a predictor or an encoder `values` or `x`, and `mask`; and all of them `code` and `labels`,
        where they have such (a label that is not given is NaN, or -1 of a class). Out comes what `forward` of
        the network says, so ``program.module()(x={"tokens": x}, t=t, mask=mask)``. Any number of samples will
        do, and any number of sites unless the network is laid out for one (predictors, Boltzmann machines).
        Noise and the steps of a solver stay outside.

        Arguments:
            path: a file ending in ``.pt2``, which `torch.export.load` reads; its ``molgen.json`` has the
                header, the shapes of the inputs, and the `smallest_batch`, 1 or, where torch cannot, 2.
            part: one of `parts`, e.g. ``"encoder"`` of a VAE; by default the first.
            sites: the number of sites where a network has one; by default the largest of the data.

        Errors: `ConfigError` for an unknown part; `UnsupportedError` for a network that torch.export cannot
            follow, as one of a plugin may be.
        """
        from molgen.io.export import program

        known = self.parts()
        name = next(iter(known)) if part is None else part
        if name not in known:
            raise ConfigError.unknown(f"part of {self.family}", name, known)
        network, modality = known[name], self.modality
        n = sites or (modality.max_size if getattr(network, "fixed_size", False) else _TRACED)
        mask = modality.make_mask([n, n, max(1, n - 1)]).to(next(network.parameters()).device)
        header = {**self.header(), "part": name}
        what = f"{name} of {self.family} on {modality.name!r}"
        return program(network, mask, SampleRandom(0, range(len(mask))), what, path, header)

    def push_to_hub(
        self, repo: str, token: str | None = None, private: bool = False, message: str | None = None
    ) -> str:
        """Writes checkpoint and model card to the Hugging Face Hub, from where `molgen.load(repo)` reads it.

        Arguments:
            repo: ``"user/repo"``, which is made if it is not there.
            token: that may write there; by default that of `hf auth login`, or of `HF_TOKEN`.
            private: whether a new repository is seen by its owner only.
            message: of the commit.

        Errors: `ConfigError` without the package `huggingface_hub`; `CheckpointError` if the Hub cannot be
            reached or refuses.

        Returns: the address of the repository.
        """
        from molgen.io.hub import push

        return push(self, repo, token, private, message)

    def to(self, device: torch.device | str) -> Self:
        """The model on another device."""
        self.trained.to(device)
        return self
