"""The predictor: entries written so far to the density of the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.capabilities import Embedding, Entries
from molgen.core.conditions import Condition
from molgen.core.densities import PLAIN, Sharpen
from molgen.core.errors import ConfigError
from molgen.core.fields import Field
from molgen.core.rng import RandomSource
from molgen.core.trunk import CausalTrunk, Streams, TrunkSpec
from molgen.core.waves import waves
from molgen.core.wrappers.order import GenerationOrder, Order, PairOrder
from molgen.core.wrappers.sharing import PrefixSharing
from molgen.core.wrappers.wrapper import MakeTrunk, TrunkWrapper, preserving

_LENGTH = 64.0  # sites over which the slowest wave of a place turns once


@final
class Predictor(TrunkWrapper):
    r"""A causal trunk over the slots of a `GenerationOrder`, with heads for the density of each slot's entry.

    .. math:: \log p(x) = \sum_t \log p(x_t | x_{<t}, n)

    A slot sees what the slot before it holds and where that stood, and what is to be written now: field,
    entry, site, and the other site of a pair. The number of sites n is known from the start. With
    `site_state` it also sees at once what has been written at its own sites, summed over fields: the
    kinds of two atoms and the bonds they have already, which attention would have to learn to look up.
    With `graph_hops`, slots that come after all pairs see the same of the sites that are one tie away,
    summed, of those that are two away, and so on: where the atoms were placed from which, and beside
    which, an atom is placed.

    Arguments:
        fields, make_trunk, conditions, width: as for `TrunkWrapper`; the trunk must be a `CausalTrunk`.
        extent: the grid of all samples; None where samples have sizes of their own.
        order: of the sites; a name in `ORDERS` or, on a grid, a permutation.
        code: channels of a vector that all slots see.
        site_state: whether slots see what their sites hold.
        graph_hops: ties up to which they see it of other sites.
        pair_order: whether the pairs of a site start with the ``"first"`` site, or with the ``"nearest"`` in
            the order, the one before it.

    Errors: `ConfigError` for graph_hops where no pairs are written before other fields.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        make_trunk: MakeTrunk,
        conditions: Sequence[Condition] = (),
        extent: tuple[int, ...] | None = None,
        order: Order = "forward",
        code: int = 0,
        width: int = 128,
        site_state: bool = False,
        graph_hops: int = 0,
        pair_order: PairOrder = "first",
    ) -> None:
        self.extent, self.order, self.site_state, self.graph_hops = extent, order, site_state, graph_hops
        self.pair_order = pair_order
        if extent is None and not isinstance(order, str):
            raise ConfigError("order: a permutation needs samples of one size; give a name instead")
        entries = Entries.each(fields)
        self._kinds = {
            (k, e): i
            for i, (k, e) in enumerate((k, e) for k, own in entries.items() for e in range(own.count))
        }
        pairs = any(f.axes == 2 for f in fields.values())
        ends = {axes: [f.window.end for f in fields.values() if f.axes == axes] for axes in (1, 2)}
        if graph_hops and not (pairs and min(ends[1], default=1.0) < min(ends[2])):
            raise ConfigError(
                f"graph_hops={graph_hops}: no field is written after pairs that could tie its sites; use 0"
            )
        places = len(extent or (0,)) * (1 + pairs)
        self._told = len(self._kinds) + 32 * places
        self._held = sum(e.inputs for e in entries.values())
        seen = self._told + self._held + 1
        spec = TrunkSpec(
            site=self._told + seen + self._held * (2 * site_state + graph_hops), context=width, causal=True
        )
        super().__init__(fields, make_trunk, spec, conditions, width, levels=1, code=code)
        if not isinstance(self.trunk, CausalTrunk):
            raise ConfigError(f"trunk {type(self.trunk).__name__} is not causal")
        self.pairs, self.entries = pairs, entries
        self.add_heads({name: e.outputs for name, e in entries.items()})
        self.layout = lru_cache(maxsize=64)(self._layout)
        self.touching = lru_cache(maxsize=64)(self._touching)

    def add_heads(self, outputs: Mapping[str, int], silent: bool = True) -> None:
        """A head per field; slots of pairs stand in the sequence like all others."""
        self.heads = nn.ModuleDict()
        for name, count in outputs.items():
            head = nn.Linear(self.trunk.width, count)
            self.heads[f"field_{name}"] = preserving(head, 0.0 if silent else 1.0)

    # ------------------------------------------------------------------ what a slot sees

    def _layout(self, sites: int) -> tuple[GenerationOrder, Tensor]:
        """The slots of samples with this many sites, and what each tells of itself, `(T, told)`."""
        layout = GenerationOrder.of(self.fields, self.extent or (sites,), self.order, self.pair_order)
        kinds = [
            self._kinds[layout.names[k], e]
            for k, e in zip(layout.field.tolist(), layout.entry.tolist(), strict=True)
        ]
        parts = [F.one_hot(torch.tensor(kinds, dtype=torch.long), len(self._kinds)).float()]
        for place in (layout.site, layout.other)[: 1 + self.pairs]:
            axes = (place // self.extent[1], place % self.extent[1]) if self.extent else (place,)
            parts += [waves(axis.float() / _LENGTH) for axis in axes]
        return layout, torch.cat(parts, 1)

    def _hold(self, layout: GenerationOrder, values: Mapping[str, Tensor]) -> Tensor:
        """What each slot holds, `(B, T, held)`."""
        first = next(iter(values.values()))
        held = torch.zeros(first.shape[0], len(layout), self._held, dtype=self.dtype, device=first.device)
        at = 0
        for name, f in self.fields.items():
            own = self.entries[name]
            seen = own.embed_entry(layout.read(name, f, values[name]))
            held[:, layout.slots(name), at : at + own.inputs] = seen.to(self.dtype)
            at += own.inputs
        return held

    def _touching(self, sites: int) -> Tensor:
        """Which earlier slots stand at a slot's site, and at its other site, `(2, T, T)`."""
        layout, _ = self.layout(sites)
        ends = torch.stack([layout.site, layout.other])[..., None]
        return ((ends == layout.site) | (ends == layout.other)).tril(-1)

    def _recalled(self, held: Tensor, valid: Tensor, sites: int) -> list[Tensor]:
        """What the sites of each slot hold before it is written, `(B, T, held)` per site."""
        if not self.site_state:
            return []
        here = held * valid[..., None]
        return [_damped(earlier @ here) for earlier in self.touching(sites).to(held)]

    def _near(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Which sites are 1, 2, ... `graph_hops` ties apart, `(B, N, N)`; pairs of class 0 are no ties."""
        pairs = [values[name] != 0 for name, f in self.fields.items() if f.axes == 2]
        tied = torch.stack(pairs).any(0)
        out, last, seen = [tied], tied, tied | torch.eye(tied.shape[1], dtype=torch.bool, device=tied.device)
        for _ in range(1, self.graph_hops):
            last = ((last.to(self.dtype) @ tied.to(self.dtype)) > 0) & ~seen
            out, seen = [*out, last], seen | last
        return [hop.to(self.dtype) for hop in out]

    def _tied(self, layout: GenerationOrder) -> int:
        """The first slot after all pairs."""
        return 1 + max(int(layout.slots(n)[-1]) for n, f in self.fields.items() if f.axes == 2)

    def _beside(
        self, held: Tensor, valid: Tensor, layout: GenerationOrder, values: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """What the sites near each slot's own hold before it is written, `(B, T, held)` per hop."""
        if not self.graph_hops or layout.sites < 2:
            return [torch.zeros_like(held)] * self.graph_hops
        first = self._tied(layout)
        here, late = held * valid[..., None], slice(first, None)
        earlier = torch.ones(len(layout), len(layout), device=held.device).tril(-1)[late]
        apart = (layout.other != layout.site).to(held)
        out = []
        for near in self._near(values):
            rows = near[:, layout.site[late]]
            weight = rows[..., layout.site] + apart * rows[..., layout.other]
            out.append(F.pad(_damped((weight * earlier) @ here), (0, 0, first, 0)))
        return out

    def _context(self, mask: Tensor, labels: Mapping[str, Tensor] | None, code: Tensor | None) -> Tensor:
        size = (1 + mask.flatten(1).sum(1)).to(self.dtype).log() / 4
        return self.embed(size[:, None], labels, code, count=mask.shape[0])

    fixed_size = True

    def example(self, mask: Tensor, rng: RandomSource) -> dict[str, Any]:
        """Inputs of `forward`, see `Exportable`; slots are laid out for one number of sites."""
        values = {
            k: e.round(e.continuous().prior(mask, rng), mask) for k, e in Embedding.each(self.fields).items()
        }
        return {"values": values, "mask": mask, **self.null_labels(mask), **self.coded(mask, rng)}

    def forward(
        self,
        values: Mapping[str, Tensor],
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        code: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Outputs for the densities of each field's slots, `(B, T_k, density_outputs)`."""
        layout, told = self.layout(mask.flatten(1).shape[1])
        valid = layout.valid(mask, self.fields)
        told = told.to(mask.device, self.dtype).expand(mask.shape[0], -1, -1)
        held = self._hold(layout, values)
        own = torch.cat([held, told], -1)
        # The slot before is the last one that the sample has; padding may stand in between.
        index = torch.arange(len(layout), device=mask.device)
        last = torch.where(valid, index, -1).cummax(1).values
        before = F.pad(last, (1, -1), value=-1)
        seen = own.gather(1, before.clamp_min(0)[..., None].expand(-1, -1, own.shape[-1]))
        started = (before >= 0)[..., None].to(self.dtype)
        recalled = self._recalled(held, valid, mask.flatten(1).shape[1])
        beside = self._beside(held, valid, layout, values)
        site = torch.cat([told, seen * started, started, *recalled, *beside], -1)
        h = self.trunk(Streams(site=site), valid, self._context(mask, labels, code)).site
        assert h is not None
        return {name: self.heads[f"field_{name}"](h[:, layout.slots(name)]) for name in self.fields}

    def log_prob(
        self,
        values: Mapping[str, Tensor],
        mask: Tensor,
        labels: Mapping[str, Tensor] | None = None,
        code: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """log p of each field's entries given all that was written before, in nats, `(B,)`."""
        raw = self(values, mask, labels, code)
        layout, _ = self.layout(mask.flatten(1).shape[1])
        valid, out = layout.valid(mask, self.fields), {}
        for name, f in self.fields.items():
            log_p = self.entries[name].conditional(raw[name]).log_prob(layout.read(name, f, values[name]))
            own = valid[:, layout.slots(name)]
            out[name] = torch.where(own, log_p, torch.zeros_like(log_p)).sum(1)
        return out

    # ------------------------------------------------------------------ writing

    @torch.no_grad()
    def write(
        self,
        mask: Tensor,
        rng: RandomSource,
        labels: Mapping[str, Tensor] | None = None,
        code: Tensor | None = None,
        how: Sharpen = PLAIN,
        given: Mapping[str, Tensor] | None = None,
        keep: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Draws all entries in order, each from its density, with what was computed before cached.

        Nothing is computed twice: samples that have written the same so far share a row of the network,
        where the trunk can, until most of them have parted.

        Arguments:
            mask: real sites.
            rng: the source of randomness.
            labels, code: as in `forward`.
            how: temperature, top-k and top-p.
            given, keep: values, and the sites `(B, *extent)` whose entries are taken from them.
        """
        trunk = self.trunk
        assert isinstance(trunk, CausalTrunk)
        layout, told = self.layout(mask.flatten(1).shape[1])
        told, valid = told.to(mask.device, self.dtype), layout.valid(mask, self.fields)
        kept = layout.valid(keep, self.fields) if keep is not None else torch.zeros_like(valid)
        labels = labels or {}
        rows = PrefixSharing.of([mask, *labels.values(), code]) if trunk.shares else PrefixSharing.own(mask)
        u = self._uniforms(layout, mask, rng)
        fields = list(self.fields.items())
        place = {name: 0 for name in self.fields}
        at = dict(
            zip(
                self.fields,
                [sum(self.entries[n].inputs for n, _ in fields[:i]) for i in range(len(fields))],
                strict=True,
            )
        )
        fixed = {n: layout.read(n, f, given[n]) for n, f in fields} if given is not None else {}
        drawn: dict[str, list[Tensor]] = {name: [] for name in self.fields}
        before = told.new_zeros(len(rows), self._held + self._told + 1)
        holding = told.new_zeros(len(rows), layout.sites, self._held)
        one, here = rows.first, valid[rows.first]
        told_once = {k: v[one] for k, v in labels.items()}, None if code is None else code[one]
        memory = trunk.begin(here, self._context(mask[one], *told_once))
        near: list[Tensor] = []
        tied = self._tied(layout) if self.graph_hops and layout.sites > 1 else len(layout)
        for slot, k in enumerate(layout.field.tolist()):
            name, own = fields[k][0], self.entries[fields[k][0]]
            ends = [int(layout.site[slot]), int(layout.other[slot])]
            recalled = [_damped(holding[:, end]) for end in ends if self.site_state]
            if slot == tied:
                ties = {
                    n: layout.write(n, f, torch.stack(drawn[n], 1), mask) for n, f in fields if f.axes == 2
                }
                near = [hop[rows.first] for hop in self._near(ties)]
            beside = [_damped((hop[:, ends[0], None] @ holding)[:, 0]) for hop in near]
            beside = beside or [holding.new_zeros(len(rows), self._held)] * self.graph_hops
            h = trunk.extend(
                torch.cat([told[slot].expand(len(rows), -1), before, *recalled, *beside], 1), memory
            )
            raw = self.heads[f"field_{name}"](h)
            x = own.conditional(raw if rows.single else raw[rows.row]).draw(u[:, slot], how)
            if fixed:
                x = torch.where(kept[:, slot], fixed[name][:, place[name]].to(x.dtype), x)
            drawn[name].append(x)
            place[name] += 1
            if not rows.single:
                parted, came = rows.parted(torch.where(valid[:, slot], x, torch.zeros_like(x)))
                if len(parted) > len(rows):
                    memory, before, holding = trunk.pick(memory, came), before[came], holding[came]
                    here, near = here[came], [hop[came] for hop in near]
                    rows = parted
            now = torch.zeros_like(before)
            entries = x if rows.single else x[rows.first]
            now[:, at[name] : at[name] + own.inputs] = own.embed_entry(entries).to(self.dtype)
            now[:, self._held : -1], now[:, -1] = told[slot], 1.0
            before = torch.where(here[:, slot, None], now, before)
            for end in set(ends):
                holding[:, end] += now[:, : self._held] * here[:, slot, None]
        return {n: layout.write(n, f, torch.stack(drawn[n], 1), mask) for n, f in fields if drawn[n]} | {
            n: f.project(_empty(f, mask), mask) for n, f in fields if not drawn[n]
        }

    def _uniforms(self, layout: GenerationOrder, mask: Tensor, rng: RandomSource) -> Tensor:
        """Two uniforms per slot, `(B, T, 2)`, that depend on the sample and on its own slots alone."""
        valid = layout.valid(mask, self.fields)
        counts = valid.sum(1)
        longest = int(counts.max()) if len(counts) else 0
        own = torch.arange(longest, device=mask.device) < counts[:, None]
        u = rng.uniform(own, (-1, 2))
        index = (valid.cumsum(1) - 1).clamp_min(0)
        return u.gather(1, index[..., None].expand(-1, -1, 2))


def _damped(x: Tensor) -> Tensor:
    """Sums of many entries at about unit scale, with few of them still told apart."""
    return x.sign() * x.abs().log1p()


def _empty(field: Field, mask: Tensor) -> Tensor:
    """The values of a field that has no slots, as pairs have none on a single site."""
    n = mask.flatten(1).shape[1]
    return torch.zeros(len(mask), n, n, dtype=torch.long, device=mask.device)
