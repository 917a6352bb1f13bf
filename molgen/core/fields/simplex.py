"""Classes as reals: Gaussian noise on one-hot vectors, and logits as the prediction."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.densities import pick
from molgen.core.fields.field import own_shape, per_sample
from molgen.core.fields.gaussian import STILL, GaussianField
from molgen.core.noise import Noise
from molgen.core.schedules import GaussianSchedule, Window

_DISTANCE = 8**0.5  # of two vertices, for any number of classes
_CERTAIN = 100.0  # more than a network says against it, and far from overflow
_GROUND = 0.6  # noise under which chains walk on the vertices, which are 2.8 apart
_LEAP = 3.2  # so that a step of 0.3 tries about one jump a molecule


@final
class Simplex(GaussianField):
    r"""Vectors of -1 and one 1 per site or symmetric pair, under Gaussian noise.

    The parameters of p(x0 | x_t) are logits. They are preconditioned by Bayes' rule for entries that
    are independent with the data's frequencies,

    .. math:: \log p(x_0 = k | x_t) = \log \pi_k + 2 x_{t,k} / \sigma^2 + F_k + const

    so that little noise leaves no doubt. Masked tokens have no noise left to follow to a value; this
    field is the form of a `Categorical` for families that need gradients or a deterministic path.

    Arguments:
        classes: number of classes K.
        pairs: values on symmetric pairs `(B, N, N, K)` with a zero diagonal.
        frequencies: of the classes in the data; uniform if None.
        noise: smallest and largest noise: below the first no class is in doubt, above the second none is
            known.
        window, weight: as for `Continuous`.

    Chains that follow an energy walk on the vertices once little noise is left (`grounded`): relaxed
    classes could go anywhere between them.

    Source: Zhang et al., A Langevin-like Sampler for Discrete Distributions (2022) for these walks;
    Dieleman et al., Continuous Diffusion for Categorical Data (2022); Eijkelboom et al.,
    Variational Flow Matching (2024).

    Example:
        >>> field, mask = Simplex(3), torch.ones(1, 1, dtype=torch.bool)
        >>> x, t = torch.tensor([[[-1.0, 1.0, -1.0]]]), torch.zeros(1)
        >>> field.predict(torch.zeros(1, 1, 3), x, t, mask).argmax(-1).tolist()
        [[1]]
    """

    def __init__(
        self,
        classes: int,
        *,
        pairs: bool = False,
        frequencies: Sequence[float] | None = None,
        noise: tuple[float, float] = (0.2, 10.0),
        window: tuple[float, float] = (0.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        self.rank = self.stream = "pair" if pairs else "site"
        self._axes = 2 if pairs else 1
        self.channels = self.inputs = self.estimates = self.outputs = classes
        shares = torch.tensor([1.0] * classes if frequencies is None else list(frequencies))
        self.log_frequencies = (shares / shares.sum()).clamp_min(1e-6).log()
        self.mean, self.sd = 2 / classes - 1, 2 * max(classes - 1, 1) ** 0.5 / classes
        self.window, self.weight = Window(*window), weight
        self.schedule = GaussianSchedule(*noise, rho=4.0, window=self.window)

    exact = False

    @property
    def unit(self) -> float:
        # Half the distance of two vertices. The standard deviation is less and says nothing here: noise
        # as small as that leaves no doubt about a class.
        return _DISTANCE / 2

    @property
    def bottom(self) -> float:
        return 0.3  # a ninth of the distance of two vertices

    def valid(self, mask: Tensor) -> Tensor:
        if self.rank == "site":
            return mask[..., None]
        off = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        return (mask[:, :, None] & mask[:, None, :] & off)[..., None]

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.rank == "pair":
            upper = x.movedim(-1, 1).triu(1)
            x = (upper + upper.transpose(-1, -2)).movedim(1, -1)
        return x * self.valid(mask)

    def white(self, mask: Tensor, noise: Noise) -> Tensor:
        return self.project(noise.normal(mask, own_shape(mask, self.channels, axes=self._axes)), mask)

    def _dimension(self, mask: Tensor) -> Tensor:
        return self.valid(mask).flatten(1).sum(1).clamp_min(1) * self.channels

    def _entries(self, mask: Tensor) -> Tensor:
        return self.valid(mask).flatten(1).sum(1).clamp_min(1)

    # -- network

    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        variance = self._sigma(t, x).clamp_min(self.schedule.low) ** 2
        evidence = 2 * x / variance
        # Only differences count, and those beyond certainty say nothing.
        evidence = (evidence - evidence.amax(-1, keepdim=True)).clamp_min(-_CERTAIN)
        return raw + evidence + self.log_frequencies.to(raw)

    def point(self, params: Tensor) -> Tensor:
        return 2 * params.softmax(-1) - 1

    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        return params.softmax(-1) * self.valid(mask)

    def rsample(self, params: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        u = noise.uniform(mask, own_shape(mask, self.channels, axes=self._axes))
        gumbel = self.project(-(-u.clamp(1e-6, 1 - 1e-6).log()).log(), mask)
        soft = (params + gumbel).softmax(-1)
        # Hard forwards, soft backwards (Jang et al., Categorical Reparameterization, 2017).
        hard = F.one_hot(soft.argmax(-1), self.channels).to(soft)
        return self.project(2 * (hard - soft.detach() + soft) - 1, mask)

    # -- learning

    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return self._entropy(params, x0, mask) / self._entries(mask) * self.window.active(t)

    def _entropy(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        """-log p(x0 | params), twice for symmetric pairs, `(B,)`."""
        entropy = -(params.log_softmax(-1) * (x0 + 1) / 2).sum(-1, keepdim=True)
        return torch.where(self.valid(mask), entropy, torch.zeros_like(entropy)).flatten(1).sum(1)

    def _squared(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return super()._squared(params, x0, mask) / self._axes

    def _reconstruction(self, params: Tensor, x0: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        return self._entropy(params, x0, mask) / self._axes

    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        gap = ((a.softmax(-1) - b.softmax(-1)) ** 2 * self.valid(mask)).flatten(1).sum(1)
        return gap / self._entries(mask)

    def anchor(self, params: Tensor, x0: Tensor, mask: Tensor) -> Tensor:
        return self._entropy(params, x0, mask) / self._entries(mask)

    # -- energies

    def potential(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        # A mixture of K Gaussians at the one-hot vectors, on each site by itself.
        variance = self.noise(t, x) ** 2
        corners = (2 * x / variance + self.log_frequencies.to(x)).logsumexp(-1, keepdim=True)
        own = ((0.5 * x**2 + x) / variance).sum(-1, keepdim=True) - corners
        total = torch.where(self.valid(mask), own, torch.zeros_like(own)).flatten(1).sum(1)
        return total / self._axes

    def covector(self, gradient: Tensor, mask: Tensor) -> Tensor:
        if self.rank == "pair":  # each number stands in the tensor twice
            gradient = gradient + gradient.transpose(1, 2)
        return self.tangent(gradient, mask)

    # -- walks on the vertices, where there is little noise

    ground: float = 0.0
    """The noise below which values are vertices; none by default."""

    def grounded(self) -> Self:
        field = copy.copy(self)
        field.ground = _GROUND
        return field

    def walks(self, t: Tensor) -> Tensor:
        return self.noise(t) < self.ground

    def vertex(self, classes: Tensor, mask: Tensor) -> Tensor:
        """The values that stand for classes."""
        return self.project(2 * F.one_hot(classes, self.channels).float() - 1, mask)

    def perturb(self, x0: Tensor, white: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return self._either(t, x0, super().perturb(x0, white, t, mask))

    def moved(
        self,
        x: Tensor,
        x0: Tensor,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        noise: Noise,
        eta: float = 0.0,
        scale: float = 1.0,
    ) -> Tensor:
        y = super().moved(x, x0, t, s, mask, noise, eta, scale)
        # Vertices stay where they are; reals that come to the ground go to the likeliest vertex.
        return self._either(t, x, self._either(s, self.vertex(x0.argmax(-1), mask), y))

    def stride(self, t: Tensor) -> Tensor:
        # Vertices are as far apart whatever the noise; a step as short as it would freeze the chain.
        return torch.where(self.walks(t), torch.full_like(t, _LEAP), self.noise(t))

    def propose(self, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        y = super().propose(x, slope, h, t, mask, noise)
        if not self.ground:
            return y
        u = self.project(noise.uniform(mask, own_shape(mask, 1, axes=self._axes)), mask).squeeze(-1)
        jump = pick(self._log_jumps(x, slope, h).exp(), u)
        return self._either(t, self.vertex(jump, mask), y)

    def log_proposal(self, y: Tensor, x: Tensor, slope: Tensor, h: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        jumps = (self._log_jumps(x, slope, h) * (y + 1) / 2 * self.valid(mask)).flatten(1).sum(1)
        return self._either(t, jumps / self._axes, super().log_proposal(y, x, slope, h, t, mask))

    def _log_jumps(self, x: Tensor, slope: Tensor, h: Tensor) -> Tensor:
        """log q of every class of every entry; all jump at once."""
        # Two vertices differ by 2 in two numbers, so that |y - x|^2 is 8.
        apart = 4 / per_sample(h.clamp_min(STILL), x) ** 2
        return (apart * (x + 1) / 2 - slope).log_softmax(-1)

    def _either(self, t: Tensor, vertices: Tensor, reals: Tensor) -> Tensor:
        return torch.where(per_sample(self.walks(t), reals), vertices, reals)

    # -- relaxation

    def relaxed(self, straight: bool = False) -> Simplex:
        return self.straightened() if straight else self
