"""Annealed importance sampling of a deep Boltzmann machine, with every other layer summed out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from molgen.core.linear import linear
from molgen.core.rng import RandomSource
from molgen.nn.boltzmann import DeepBoltzmann, State
from molgen.nn.units import Units


@final
class Annealer:
    r"""The machines from the base-rate model, at 0, to a given one, at 1, for samples of the same entries.

    .. math:: p^*_\beta(x) = e^{\beta (c + b^T x)} \prod_l \sum_s e^{s^T (\beta a_l(x) + r_l)}, \quad
              a_l(x) = b_l + W_{l-1}^T x_{l-1} + W_l x_{l+1}

    with the units x of the odd layers; those s of the even layers l are summed out. The logits r of base
    rates are zero but for visible units, and the constant c and the biases belong to units without centring.

    Arguments:
        net: the machine.
        real: the entries that all samples have, `(entries,)`.

    Source: Neal, Annealed Importance Sampling (2001); Salakhutdinov and Hinton, Deep Boltzmann Machines
    (2009), for summing out layers.
    """

    @torch.no_grad()
    def __init__(self, net: DeepBoltzmann, real: Tensor) -> None:
        visible = net.visible.units
        there = torch.split(real, [n for n, _ in visible.groups])
        groups = [(int(on.sum()), k) for on, (_, k) in zip(there, visible.groups, strict=True)]
        self.layers = [Units(groups), *net.layers[1:]]
        own = visible.spread(real).bool()
        self.weights = [net.weights[0][own], *(w.detach() for w in list(net.weights)[1:])]
        self.biases = [net.biases[0][own], *(b.detach() for b in list(net.biases)[1:])]
        self.rates = net.rates[own]
        means = [net.means(layer) for layer in range(len(self.biases))]
        means[0] = means[0][own]
        self.offset = 0.0
        """The logarithm of p* of no unit at all, per beta."""
        for low, (below, above) in enumerate(pairwise(means)):
            pull = self.weights[low] @ above
            self.offset += float(below.double() @ pull.double())
            self.biases[low] = self.biases[low] - pull
            self.biases[low + 1] = self.biases[low + 1] - below @ self.weights[low]
        self.base = float(self.layers[0].log_sum(self.rates).double().sum())
        """log Z of the base-rate model."""
        self.base += sum(net.sizes[1:]) * math.log(2)

    @torch.no_grad()
    def start(self, chains: int, rng: RandomSource) -> State:
        """Samples of the base-rate model."""
        zeros = [self.rates.new_zeros(chains, len(b)) for b in self.biases]
        return [self._draw(layer, self._field(layer, a, 0.0), rng) for layer, a in enumerate(zeros)]

    @torch.no_grad()
    def run(self, state: State, betas: Sequence[float], rng: RandomSource) -> tuple[State, Tensor]:
        r"""Chains that follow :math:`\beta`, and the logarithms of their weights, `(C,)` in float64.

        .. math:: w = \prod_k p^*_{\beta_k}(x_{k-1}) / p^*_{\beta_{k-1}}(x_{k-1}), \quad
                  E[w] = Z_{end} / Z_{start}

        Arguments:
            state: samples at the first of `betas`; only the odd layers are read.
            betas: from one end to the other.
            rng: the source of randomness.
        """
        state, depth = list(state), len(self.biases)
        log_w = torch.zeros(len(state[1]), dtype=torch.float64, device=state[1].device)
        for now, then in pairwise(betas):
            slope = self.offset + sum(state[i] @ self.biases[i] for i in range(1, depth, 2))
            log_w += (then - now) * slope
            # Even layers are independent given the odd ones, so a new first layer does not change the next.
            for i in range(0, depth, 2):
                felt = self._felt(state, i)
                field = self._field(i, felt, then)
                units = self.layers[i]
                gain = units.log_sum(field) - units.log_sum(self._field(i, felt, now))
                log_w += gain.sum(1)
                state[i] = self._draw(i, field, rng)
            for i in range(1, depth, 2):
                state[i] = self._draw(i, self._field(i, self._felt(state, i), then), rng)
        return state, log_w

    # ------------------------------------------------------------------ conditionals

    def _felt(self, state: State, layer: int) -> Tensor:
        """a of a layer, `(C, units)`."""
        if layer == 0:
            return linear(state[1], self.weights[0], self.biases[0])
        total = linear(state[layer - 1], self.weights[layer - 1].t(), self.biases[layer])
        return total if layer + 1 == len(state) else total.add_(linear(state[layer + 1], self.weights[layer]))

    def _field(self, layer: int, felt: Tensor, beta: float) -> Tensor:
        return torch.add(self.rates, felt, alpha=beta) if layer == 0 else beta * felt

    def _draw(self, layer: int, field: Tensor, rng: RandomSource) -> Tensor:
        return self.layers[layer].draw(field, rng.uniform(field, (self.layers[layer].entries,)))
