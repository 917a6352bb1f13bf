"""Flow matching, a differential equation that carries noise to data along straight paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising, Embedding, PathLikelihood, Transport
from molgen.core.fields import GaussianField
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource, stratified
from molgen.core.solvers import SOLVERS, ReverseProcess, State, restart_times, sample_with_restarts
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.wrappers import Denoiser, self_condition_estimate, with_self_conditioning
from molgen.models.flow.base import FlowModel
from molgen.models.options import Options, option


@final
@dataclass(frozen=True, kw_only=True)
class ContinuousFlowOptions(Options):
    """Options of `ContinuousFlow`."""

    pairing: bool = option(True, "whether noise is paired with data by optimal transport")
    solver: Literal["euler", "heun", "dpm_2m"] = option("euler", "solver of sampling")
    steps: int = option(50, "number of sampling steps", ge=1, le=1000)
    temperature: float = option(1.0, "factor on the standard deviation of the initial noise", ge=0)
    restarts: int = option(0, "how often the end of the path is followed again", ge=0)
    restart_from: float = option(0.3, "the time of the noise that a restart adds", gt=0, le=1)
    self_condition: bool = option(
        False,
        "whether the network reads its previous estimate of x0; log p is then of the flow without it, and "
        "samples are of the flow with it",
        from_view=True,
    )
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    width: int = option(128, "channels of the context vector", ge=1)


@final
class ContinuousFlow(FlowModel, kind="continuous"):
    r"""Flow matching: straight paths between noise and data, and the equation that follows their mean.

    A network predicts :math:`z_0` from :math:`z_t = (1 - t) z_0 + t \varepsilon`, which is the velocity
    :math:`(z_t - z_0) / t` in other words. Classes are one-hot vectors whose end is predicted by a
    cross-entropy. Noise is paired with data by optimal transport within a batch, so that paths cross less
    and few steps follow them.

    The density follows from the change of variables along the path,

    .. math:: \log p_0(x_0) = \log p_1(x_1) + \int \nabla \cdot \frac{dx}{d \log \sigma} \, d \log \sigma,
              \quad \frac{dx}{d \log \sigma} = x - D_\theta(x, \sigma)

    with the divergence in full or estimated without bias; where data are discrete, it is the density of
    slightly noisy data, from which follows a variational bound.

    Arguments:
        modality, view, trunk, trunk_options: see `GenerativeModel`.
        kind: ``"continuous"``.
        {options}

    Errors: `ConfigError` for an unknown solver; `UnsupportedError` if no view is denoisable.

    Source: Lipman et al., Flow Matching for Generative Modeling (2023); Tong et al., Improving and
    Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (2024); Klein et al.,
    Equivariant Flow Matching (2023); Eijkelboom et al., Variational Flow Matching (2024); Grathwohl et al.,
    FFJORD (2019).
    """

    needs: ClassVar[Mapping[str, bool]] = {"denoisable": True}
    continuous = (Denoising, Transport, PathLikelihood)
    options_type: ClassVar[type[Options]] = ContinuousFlowOptions
    options: ContinuousFlowOptions

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        whole = self.view.bijective and all(p.exact for p in PathLikelihood.each(self.fields).values())
        self.likelihood = "exact" if whole else "lower bound"

    @property
    def fields(self) -> dict[str, GaussianField]:
        """The fields over reals, under the noise of straight paths."""
        return {name: e.continuous("linear") for name, e in Embedding.each(self.view.fields).items()}

    def build(self) -> nn.Module:
        return Denoiser(
            self.fields,
            self.make_trunk,
            self.conditions,
            self_condition=self.options.self_condition,
            width=self.options.width,
        )

    def distillation_config(self) -> dict[str, Any]:
        return {"self_condition": self.options.self_condition}

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        fields, mask = self.fields, batch.mask
        t = stratified(mask, rng).clamp_min(1e-3)
        x0 = self.relaxed(batch)
        eps = {k: f.standard_noise(mask, rng) for k, f in fields.items()}
        if self.options.pairing:
            eps = paired(fields, x0, eps, mask)
        x = {k: f.add_noise(x0[k], eps[k], t, mask) for k, f in fields.items()}
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        previous = (
            self_condition_estimate(network, x, t, mask, labels, rng) if self.options.self_condition else None
        )
        params = network(x, t, mask, labels, previous)
        loss = {k: d.loss(params[k], x0[k], x[k], t, mask) for k, d in Denoising.each(fields).items()}
        return {k: f.weight * loss[k].mean() for k, f in fields.items()}

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        *,
        steps: int | None = None,
        solver: str | None = None,
        temperature: float | None = None,
        restarts: int | None = None,
        restart_from: float | None = None,
    ) -> State:
        """Follows the flow from noise to data.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            steps: number of steps, 1 to 1000.
            solver: ``euler``, ``heun`` or ``dpm_2m``.
            temperature, restarts, restart_from: see the class.
        """
        o = self.resolved(
            steps=steps, solver=solver, temperature=temperature, restarts=restarts, restart_from=restart_from
        )
        fields = self.fields

        def reverse(rng: RandomSource) -> ReverseProcess:
            denoise = with_self_conditioning(self.trained, mask, labels, o.self_condition)
            return ReverseProcess(denoise, fields, mask, rng, o.temperature)

        start = {k: f.tempered_prior(mask, rng, o.temperature) for k, f in fields.items()}
        times = restart_times(o.steps, fields, mask, o.restarts, o.restart_from)
        end = sample_with_restarts(SOLVERS[o.solver], reverse, start, times, rng)
        return {k: e.round(end[k], mask) for k, e in Embedding.each(self.view.fields).items()}

    # ------------------------------------------------------------------ likelihood

    def log_density(
        self, batch: Batch, rng: RandomSource, *, steps: int = 100, probes: int = 1, exact: bool = False
    ) -> Tensor:
        r"""log p by Heun's method from data to noise, in even steps of log sigma.

        Discrete values x enter as reals z with a little noise, which gives the bound

        .. math:: \log p(x) \ge E_{q(z | x)} [\log p(z) - \log q(z | x) + \log p(x | z)]

        Arguments:
            batch: values.
            rng: of that bound, and of the divergence's estimate.
            steps: number of steps through the noise of one stage.
            probes: vectors that the divergence is estimated from.
            exact: the whole divergence instead, at one derivative for every real number.
        """
        fields, mask, network = self.fields, batch.mask, self.trained
        labels = self.labels(batch)
        x0, ones = self.relaxed(batch), torch.ones(len(mask), device=mask.device)
        paths, levels = PathLikelihood.each(fields), _levels(fields, steps)
        total = torch.zeros(len(mask), device=mask.device)
        x = dict(x0)
        for k, f in fields.items():
            if not paths[k].exact:
                low = paths[k].sigma_min
                x[k] = f.project(x0[k] + low * f.standard_noise(mask, rng), mask)
                total = total - paths[k].log_normal(f.logmap(x[k], x0[k]), low, mask)
        for k, f in fields.items():
            if not paths[k].exact:
                start = paths[k].time(paths[k].sigma_min) * ones
                params = network(x, start, mask, labels)[k]
                total = total - Denoising.of(f).vlb_term(params, x0[k], x[k], start, 0 * start, mask)

        def slope(x: State, t: float) -> tuple[State, dict[str, Tensor]]:
            return _slope(network, fields, x, t * ones, mask, labels, rng, probes, exact)

        for s, t in pairwise(levels):
            h = {k: p.log_sigma(t) - p.log_sigma(s) for k, p in paths.items()}
            first, before = slope(x, s)
            ahead = {k: f.project(x[k] + h[k] * first[k], mask) for k, f in fields.items()}
            second, after = slope(ahead, t)
            for k, f in fields.items():
                x[k] = f.project(x[k] + h[k] / 2 * (first[k] + second[k]), mask)
                total = total + h[k] / 2 * (before[k] + after[k])
        return total + torch.stack([p.log_prior(x[k], mask) for k, p in paths.items()]).sum(0)


def paired(fields: Mapping[str, GaussianField], x0: State, eps: State, mask: Tensor) -> State:
    """Noise dealt out anew among samples of one size, so that it lies as near to its data as it can.

    Positions are turned onto their data as well, since a turned object is the same object.

    Source: Tong et al. (2024), algorithm 3; Klein et al. (2023).
    """
    from scipy.optimize import linear_sum_assignment

    transport = Transport.each(fields)
    cost = torch.stack([own.ot_cost(x0[k], eps[k]) for k, own in transport.items()]).sum(0)
    flat = mask.flatten(1)
    same = (flat[:, None] == flat[None]).all(-1)
    rows = cost.masked_fill(~same, 1e9).double().cpu().numpy()
    order = torch.as_tensor(linear_sum_assignment(rows)[1], device=mask.device)
    return {k: own.align(eps[k][order], x0[k], mask) for k, own in transport.items()}


def _levels(fields: Mapping[str, GaussianField], steps: int) -> list[float]:
    """Times from data to noise, even in the logarithm of the noise within each stage."""
    times: set[float] = set()
    for window in {f.window for f in fields.values()}:
        paths = [PathLikelihood.of(f) for f in fields.values() if f.window == window]
        first = min(paths, key=lambda path: path.time(path.sigma_min))
        low, high = math.log(first.sigma_min), math.log(first.sigma_max)
        times |= {first.time(math.exp(low + i / steps * (high - low))) for i in range(steps)}
        times.add(window.end)
    return sorted(times)


def _slope(
    network: nn.Module,
    fields: Mapping[str, GaussianField],
    x: State,
    t: Tensor,
    mask: Tensor,
    labels: Mapping[str, Tensor],
    rng: RandomSource,
    probes: int,
    exact: bool,
) -> tuple[State, dict[str, Tensor]]:
    """dx / d log sigma of every field, and the divergence of each in its own values, `(B,)`."""
    with torch.enable_grad():
        leaves = {k: v.detach().requires_grad_() for k, v in x.items()}
        params = network(leaves, t, mask, labels)
        slopes = {k: f.tangent(f.logmap(leaves[k], f.x0_mean(params[k])), mask) for k, f in fields.items()}
        divergence = {k: torch.zeros(len(mask), device=mask.device) for k in fields}

        def probe(v: State, weight: float) -> None:
            inner = torch.stack([(v[k] * slopes[k]).sum() for k in v]).sum()
            grads = torch.autograd.grad(inner, [leaves[k] for k in v], retain_graph=True)
            for (k, vector), grad in zip(v.items(), grads, strict=True):
                divergence[k] += weight * fields[k].inner(vector, grad)

        if exact:
            for k, f in fields.items():
                for unit in torch.eye(x[k][0].numel(), dtype=x[k].dtype, device=mask.device):
                    basis = unit.reshape(1, *x[k].shape[1:]).expand_as(x[k])
                    probe({k: f.tangent(basis, mask)}, 1.0)
        else:
            for _ in range(probes):
                probe({k: f.standard_noise(mask, rng).to(x[k].dtype) for k, f in fields.items()}, 1 / probes)
    return {k: v.detach() for k, v in slopes.items()}, divergence
