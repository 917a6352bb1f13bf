"""DiffusionModel: denoising diffusion over any mixture of fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising
from molgen.core.errors import UnsupportedError
from molgen.core.rng import RandomSource, stratified
from molgen.core.solvers import SOLVERS, Denoise, ReverseProcess, State, restart_times, sample_with_restarts
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.wrappers import Denoiser, self_condition_estimate, with_self_conditioning
from molgen.models.latent import LatentFamily
from molgen.models.options import Options, option


@final
@dataclass(frozen=True, kw_only=True)
class DiffusionOptions(Options):
    """Options of `DiffusionModel`."""

    self_condition: bool = option(
        False, "whether the network reads its previous estimate of x0", from_view=True
    )
    time_density: tuple[float, float] = option(
        (1.0, 1.0),
        "(a, b) of the Kumaraswamy density of training times; (1, 1) is uniform, larger b favours low noise",
        gt=0,
        from_view=True,
    )
    label_dropout: float = option(
        0.1, "share of training samples without their label, for guidance", ge=0, le=1
    )
    solver: Literal["ancestral", "churn", "dpm_2m", "euler", "heun"] = option(
        "ancestral", "solver of sampling", from_view=True
    )
    steps: int = option(50, "number of sampling steps", ge=1, le=1000, from_view=True)
    guidance: float = option(1.0, "1 follows the labels as learned, more exaggerates them")
    noise_scale: float = option(
        1.0, "factor on the fresh noise of SDE solvers and restarts", ge=0, from_view=True
    )
    restarts: int = option(
        0, "how often the end of each field's time interval is drawn again", ge=0, from_view=True
    )
    restart_from: float = option(
        0.3, "where a restart begins, in the interval's own time", gt=0, le=1, from_view=True
    )
    width: int = option(128, "channels of the context vector", ge=1)


@final
class DiffusionModel(LatentFamily):
    r"""Denoising diffusion: real fields gain Gaussian noise, categorical fields jump, in one model.

    Training minimises, over random times t and noisy values x_t, the sum over fields f of

    .. math:: w_f \, \lambda_f(t) \, \ell_f(D_\theta(x_t, t)_f, x_0)

    with EDM's preconditioning and weights on real fields and the continuous-time bound's
    cross-entropy on categorical ones; sampling integrates from noise to data with any solver of
    `molgen.core.solvers`, and may go back into some noise to draw the end of the way again.

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`.
        latent: a trained `VAEModel` of the same modality, a file of one, or the name of a shipped one, in
            whose latent space the model works; its weights stay as they are and are saved along.
        {options}

    Errors: `UnsupportedError` if the modality has no view that is denoisable; `ConfigError` if the VAE is of
        another modality.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022);
    Austin et al., Structured Denoising Diffusion Models in Discrete State-Spaces (2021); Sahoo et al.,
    Simple and Effective Masked Diffusion Language Models (2024); Ho and Salimans, Classifier-Free
    Diffusion Guidance (2022); Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models
    (2022).

    Example:
        >>> from molgen import DiffusionModel
        >>> model = DiffusionModel("smiles", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0, steps=2))
        3
    """

    family: ClassVar[str] = "diffusion"
    needs: ClassVar[Mapping[str, bool]] = {"denoisable": True}
    capabilities = (Denoising,)
    likelihood = "lower bound"
    options_type: ClassVar[type[Options]] = DiffusionOptions
    options: DiffusionOptions

    def build(self) -> nn.Module:
        return Denoiser(
            self.view.fields,
            self.make_trunk,
            self.conditions,
            self_condition=self.options.self_condition,
            width=self.options.width,
        )

    def distillation_config(self) -> dict[str, Any]:
        if self.vae is not None:
            raise UnsupportedError("a teacher in a latent space cannot be distilled; give one without latent")
        return {"self_condition": self.options.self_condition}

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        t = self._times(batch.mask, rng)
        x = self._corrupt(batch, t, rng)
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        known = self.options.self_condition
        previous = self_condition_estimate(network, x, t, batch.mask, labels, rng) if known else None
        params = network(x, t, batch.mask, labels, previous)
        denoising = Denoising.each(self.view.fields)
        return {
            name: f.weight
            * denoising[name].loss(params[name], batch.values[name], x[name], t, batch.mask).mean()
            for name, f in self.view.fields.items()
        }

    def _times(self, mask: Tensor, rng: RandomSource) -> Tensor:
        """Training times in (0, 1], stratified over the batch, Kumaraswamy(a, b) distributed."""
        a, b = self.options.time_density
        u = stratified(mask, rng)
        times: Tensor = (1 - u ** (1 / b)).clamp(1e-5, 1) ** (1 / a)
        return times

    def _corrupt(self, batch: Batch, t: Tensor, rng: RandomSource) -> State:
        zero = torch.zeros_like(t)
        return {
            name: f.diffuse(batch.values[name], zero, t, batch.mask, rng)
            for name, f in self.view.fields.items()
        }

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        *,
        steps: int | None = None,
        solver: str | None = None,
        guidance: float | None = None,
        noise_scale: float | None = None,
        restarts: int | None = None,
        restart_from: float | None = None,
    ) -> State:
        """Integrates from the prior to data.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            steps: number of steps, 1 to 1000.
            solver: a name in `molgen.core.solvers.SOLVERS`.
            guidance: 1 follows the labels as learned, more exaggerates them.
            noise_scale: factor on the fresh noise of SDE solvers and restarts.
            restarts: how often the end of each field's window is drawn again, see
                `molgen.core.solvers.restart_times`.
            restart_from: where a restart begins, in the window's own time, in (0, 1].
        """
        o = self.resolved(
            steps=steps,
            solver=solver,
            guidance=guidance,
            noise_scale=noise_scale,
            restarts=restarts,
            restart_from=restart_from,
        )
        fields = self.view.fields
        start = {k: f.prior(mask, rng) for k, f in fields.items()}

        def reverse(rng: RandomSource) -> ReverseProcess:
            return ReverseProcess(self._denoise(mask, labels, o.guidance), fields, mask, rng, o.noise_scale)

        times = restart_times(o.steps, fields, mask, o.restarts, o.restart_from)
        return sample_with_restarts(SOLVERS[o.solver], reverse, start, times, rng)

    def _denoise(self, mask: Tensor, labels: Mapping[str, Tensor], guidance: float) -> Denoise:
        """The network as a function of (x, t), with self-conditioning and guidance inside."""
        known, denoising = self.options.self_condition, Denoising.each(self.view.fields)
        conditional, base = (
            with_self_conditioning(self.trained, mask, given, known) for given in (labels, {})
        )
        if not labels or guidance == 1:
            return conditional

        def denoise(x: State, t: Tensor) -> State:
            params, free = conditional(x, t), base(x, t)
            return {k: d.guide(params[k], free[k], guidance) for k, d in denoising.items()}

        return denoise

    # ------------------------------------------------------------------ likelihood

    def log_density(self, batch: Batch, rng: RandomSource, *, steps: int = 1000, draws: int = 16) -> Tensor:
        r"""The variational bound, a sum of `steps` terms estimated without bias from `draws` of them.

        .. math:: -\log p(x_0) \le KL(q(x_1 | x_0) || p) + \sum_{t} KL(q(x_s | x_t, x_0) || p(x_s | x_t))

        The last term is -log p(x_0 | x_s) and is always evaluated; the others are stratified.
        """
        if self.vae is not None:
            raise UnsupportedError(
                "diffusion in a latent space has no likelihood of objects; use the VAE's, "
                "or a model without latent"
            )
        fields, mask, network = self.view.fields, batch.mask, self.trained
        labels, denoising = self.labels(batch), Denoising.each(fields)
        total = torch.stack([f.prior_kl(batch.values[k], mask) for k, f in fields.items()]).sum(0)
        grid = torch.linspace(0, 1, steps + 1, device=mask.device)

        def term(index: Tensor) -> Tensor:
            t, s = grid[index], grid[index - 1]
            x = self._corrupt(batch, t, rng)
            params = network(x, t, mask, labels)
            kls = [d.vlb_term(params[k], batch.values[k], x[k], t, s, mask) for k, d in denoising.items()]
            return torch.stack(kls).sum(0)

        # A field ends where its window closes; those steps hold log p(x0 | .) and are never skipped.
        ends = sorted({int(torch.searchsorted(grid, f.window.start + 1e-6)) for f in fields.values()})
        for end in ends:
            total = total + term(torch.full((len(mask),), end, device=mask.device))
        rest = torch.tensor([i for i in range(1, steps + 1) if i not in ends], device=mask.device)
        for k in range(draws):
            u = (k + rng.uniform(mask, ())) / draws
            picked = rest[(u * len(rest)).long().clamp_max(len(rest) - 1)]
            total = total + term(picked) * (len(rest) / draws)
        return -total
