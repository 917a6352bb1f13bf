"""GANModel: a generator and a critic that tells its samples from data, each learning from the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising, Embedding, Reparameterization, Transport
from molgen.core.derivatives import differentiable
from molgen.core.errors import MolgenWarning
from molgen.core.fields import GaussianField
from molgen.core.fields.field import per_sample
from molgen.core.rng import RandomSource
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.wrappers import Denoiser, Encoder, MakeTrunk
from molgen.models.latent import LatentFamily
from molgen.models.options import Options, option

State = dict[str, Tensor]

_PENALISED = 4
"""The gradient of one sample in so many is penalised, which costs as much less."""
_NARROW = 0.3
"""Spread of samples, as a share of that of data, below which they count as collapsed."""


@final
class GeneratorAndCritic(nn.Module):
    """A generator and its critic, over relaxed values."""

    def __init__(
        self,
        fields: Mapping[str, GaussianField],
        make_trunk: MakeTrunk,
        make_critic: MakeTrunk,
        conditions: Sequence[Any],
        width: int,
        code: int,
        extent: tuple[int, ...] | None,
    ) -> None:
        super().__init__()
        self.generator = Denoiser(fields, make_trunk, conditions, width=width, code=code, extent=extent)
        # A generator that begins with one sample for all noise would have to leave its collapse first.
        self.generator.add_heads({k: d.outputs for k, d in Denoising.each(fields).items()}, silent=False)
        self.critic = Encoder(fields, make_critic, conditions, width=width)
        self.fields, self.code = fields, code

    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], rng: RandomSource, temperature: float = 1.0
    ) -> State:
        """Relaxed values from noise on every site and a code for the whole; gradients flow through them."""
        start = {k: f.tempered_prior(mask, rng, temperature) for k, f in self.fields.items()}
        code = temperature * rng.normal(mask, (self.code,)) if self.code else None
        t = torch.ones(len(mask), device=mask.device)
        params = self.generator(start, t, mask, labels, code=code)
        return {k: r.rsample(params[k], mask, rng) for k, r in Reparameterization.each(self.fields).items()}

    def logit(self, x: State, mask: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """How much the critic takes values for data, `(B,)`."""
        score: Tensor = self.critic(x, mask, labels).squeeze(-1)
        return score


@final
@dataclass(frozen=True, kw_only=True)
class GANOptions(Options):
    """Options of `GANModel`."""

    critic_options: Mapping[str, Any] | None = option(
        None, "keyword arguments for the critic's trunk", derived="those of the generator"
    )
    code: int = option(32, "dimensions of the noise for the whole sample, besides that on the sites", ge=0)
    r1_gamma: float = option(
        0.3,
        "weight of the gradient penalties, per standard deviation of the data; with a small one samples "
        "swing from one mode to another",
        ge=0,
    )
    instance_noise: float = option(
        1.0, "largest noise on what the critic sees, in standard deviations of the data", ge=0
    )
    temperature: float = option(1.0, "factor on the standard deviation of sampling noise", ge=0)
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    width: int = option(128, "channels of the context vector", ge=1)


@final
class GANModel(LatentFamily):
    r"""A generative adversarial network with a relativistic loss and gradient penalties.

    The critic C tells each datum x from a sample G(z), and the generator turns its verdict around,

    .. math:: L_C &= E[f(C(x) - C(G(z)))] + \frac{\gamma}{2} E|\nabla_x C(x)|^2
                    + \frac{\gamma}{2} E|\nabla C(G(z))|^2 \\
              L_G &= E[f(C(G(z)) - C(x))], \qquad f(u) = \log(1 + e^{-u})

    for which training converges locally. The generator maps noise on every site, and a code for the whole,
    to the parameters of p(x | .) in one step; classes are drawn hard forwards and soft backwards. What the
    critic sees has noise on it, of a strength of its own for each pair of datum and sample: else it would
    tell one-hot vectors and reals apart at a glance, and be flat where the generator needs a slope.

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`.
        latent: a trained VAE, as `DiffusionModel` takes it: generator and critic then work on its codes,
            and its decoder makes objects of them.
        {options}

    Errors: `UnsupportedError` if the modality has no view that is denoisable and invariant; `ConfigError` if
        the VAE is of another modality.

    Source: Goodfellow et al., Generative Adversarial Nets (2014); Mescheder et al., Which Training Methods
    for GANs do actually Converge? (2018); Huang et al., The GAN is dead; long live the GAN! (2024); Jang et
    al., Categorical Reparameterization with Gumbel-Softmax (2017); Wang et al., Diffusion-GAN (2023) for
    noise of several strengths; Prykhodko et al., A de novo molecular generation method using latent vector
    based generative adversarial network (2019).

    Example:
        >>> from molgen import GANModel
        >>> model = GANModel("smiles", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0)), model.likelihood
        (3, 'none')
    """

    family: ClassVar[str] = "gan"
    needs: ClassVar[Mapping[str, bool]] = {"denoisable": True, "invariant": True}
    continuous = (Denoising, Reparameterization, Transport)
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)
    options_type: ClassVar[type[Options]] = GANOptions
    options: GANOptions

    def build(self) -> nn.Module:
        return GeneratorAndCritic(
            {name: e.continuous() for name, e in Embedding.each(self.view.fields).items()},
            self.make_trunk,
            lambda spec: self.make_trunk(spec, self.options.critic_options),
            self.conditions,
            self.options.width,
            self.options.code,
            self.modality.extent,
        )

    def parts(self) -> dict[str, nn.Module]:
        """``"generator"``: noise to the parameters of p(x | noise), at t = 1; ``"critic"``."""
        gan = cast(GeneratorAndCritic, self.trained)
        return {"generator": gan.generator, "critic": gan.critic}

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> State:
        """Both players' terms; each moves its own weights only."""
        gan, mask = cast(GeneratorAndCritic, network), batch.mask
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        real = self.relaxed(batch)
        fake = gan.generate(mask, labels, rng)
        if len(mask) > 1:
            step.log("diversity", self._diversity(gan, real, fake, mask))
        level = self.options.instance_noise * rng.uniform(mask, ()) ** 2
        real, fake = (self._blurred(gan, x, level, mask, rng) for x in (real, fake))
        still = {k: v.detach() for k, v in fake.items()}
        truth = gan.logit(real, mask, labels)
        lead = truth - gan.logit(still, mask, labels)
        with _frozen(gan.critic):
            chase = gan.logit(fake, mask, labels) - truth.detach()
        step.log("balance", (lead > 0).float().mean())
        half = self.options.r1_gamma / 2
        return {
            "critic": F.softplus(-lead).mean(),
            "generator": F.softplus(-chase).mean(),
            "r1": half * self._steepness(gan, real, mask, labels),
            "r2": half * self._steepness(gan, still, mask, labels),
        }

    @staticmethod
    def _blurred(gan: GeneratorAndCritic, x: State, level: Tensor, mask: Tensor, rng: RandomSource) -> State:
        return {
            k: f.project(x[k] + per_sample(level, x[k]) * f.sd * f.standard_noise(mask, rng), mask)
            for k, f in gan.fields.items()
        }

    @staticmethod
    def _steepness(gan: GeneratorAndCritic, x: State, mask: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """Mean squared gradient of the critic at some of the values, per standard deviation."""
        few = slice(None, None, _PENALISED)
        with differentiable() as training:
            leaves = {k: v[few].detach().requires_grad_() for k, v in x.items()}
            score = gan.logit(leaves, mask[few], {k: v[few] for k, v in labels.items()})
            grads = torch.autograd.grad(score.sum(), list(leaves.values()), create_graph=training)
        squares = [
            f.inner(g, g) * f.sd**2 for f, g in zip((gan.fields[k] for k in leaves), grads, strict=True)
        ]
        return torch.stack(squares).sum(0).mean()

    @staticmethod
    def _diversity(gan: GeneratorAndCritic, real: State, fake: State, mask: Tensor) -> Tensor:
        """How far samples of a batch lie apart, as a share of how far data do."""

        def apart(x: State) -> Tensor:
            own = {k: v.detach() for k, v in x.items()}
            gaps = [
                Transport.of(f).ot_cost(own[k], f.tangent(own[k] - f.mean, mask) / f.sd)
                for k, f in gan.fields.items()
            ]
            return torch.stack(gaps).sum(0).mean()

        return (apart(fake) / apart(real).clamp_min(1e-6)).sqrt()

    def on_fit_end(self, logged: Mapping[str, Tensor]) -> None:
        """Warns if samples are far more alike than data are."""
        if (diversity := float(logged.get("diversity", torch.ones(())))) < _NARROW:
            warnings.warn(
                f"mode collapse: samples differ only {diversity:.2f} times as much as data do at the end of "
                "training; raise r1_gamma or instance_noise, or lower lr",
                MolgenWarning,
                stacklevel=2,
            )

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        *,
        temperature: float | None = None,
    ) -> State:
        """From noise to data in one step of the generator.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            temperature: factor on the spread of the noise; below 1, samples are better and more alike.

        Source: Brock et al., Large Scale GAN Training for High Fidelity Natural Image Synthesis (2019).
        """
        heat = self.resolved(temperature=temperature).temperature
        made = cast(GeneratorAndCritic, self.trained).generate(mask, labels, rng, heat)
        return {k: e.round(made[k], mask) for k, e in Embedding.each(self.view.fields).items()}


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Within, gradients pass through a module without reaching its weights."""
    weights = [p for p in module.parameters() if p.requires_grad]
    for p in weights:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in weights:
            p.requires_grad_(True)
