"""The codes of a trained model as a kind of data, so that a family can work in its latent space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol, Self, final

import numpy as np
import torch
from torch import Tensor

from molgen.core.batch import Batch, Sample
from molgen.core.conditions import Condition
from molgen.core.errors import ConfigError
from molgen.core.fields import Categorical, Continuous, Field
from molgen.core.modality import Format, Modality, View
from molgen.core.records import Records
from molgen.core.rng import RandomSource, SampleRandom
from molgen.core.trunk import Trunk, TrunkSpec

_VIEW, _CODE, _SIZE = "latent", "code", "size"


class Coder(Protocol):
    """What has a latent space: a trained model that encodes objects to codes and decodes them."""

    modality: Modality

    @property
    def latent_dim(self) -> int:
        """Dimensions of the code."""

    def encode(self, records: Sequence[Any]) -> Batch:
        """Domain objects as a batch."""

    def encode_latent(self, records: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the code of each record, `(n, latent)` each."""

    def decode_latent(
        self, z: Tensor, sizes: Sequence[int], *, temperature: float | None, rng: RandomSource | None
    ) -> list[Any]:
        """Domain objects from codes."""


@final
class Latent(Modality):
    r"""A modality seen through a VAE: one site that holds a code z and, where sizes vary, the size.

    Objects are encoded to a draw of :math:`q(z | x)`, whose mean over data has about zero mean and unit
    variance as the prior has. A sample is a draw of :math:`p(x | z)` at the VAE's own temperature; what is
    decoded without noise is its mode. Files, data sets, conditions and scores are the VAE's modality's own.

    Arguments:
        vae: a trained model; its weights stay as they are.

    Errors: `ConfigError` if it has no weights when objects are encoded or decoded.

    Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022).

    Example:
        >>> from molgen import VAEModel
        >>> vae = VAEModel("smiles", latent=4, trunk_options={"width": 24, "depth": 1, "heads": 2})
        >>> vae = vae.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> Latent(vae).encode("CO", "latent")["code"].shape
        (1, 4)
    """

    def __init__(self, vae: Coder) -> None:
        self.vae, self.base = vae, vae.modality
        self.name, self.version = self.base.name, self.base.version

    @cached_property
    def _sizes(self) -> range:
        """The sizes that samples may have; nothing to model where there is one only."""
        if self.base.extent is not None:
            return range(math.prod(self.base.extent), math.prod(self.base.extent) + 1)
        smallest = next(n for n in range(1, self.base.max_size + 1) if self.base.log_size(n) > -math.inf)
        return range(smallest, self.base.max_size + 1)

    @cached_property
    def views(self) -> Mapping[str, View]:
        fields: dict[str, Field] = {_CODE: Continuous(self.vae.latent_dim, sd=1.0)}
        if len(self._sizes) > 1:
            shares = [math.exp(self.base.log_size(n)) for n in self._sizes]
            fields[_SIZE] = Categorical(len(shares), marginal=shares)
        defaults = {"batch_size": 128, "lr": 1e-3, "solver": "dpm_2m", "steps": 20}
        return {_VIEW: View(_VIEW, fields, bijective=False, defaults=defaults)}

    # ------------------------------------------------------------------ codec

    def encode(self, record: Any, view: str) -> Sample:
        batch = self.encode_all([record], view)
        return {name: value[0].numpy() for name, value in batch.values.items()}

    def decode(self, sample: Sample, view: str) -> Any:
        values = {name: torch.as_tensor(value)[None] for name, value in sample.items()}
        return self.decode_all(Batch(values, self.make_mask([1])), view)[0]

    def encode_all(
        self, records: Sequence[Any], view: str, conditions: Mapping[str, np.ndarray] | None = None
    ) -> Batch:
        mean, sd = self.vae.encode_latent(records)
        mask = self.make_mask([1] * len(records))
        white = SampleRandom(0, range(len(records))).normal(mask, mean.shape[1:])
        values = {_CODE: mean[:, None] + sd[:, None] * white[:, None]}
        if _SIZE in self.views[view].fields:
            sizes = self.vae.encode(records).sizes
            # A size beyond those of the VAE's data counts as the nearest of them.
            values[_SIZE] = (sizes.clamp(self._sizes[0], self._sizes[-1]) - self._sizes[0])[:, None]
        told = {name: torch.as_tensor(value) for name, value in (conditions or {}).items()}
        return Batch(values, mask, told)

    def decode_all(self, batch: Batch, view: str, rng: RandomSource | None = None) -> list[Any]:
        picked = batch.values[_SIZE][:, 0].tolist() if _SIZE in batch.values else [0] * len(batch)
        sizes = [self._sizes[int(i)] for i in picked]
        temperature = 0.0 if rng is None else None
        return self.vae.decode_latent(batch.values[_CODE][:, 0], sizes, temperature=temperature, rng=rng)

    def make_mask(self, sizes: Sequence[int]) -> Tensor:
        return torch.ones(len(sizes), 1, dtype=torch.bool)

    def fit_to(self, records: Sequence[Any]) -> Self:
        return self

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        return [1] * len(indices)

    def log_size(self, n: int) -> float:
        return 0.0 if n == 1 else -math.inf

    def config(self) -> dict[str, Any]:
        return self.base.config()

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """A transformer on one site: a residual network, ``"transformer"``."""
        if name not in (None, "transformer"):
            raise ConfigError.unknown("trunk in a latent space", name, ["transformer"])
        made: Trunk = resolve_name("molgen.nn.transformer:Transformer")(
            spec, **{"width": 192, "depth": 4, "heads": 6, **options}
        )
        return made

    # ------------------------------------------------------------------ as the VAE's modality has them

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return self.base.conditions

    def measure(self, record: Any, name: str) -> float:
        return self.base.measure(record, name)

    def from_array(self, array: np.ndarray) -> Records:
        return self.base.from_array(array)

    def from_frame(self, frame: Any) -> Records:
        return self.base.from_frame(frame)

    def to_pyg(self, record: Any) -> Any:
        return self.base.to_pyg(record)

    def from_pyg(self, data: Any) -> Any:
        return self.base.from_pyg(data)

    @property
    def formats(self) -> Sequence[Format]:
        return self.base.formats

    def read_samples(self, path: Path) -> Records:
        return self.base.read_samples(path)

    @property
    def datasets(self) -> Mapping[str, Any]:
        return self.base.datasets

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        return self.base.evaluate(records, reference, **options)

    def is_valid(self, record: Any) -> bool:
        return self.base.is_valid(record)

    def plot(self, records: Sequence[Any], path: Path) -> None:
        self.base.plot(records, path)

    def to_3d(self, record: Any) -> Any:
        return self.base.to_3d(record)
