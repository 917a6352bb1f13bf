"""A scalar energy of samples and their noise, trained by its slope and by contrast."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from molgen.core.annealing import Partition
from molgen.core.batch import Batch
from molgen.core.capabilities import Denoising, Embedding, Langevin, PathLikelihood
from molgen.core.errors import ConfigError, MolgenWarning, UnsupportedError
from molgen.core.fields.field import per_sample
from molgen.core.rng import RandomSource, SampleRandom, stratified
from molgen.core.solvers import State, time_grid
from molgen.core.step import TRAINED, TrainingStep
from molgen.io.samples import Samples
from molgen.models.energy.base import EnergyModel
from molgen.models.energy.network import Energy, langevin
from molgen.models.options import Options, option

_FAR = 100.0
"""Gap between the energies of chains and data per site, weighted by the noise, at which training diverges."""


@final
@dataclass(frozen=True, kw_only=True)
class NeuralEnergyOptions(Options):
    """Options of `NeuralEnergy`."""

    warmup: float = option(0.7, "share of the budget before the contrast is added", ge=0, le=1)
    cd_weight: float = option(0.01, "c, the weight of the contrast", ge=0)
    chains: int = option(64, "number of persistent chains", ge=1)
    steps: int = option(60, "levels of noise in sampling", ge=1, le=1000)
    corrector_steps: int = option(
        1, "Langevin steps at each level, of which jumps of classes profit from several", ge=0
    )
    temperature: float = option(
        1.0, "factor T on the standard deviation of all sampling noise: chains follow E / T^2", ge=0
    )
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    width: int = option(128, "channels of the context vector", ge=1)


@final
class NeuralEnergy(EnergyModel, kind="neural"):
    r"""An unnormalised density :math:`e^{-E_\theta(x, t)}` of data at every level of noise.

    Training begins by the slope of the energy, which is known for noisy data, and goes on by contrast:

    .. math:: L = E |x - \sigma^2 \nabla E_\theta(x, t) - x_0|^2_{\lambda(t)}
              + c \, \bar\sigma(t) (E_\theta(x_t, t) - E_\theta(x^-_t, t))

    where :math:`x^-` are persistent chains that follow Langevin dynamics from noise to data, and over again.
    Samples come from Markov chains that see nothing but the scalar energy: noise is taken away level by
    level, with Langevin steps at each. Where little noise is left, classes are no longer relaxed: chains
    jump from class to class, as the slope of the energy proposes and Metropolis accepts.

    Arguments:
        modality: a registered name or a `Modality`.
        kind: ``"neural"``.
        view, trunk, trunk_options: see `GenerativeModel`.
        {options}

    Errors: `UnsupportedError` if the modality has no view that is denoisable.

    Source: Salimans and Ho, Should EBMs Model the Energy or the Score? (2021); Song and Ermon, Generative
    Modeling by Estimating Gradients of the Data Distribution (2019); Tieleman (2008) for persistent chains;
    Zhang et al., A Langevin-like Sampler for Discrete Distributions (2022) for jumps of classes;
    Du et al., Reduce, Reuse, Recycle (2023); Balcerak et al., Energy Matching (2025) for contrast after
    warm-up; Neal, Annealed Importance Sampling (2001).
    """

    needs: ClassVar[Mapping[str, bool]] = {"denoisable": True}
    continuous = (Denoising, Langevin, PathLikelihood)
    options_type: ClassVar[type[Options]] = NeuralEnergyOptions
    options: NeuralEnergyOptions

    def build(self) -> nn.Module:
        sizes = self.modality.draw_sizes(0, range(self.options.chains))
        return Energy(
            {name: e.continuous() for name, e in Embedding.each(self.view.fields).items()},
            self.make_trunk,
            self.conditions,
            self.options.width,
            self.modality.make_mask(sizes),
        )

    def parts(self) -> dict[str, nn.Module]:
        """``"energy"``: noisy values and their time to E."""
        return {"energy": self.trained}

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        net, mask = cast(Energy, network), batch.mask
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        t = stratified(mask, rng).clamp_min(1e-3)
        x0 = self.relaxed(batch)
        x = {k: f.add_noise(x0[k], f.standard_noise(mask, rng), t, mask) for k, f in net.fields.items()}
        clean = net.denoise(x, t, mask, labels)
        terms = {
            k: net.fields[k].weight * own.denoising_loss(clean[k], x0[k], t, mask).mean()
            for k, own in net.langevin.items()
        }
        weight = self.options.cd_weight
        if network.training and weight and step.progress >= self.options.warmup:
            gap = self._contrast(net, batch, x0, rng)
            step.log("gap", gap.detach())
            terms["contrast"] = weight * gap
        return terms

    def _contrast(self, net: Energy, batch: Batch, x0: State, rng: RandomSource) -> Tensor:
        """Energies of data less those of chains that have taken a step, at the times of the chains."""
        count = min(len(batch), len(net.times))
        first = int(rng.uniform(batch.mask, ())[0] * len(net.times))
        turn = (first + torch.arange(count, device=batch.mask.device)) % len(net.times)
        mask, t = net.chains[turn], net.times[turn]
        x = {k: getattr(net, f"chain_{k}")[turn] for k in net.fields}
        s = (t - 1 / self.options.steps).clamp_min(1e-3)
        x = self._kernel(net, x, t, s, mask, {}, rng)
        few, own = slice(None, count), batch.mask[:count]
        data = {
            k: f.add_noise(x0[k][few], f.field.standard_noise(own, rng), s, own)
            for k, f in net.walkers.items()
        }
        # Where they have arrived, chains begin anew.
        end = s <= 1e-3
        net.times[turn] = torch.where(end, torch.ones_like(s), s)
        for k, f in net.fields.items():
            fresh = f.prior(mask, rng)
            getattr(net, f"chain_{k}")[turn] = torch.where(per_sample(end, fresh), fresh, x[k])
        gap = net.noise_to_data_ratio(s) * (net(data, s, own, {}) - net(x, s, mask, {}))
        mean: Tensor = gap.mean()
        return mean

    def on_fit_end(self, logged: Mapping[str, Tensor]) -> None:
        """Warns if the chains have left the data: the energy has diverged."""
        gap = abs(float(logged.get("gap", torch.zeros(()))))
        if not gap <= _FAR * float(cast(Energy, self.trained).chains.flatten(1).sum(1).float().mean()):
            warnings.warn(
                f"energy divergence: chains and data differ by {gap:.1f} at the end of training; lower "
                "cd_weight or lr",
                MolgenWarning,
                stacklevel=2,
            )

    # ------------------------------------------------------------------ chains

    def _kernel(
        self,
        net: Energy,
        x: State,
        t: Tensor,
        s: Tensor,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        corrector_steps: int | None = None,
        heat: float = 1.0,
    ) -> State:
        r"""From time t to s: a Langevin step that takes away noise, then some that keep the level.

        The first moves by :math:`-(\sigma_t^2 - \sigma_s^2) \nabla E` and adds as much fresh noise as
        brings it to level s; the others are those of `langevin`, judged by Metropolis where classes jump.
        """
        fields = net.walkers
        jumps = torch.stack([f.jumps(s) & f.field.window.active(s) for f in fields.values()]).any(0)
        with torch.no_grad():
            clean = net.denoise(x, t, mask, labels)
            x = {k: f.reverse_step(x[k], clean[k], t, s, mask, rng, scale=heat) for k, f in fields.items()}
            for _ in range(self.options.corrector_steps if corrector_steps is None else corrector_steps):
                x = langevin(net, fields, x, s, mask, labels, rng, heat=heat, adjusted=jumps)
        return x

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        init: Batch | None = None,
        level: float = 1.0,
        *,
        steps: int | None = None,
        corrector_steps: int | None = None,
        temperature: float | None = None,
    ) -> State:
        """Annealed Langevin dynamics from noise, or from given values under some noise.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            init: values to start with, at time `level`; by default noise, at time 1.
            level: the time of the noise that is added to `init`.
            steps: levels of noise, 1 to 1000.
            corrector_steps: Langevin steps at each level.
            temperature: see the class.
        """
        o = self.resolved(steps=steps, corrector_steps=corrector_steps, temperature=temperature)
        net, heat = self._network, max(o.temperature, 1e-3)  # at 0 nothing would move
        if init is None:
            x = {k: f.tempered_prior(mask, rng, heat) for k, f in net.fields.items()}
        else:
            t = torch.full((len(mask),), level, device=mask.device)
            x0 = self.relaxed(init)
            x = {
                k: f.add_noise(x0[k], f.field.standard_noise(mask, rng), t, mask)
                for k, f in net.walkers.items()
            }
        times = level * time_grid(o.steps, net.fields, mask)
        for t, s in pairwise(times):
            # The last step leaves no noise, and nothing to correct.
            some = o.corrector_steps if bool((s > 0).any()) else 0
            x = self._kernel(net, x, t, s, mask, labels, rng, some, heat)
        return {k: e.round(x[k], mask) for k, e in Embedding.each(self.view.fields).items()}

    def sample_from(
        self, records: Sequence[Any], level: float = 0.3, seed: int = 0, **options: Any
    ) -> Samples:
        """Chains that begin at given records instead of noise.

        Arguments:
            records: domain objects.
            level: the time whose noise is added first, in (0, 1]; 1 forgets the record.
            seed: record i depends on (seed, i).
            options: as `sample` takes.
        """
        if not 0 < level <= 1:
            raise ConfigError(f"level is {level}, expected above 0 and at most 1")
        self.check_sampling(options)
        batch = self.encode(records)
        rng = SampleRandom(seed, range(len(batch)))
        labels = self.labels(batch)
        values = self.generate(batch.mask, labels, rng, init=batch, level=level, **options)
        return self.decode(batch.replace(values=values, conditions={}))

    # ------------------------------------------------------------------ energies

    @property
    def _network(self) -> Energy:
        return cast(Energy, self.trained.eval())

    @torch.no_grad()
    def energy(self, records: Sequence[Any], level: float = 0.05, batch_size: int | None = None) -> Tensor:
        """E of records, as they stand, at a little noise, `(n,)`; low where data are.

        Where one field resolves before another, it is the energy of those that resolve at this level,
        given the others.

        Arguments:
            records: domain objects.
            level: the time at which the energy is asked, in (0, 1].
            batch_size: records at a time.
        """
        out, size = [], batch_size or self.fit_options.batch_size
        for start in range(0, len(records), size):
            batch = self.encode(records[start : start + size]).trimmed()
            labels = self.labels(batch)
            t = torch.full((len(batch),), float(level))
            out.append(self._network(self.relaxed(batch), t, batch.mask, labels))
        return torch.cat(out) if out else torch.zeros(0)

    @torch.no_grad()
    def log_partition(
        self,
        *,
        size: int | None = None,
        level: float = 0.05,
        chains: int = 100,
        temperatures: int = 1000,
        step: float = 0.5,
        seed: int = 0,
    ) -> Partition:
        r"""log Z of the energy at a little noise by annealed importance sampling, with three standard errors.

        .. math:: \log Z \approx \log \frac{1}{C} \sum_c \frac{1}{p_1(x_1)}
                  \prod_k e^{E(x_k, t_{k-1}) - E(x_k, t_k)} e^{-E(x_1, t_1)}

        along levels of noise instead of temperatures, with adjusted Langevin steps that keep each.

        Arguments:
            size: number of sites; by default drawn as in the data.
            level: the time at which the energy is asked, in (0, 1).
            chains, temperatures: numbers of them.
            step: of Langevin dynamics, see `langevin`.
            seed: of the chains.

        Errors: `UnsupportedError` where fields resolve one after the other: they have no joint energy.

        Source: Neal, Annealed Importance Sampling (2001).
        """
        net = self._network
        if len({f.window for f in net.fields.values()}) > 1:
            raise UnsupportedError(
                f"view {self._view!r} of {self.modality.name!r} resolves one field after the other, so that "
                "there is no energy of all fields whose log Z could be estimated; choose another view"
            )
        sizes = self.modality.draw_sizes(seed, range(chains), **({} if size is None else {"size": size}))
        mask, rng = self.modality.make_mask(sizes), SampleRandom(seed, range(chains))
        x = {k: f.prior(mask, rng) for k, f in net.fields.items()}
        times = torch.linspace(1, level, temperatures)[:, None].expand(-1, chains)
        log_w = -net(x, times[0], mask, {})
        log_w = log_w - torch.stack(
            [p.log_prior(x[k], mask) for k, p in PathLikelihood.each(net.fields).items()]
        ).sum(0)
        for t, s in pairwise(times):
            log_w = log_w + net(x, t, mask, {}) - net(x, s, mask, {})
            x = langevin(net, net.langevin, x, s, mask, {}, rng, step)
        return Partition.of(log_w)
