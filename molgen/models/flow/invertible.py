"""What the kinds with a bijection in closed form share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Dequantization
from molgen.core.conditions import Condition
from molgen.core.errors import ConfigError
from molgen.core.fields import Field
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource, SampleRandom
from molgen.core.solvers import State
from molgen.core.step import TRAINED, TrainingStep
from molgen.io.samples import Samples
from molgen.models.flow.base import FlowModel
from molgen.models.flow.bijections import Bijection, FlowContext
from molgen.models.options import Options, option
from molgen.models.sampler import parse_conditions


@final
class ExportedFlow(nn.Module):
    """A bijection one way, from tensors to tensors: what is exported of it.

    Arguments:
        flow: the bijection.
        fields: by name.
        conditions: the labels that it knows.
        back: from noise to reals, instead of reals to noise and the log-determinant.
    """

    fixed_size = False

    def __init__(
        self, flow: Bijection, fields: Mapping[str, Field], conditions: Sequence[Condition], back: bool
    ) -> None:
        super().__init__()
        self.flow, self.fields, self.conditions, self.back = flow, fields, tuple(conditions), back

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward`, see `Exportable`."""
        sites = self._sites(mask, {})
        z = {
            k: f.symmetrize(rng.normal(mask, Dequantization.of(f).shape(mask)))
            for k, f in self.fields.items()
        }
        labels = {c.name: torch.full((len(mask),), c.missing()) for c in self.conditions}
        return {"z": {k: sites.only(k, v) for k, v in z.items()}, "mask": mask, "labels": labels}

    def forward(self, z: Mapping[str, Tensor], mask: Tensor, labels: Mapping[str, Tensor]) -> Any:
        """The image, `(B, ..., cells)` of each field; forwards also the log-determinant, `(B,)`."""
        sites = self._sites(mask, labels)
        return self.flow.inverse(dict(z), sites) if self.back else self.flow(dict(z), sites)

    def _sites(self, mask: Tensor, labels: Mapping[str, Tensor]) -> FlowContext:
        return FlowContext(
            mask, {k: d.weight(mask) for k, d in Dequantization.each(self.fields).items()}, labels
        )


@dataclass(frozen=True, kw_only=True)
class BijectiveOptions(Options, ABC):
    """Options that all bijections have."""

    layers: int = option(4, "number of couplings, on a grid at each resolution", ge=1)
    temperature: float = option(1.0, "factor on the standard deviation of sampling noise", ge=0)
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    width: int = option(128, "channels of the context vector", ge=1)


class Invertible(FlowModel):
    r"""A bijection g from the reals of all fields to noise of the same shape.

    Values x enter as reals r, which are drawn in the cell of x with density :math:`e^{-v}`, or are x itself
    in units of volume :math:`e^v` where values are reals already:

    .. math:: \log p(x) \ge E_r[\log p_z(g(r)) + \log |\det \partial g / \partial r| + v]

    This is the bound of uniform dequantisation, or of one that the network learns, whose log-density
    within the cell is subtracted; several draws of r give the tighter importance-weighted bound.

    Source: Theis et al., A Note on the Evaluation of Generative Models (2016); Ho et al., Flow++ (2019);
    Burda et al., Importance Weighted Autoencoders (2016).
    """

    needs: ClassVar[Mapping[str, bool]] = {"invariant": True}
    capabilities = (Dequantization,)
    options: BijectiveOptions

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        whole = self.view.bijective and all(d.lossless for d in self._dequantization.values())
        self.likelihood = "exact" if whole else "lower bound"

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """The log-density of each number of noise, `(...)`."""

    @abstractmethod
    def white(self, mask: Tensor, own: tuple[int, ...], rng: RandomSource) -> Tensor:
        """Noise of the shape `own` for each sample."""

    def parts(self) -> dict[str, nn.Module]:
        """``"inverse"``: noise to reals, which `Field.quantize` makes values of; ``"forward"``: back."""
        flow, fields = cast(Bijection, self.trained), self.view.fields
        ways = {"inverse": True, "forward": False}
        return {name: ExportedFlow(flow, fields, self.conditions, back) for name, back in ways.items()}

    # ------------------------------------------------------------------ both ways

    @property
    def _dequantization(self) -> dict[str, Dequantization]:
        return Dequantization.each(self.view.fields)

    def _sites(self, mask: Tensor, labels: Mapping[str, Tensor]) -> FlowContext:
        return FlowContext(mask, {k: d.weight(mask) for k, d in self._dequantization.items()}, labels)

    def to_noise(
        self, network: nn.Module, batch: Batch, labels: Mapping[str, Tensor], rng: RandomSource
    ) -> tuple[State, Tensor]:
        """Noise z of every field, and the log-volume of a value in units of it, `(B,)`."""
        mask, fields = batch.mask, self._dequantization
        sites = self._sites(mask, labels)
        flow = cast(Bijection, network)
        u = {k: f.uniform(mask, rng) for k, f in fields.items()}
        inside = {k: u[k] for k, f in fields.items() if f.discrete}

        def middle() -> State:
            half = {k: torch.full_like(v, 0.5) for k, v in inside.items()}
            return {k: fields[k].dequantize(batch.values[k], v, mask)[0] for k, v in half.items()}

        placed, log_q = flow.variational_dequantize(inside, middle, sites)
        r, volumes = {}, []
        for k, f in fields.items():
            r[k], volume = f.dequantize(batch.values[k], placed.get(k, u[k]), mask)
            volumes.append(sites.total(k, volume[..., None]))
        z, log_det = flow(r, sites)
        return z, log_det + torch.stack(volumes).sum(0) - log_q

    def from_noise(
        self, network: nn.Module, z: Mapping[str, Tensor], mask: Tensor, labels: Mapping[str, Tensor]
    ) -> State:
        """Values of every field from noise."""
        fields = self._dequantization
        for k, f in fields.items():
            shape = (len(mask), *mask.shape[1:] * f.field.axes, f.dim)
            if k not in z or z[k].shape != shape:
                got = tuple(z[k].shape) if k in z else "nothing"
                raise ConfigError(f"z of field {k!r}: got {got}, expected shape {shape}")
        sites = self._sites(mask, labels)
        r = cast(Bijection, network).inverse({k: sites.only(k, z[k]) for k in fields}, sites)
        return {k: f.quantize(r[k], mask) for k, f in fields.items()}

    def _score(
        self, network: nn.Module, batch: Batch, labels: Mapping[str, Tensor], rng: RandomSource
    ) -> Tensor:
        """The bound at one draw of the dequantisation, `(B,)`."""
        z, volume = self.to_noise(network, batch, labels, rng)
        sites = self._sites(batch.mask, labels)
        return volume + torch.stack([sites.total(k, self.log_prior(z[k])) for k in z]).sum(0)

    @torch.no_grad()
    def forward(self, records: Sequence[Any], seed: int = 0) -> tuple[State, Tensor]:
        batch = self.encode(records)
        rng = SampleRandom(seed, range(len(batch)))
        return self.to_noise(self.trained.eval(), batch, self.labels(batch), rng)

    @torch.no_grad()
    def inverse(
        self, z: Mapping[str, Tensor], sizes: Sequence[int], condition: Mapping[str, Any] | None = None
    ) -> Samples:
        mask = self.modality.make_mask(sizes)
        given, _ = parse_conditions(self, condition or {})
        labels = {k: torch.full((len(mask),), v) for k, v in given.items()}
        values = self.from_noise(self.trained.eval(), z, mask, labels)
        return self.decode(Batch(values, mask, {}, self.view.pairs))

    # ------------------------------------------------------------------ the family's verbs

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        """The negative bound per site."""
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        sites = batch.sizes.sum().clamp_min(1)
        return {"nll": -self._score(network, batch, labels, rng).sum() / sites}

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        *,
        temperature: float | None = None,
    ) -> State:
        """Noise through the inverse.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            temperature: factor on the spread of the noise; 0 takes its mode.
        """
        spread = self.resolved(temperature=temperature).temperature
        z = {
            k: spread * d.field.symmetrize(self.white(mask, d.shape(mask), rng))
            for k, d in self._dequantization.items()
        }
        return self.from_noise(self.trained, z, mask, labels)

    def log_density(self, batch: Batch, rng: RandomSource, *, draws: int = 1) -> Tensor:
        """log p where values are reals, else the bound from so many draws of the dequantisation."""
        if draws < 1:
            raise ConfigError(f"draws is {draws}, expected 1 or more")
        labels = self.labels(batch)
        scores = [self._score(self.trained, batch, labels, rng) for _ in range(draws)]
        return torch.stack(scores).logsumexp(0) - math.log(draws)
