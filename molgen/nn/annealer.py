"""Annealed importance sampling of a deep Boltzmann machine, with every other layer summed out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from molgen.core.densities import pick
from molgen.core.noise import Noise
from molgen.nn.boltzmann import DeepBoltzmann, State
from molgen.nn.linear import linear


@final
class Annealer:
    r"""The machines from the base-rate model, at 0, to a given one, at 1, for samples of the same entries.

    .. math:: p^*_\beta(x) = e^{\beta b^T x} \prod_l \sum_s e^{s^T (\beta a_l(x) + r_l)}, \quad
              a_l(x) = b_l + W_{l-1}^T x_{l-1} + W_l x_{l+1}

    with the units x of the odd layers; those s of the even layers l are summed out. The logarithms r of base
    rates are zero but for visible units. Of each entry the first class is the one that others are compared
    with, so that an entry of two classes is one unit.

    Arguments:
        net: the machine.
        real: the entries that all samples have, `(entries,)`.

    Source: Neal, Annealed Importance Sampling (2001); Salakhutdinov and Hinton, Deep Boltzmann Machines
    (2009), for summing out layers.
    """

    @torch.no_grad()
    def __init__(self, net: DeepBoltzmann, real: Tensor) -> None:
        visible, units = net.visible, torch.arange(net.sizes[0], device=real.device)
        on = torch.split(real, [n for n, _ in visible.groups])
        blocks = [block[own] for block, own in zip(visible.blocks(units), on, strict=True)]
        first = torch.cat([block[:, 0] for block in blocks])
        base = torch.cat([block[:, :1].expand_as(block[:, 1:]).flatten() for block in blocks])
        others = torch.cat([block[:, 1:].flatten() for block in blocks])
        weight, bias, rates = net.weights[0], net.biases[0], net.rates
        self.groups = [[(len(block), block.shape[1]) for block in blocks], *([(n, 2)] for n in net.sizes[1:])]
        """Per layer, groups of units of which one is on: their number, and classes with the first."""
        self.weights = [weight[others] - weight[base], *(w.detach() for w in list(net.weights)[1:])]
        self.biases = [bias[others] - bias[base], *(b.detach() for b in list(net.biases)[1:])]
        self.biases[1] = self.biases[1] + weight[first].sum(0)
        self.rates = rates[others] - rates[base]
        self.offset = float(bias[first].double().sum())
        """The logarithm of p* of the first classes, per beta."""
        self.base = sum(net.sizes[1:]) * math.log(2)
        """log Z of the base-rate model."""

    @torch.no_grad()
    def start(self, chains: int, noise: Noise) -> State:
        """Samples of the base-rate model."""
        zeros = [self.rates.new_zeros(chains, len(b)) for b in self.biases]
        return [self._draw(layer, self._field(layer, a, 0.0), noise) for layer, a in enumerate(zeros)]

    @torch.no_grad()
    def run(self, state: State, betas: Sequence[float], noise: Noise) -> tuple[State, Tensor]:
        r"""Chains that follow :math:`\beta`, and the logarithms of their weights, `(C,)` in float64.

        .. math:: w = \prod_k p^*_{\beta_k}(x_{k-1}) / p^*_{\beta_{k-1}}(x_{k-1}), \quad
                  E[w] = Z_{end} / Z_{start}

        Arguments:
            state: samples at the first of `betas`; only the odd layers are read.
            betas: from one end to the other.
            noise: the source of randomness.
        """
        state, depth = list(state), len(self.biases)
        log_w = torch.zeros(len(state[1]), dtype=torch.float64, device=state[1].device)
        for now, then in pairwise(betas):
            slope = self.offset + sum(state[i] @ self.biases[i] for i in range(1, depth, 2))
            log_w += (then - now) * slope
            # Even layers do not see each other, so that the new one of the first leaves the next alone.
            for i in range(0, depth, 2):
                felt = self._felt(state, i)
                field = self._field(i, felt, then)
                gain = self._log_sum(i, field) - self._log_sum(i, self._field(i, felt, now))
                log_w += gain.sum(1)
                state[i] = self._draw(i, field, noise)
            for i in range(1, depth, 2):
                state[i] = self._draw(i, self._field(i, self._felt(state, i), then), noise)
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

    def _blocks(self, layer: int, field: Tensor) -> Iterator[Tensor]:
        """Fields of groups: of two classes `(C, n)`; of more, with the first class, `(C, n, classes)`."""
        groups = self.groups[layer]
        for block, (n, k) in zip(
            torch.split(field, [n * (k - 1) for n, k in groups], 1), groups, strict=True
        ):
            yield block if k == 2 else F.pad(block.reshape(len(block), n, k - 1), (1, 0))

    def _log_sum(self, layer: int, field: Tensor) -> Tensor:
        """The logarithm of the sum of exp(field s) over the states of each group, `(C, groups)`."""
        parts = [F.softplus(b) if b.dim() == 2 else b.logsumexp(-1) for b in self._blocks(layer, field)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _draw(self, layer: int, field: Tensor, noise: Noise) -> Tensor:
        parts = []
        for block in self._blocks(layer, field):
            u = noise.uniform(field, (block.shape[1],))
            if block.dim() == 2:
                parts.append(u.lt_(block.sigmoid()))
            else:
                on = F.one_hot(pick(block.softmax(-1), u), block.shape[-1])
                parts.append(on[..., 1:].flatten(1).to(field))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
