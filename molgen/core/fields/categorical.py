"""Categorical fields: tokens on sites or on symmetric pairs, which change by jumps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.densities import pick
from molgen.core.errors import ConfigError
from molgen.core.fields.field import Field, own_shape, per_sample
from molgen.core.fields.frequencies import probabilities
from molgen.core.rng import RandomSource
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
        >>> from molgen.core.rng import SampleRandom
        >>> field.prior(mask, SampleRandom(0, [0])).tolist()
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
        self.axes, self.stream = (2, "pair") if pairs else (1, "site")
        self.shape, self.num_classes = (), classes
        self.states = classes + (noise == "mask")
        self.window, self.weight = Window(*window), weight
        self.schedule = JumpSchedule(self.window)
        frequencies = torch.ones(classes) if marginal is None else torch.tensor(list(marginal)).float()
        redraw = F.one_hot(torch.tensor(classes), classes + 1).float() if noise == "mask" else frequencies
        self.redraw = redraw / redraw.sum()
        self.frequencies = frequencies / frequencies.sum()
        self.probabilities = probabilities(self.frequencies)

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        codes = np.concatenate([self._codes(v) for v in values])
        counts = np.bincount(codes, minlength=self.classes) if len(codes) else np.ones(self.classes)
        return {"marginal": [float(f"{share:.5g}") for share in counts / counts.sum()]}

    def invariants(self, value: np.ndarray) -> np.ndarray:
        rows: np.ndarray = np.eye(self.classes)[self._codes(value).clip(0, self.classes - 1)]
        return rows

    def _codes(self, value: np.ndarray) -> np.ndarray:
        """The classes of one sample in a row, each pair once."""
        codes = np.asarray(value).astype(np.int64)
        return codes[np.triu_indices(len(codes), 1)] if self.axes == 2 else codes.ravel()

    def valid(self, mask: Tensor) -> Tensor:
        if self.axes == 1:
            return mask
        off = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        return mask[:, :, None] & mask[:, None, :] & off

    def _count(self, mask: Tensor) -> Tensor:
        return self.valid(mask).flatten(1).sum(1) / self.axes

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.symmetrize(x) * self.valid(mask)

    def uniform(self, mask: Tensor, rng: RandomSource) -> Tensor:
        """Uniform numbers, one for each token, `(B, ...)`."""
        return self.symmetrize(rng.uniform(mask, own_shape(mask, axes=self.axes)))

    # -- process

    def prior(self, mask: Tensor, rng: RandomSource) -> Tensor:
        u = self.uniform(mask, rng)
        weights = self.redraw.to(u).expand(*u.shape, self.states)
        return self.project(pick(weights, u), mask)

    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: RandomSource) -> Tensor:
        x = x.long()
        keep = self.schedule.alpha(t) / self.schedule.alpha(s).clamp_min(1e-12)
        u, v = self.uniform(mask, rng), self.uniform(mask, rng)
        fresh = pick(self.redraw.to(v).expand(*v.shape, self.states), v)
        return self.project(torch.where(u < per_sample(keep, u), x, fresh), mask)

    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), device=mask.device)  # alpha(1) = 0: time 1 forgets x0 exactly

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

    # -- sampling

    def max_steps(self, mask: Tensor) -> Tensor:
        # One token a step; none moves twice.
        return self._count(mask) if self.noise == "mask" else super().max_steps(mask)

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: RandomSource, scale: float = 1.0
    ) -> Tensor:
        if self.noise != "mask":
            return self.diffuse(x, s, t, mask, rng)
        x, order = x.long(), self.uniform(mask, rng)
        shown = (x != self.classes) & self.valid(mask)
        hide = self._most(shown, self._count(mask) - self._hidden(t, mask), order)
        return self.project(torch.where(hide, torch.full_like(x, self.classes), x), mask)

    def revealed(self, x: Tensor, s: Tensor, mask: Tensor, order: Tensor) -> Tensor:
        """Which hidden tokens a step to time s reveals, `(B, ...)`: those with the largest `order`."""
        hidden = (x == self.classes) & self.valid(mask)
        return self._most(hidden, self._hidden(s, mask), order)

    def _hidden(self, t: Tensor, mask: Tensor) -> Tensor:
        """How many tokens are hidden at time `t` of a sample, `(B,)`: their expected number.

        Independent coins would reveal several tokens at once in some steps and none in others; a
        fixed number reveals one at a time whenever there are steps enough, which makes ancestral
        sampling exact there.
        """
        return (self._count(mask) * (1 - self.schedule.alpha(t))).round().long()

    def _most(self, among: Tensor, keep: Tensor, order: Tensor) -> Tensor:
        """All but `keep` `(B,)` of the tokens `among`: those with the largest `order`."""
        score = torch.where(among, order, torch.full_like(order, -1.0)).flatten(1)
        rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        excess = (among.flatten(1).sum(1) - keep * self.axes).clamp_min(0)
        return (rank < excess[:, None]).reshape(among.shape) & among
