"""The verbs that every field has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from molgen.core.densities import PLAIN, Density, Sharpen
from molgen.core.errors import UnsupportedError
from molgen.core.noise import Noise
from molgen.core.schedules import Window

if TYPE_CHECKING:
    from molgen.core.fields.gaussian import GaussianField


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """A value per sample, broadcastable over that sample's entries."""
    return t.reshape(-1, *(1,) * (x.dim() - 1))


def own_shape(mask: Tensor, *channels: int, axes: int = 1) -> tuple[int, ...]:
    """The shape of one sample's draw: its own sites (or the whole grid), then channels."""
    sites = tuple(mask.shape[1:]) if mask.dim() > 2 else (-1,) * axes
    return (*sites, *channels)


class Field(ABC):
    """The geometry of one tensor.

    Attributes:
        rank: ``"site"`` or ``"pair"``, where the values live.
        stream: the trunk's stream that carries it: ``"site"``, ``"pair"`` or ``"point"``.
        inputs: channels that `features` gives.
        estimates: channels that `estimate` gives.
        outputs: channels of the network that `predict` reads.
        window: the part of global time in which the field changes.
        weight: its share in a loss over several fields.
    """

    rank: Literal["site", "pair"] = "site"
    stream: Literal["site", "pair", "point"] = "site"
    inputs: int
    estimates: int
    outputs: int
    window: Window
    weight: float

    # ------------------------------------------------------------------ geometry

    @abstractmethod
    def valid(self, mask: Tensor) -> Tensor:
        """Which entries are real, broadcastable over values; a field need not have some on every site."""

    @abstractmethod
    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """The nearest value that obeys the field's constraints; zero on padding."""

    @abstractmethod
    def distance(self, a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        """A distance between two parameters (of p(x0 | .)) per sample, `(B,)`, for consistency losses."""

    # ------------------------------------------------------------------ what data say, and how they look

    def learn(self, values: Sequence[np.ndarray]) -> dict[str, Any]:
        """Arguments of the constructor that data decide (a scale, frequencies), as JSON.

        Arguments:
            values: unpadded arrays, one per sample, as a modality encodes them.
        """
        return {}

    def readings(self, value: np.ndarray) -> np.ndarray:
        """The entries of one sample as reals that do not change when the object moves, `(m, C)`.

        They are what generic scores compare; for classes one-hot rows, for points distances.

        Arguments:
            value: one unpadded array.
        """
        return np.asarray(value, np.float64).reshape(-1, value.shape[-1] if self._vectors else 1)

    # ------------------------------------------------------------------ reals that gradients flow through

    @abstractmethod
    def relaxed(self, straight: bool = False) -> GaussianField:
        r"""The same field over reals under Gaussian noise; classes become one-hot vectors.

        Arguments:
            straight: let the noise follow :math:`\sigma(t) = t / (1 - t)` in the unit of the field, for
                reals the data's standard deviation, the straight paths of flow matching, instead of the
                field's own schedule.
        """

    @abstractmethod
    def relax(self, x: Tensor, mask: Tensor) -> Tensor:
        """Values of this field as values of the relaxed one."""

    @abstractmethod
    def harden(self, reals: Tensor, mask: Tensor) -> Tensor:
        """The value nearest to relaxed reals; `harden(relax(x)) == x`."""

    # ------------------------------------------------------------------ units of a Boltzmann machine

    choices: int = 0
    """Classes that an entry is one of; 0 where values are reals."""

    def once(self, mask: Tensor) -> Tensor:
        """Which entries are real and say something of their own: of a symmetric pair only one."""
        raise UnsupportedError(f"{type(self).__name__} has no entries that are one of several classes")

    # ------------------------------------------------------------------ densities of single entries

    entries: int = 0
    """Numbers per site (or pair) that `density` speaks of, each by itself."""
    density_outputs: int = 0
    """Outputs of a network that the density of one entry is made from."""

    def unroll(self, x: Tensor) -> Tensor:
        """Values as entries, `(B, ..., entries)`."""
        return x if self._vectors else x[..., None]

    def rolled(self, entries: Tensor, mask: Tensor) -> Tensor:
        """The inverse of `unroll` for entries `(B, sites * entries)` of a site field."""
        return entries.reshape(*mask.shape, self.entries) if self._vectors else entries.reshape(mask.shape)

    _vectors: bool = True
    """Whether the values of a site are a vector of entries, not a number."""

    entry_inputs: int = 0
    """Channels that `observe` gives."""

    def observe(self, entries: Tensor) -> Tensor:
        """Entries `(...)` as network input of about unit scale, `(..., entry_inputs)`."""
        raise UnsupportedError(f"{type(self).__name__} has no single entries")

    def density(self, raw: Tensor) -> Density:
        """The density of entries `(...)` from outputs `(..., density_outputs)`."""
        raise UnsupportedError(
            f"{type(self).__name__} has no density of single entries; choose a view whose values do not "
            "change when the object moves"
        )

    def conditional(self, raw: Tensor) -> Density:
        """The density of entries that are told those before them; by default that of each by itself."""
        return self.density(raw)

    def drawn(self, density: Density, mask: Tensor, noise: Noise, how: Sharpen = PLAIN) -> Tensor:
        """Values drawn entry by entry from a density of `(B, ..., entries)`."""
        own = own_shape(mask, self.entries, 2, axes=2 if self.rank == "pair" else 1)
        return self._gathered(density.draw(noise.uniform(mask, own), how), mask)

    def centre(self, density: Density, mask: Tensor) -> Tensor:
        """The value whose entries are the centres of a density of `(B, ..., entries)`."""
        return self._gathered(density.centre(), mask)

    def _gathered(self, entries: Tensor, mask: Tensor) -> Tensor:
        return self.project(entries if self._vectors else entries.squeeze(-1), mask)

    # ------------------------------------------------------------------ reals of full dimension

    cells: int = 0
    """Reals per site (or pair) that `dequantize` gives."""
    tight: bool = False
    """Whether the bound of `dequantize` is an equality: values are such reals already."""
    discrete: bool = False
    """Whether a value has a cell of reals, in which `u` says the place."""

    def dequantize(self, x: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        r"""Reals `z` whose density bounds the probability of values, and the logarithm of their volume.

        .. math:: \log p(x) \ge E_u[\log p_z(z) + v]

        with equality where the values are reals already, and for values whose frequencies the field knows
        where the reals are standard normal (see `molgen.core.fields.cells`). About zero mean and unit
        variance.

        Arguments:
            x: values.
            u: `(B, ..., cells)`, uniform in (0, 1).
            mask: real sites.

        Returns: z `(B, ..., cells)` and v `(B, ...)` per site (or pair), both zero on padding.

        Source: Theis et al., A Note on the Evaluation of Generative Models (2016); Hoogeboom et al.,
        Argmax Flows (2021).
        """
        raise UnsupportedError(
            f"{type(self).__name__} has no full-dimensional reals; choose a view whose values do not "
            "change when the object moves"
        )

    def quantize(self, z: Tensor, mask: Tensor) -> Tensor:
        """The value whose cell holds `z`; `quantize(dequantize(x, u)) == x`."""
        raise UnsupportedError(f"{type(self).__name__} has no full-dimensional reals")

    # ------------------------------------------------------------------ the noising process

    @abstractmethod
    def prior(self, mask: Tensor, noise: Noise) -> Tensor:
        """A draw at time 1."""

    @abstractmethod
    def diffuse(self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        """A draw of x_t given x_s, `s <= t`; with `s = 0` it corrupts data."""

    def renoise(
        self, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, noise: Noise, scale: float = 1.0
    ) -> Tensor:
        """`diffuse` as a sampler goes back: as noisy as `step` leaves a sample at time t.

        `scale` is the factor on fresh noise that `step` takes.
        """
        return self.diffuse(x, s, t, mask, noise)

    @abstractmethod
    def prior_kl(self, x0: Tensor, mask: Tensor) -> Tensor:
        """KL(q(x_1 | x0) || prior) in nats, `(B,)`."""

    # ------------------------------------------------------------------ network input and output

    @abstractmethod
    def level(self, t: Tensor) -> Tensor:
        """The noise level as the network sees it, `(B,)`, of order one."""

    @abstractmethod
    def features(self, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """Noisy values as network input of about unit scale, `(B, ..., inputs)`."""

    @abstractmethod
    def estimate(self, params: Tensor, mask: Tensor) -> Tensor:
        """Parameters as network input, `(B, ..., estimates)`, for self-conditioning."""

    @abstractmethod
    def predict(self, raw: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The network's output, preconditioned to the parameters of p(x0 | x_t)."""

    # ------------------------------------------------------------------ learning

    @abstractmethod
    def loss(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        """The denoising loss per sample, `(B,)`, zero where the field is not active."""

    @abstractmethod
    def step_kl(self, params: Tensor, x0: Tensor, x: Tensor, t: Tensor, s: Tensor, mask: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x0) || p(x_s | x_t)) in nats, `(B,)`; at `s = 0`, -log p(x0 | x_t)."""

    # ------------------------------------------------------------------ sampling

    @abstractmethod
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
        """A draw of x_s given x_t and the parameters.

        Arguments:
            eta: share of fresh noise on real fields: 0 is the ODE, 1 ancestral sampling.
            scale: factor on that noise; below 1 trades diversity for quality.
        """

    def useful_steps(self, mask: Tensor) -> Tensor:
        """The number of sampling steps beyond which none would change anything, `(B,)`."""
        return torch.full((len(mask),), math.inf, device=mask.device)

    def guide(self, params: Tensor, base: Tensor, strength: float) -> Tensor:
        """Classifier-free guidance: moves from the unconditional `base` through the conditional."""
        return base + strength * (params - base)

    def extrapolate(self, params: Tensor, earlier: Tensor, ratio: Tensor) -> Tensor:
        """Parameters with a multistep correction; jumps have none."""
        return params

    def correct(
        self, x: Tensor, y: Tensor, params: Tensor, ahead: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Heun's second half: replaces the step x -> y by one that uses `ahead`, predicted at y.

        A jump is taken once, so the default returns `y`.
        """
        return y

    def log_ratio(self, t: Tensor, s: Tensor) -> Tensor:
        """Length of a step in half the log signal-to-noise ratio, `(B,)`; zero where nothing changes."""
        return torch.zeros_like(t)
