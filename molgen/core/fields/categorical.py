"""Categorical fields: tokens on sites or on symmetric pairs, which change by jumps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.densities import Discrete, pick
from molgen.core.errors import ConfigError
from molgen.core.fields.cells import log_normal, probabilities
from molgen.core.fields.field import Field, own_shape, per_sample
from molgen.core.fields.simplex import Simplex
from molgen.core.noise import Noise
from molgen.core.schedules import JumpSchedule, Window


@final
class Categorical(Field):
    r"""Tokens on sites, or symmetric tokens on pairs of sites.

    A token keeps its value with probability :math:`\alpha(t)`, else it is redrawn from :math:`\pi`:
    a mask token that says nothing (``noise="mask"``) or the data's marginal (``noise="marginal"``).

    .. math:: q(x_t | x_s) = \frac{\alpha_t}{\alpha_s} \delta(x_t, x_s)
              + (1 - \frac{\alpha_t}{\alpha_s}) \pi(x_t)

    The parameters of p(x0 | .) are logits over the classes.

    Arguments:
        classes: number of classes K; values are 0 .. K - 1, and K is the mask token while noisy.
        pairs: values on symmetric pairs `(B, N, N)` with a zero diagonal.
        marginal: frequencies of the classes in the data, for ``noise="marginal"``; uniform if None.
        noise: ``"mask"`` or ``"marginal"``.
        order: which hidden tokens a step reveals, ``"certain"`` ones, those of least entropy, or
            ``"random"`` ones. Both are exact where tokens come one at a time and p(x0 | .) is right;
            a learned p(x0 | .) errs less where it is certain.
        window, weight: as for `Continuous`.

    Source: Austin et al. (2021); Sahoo et al., Simple and Effective Masked Diffusion (2024); Vignac
    et al., DiGress (2023); Kim et al., Train for the Worst, Plan for the Best (2025) for the order.

    Example:
        >>> field, mask = Categorical(3), torch.ones(1, 4, dtype=torch.bool)
        >>> from molgen.core.noise import SampleNoise
        >>> field.prior(mask, SampleNoise(0, [0])).tolist()
        [[3, 3, 3, 3]]
    """

    def __init__(
        self,
        classes: int,
        *,
        pairs: bool = False,
        marginal: Sequence[float] | None = None,
        noise: Literal["mask", "marginal"] = "mask",
        order: Literal["certain", "random"] = "certain",
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        if noise not in ("mask", "marginal"):
            raise ConfigError.unknown("noise of a categorical field", noise, ["mask", "marginal"])
        if order not in ("certain", "random"):
            raise ConfigError.unknown("order of a categorical field", order, ["certain", "random"])
        if marginal is not None and len(marginal) != classes:
            raise ConfigError(f"marginal has {len(marginal)} frequencies, expected {classes}")
        self.classes, self.noise, self.order = classes, noise, order
        self.rank = self.stream = "pair" if pairs else "site"
        self.states = classes + (noise == "mask")
        self.inputs, self.estimates, self.outputs = self.states, classes, classes
        self.entries, self.density_outputs, self.cells, self.entry_inputs = 1, classes, classes, classes
        self.choices = classes
        self.window, self.weight = Window(*window), weight
        self.schedule = JumpSchedule(self.window)
        frequencies = torch.ones(classes) if marginal is None else torch.tensor(list(marginal)).float()
        redraw = F.one_hot(torch.tensor(classes), classes + 1).float() if noise == "mask" else frequencies
        self.redraw = redraw / redraw.sum()
        self.frequencies = frequencies / frequencies.sum()
        self._probabilities = probabilities(self.frequencies)

    _vectors = False
    discrete = True

    @property
    def _axes(self) -> int:
        return 2 if self.rank == "pair" else 1

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        codes = np.concatenate([self._codes(v) for v in values])
        counts = np.bincount(codes, minlength=self.classes) if len(codes) else np.ones(self.classes)
        return {"marginal": [float(f"{share:.5g}") for share in counts / counts.sum()]}

    def readings(self, value: np.ndarray) -> np.ndarray:
        rows: np.ndarray = np.eye(self.classes)[self._codes(value).clip(0, self.classes - 1)]
        return rows

    def _codes(self, value: np.ndarray) -> np.ndarray:
        """The classes of one sample in a row, each pair once."""
        codes = np.asarray(value).astype(np.int64)
        return codes[np.triu_indices(len(codes), 1)] if self.rank == "pair" else codes.ravel()

    def valid(self, mask: Tensor) -> Tensor:
        if self.rank == "site":
            return mask
        off = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        return mask[:, :, None] & mask[:, None, :] & off

    def once(self, mask: Tensor) -> Tensor:
        valid = self.valid(mask)
        return valid.triu(1) if self.rank == "pair" else valid

    def _total(self, per_site: Tensor, mask: Tensor) -> Tensor:
        """Sum over entries, each symmetric pair once, `(B,)`."""
        total = torch.where(self.valid(mask), per_site, torch.zeros_like(per_site)).flatten(1).sum(1)
        return total / self._axes

    def _count(self, mask: Tensor) -> Tensor:
        return self.valid(mask).flatten(1).sum(1) / self._axes

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.rank == "pair":
            upper = x.triu(1)
            x = upper + upper.transpose(1, 2)
        return x * self.valid(mask)

    def _uniform(self, mask: Tensor, noise: Noise) -> Tensor:
        u = noise.uniform(mask, own_shape(mask, axes=self._axes))
        if self.rank == "pair":
            u = u.triu(1)
            u = u + u.transpose(1, 2)
        return u

    # -- process

    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        u = self._uniform(mask, noise)
        weights = self.redraw.to(u).expand(*u.shape, self.states)
        return self.project(pick(weights, u), mask)

    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        x = x.long()
        keep = self.schedule.alpha(t) / self.schedule.alpha(s).clamp_min(1e-12)
        u, v = self._uniform(mask, noise), self._uniform(mask, noise)
        fresh = pick(self.redraw.to(v).expand(*v.shape, self.states), v)
        return self.project(torch.where(u < per_sample(keep, u), x, fresh), mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)  # alpha(1) = 0: time 1 forgets x0 exactly

    # -- network

    def level(self, t: Tensor) -> Tensor:
        return 1 - self.schedule.alpha(t)

    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return F.one_hot(x.long(), self.inputs).float() * self.valid(mask)[..., None]

    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        return params.softmax(-1) * self.valid(mask)[..., None]

    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        if self.noise != "mask":
            return raw
        # A token that is not masked is known; a finite certainty keeps guidance free of NaN.
        hidden = (x == self.classes)[..., None]
        known = 50.0 * F.one_hot(x.long().clamp_max(self.classes - 1), self.classes).to(raw.dtype)
        return torch.where(hidden, raw, known)

    # -- learning

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        entropy = -params.log_softmax(-1).gather(-1, x0.long()[..., None]).squeeze(-1)
        counted = self.valid(mask)
        if self.noise == "mask":
            # Averaged over the hidden tokens instead of divided by their expected number, the same
            # bound has less variance (Hoogeboom et al., Autoregressive Diffusion Models, 2022).
            counted = counted & (x == self.classes)
        total = torch.where(counted, entropy, torch.zeros_like(entropy)).flatten(1).sum(1)
        return total / counted.flatten(1).sum(1).clamp_min(1) * self.window.active(t)

    def posterior(self, p0: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        r"""p(x_s | x_t) with x0 ~ p0 summed out, `(..., states)`.

        .. math:: p(x_s | x_t) \propto q(x_t | x_s) \sum_{x_0} q(x_s | x_0) \frac{p_0(x_0)}{q(x_t | x_0)}

        Arguments:
            p0: probabilities of x0, `(B, ..., K)`.
            x: x_t, `(B, ...)`.
            t, s: times, `s <= t`, `(B,)`.
        """
        now = F.one_hot(x.long(), self.states).to(p0.dtype)
        redraw = self.redraw.to(p0)
        a_t, a_s = (per_sample(self.schedule.alpha(time), now) for time in (t, s))
        keep = a_t / a_s.clamp_min(1e-12)
        back = redraw[x.long()][..., None]
        evidence = a_t * now[..., : self.classes] + (1 - a_t) * back
        weight = torch.where(evidence > 0, p0 / evidence.clamp_min(1e-12), torch.zeros_like(p0))
        spread = F.pad(weight, (0, self.states - self.classes))
        forward = a_s * spread + (1 - a_s) * redraw * weight.sum(-1, keepdim=True)
        result = (keep * now + (1 - keep) * back) * forward
        return result / result.sum(-1, keepdim=True).clamp_min(1e-12)

    def step_kl(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        truth = F.one_hot(x0.long(), self.classes).to(params.dtype)
        q, p = self.posterior(truth, x, t, s), self.posterior(params.softmax(-1), x, t, s)
        kl = (q * (q.clamp_min(1e-12).log() - p.clamp_min(1e-12).log())).sum(-1)
        changes = self.schedule.alpha(s) > self.schedule.alpha(t)
        return torch.where(changes, self._total(kl, mask), torch.zeros_like(changes, dtype=kl.dtype))

    # -- sampling

    def step(
        self,
        x: Tensor,
        params: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        noise: Noise,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        # A draw is the largest of logits plus Gumbel noise; noise of another scale is a temperature.
        x, p0 = x.long(), (params / max(scale, 1e-4)).softmax(-1)
        order, value = self._uniform(mask, noise), self._uniform(mask, noise)
        if self.noise == "mask":
            if self.order == "certain":
                # In grades, random within one: the order must not hang on the last digit.
                entropy = -torch.special.xlogy(p0, p0).sum(-1)
                order = order + (entropy.neg().exp() * 32).floor()
            hidden = (x == self.classes) & self.valid(mask)
            reveal = self._most(hidden, self._hidden(s, mask), order)
            y = torch.where(reveal, pick(p0, value), x)
        else:
            y = pick(self.posterior(p0, x, t, s), value)
        changes = self.schedule.alpha(s) > self.schedule.alpha(t)
        return self.project(torch.where(per_sample(changes, y), y, x), mask)

    def useful_steps(self, mask: Tensor) -> Tensor:
        # One token a step; none moves twice.
        return self._count(mask) if self.noise == "mask" else super().useful_steps(mask)

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise, scale: float = 1.0
    ) -> Tensor:
        if self.noise != "mask":
            return self.diffuse(x, s, t, mask, noise)
        x, order = x.long(), self._uniform(mask, noise)
        shown = (x != self.classes) & self.valid(mask)
        hide = self._most(shown, self._count(mask) - self._hidden(t, mask), order)
        return self.project(torch.where(hide, torch.full_like(x, self.classes), x), mask)

    def _hidden(self, t: Tensor, mask: Tensor) -> Tensor:
        """How many tokens are hidden at time `t` of a sample, `(B,)`: their expected number.

        Independent coins would reveal several tokens at once in some steps and none in others; a
        fixed number reveals one at a time whenever there are steps enough, which makes ancestral
        sampling exact there.
        """
        return (self._count(mask) * self.level(t)).round().long()

    def _most(self, among: Tensor, keep: Tensor, order: Tensor) -> Tensor:
        """All but `keep` `(B,)` of the tokens `among`: those with the largest `order`."""
        score = torch.where(among, order, torch.full_like(order, -1.0)).flatten(1)
        rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        excess = (among.flatten(1).sum(1) - keep * self._axes).clamp_min(0)
        return (rank < excess[:, None]).reshape(among.shape) & among

    # -- relaxation

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        gap = ((a.softmax(-1) - b.softmax(-1)) ** 2).sum(-1)
        return self._total(gap, mask) / self._count(mask).clamp_min(1)

    def relaxed(self, straight: bool = False) -> Simplex:
        field = Simplex(
            self.classes,
            pairs=self.rank == "pair",
            frequencies=self.frequencies.tolist(),
            window=(self.window.start, self.window.end),
            weight=self.weight,
        )
        return field.straightened() if straight else field

    def relax(self, x: Tensor, mask: Tensor) -> Tensor:
        return (2 * F.one_hot(x.long(), self.classes).float() - 1) * self.valid(mask)[..., None]

    def harden(self, reals: Tensor, mask: Tensor) -> Tensor:
        return self.project(reals.argmax(-1), mask)

    # -- densities and cells

    def density(self, raw: Tensor) -> Discrete:
        return Discrete(raw)

    def observe(self, entries: Tensor) -> Tensor:
        return F.one_hot(entries.long(), self.classes).float()

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        # Of K exponential variables E_k with rates p_k, the first is k with probability p_k. Given that
        # it is the one of the class, all are -log u of the class, the others another one later.
        p = self._probabilities.to(x.device)
        own = F.one_hot(x.long(), self.classes).bool()
        late = -u.clamp(1e-6, 1 - 1e-6).double().log()
        first = torch.where(own, late, torch.zeros_like(late)).sum(-1, keepdim=True)
        times = p * first + torch.where(own, torch.zeros_like(late), late)  # in units of each one's mean
        z = torch.special.ndtri(times.neg().exp()).to(u)
        valid = self.valid(mask)
        return z * valid[..., None], (p[x.long()].log().to(z) - log_normal(z).sum(-1)) * valid

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        times = -torch.special.log_ndtr(z.double()) / self._probabilities.to(z.device)
        return self.project(times.argmin(-1), mask)
