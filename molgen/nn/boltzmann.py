"""The deep Boltzmann machine: its energy, conditionals, Gibbs sweeps and mean field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from molgen.core.capabilities import Classes
from molgen.core.fields import Field
from molgen.core.linear import linear
from molgen.core.rng import RandomSource
from molgen.nn.units import Units

State = list[Tensor]
"""The units of every layer, `(B, units)` each, the visible ones first."""


@final
class Visible:
    """The values of a view as units: a group for each entry, with a unit for each class but the first.

    A machine has units for the largest sample; those of missing sites stay off. A symmetric pair is one
    group.

    Arguments:
        fields: fields of classes.
        template: the mask of a largest sample, `(1, *extent)`.
    """

    def __init__(self, fields: Mapping[str, Field], template: Tensor) -> None:
        self.fields, self.template, self.classes = fields, template, Classes.each(fields)
        self.places = {
            k: c.unique_mask(template).flatten().nonzero().squeeze(1) for k, c in self.classes.items()
        }
        self.units = Units([(len(self.places[k]), c.num_classes) for k, c in self.classes.items()])

    def real(self, mask: Tensor) -> Tensor:
        """The mask of the entries of samples, `(B, entries)`."""
        wide = self._padded(mask, 1)
        own = [c.unique_mask(wide).flatten(1)[:, self.places[k]] for k, c in self.classes.items()]
        return torch.cat(own, 1)

    def encode(self, values: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Values to units `(B, units)`, off on padding."""
        units = []
        for k, f in self.fields.items():
            x = self._padded(values[k], f.axes).flatten(1)[:, self.places[k]]
            on = self.classes[k].unique_mask(self._padded(mask, 1)).flatten(1)[:, self.places[k]]
            units.append((self.classes[k].one_hot(x)[..., 1:] * on[..., None]).flatten(1))
        return torch.cat(units, 1)

    def decode(self, v: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Units to values at the sites of `mask`."""
        values = {}
        for (k, f), block in zip(self.fields.items(), self.units.blocks(v), strict=True):
            sites = self.template.shape[1:] * f.axes
            reals = v.new_zeros(len(v), math.prod(sites), f.num_classes)
            reals[:, self.places[k]] = torch.cat([1 - block.sum(-1, keepdim=True), block], -1)
            reals = reals.reshape(len(v), *sites, f.num_classes)
            own = mask.shape[1:] * f.axes
            values[k] = self.classes[k].argmax(reals[(slice(None), *map(slice, own))], mask)
        return values

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
    r"""Layers of units, coupled to their neighbours by their deviations from fixed means (centring).

    .. math:: E(s) = -\sum_l (b_l + r_l)^T s_l - \sum_l (s_l - m_l)^T W_l (s_{l+1} - m_{l+1})

    The visible :math:`r_0` are the logits of the rates :math:`m_0` at which units are on in the data; those
    of hidden units are 0, and their :math:`m_l` is 0.5. Without weights the machine is the base-rate model,
    from which annealing starts, too. A weight describes the correlation of two units and not their rates;
    without centring, the gradients of the rates dominate those of the upper layers.

    Arguments:
        visible: the visible layer.
        hidden: units of each hidden layer.
        real: the entries that each persistent chain has, `(chains, entries)`.

    Source: Salakhutdinov and Hinton, Deep Boltzmann Machines (2009); Montavon and Mueller, Deep Boltzmann
    Machines and the Centering Trick (2012).
    """

    def __init__(self, visible: Visible, hidden: Sequence[int], real: Tensor) -> None:
        super().__init__()
        self.visible = visible
        self.layers = [visible.units, *(Units([(n, 2)]) for n in hidden)]
        self.sizes = [layer.count for layer in self.layers]
        self.weights = nn.ParameterList(0.01 * torch.randn(a, b) for a, b in pairwise(self.sizes))
        self.biases = nn.ParameterList(torch.zeros(n) for n in self.sizes)
        self.register_buffer("counts", torch.zeros(visible.units.count, dtype=torch.long))
        self.register_buffer("seen", torch.zeros(visible.units.entries, dtype=torch.long))
        self.register_buffer("real", real)
        start = self.random(real, torch.rand(len(real), self.draws))
        self.register_buffer("chains", torch.cat(start, 1).bool())

    counts: Tensor
    """How often each visible unit was on in training."""
    seen: Tensor
    """How often each entry was there in training."""
    real: Tensor
    chains: Tensor
    """The persistent chains, all layers in a row."""

    def count(self, v: Tensor, real: Tensor) -> None:
        """Adds visible units of data to the counts of the base rates."""
        self.counts += v.sum(0).long()
        self.seen += real.sum(0).long()

    @property
    def draws(self) -> int:
        """The number of uniform variables of a sweep for each sample."""
        return sum(layer.entries for layer in self.layers)

    @property
    def rates(self) -> Tensor:
        """Logits of the base rates of the visible units, against the first class."""
        units = self.visible.units
        first = self.seen - units.total(self.counts)
        return self.counts.to(self.biases[0]).log1p() - units.spread(first.to(self.biases[0]).log1p())

    def means(self, layer: int) -> Tensor:
        """m: the fixed means of the units of a layer, `(units,)`."""
        units = self.layers[layer]
        return units.mean(self.rates if layer == 0 else torch.zeros_like(self.biases[layer]))

    def moved(self, s: Tensor, layer: int, real: Tensor) -> Tensor:
        """The deviations of the units of a layer from their means; zero at missing entries."""
        m = self.means(layer)
        return s - (m * self.layers[0].spread(real) if layer == 0 else m)

    # ------------------------------------------------------------------ conditionals

    def field(self, state: State, layer: int, real: Tensor, felt: Tensor | None = None) -> Tensor:
        """The input of units, `(B, units)`; `felt` is the part from below, if it is known."""
        if felt is None:
            below = state[layer - 1]
            felt = self.felt(below, layer, real) if layer else self.biases[0] + self.rates
        return felt if layer + 1 == len(state) else felt + self.pressed(state[layer + 1], layer, real)

    def felt(self, below: Tensor, layer: int, real: Tensor, weight: int = 1) -> Tensor:
        """The input of units from their bias and, with a weight, from the layer below."""
        moved = weight * self.moved(below, layer - 1, real)
        return linear(moved, self.weights[layer - 1].t(), self.biases[layer])

    def pressed(self, above: Tensor, layer: int, real: Tensor, weight: int = 1) -> Tensor:
        """The input of units from the layer above, with a weight."""
        return linear(weight * self.moved(above, layer + 1, real), self.weights[layer])

    def mean(self, layer: int, field: Tensor, real: Tensor) -> Tensor:
        """The probability that a unit is on."""
        p = self.layers[layer].mean(field)
        return p if layer else p * self.layers[0].spread(real)

    def draw(self, layer: int, field: Tensor, real: Tensor, u: Tensor) -> Tensor:
        """Samples of units from uniforms `(B, draws)`; each layer uses its own."""
        s = self.layers[layer].draw(field, torch.split(u, [own.entries for own in self.layers], 1)[layer])
        return s if layer else s * self.layers[0].spread(real)

    # ------------------------------------------------------------------ energy and sampling

    def energy(self, state: State, real: Tensor) -> Tensor:
        """E of all layers, `(B,)`; at means of independent units the mean of E."""
        moved = [self.moved(s, layer, real) for layer, s in enumerate(state)]
        total: Tensor = state[0] @ self.rates
        for s, bias in zip(state, self.biases, strict=True):
            total = total + s @ bias
        for below, above, weight in zip(moved, moved[1:], self.weights, strict=False):
            total = total + (linear(below, weight.t()) * above).sum(1)
        return -total

    def random(self, real: Tensor, u: Tensor) -> State:
        """Independent units."""
        zeros = [u.new_zeros(len(u), n) for n in self.sizes]
        return [self.draw(layer, field, real, u) for layer, field in enumerate(zeros)]

    def sweep(self, state: State, real: Tensor, u: Tensor) -> State:
        """A sweep of block Gibbs sampling: the even layers given the odd ones, then the odd ones."""
        state = list(state)
        for first in (0, 1):
            for layer in range(first, len(state), 2):
                state[layer] = self.draw(layer, self.field(state, layer, real), real, u)
        return state

    @torch.no_grad()
    def advance(self, rng: RandomSource, sweeps: int) -> State:
        """The persistent chains after some more sweeps, which are stored; odd layers at their means."""
        state = list(torch.split(self.chains.to(self.biases[0]), self.sizes, 1))
        for _ in range(sweeps):
            state = self.sweep(state, self.real, rng.uniform(self.real, (self.draws,)))
        self.chains.copy_(torch.cat(state, 1).bool())
        # The mean given the even layers has the same expectation and less noise.
        return [
            self.mean(i, self.field(state, i, self.real), self.real) if i % 2 else layer
            for i, layer in enumerate(state)
        ]

    # ------------------------------------------------------------------ inference

    def scales(self, layer: int) -> tuple[int, int]:
        """Factors on the input of layers `layer + 1` and `layer` in a stack of pairs.

        A unit with two neighbouring layers in the machine and one in the pair counts that one twice.
        """
        return (1 if layer + 2 == len(self.sizes) else 2), (1 if layer == 0 else 2)

    def rise(self, v: Tensor, real: Tensor, layer: int) -> State:
        """The visible units and the means of the layers up to one, each from the layer below alone."""
        state = [v]
        for i in range(1, layer + 1):
            state.append(self.mean(i, self.felt(state[-1], i, real, self.scales(i - 1)[0]), real))
        return state

    @torch.no_grad()
    def mean_field(self, v: Tensor, real: Tensor, iterations: int) -> State:
        """The visible units and the means of the hidden ones under the best independent posterior."""
        state = self.rise(v, real, len(self.sizes) - 1)
        known = self.felt(v, 1, real)  # the widest product, and the same in every iteration
        for _ in range(iterations):
            for first in (1, 2):
                for layer in range(first, len(state), 2):
                    field = self.field(state, layer, real, known if layer == 1 else None)
                    state[layer] = self.mean(layer, field, real)
        return state

    def free_energy(self, state: State, real: Tensor) -> Tensor:
        r"""The variational free energy, `(B,)`, which is at least -log of the unnormalised p(v).

        .. math:: F(v) = E_q[E(v, h)] - H(q)
        """
        hidden = torch.cat(state[1:], 1)
        entropy = -(torch.special.xlogy(hidden, hidden) + torch.special.xlogy(1 - hidden, 1 - hidden))
        free: Tensor = self.energy(state, real) - entropy.sum(1)
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
            s = self.rise(v, real, layer)[-1]
            field = self.felt(s, layer + 1, real, up)
            t, drawn = self.mean(layer + 1, field, real), self.draw(layer + 1, field, real, u)
            back = low + self.pressed(drawn, layer, real, down)
            s_ = self.draw(layer, back + self.rates if layer == 0 else back, real, u)
            t_ = self.mean(layer + 1, self.felt(s_, layer + 1, real, up), real)

        def energy(s: Tensor, t: Tensor) -> Tensor:
            bound = linear(self.moved(s, layer, real), weight.t()) * self.moved(t, layer + 1, real)
            total: Tensor = s @ low + t @ high + bound.sum(1)
            return -total

        return energy(s, t) - energy(s_, t_)
