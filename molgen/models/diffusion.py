"""DiffusionModel: denoising diffusion over any mixture of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising
from molgen.core.errors import ConfigError, UnsupportedError
from molgen.core.modality import Modality
from molgen.core.noise import Noise, stratified
from molgen.core.solvers import (
    SOLVERS,
    Denoise,
    ReverseProcess,
    State,
    restart_times,
    sample_with_restarts,
    validate_steps,
)
from molgen.core.wrappers import Denoiser, earlier, recalling
from molgen.models.staged import FirstStage, Staged


@final
class DiffusionModel(Staged):
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
        self_condition: feed the previous estimate of x0 back into the network.
        time_density: (a, b) of the Kumaraswamy density of training times; (1, 1) is uniform, larger
            b favours low noise.
        label_dropout: share of training samples whose label is withheld, for guidance.
        solver: default solver, one of ``euler, heun, dpm_2m, ancestral, churn``.
        steps: default number of steps, 1 to 1000.
        width: channels of the context vector.

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
    needs: Mapping[str, bool] = {"denoisable": True}
    capabilities = (Denoising,)
    likelihood = "lower bound"
    sampling: tuple[str, ...] = ("steps", "solver", "guidance", "noise_scale", "restarts", "restart_from")

    def __init__(
        self,
        modality: str | Modality,
        *,
        view: str | None = None,
        trunk: str | None = None,
        trunk_options: Mapping[str, Any] | None = None,
        latent: FirstStage | None = None,
        self_condition: bool | None = None,
        time_density: tuple[float, float] | None = None,
        label_dropout: float = 0.1,
        solver: str | None = None,
        steps: int | None = None,
        width: int = 128,
    ) -> None:
        if solver is not None and solver not in SOLVERS:
            raise ConfigError.unknown("solver", solver, SOLVERS)
        super().__init__(
            modality,
            view,
            trunk,
            trunk_options,
            latent=latent,
            self_condition=self_condition,
            time_density=time_density,
            label_dropout=label_dropout,
            solver=solver,
            steps=steps,
            width=width,
        )

    def build(self) -> nn.Module:
        return Denoiser(
            self.view.fields,
            self.make_trunk,
            self.conditions,
            self_condition=self.option("self_condition", False),
            width=self.hyper["width"],
        )

    def student_options(self) -> dict[str, Any]:
        if self.vae is not None:
            raise UnsupportedError("a teacher in a latent space cannot be distilled; give one without latent")
        return {"self_condition": self.option("self_condition", False)}

    # ------------------------------------------------------------------ training

    def losses(self, network: nn.Module, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        t = self._times(batch.mask, noise)
        x = self._corrupt(batch, t, noise)
        labels = self.withheld(batch, noise, self.hyper["label_dropout"])
        remembers = self.option("self_condition", False)
        previous = earlier(network, x, t, batch.mask, labels, noise) if remembers else None
        params = network(x, t, batch.mask, labels, previous)
        denoising = Denoising.each(self.view.fields)
        return {
            name: f.weight
            * denoising[name].loss(params[name], batch.values[name], x[name], t, batch.mask).mean()
            for name, f in self.view.fields.items()
        }

    def _times(self, mask: Tensor, noise: Noise) -> Tensor:
        """Training times in (0, 1], stratified over the batch, Kumaraswamy(a, b) distributed."""
        a, b = self.option("time_density", (1.0, 1.0))
        u = stratified(mask, noise)
        times: Tensor = (1 - u ** (1 / b)).clamp(1e-5, 1) ** (1 / a)
        return times

    def _corrupt(self, batch: Batch, t: Tensor, noise: Noise) -> State:
        zero = torch.zeros_like(t)
        return {
            name: f.diffuse(batch.values[name], zero, t, batch.mask, noise)
            for name, f in self.view.fields.items()
        }

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        noise: Noise,
        *,
        steps: int | None = None,
        solver: str | None = None,
        guidance: float = 1.0,
        noise_scale: float | None = None,
        restarts: int | None = None,
        restart_from: float | None = None,
    ) -> State:
        """Integrates from the prior to data.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            noise: the source of randomness.
            steps: number of steps, 1 to 1000.
            solver: a name in `molgen.core.solvers.SOLVERS`.
            guidance: 1 follows the labels as learned, more exaggerates them.
            noise_scale: factor on the fresh noise of SDE solvers and restarts.
            restarts: how often the end of each field's window is drawn again, see `molgen.core.solvers.restart_times`.
            restart_from: where a restart begins, in the window's own time, in (0, 1].
        """
        steps = validate_steps(self.option("steps", 50) if steps is None else steps)
        name = solver or self.option("solver", "ancestral")
        if name not in SOLVERS:
            raise ConfigError.unknown("solver", name, SOLVERS)
        scale = self.option("noise_scale", 1.0) if noise_scale is None else noise_scale
        again = self.option("restarts", 0) if restarts is None else restarts
        begin = self.option("restart_from", 0.3) if restart_from is None else restart_from
        fields = self.view.fields
        start = {k: f.prior(mask, noise) for k, f in fields.items()}

        def reverse(noise: Noise) -> ReverseProcess:
            return ReverseProcess(self._denoise(mask, labels, guidance), fields, mask, noise, scale)

        return sample_with_restarts(
            SOLVERS[name], reverse, start, restart_times(steps, fields, mask, again, begin), noise
        )

    def _denoise(self, mask: Tensor, labels: Mapping[str, Tensor], guidance: float) -> Denoise:
        """The network as a function of (x, t), with self-conditioning and guidance inside."""
        remembers, denoising = self.option("self_condition", False), Denoising.each(self.view.fields)
        told, untold = (recalling(self.trained, mask, given, remembers) for given in (labels, {}))
        if not labels or guidance == 1:
            return told

        def denoise(x: State, t: Tensor) -> State:
            params, base = told(x, t), untold(x, t)
            return {k: d.guide(params[k], base[k], guidance) for k, d in denoising.items()}

        return denoise

    # ------------------------------------------------------------------ likelihood

    def log_density(self, batch: Batch, noise: Noise, *, steps: int = 1000, draws: int = 16) -> Tensor:
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
        labels, denoising = self.told(batch), Denoising.each(fields)
        total = torch.stack([f.prior_kl(batch.values[k], mask) for k, f in fields.items()]).sum(0)
        grid = torch.linspace(0, 1, steps + 1, device=mask.device)

        def term(index: Tensor) -> Tensor:
            t, s = grid[index], grid[index - 1]
            x = self._corrupt(batch, t, noise)
            params = network(x, t, mask, labels)
            kls = [d.vlb_term(params[k], batch.values[k], x[k], t, s, mask) for k, d in denoising.items()]
            return torch.stack(kls).sum(0)

        # A field ends where its window closes; those steps hold log p(x0 | .) and are never skipped.
        ends = sorted({int(torch.searchsorted(grid, f.window.start + 1e-6)) for f in fields.values()})
        for end in ends:
            total = total + term(torch.full((len(mask),), end, device=mask.device))
        rest = torch.tensor([i for i in range(1, steps + 1) if i not in ends], device=mask.device)
        for k in range(draws):
            u = (k + noise.uniform(mask, ())) / draws
            picked = rest[(u * len(rest)).long().clamp_max(len(rest) - 1)]
            total = total + term(picked) * (len(rest) / draws)
        return -total
