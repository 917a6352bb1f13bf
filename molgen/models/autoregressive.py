"""AutoregressiveModel: one entry after the other, each given all before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Entries
from molgen.core.densities import Sharpen
from molgen.core.errors import ConfigError, DataError
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource, SampleRandom
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.wrappers import Predictor
from molgen.core.wrappers.order import PairOrder
from molgen.io.samples import Samples
from molgen.models.base import GenerativeModel
from molgen.models.options import Options, option


@final
@dataclass(frozen=True, kw_only=True)
class AutoregressiveOptions(Options):
    """Options of `AutoregressiveModel`."""

    order: str | tuple[int, ...] = option(
        "forward", "of the sites: `forward`, `backward`, `columns`, or on a grid a permutation"
    )
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    temperature: float = option(1.0, "of draws, see `Sharpen`", gt=0, lt=math.inf)
    top_k: int = option(0, "number of most probable classes to draw from; 0 is all", ge=0)
    top_p: float = option(1.0, "probability of the most probable classes to draw from", gt=0, le=1)
    real_temperature: float | None = option(
        None, "temperature of numbers", gt=0, lt=math.inf, derived="that of classes"
    )
    width: int = option(128, "channels of the context vector", ge=1)
    site_state: bool = option(
        False, "whether an entry sees at once all that is written at its own sites", from_view=True
    )
    graph_hops: int = option(
        0, "up to how many bonds away an entry sees what is written", ge=0, from_view=True
    )
    pair_order: PairOrder = option(
        "first",
        "whether pairs of a site start with the first site, or with the one written before it",
        from_view=True,
    )

    def sharpen(self) -> Sharpen:
        """How densities are changed before a draw."""
        return Sharpen(self.temperature, self.top_k, self.top_p, self.real_temperature)


@final
class AutoregressiveModel(GenerativeModel):
    r"""The chain rule over the entries of a sample, in a declared order of its sites.

    .. math:: p(x) = p(n) \prod_t p_\theta(x_t | x_{<t}, n)

    An entry is a character, a pixel, an atom, a bond, an angle; classes have a softmax, numbers a mixture.
    Training minimises -log p, which is exact; sampling writes one entry at a time and computes nothing
    twice. Where several sequences write the same object (a graph, a molecule), log p of one of them is a
    lower bound of the object's.

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`; the trunk is the modality's causal one.
        {options}

    Errors: `UnsupportedError` if the modality has no view that is ordered.

    Source: Larochelle and Murray, The Neural Autoregressive Distribution Estimator (2011); van den Oord et
    al., Pixel Recurrent Neural Networks (2016); Radford et al., Improving Language Understanding by
    Generative Pre-Training (2018).

    Example:
        >>> from molgen import AutoregressiveModel
        >>> model = AutoregressiveModel("smiles", trunk_options={"width": 24, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> [text[:2] for text in model.complete("CC", n=2, seed=0)]
        ['CC', 'CC']
    """

    family: ClassVar[str] = "autoregressive"
    needs: ClassVar[Mapping[str, bool]] = {"ordered": True, "invariant": True}
    capabilities = (Entries,)
    likelihood = "exact"
    options_type: ClassVar[type[Options]] = AutoregressiveOptions
    options: AutoregressiveOptions

    def __init__(self, modality: str | Modality, **arguments: Any) -> None:
        super().__init__(modality, **arguments)
        self.likelihood = self._access

    @property
    def _access(self) -> str:
        """A bound where other sequences write the same object."""
        return "exact" if self.view.bijective else "lower bound"

    def build(self) -> nn.Module:
        self.likelihood = self._access  # data tell whether their view loses anything
        return Predictor(
            self.view.fields,
            self.make_trunk,
            self.conditions,
            extent=self.modality.extent,
            order=self.options.order,
            width=self.options.width,
            site_state=self.options.site_state,
            graph_hops=self.options.graph_hops,
            pair_order=self.options.pair_order,
        )

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        """-log p of each field per site of the batch, so that terms do not grow with the samples."""
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        sites = batch.sizes.sum().clamp_min(1)
        log_p = self._predictor(network).log_prob(batch.values, batch.mask, labels)
        return {name: -value.sum() / sites for name, value in log_p.items()}

    @staticmethod
    def _predictor(network: nn.Module) -> Predictor:
        assert isinstance(network, Predictor)
        return network

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        given: Mapping[str, Tensor] | None = None,
        keep: Tensor | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        real_temperature: float | None = None,
    ) -> dict[str, Tensor]:
        """Writes samples entry by entry.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            given, keep: values, and the sites whose entries are taken from them.
            temperature, top_k, top_p, real_temperature: see `Sharpen`.
        """
        how = self.resolved(
            temperature=temperature, top_k=top_k, top_p=top_p, real_temperature=real_temperature
        ).sharpen()
        return self._predictor(self.trained).write(mask, rng, labels, how=how, given=given, keep=keep)

    @torch.no_grad()
    def complete(
        self,
        record: Any,
        n: int = 1,
        seed: int = 0,
        sites: int | None = None,
        size: int | None = None,
        **options: Any,
    ) -> Samples:
        """Draws samples that begin as a record does.

        Arguments:
            record: a domain object; a prefix of a string is one.
            n: how many.
            seed: of the draws.
            sites: how many sites of the record are kept, first ones first in the declared order; all by
                default.
            size: number of sites of the samples; by default drawn from the data's sizes, given that it
                is not less than what is kept (on a grid all have the grid's size).
            options: as `sample` takes.

        Errors: `DataError` if the record cannot be encoded or is longer than every known size.

        Returns: a list of n domain objects.
        """
        self.check_sampling(options)
        prefix = self.encode([record])
        kept = int(prefix.sizes[0]) if sites is None else sites
        if not 0 <= kept <= int(prefix.sizes[0]):
            raise ConfigError(
                f"sites is {kept}, expected 0 to {int(prefix.sizes[0])}, the sites of the record"
            )
        sizes = [size] * n if size is not None else self._sizes(n, seed, kept)
        if min(sizes, default=kept) < kept:
            raise ConfigError(f"size is {size}, expected at least the {kept} sites that are kept")
        mask = self.modality.make_mask(sizes)
        whole = mask.flatten(1).shape[1]
        network = self._predictor(self.trained.eval())
        layout, _ = network.layout(whole)
        first = list(dict.fromkeys(layout.site.tolist()))[:kept]
        keep = torch.zeros(n, whole, dtype=torch.bool)
        keep[:, first] = True
        given = {
            k: self._padded(k, v, whole).expand(n, *[-1] * (v.dim() - 1)) for k, v in prefix.values.items()
        }
        values = self.generate(
            mask, {}, SampleRandom(seed, range(n)), given=given, keep=keep.reshape(mask.shape), **options
        )
        return self.decode(Batch(values, mask, {}, self.view.pairs))

    def _sizes(self, n: int, seed: int, least: int) -> list[int]:
        sizes: list[int] = []
        for start in range(0, 1000 * max(n, 1), max(n, 64)):
            drawn = self.modality.draw_sizes(seed, range(start, start + max(n, 64)))
            sizes += [size for size in drawn if size >= least]
            if len(sizes) >= n:
                return sizes[:n]
        raise DataError(
            f"the prefix has {least} sites, and the data are hardly ever that long",
            fix="give a shorter prefix, or size=",
        )

    def _padded(self, name: str, x: Tensor, sites: int) -> Tensor:
        """Values of one record with padding up to so many sites."""
        if self.modality.extent is not None:
            return x
        axes = 2 if name in self.view.pairs else 1
        out = x.new_zeros(1, *(sites,) * axes, *x.shape[1 + axes :])
        out[(slice(None), *(slice(x.shape[1]),) * axes)] = x
        return out

    # ------------------------------------------------------------------ likelihood

    def log_density(self, batch: Batch, rng: RandomSource) -> Tensor:
        """log p(values | size), exact for the sequence."""
        labels = self.labels(batch)
        log_p = self._predictor(self.trained).log_prob(batch.values, batch.mask, labels)
        return torch.stack(list(log_p.values())).sum(0)
