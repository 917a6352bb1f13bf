"""FlowModel: noise carried to data by a map that can be followed both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.errors import ConfigError, UnsupportedError
from molgen.core.modality import Modality
from molgen.core.noise import Noise, SampleNoise
from molgen.models.base import GenerativeModel
from molgen.models.flow.continuous import ContinuousKind
from molgen.models.flow.coupling import CouplingKind
from molgen.models.flow.invertible import Invertible
from molgen.models.flow.kind import Kind
from molgen.models.flow.nice import NiceKind

KINDS: Mapping[str, type[Kind]] = {
    "continuous": ContinuousKind,
    "coupling": CouplingKind,
    "nice": NiceKind,
}


@final
class FlowModel(GenerativeModel):
    r"""A normalizing flow: a map between data and noise, with a density.

    .. math:: \log p(x) = \log p(z) + \log |\det \partial z / \partial x|

    Kinds: ``"continuous"`` follows a differential equation that is trained by flow matching;
    ``"coupling"`` is a bijection of rational-quadratic splines and mixings of channels; ``"nice"`` one of
    additive couplings. The last two read off the density in one pass, and need a view whose values do not
    change when the object moves; discrete values enter as reals with noise, which gives a lower bound.

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`.
        kind: ``"continuous"``, ``"coupling"`` or ``"nice"``.
        pairing: whether noise is paired with data by optimal transport (continuous).
        solver: default solver, one of ``euler, heun, dpm_2m`` (continuous).
        steps: default number of steps, 1 to 1000 (continuous).
        layers: number of couplings, 4 (coupling: at each resolution of a grid).
        bins: bins of a spline, 8 (coupling).
        bound: splines are the identity beyond so many standard deviations, 5 (coupling).
        scales: resolutions of a grid at most, 2 (coupling).
        dequantization: where in its cell a discrete value lies: ``"uniform"``, or learned with the rest,
            ``"variational"`` (coupling).
        hidden: units of each hidden layer where samples fill one grid, 128 (nice; 1000 as published).
        temperature: factor on the spread of the noise that samples are made from.
        label_dropout: share of training samples whose label is withheld.
        width: channels of the context vector.

    Errors: `ConfigError` for an option that is not of this kind; `UnsupportedError` if no view suits it.

    Source: see the kinds, `molgen.models.flow.continuous`, `coupling` and `nice`.

    Example:
        >>> from molgen import FlowModel
        >>> model = FlowModel("smiles", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0, steps=2)), model.likelihood
        (3, 'lower bound')
        >>> model = FlowModel("smiles", kind="nice", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> z, log_det = model.forward(["CCO"])
        >>> model.inverse(z, sizes=[3])
        ['CCO']
    """

    family: ClassVar[str] = "flow"
    smallest = {
        "": {},
        "coupling": {"kind": "coupling", "layers": 4},
        "nice": {"kind": "nice", "layers": 4},
    }
    likelihood = "lower bound"

    def __init__(
        self,
        modality: str | Modality,
        *,
        view: str | None = None,
        trunk: str | None = None,
        trunk_options: Mapping[str, Any] | None = None,
        kind: Literal["continuous", "coupling", "nice"] = "continuous",
        pairing: bool | None = None,
        solver: str | None = None,
        steps: int | None = None,
        layers: int | None = None,
        bins: int | None = None,
        bound: float | None = None,
        scales: int | None = None,
        dequantization: Literal["uniform", "variational"] | None = None,
        hidden: int | None = None,
        temperature: float | None = None,
        label_dropout: float = 0.1,
        width: int = 128,
    ) -> None:
        if kind not in KINDS:
            raise ConfigError.unknown("kind", kind, KINDS)
        self._kind = KINDS[kind](self)
        self.needs, self.sampling = self._kind.needs, self._kind.sampling
        self.scoring = self._kind.scoring
        options = {
            "pairing": pairing,
            "solver": solver,
            "steps": steps,
            "layers": layers,
            "bins": bins,
            "bound": bound,
            "scales": scales,
            "dequantization": dequantization,
            "hidden": hidden,
            "temperature": temperature,
        }
        given = {name: value for name, value in options.items() if value is not None}
        self._known(given, self._kind.defaults, "option")
        super().__init__(
            modality,
            view,
            trunk,
            trunk_options,
            kind=kind,
            **{**self._kind.defaults, **given},
            label_dropout=label_dropout,
            width=width,
        )
        self._kind.check(given)
        self.likelihood = self._kind.likelihood

    def _known(self, given: Mapping[str, Any], names: Mapping[str, Any] | Sequence[str], noun: str) -> None:
        """Refuses an option that is not of this kind."""
        kind = next(k for k, v in KINDS.items() if type(self._kind) is v)
        for name in given:
            if name not in names:
                raise ConfigError.unknown(f"{noun} of a flow of kind {kind!r}", name, names)

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.sampling))

    def build(self) -> nn.Module:
        return self._kind.build()

    def losses(self, network: nn.Module, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        return self._kind.losses(network, batch, noise)

    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], noise: Noise, **options: Any
    ) -> dict[str, Tensor]:
        """Noise carried to values; `temperature`, and `steps` and `solver` of the continuous kind."""
        self._known(options, self._kind.sampling, "sampling option")
        return self._kind.generate(mask, labels, noise, **options)

    def log_density(self, batch: Batch, noise: Noise, **options: Any) -> Tensor:
        """log p(values | size); `steps`, `probes`, `exact` (continuous), or `draws` of a bound's noise."""
        self._known(options, self._kind.scoring, "scoring option")
        return self._kind.log_density(batch, noise, **options)

    # ------------------------------------------------------------------ codes

    @property
    def _bijection(self) -> Invertible:
        if not isinstance(self._kind, Invertible):
            raise UnsupportedError(
                "a flow of kind 'continuous' has no bijection in closed form; use log_prob and sample, or "
                "kind='coupling'"
            )
        return self._kind

    @torch.no_grad()
    def forward(self, records: Sequence[Any], seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        r"""The noise that records are made from.

        Discrete values are dequantised; then :math:`\log p(x)` is bounded, else given, by the mean of
        :math:`\log p(z)` plus the second part.

        Arguments:
            records: domain objects.
            seed: of the dequantisation.

        Errors: `UnsupportedError` for the continuous kind.

        Returns: z of every field, `(n, ..., cells)`, and the log-volume that a record fills in units of
        its z's, `(n,)`.
        """
        batch = self.encode(records)
        labels = self.told(batch)
        noise = SampleNoise(seed, range(len(batch)))
        self.trained.eval()
        return self._bijection.encode(self.trained, batch, labels, noise)

    @torch.no_grad()
    def inverse(
        self, z: Mapping[str, Tensor], sizes: Sequence[int], condition: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Domain objects from noise; `inverse(*)` of what `forward` gave are the same records.

        Arguments:
            z: of every field, `(n, ..., cells)`, padded to the largest size.
            sizes: number of sites of each.
            condition: values of the labels that the model was trained with.

        Errors: `UnsupportedError` for the continuous kind, `ConfigError` for z of another shape.
        """
        mask = self.modality.template(sizes)
        given, _ = self._wanted(condition or {})
        labels = {k: torch.full((len(mask),), v) for k, v in given.items()}
        self.trained.eval()
        values = self._bijection.decode(self.trained, z, mask, labels)
        return self.modality.decode_all(Batch(values, mask, {}, self.view.pairs), self._view)
