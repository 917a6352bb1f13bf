"""VAEModel: a latent code, an encoder that infers it, and a decoder that says the sample's density."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising, Embedding, Entries
from molgen.core.densities import Sharpen
from molgen.core.errors import ConfigError, MolgenWarning, UnsupportedError
from molgen.core.fields import Field
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource, SampleRandom
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.wrappers import Decoder, Encoder, MakeTrunk, Predictor
from molgen.core.wrappers.decoder import log_likelihood
from molgen.core.wrappers.order import PairOrder
from molgen.io.samples import Samples
from molgen.models.base import GenerativeModel
from molgen.models.options import Options, option

_ACTIVE = 0.01
"""Nats that a latent dimension must carry to count as active (Burda et al., 2016)."""

_FREE = 0.25
"""Nats per dimension that a code may carry for free where the decoder could do without it."""


@final
class Prior(nn.Module):
    r"""A standard normal distribution, or a learned mixture of diagonal Gaussians.

    .. math:: p(z) = \sum_k \pi_k N(z; \mu_k, s_k^2)

    Arguments:
        latent: dimensions of z.
        components: K; 1 is the fixed standard normal.
    """

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.latent, self.components = latent, components
        if components > 1:
            self.logits = nn.Parameter(torch.zeros(components))
            self.mean = nn.Parameter(torch.randn(components, latent))
            self.log_sd = nn.Parameter(torch.zeros(components, latent))

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), `(B,)`."""
        if self.components == 1:
            return _log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        parts = _log_normal(z[:, None], self.mean, self.log_sd)
        return (self.logits.log_softmax(0) + parts).logsumexp(1)

    def draw(self, mask: Tensor, rng: RandomSource, temperature: float = 1.0) -> Tensor:
        """z `(B, latent)`; a temperature scales the spread around the mean (of each component)."""
        white = rng.normal(mask, (self.latent,)) * temperature
        if self.components == 1:
            return white
        u = rng.uniform(mask, ())
        edges = self.logits.softmax(0).cumsum(0)
        k = (u[:, None] >= edges).sum(1).clamp_max(self.components - 1)
        return self.mean[k] + self.log_sd[k].exp() * white


@final
class Autoencoder(nn.Module):
    """The networks of a VAE: encoder, decoder and prior."""

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        make_decoder: MakeTrunk,
        conditions: Sequence[Any],
        latent: int,
        sequential: bool,
        components: int,
        extent: tuple[int, ...] | None,
        code_channels: int,
        width: int,
        site_state: bool,
        pair_order: PairOrder,
    ) -> None:
        super().__init__()
        reals = {k: e.continuous() for k, e in Embedding.each(fields).items()}
        self.encoder = Encoder(reals, make_trunk, conditions, outputs=2 * latent, width=width)
        self.decoder: Decoder | Predictor
        if sequential:
            self.decoder = Predictor(
                fields,
                make_decoder,
                conditions,
                extent,
                code=latent,
                width=width,
                site_state=site_state,
                pair_order=pair_order,
            )
        else:
            self.decoder = Decoder(fields, make_decoder, conditions, latent, extent, code_channels, width)
        self.prior = Prior(latent, components)
        self.fields = fields

    def infer(
        self, values: Mapping[str, Tensor], mask: Tensor, labels: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation of q(z | x), `(B, latent)` each."""
        reals = {k: e.embed(values[k], mask) for k, e in Embedding.each(self.fields).items()}
        mean, log_sd = self.encoder(reals, mask, labels).chunk(2, -1)
        return mean, log_sd.clamp(-7, 2)

    def log_likelihood(
        self, values: Mapping[str, Tensor], mask: Tensor, labels: Mapping[str, Tensor], z: Tensor
    ) -> dict[str, Tensor]:
        """log p(x | z) per field, `(B,)`."""
        if isinstance(self.decoder, Predictor):
            return self.decoder.log_prob(values, mask, labels, z)
        return log_likelihood(self.fields, self.decoder(z, mask, labels), values, mask)

    def draw(
        self, mask: Tensor, labels: Mapping[str, Tensor], z: Tensor, rng: RandomSource, temperature: float
    ) -> dict[str, Tensor]:
        """Values drawn from p(x | z); at temperature 0 the centre of each entry, or greedily in order."""
        how = Sharpen(max(temperature, 1e-4))
        if isinstance(self.decoder, Predictor):
            return self.decoder.write(mask, rng, labels, z, how)
        raw = self.decoder(z, mask, labels)
        entries = Entries.each(self.fields)
        densities = {k: e.likelihood(raw[k]) for k, e in entries.items()}
        if temperature == 0:
            return {k: e.point_estimate(densities[k], mask) for k, e in entries.items()}
        return {k: e.sample(densities[k], mask, rng, how) for k, e in entries.items()}


@final
@dataclass(frozen=True, kw_only=True)
class VAEOptions(Options):
    """Options of `VAEModel`."""

    latent: int = option(32, "dimensions of the code", ge=1)
    decoder: Literal["independent", "autoregressive"] = option(
        "independent", "whether entries are decoded all at once or one after the other", from_view=True
    )
    decoder_options: Mapping[str, Any] | None = option(
        None,
        "keyword arguments for the decoder's trunk, the causal one of an autoregressive decoder",
        derived="those of the encoder, or none for a causal trunk",
    )
    beta: float = option(1.0, "weight of the KL term in training", ge=0)
    warmup: float = option(0.2, "share of the budget over which the weight rises to `beta`", ge=0, le=1)
    free_bits: float | None = option(
        None,
        "nats per sample and dimension that the KL term may have for free, without which an autoregressive "
        "decoder ignores the code",
        ge=0,
        derive=lambda o: _FREE if o.decoder == "autoregressive" else 0.0,
        derived="0.25 for an autoregressive decoder, else 0",
    )
    components: int = option(1, "components of the mixture prior; 1 is the standard normal", ge=1)
    temperature: float | None = option(
        None,
        "of draws from p(x | z); at 0 the medians of numbers and the most probable classes",
        ge=0,
        derive=lambda o: 1.0 if o.decoder == "autoregressive" else 0.0,
        derived="1 for an autoregressive decoder, else 0, since independent draws are noise",
    )
    code_channels: int = option(
        16, "numbers on each site from which an independent decoder reads the code", ge=1
    )
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    width: int = option(128, "channels of the context vector", ge=1)
    site_state: bool = option(
        False, "whether an entry sees at once all that is written at its own sites", from_view=True
    )
    pair_order: PairOrder = option(
        "first",
        "whether pairs of a site start with the first site, or with the one written before it",
        from_view=True,
    )


@final
class VAEModel(GenerativeModel):
    r"""A variational autoencoder over any mixture of fields.

    .. math:: \log p(x) \ge E_{q(z|x)}[\sum_f \log p(x_f | z)] - KL(q(z|x) || p(z))

    The encoder pools a trunk's features to one code per sample; the decoder says the density of every
    entry given the code, all at once (``"independent"``) or one after the other (``"autoregressive"``).

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`.
        {options}

    Errors: `UnsupportedError` if no view is invariant (ordered, for an autoregressive decoder).

    Source: Kingma and Welling, Auto-Encoding Variational Bayes (2014); Kingma et al., Improved Variational
    Inference with Inverse Autoregressive Flow (2016) for free bits; Burda et al., Importance Weighted
    Autoencoders (2016).

    Example:
        >>> from molgen import VAEModel
        >>> model = VAEModel("smiles", latent=4, trunk_options={"width": 24, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> model.encode_latent(["CCO"])[0].shape, len(model.reconstruct(["CCO"]))
        (torch.Size([1, 4]), 1)
    """

    family: ClassVar[str] = "vae"
    options_type: ClassVar[type[Options]] = VAEOptions
    options: VAEOptions
    needs: ClassVar[Mapping[str, bool]] = {"invariant": True}
    capabilities = (Entries,)
    continuous = (Denoising,)
    likelihood = "lower bound"

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        if self._sequential and not self.view.ordered:
            raise UnsupportedError(
                f"view {self._view!r} of {self.modality.name!r} has no order for an autoregressive decoder; "
                "use decoder='independent'"
            )

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        return {"latent": 4}

    @property
    def _sequential(self) -> bool:
        return self.options.decoder == "autoregressive"

    @property
    def latent_dim(self) -> int:
        """Dimensions of the code."""
        return self.options.latent

    def build(self) -> nn.Module:
        o, options = self.options, self.options.decoder_options
        if options is None and self._sequential:
            options = {}  # a causal trunk is another network than the encoder's
        return Autoencoder(
            self.view.fields,
            self.make_trunk,
            partial(self.make_trunk, options=options),
            self.conditions,
            o.latent,
            self._sequential,
            o.components,
            self.modality.extent,
            o.code_channels,
            o.width,
            o.site_state,
            o.pair_order,
        )

    def parts(self) -> dict[str, nn.Module]:
        """``"decoder"``: a code to the densities of all entries; ``"encoder"``: means and log sd of codes."""
        return {"decoder": self._network.decoder, "encoder": self._network.encoder}

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        """The negative bound per site: reconstruction of each field, and the KL term."""
        vae, mask = cast(Autoencoder, network), batch.mask
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        mean, log_sd = vae.infer(batch.values, mask, labels)
        z = mean + log_sd.exp() * rng.normal(mask, (self.options.latent,))
        sites = batch.sizes.sum().clamp_min(1)
        log_p = vae.log_likelihood(batch.values, mask, labels, z)
        terms = {f"reconstruction/{k}": -v.sum() / sites for k, v in log_p.items()}
        per_dimension = _kl_normal(mean, log_sd)
        step.log("active", (per_dimension.mean(0) > _ACTIVE).sum().detach())
        step.log("kl", per_dimension.sum(1).mean().detach())
        kl = self._kl(vae.prior, mean, log_sd, z)
        warmup = self.options.warmup
        weight = self.options.beta * (1.0 if warmup == 0 else min(1.0, step.progress / warmup))
        return {**terms, "kl": weight * kl * len(mask) / sites}

    def _kl(self, prior: Prior, mean: Tensor, log_sd: Tensor, z: Tensor) -> Tensor:
        """Mean KL term in nats, not less than what is free."""
        free = self.options.free_bits or 0.0
        if prior.components == 1:
            return _kl_normal(mean, log_sd).mean(0).clamp_min(free).sum()
        estimate = (_log_normal(z, mean, log_sd) - prior.log_prob(z)).mean()
        return estimate.clamp_min(free * self.options.latent)

    def on_fit_end(self, logged: Mapping[str, Tensor]) -> None:
        """Warns if the code carries nothing: the posterior has collapsed to the prior."""
        if float(logged.get("active", torch.ones(()))) == 0:
            warnings.warn(
                "posterior collapse: no latent dimension carries information at the end of training; "
                "raise free_bits or warmup, or lower beta",
                MolgenWarning,
                stacklevel=2,
            )

    # ------------------------------------------------------------------ codes

    @torch.no_grad()
    def encode_latent(self, records: Sequence[Any], batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | x) of each record, `(n, latent)` each."""
        vae = self._network
        means, sds = [], []
        for start in range(0, len(records), batch_size):
            batch = self.encode(records[start : start + batch_size])
            labels = self.labels(batch)
            mean, log_sd = vae.infer(batch.values, batch.mask, labels)
            means.append(mean)
            sds.append(log_sd.exp())
        if not means:
            return torch.zeros(0, self.options.latent), torch.zeros(0, self.options.latent)
        return torch.cat(means), torch.cat(sds)

    @torch.no_grad()
    def decode_latent(
        self,
        z: Tensor,
        sizes: Sequence[int] | None = None,
        seed: int = 0,
        temperature: float | None = None,
        rng: RandomSource | None = None,
    ) -> Samples:
        """Domain objects from codes.

        Arguments:
            z: `(n, latent)`.
            sizes: number of sites of each; by default drawn from the data's sizes.
            seed: of the draws.
            temperature: of p(x | z).
            rng: of the draws, instead of that of the seed.
        """
        if z.dim() != 2 or z.shape[1] != self.options.latent:
            raise ConfigError(f"z is of shape {tuple(z.shape)}, expected (n, {self.options.latent})")
        known = self.modality.draw_sizes(seed, range(len(z))) if sizes is None else list(sizes)
        mask = self.modality.make_mask(known).to(z.device)
        rng = SampleRandom(seed, range(len(z))) if rng is None else rng
        values = self._network.draw(mask, {}, z, rng, self.resolved(temperature=temperature).temperature)
        return self.decode(Batch(values, mask, {}, self.view.pairs))

    def reconstruct(self, records: Sequence[Any], seed: int = 0, temperature: float = 0.0) -> Samples:
        """Each record encoded at the mean of q(z | x) and decoded at its own size."""
        sizes = self.encode(records).sizes.tolist()
        return self.decode_latent(self.encode_latent(records)[0], sizes, seed, temperature)

    def interpolate(self, a: Any, b: Any, n: int = 8, seed: int = 0, temperature: float = 0.0) -> Samples:
        """Records on the great circle between the codes of two records, both ends included."""
        if n < 2:
            raise ConfigError(f"n is {n}, expected 2 or more, the two ends")
        (za, zb), (na, nb) = self.encode_latent([a, b])[0], self.encode([a, b]).sizes.tolist()
        steps = torch.linspace(0, 1, n)
        angle = torch.arccos((za @ zb / (za.norm() * zb.norm()).clamp_min(1e-9)).clamp(-1, 1))
        if float(angle.sin()) < 1e-3:
            z = za + steps[:, None] * (zb - za)
        else:
            z = ((1 - steps) * angle).sin()[:, None] * za + (steps * angle).sin()[:, None] * zb
            z = z / angle.sin()
        sizes = [round(float(na + s * (nb - na))) for s in steps]
        return self.decode_latent(z, sizes, seed, temperature)

    @property
    def _network(self) -> Autoencoder:
        return cast(Autoencoder, self.trained.eval())

    # ------------------------------------------------------------------ sampling and likelihood

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        *,
        temperature: float | None = None,
        prior_temperature: float = 1.0,
    ) -> dict[str, Tensor]:
        """A code from the prior, then values from p(x | z).

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            temperature: of p(x | z); 0 draws nothing there.
            prior_temperature: factor on the spread of the prior.
        """
        vae = self._network
        z = vae.prior.draw(mask, rng, prior_temperature)
        return vae.draw(mask, labels, z, rng, self.resolved(temperature=temperature).temperature)

    def log_density(self, batch: Batch, rng: RandomSource, *, samples: int = 1) -> Tensor:
        r"""The importance-weighted bound; with one sample the evidence lower bound.

        .. math:: \log \frac{1}{K} \sum_k \frac{p(x | z_k) p(z_k)}{q(z_k | x)}, \quad z_k \sim q(z | x)
        """
        vae, mask = self._network, batch.mask
        labels = self.labels(batch)
        mean, log_sd = vae.infer(batch.values, mask, labels)
        weights = []
        for _ in range(samples):
            z = mean + log_sd.exp() * rng.normal(mask, (self.options.latent,))
            log_p = torch.stack(list(vae.log_likelihood(batch.values, mask, labels, z).values())).sum(0)
            weights.append(log_p + vae.prior.log_prob(z) - _log_normal(z, mean, log_sd))
        return torch.stack(weights).logsumexp(0) - math.log(samples)


def _log_normal(z: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    """log N(z; mean, sd^2), summed over the last axis."""
    square = ((z - mean) * (-log_sd).exp()) ** 2
    return -(0.5 * square + log_sd + 0.5 * math.log(2 * math.pi)).sum(-1)


def _kl_normal(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL(N(mean, sd^2) || N(0, 1)) per dimension, `(B, latent)`."""
    return 0.5 * (mean**2 + (2 * log_sd).exp() - 1) - log_sd
