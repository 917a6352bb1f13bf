"""The deep Boltzmann machine: its units, energy, conditionals, Gibbs sweeps and mean field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.densities import pick
from molgen.core.fields import Field
from molgen.core.noise import Noise
from molgen.nn.linear import linear

State = list[Tensor]
"""The units of every layer, `(B, units)` each, the visible ones first."""


@final
class Visible:
    """The values of a view as groups of units, of each group one on; a group for each entry.

    A machine has units for the largest sample; those of sites that a sample lacks stay off, and of a
    symmetric pair there is one group.

    Arguments:
        fields: fields of classes.
        template: the mask of a largest sample, `(1, *extent)`.
    """

    def __init__(self, fields: Mapping[str, Field], template: Tensor) -> None:
        self.fields, self.template = fields, template
        self.places = {k: f.once(template).flatten().nonzero().squeeze(1) for k, f in fields.items()}
        self.groups = [(len(self.places[k]), f.choices) for k, f in fields.items()]
        self.entries = sum(n for n, _ in self.groups)
        self.units = sum(n * k for n, k in self.groups)

    def real(self, mask: Tensor) -> Tensor:
        """Which entries the samples of `mask` have, `(B, entries)`."""
        wide = self._padded(mask, 1)
        return torch.cat([f.once(wide).flatten(1)[:, self.places[k]] for k, f in self.fields.items()], 1)

    def encode(self, values: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Values to units `(B, units)`, off on padding."""
        units = []
        for k, f in self.fields.items():
            x = self._padded(values[k], 2 if f.rank == "pair" else 1).flatten(1)[:, self.places[k]]
            on = f.once(self._padded(mask, 1)).flatten(1)[:, self.places[k]]
            units.append((f.observe(x) * on[..., None]).flatten(1))
        return torch.cat(units, 1)

    def decode(self, v: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Units to values at the sites of `mask`."""
        values = {}
        for (k, f), block in zip(self.fields.items(), self.blocks(v), strict=True):
            sites = self.template.shape[1:] * (2 if f.rank == "pair" else 1)
            reals = v.new_zeros(len(v), math.prod(sites), f.choices)
            reals[:, self.places[k]] = block
            reals = reals.reshape(len(v), *sites, f.choices)
            own = mask.shape[1:] * (2 if f.rank == "pair" else 1)
            values[k] = f.harden(reals[(slice(None), *map(slice, own))], mask)
        return values

    def blocks(self, v: Tensor) -> Iterator[Tensor]:
        """The groups of each field, `(..., groups, classes)`."""
        start = 0
        for count, classes in self.groups:
            yield v[..., start : start + count * classes].reshape(*v.shape[:-1], count, classes)
            start += count * classes

    def spread(self, real: Tensor) -> Tensor:
        """What is said of entries `(B, entries)`, said of their units `(B, units)`."""
        parts = torch.split(real, [n for n, _ in self.groups], -1)
        return torch.cat(
            [p.repeat_interleave(k, -1) for p, (_, k) in zip(parts, self.groups, strict=True)], -1
        )

    def _padded(self, x: Tensor, axes: int) -> Tensor:
        """Values padded to the sites of the largest sample."""
        sites = self.template.shape[1:] * axes
        if x.shape[1 : 1 + len(sites)] == sites:
            return x
        out = x.new_zeros(len(x), *sites, *x.shape[1 + len(sites) :])
        out[tuple(map(slice, x.shape))] = x
        return out


@final
class DeepBoltzmann(nn.Module):
    r"""Layers of units, each bound to its neighbours; visible ones in groups of which one is on.

    .. math:: E(s) = -\sum_l b_l^T s_l - \sum_l s_l^T W_l s_{l+1}

    The visible biases are the logarithms of the rates at which the data's units are on, plus a learned
    part: without weights the machine is the base-rate model, from which annealing starts as well.

    Arguments:
        visible: the visible layer.
        hidden: units of each hidden layer.
        real: the entries that each persistent chain has, `(chains, entries)`.

    Source: Salakhutdinov and Hinton, Deep Boltzmann Machines (2009).
    """

    def __init__(self, visible: Visible, hidden: Sequence[int], real: Tensor) -> None:
        super().__init__()
        self.visible, self.sizes = visible, [visible.units, *hidden]
        self.weights = nn.ParameterList(0.01 * torch.randn(a, b) for a, b in pairwise(self.sizes))
        self.biases = nn.ParameterList(torch.zeros(n) for n in self.sizes)
        self.register_buffer("counts", torch.zeros(visible.units, dtype=torch.long))
        self.register_buffer("real", real)
        start = self.random(real, torch.rand(len(real), self.draws))
        self.register_buffer("chains", torch.cat(start, 1).bool())

    counts: Tensor
    """How often each visible unit was on in training."""
    real: Tensor
    chains: Tensor
    """The persistent chains, all layers in a row."""

    @property
    def draws(self) -> int:
        """Uniform numbers that a sweep takes for each sample."""
        return self.visible.entries + sum(self.sizes[1:])

    @property
    def rates(self) -> Tensor:
        """Logarithms of the base rates of the visible units."""
        parts = [
            block.log_softmax(-1).flatten()
            for block in self.visible.blocks(self.counts.to(self.biases[0]).log1p())
        ]
        return torch.cat(parts)

    # ------------------------------------------------------------------ conditionals

    def field(self, state: State, layer: int) -> Tensor:
        """What units feel, `(B, units)`."""
        total: Tensor = self.biases[layer] + (self.rates if layer == 0 else 0)
        if layer > 0:
            total = total + linear(state[layer - 1], self.weights[layer - 1].t())
        if layer + 1 < len(self.sizes):
            total = total + linear(state[layer + 1], self.weights[layer])
        return total

    def mean(self, layer: int, field: Tensor, real: Tensor) -> Tensor:
        """The probability that a unit is on."""
        if layer > 0:
            return field.sigmoid()
        parts = [block.softmax(-1).flatten(-2) for block in self.visible.blocks(field)]
        return torch.cat(parts, -1) * self.visible.spread(real)

    def draw(self, layer: int, field: Tensor, real: Tensor, u: Tensor) -> Tensor:
        """Units drawn at uniforms `(B, draws)`, of which each layer has its own."""
        place = [self.visible.entries, *self.sizes[1:]]
        u = torch.split(u, place, 1)[layer]
        if layer > 0:
            return (u < field.sigmoid()).to(field)
        parts = torch.split(u, [n for n, _ in self.visible.groups], 1)
        on = [
            F.one_hot(pick(block.softmax(-1), part), block.shape[-1]).flatten(1)
            for block, part in zip(self.visible.blocks(field), parts, strict=True)
        ]
        return torch.cat(on, 1) * self.visible.spread(real).to(field)

    def log_sum(self, layer: int, field: Tensor, real: Tensor) -> Tensor:
        """The logarithm of the sum of exp(field s) over all states of a layer, `(B,)`."""
        if layer > 0:
            return F.softplus(field).sum(1)
        parts = [block.logsumexp(-1) for block in self.visible.blocks(field)]
        return (torch.cat(parts, -1) * real).sum(1)

    # ------------------------------------------------------------------ energy and sampling

    def energy(self, state: State) -> Tensor:
        """E of all layers, `(B,)`; at means of independent units the mean of E."""
        total: Tensor = state[0] @ (self.biases[0] + self.rates)
        for below, above, weight, bias in zip(
            state, state[1:], self.weights, list(self.biases)[1:], strict=False
        ):
            total = total + ((linear(below, weight.t()) + bias) * above).sum(1)
        return -total

    def random(self, real: Tensor, u: Tensor) -> State:
        """Units that know nothing of each other."""
        zeros = [u.new_zeros(len(u), n) for n in self.sizes]
        return [self.draw(layer, field, real, u) for layer, field in enumerate(zeros)]

    def sweep(self, state: State, real: Tensor, u: Tensor) -> State:
        """A sweep of block Gibbs sampling: the even layers given the odd ones, then the odd ones."""
        state = list(state)
        for first in (0, 1):
            for layer in range(first, len(state), 2):
                state[layer] = self.draw(layer, self.field(state, layer), real, u)
        return state

    @torch.no_grad()
    def advance(self, noise: Noise, sweeps: int) -> State:
        """The persistent chains after some sweeps more, which are kept; odd layers at their means."""
        state = list(torch.split(self.chains.to(self.biases[0]), self.sizes, 1))
        for _ in range(sweeps):
            state = self.sweep(state, self.real, noise.uniform(self.real, (self.draws,)))
        self.chains.copy_(torch.cat(state, 1).bool())
        # The mean given the even layers says the same with less noise.
        return [
            self.mean(i, self.field(state, i), self.real) if i % 2 else layer for i, layer in enumerate(state)
        ]

    # ------------------------------------------------------------------ inference

    def scales(self, layer: int) -> tuple[int, int]:
        """Factors on the input of layers `layer + 1` and `layer` in a stack of pairs.

        A unit that has two neighbouring layers in the machine and one in the pair feels that one twice.
        """
        return (1 if layer + 2 == len(self.sizes) else 2), (1 if layer == 0 else 2)

    def rise(self, v: Tensor, layer: int) -> Tensor:
        """The means of a layer, one layer after the other from the visible one, `(B, units)`."""
        for i in range(layer):
            v = (self.scales(i)[0] * linear(v, self.weights[i].t()) + self.biases[i + 1]).sigmoid()
        return v

    @torch.no_grad()
    def mean_field(self, v: Tensor, real: Tensor, iterations: int) -> State:
        """The visible units and the means of the hidden ones under the best independent posterior."""
        state = [self.rise(v, layer) for layer in range(len(self.sizes))]
        for _ in range(iterations):
            for first in (1, 2):
                for layer in range(first, len(state), 2):
                    state[layer] = self.mean(layer, self.field(state, layer), real)
        return state

    def free_energy(self, state: State) -> Tensor:
        r"""The variational free energy, `(B,)`, which is at least -log of the unnormalised p(v).

        .. math:: F(v) = E_q[E(v, h)] - H(q)
        """
        hidden = torch.cat(state[1:], 1)
        entropy = -(torch.special.xlogy(hidden, hidden) + torch.special.xlogy(1 - hidden, 1 - hidden))
        free: Tensor = self.energy(state) - entropy.sum(1)
        return free

    def pair_contrast(self, layer: int, v: Tensor, real: Tensor, u: Tensor) -> Tensor:
        """Contrastive divergence of one layer and the next, as a loss per sample, `(B,)`.

        Arguments:
            layer: the lower one.
            v: visible units of data.
            real: entries of the samples.
            u: uniforms, `(B, draws)`.
        """
        weight, low, high = self.weights[layer], self.biases[layer], self.biases[layer + 1]
        up, down = self.scales(layer)
        with torch.no_grad():
            offset = self.rates if layer == 0 else 0
            below = self.rise(v, layer)
            field = up * linear(below, weight.t()) + high
            above = field.sigmoid()
            hidden = self.draw(layer + 1, field, real, u)
            below_ = self.draw(layer, down * linear(hidden, weight) + low + offset, real, u)
            above_ = (up * linear(below_, weight.t()) + high).sigmoid()

        def energy(s: Tensor, t: Tensor) -> Tensor:
            total: Tensor = s @ low + t @ high + (linear(s, weight.t()) * t).sum(1)
            return -total

        return energy(below, above) - energy(below_, above_)
