"""FlowModel: noise carried to data by a map that can be followed both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from molgen.core.errors import UnsupportedError
from molgen.io.samples import Samples
from molgen.models.base import GenerativeModel


class FlowModel(GenerativeModel):
    r"""A normalizing flow: a map between data and noise, with a density.

    .. math:: \log p(x) = \log p(z) + \log |\det \partial z / \partial x|

    Kinds: ``"continuous"`` follows a differential equation that is trained by flow matching;
    ``"coupling"`` is a bijection of rational-quadratic splines and mixings of channels; ``"nice"`` one of
    additive couplings. The last two read off the density in one pass, and need a view whose values do not
    change when the object moves; discrete values enter as reals with noise, which gives a lower bound.

    Arguments:
        modality: a registered name or a `Modality`.
        kind: ``"continuous"`` for `ContinuousFlow`, ``"coupling"`` for `CouplingFlow`, ``"nice"`` for
            `NICE`.
        options: those of the kind; see there.

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
    kind: ClassVar[str] = "continuous"
    kinds: ClassVar[dict[str, type[Any]]] = {}
    likelihood = "lower bound"

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
        raise self._no_bijection()

    def inverse(
        self, z: Mapping[str, Tensor], sizes: Sequence[int], condition: Mapping[str, Any] | None = None
    ) -> Samples:
        """Domain objects from noise; `inverse(*)` of what `forward` gave are the same records.

        Arguments:
            z: of every field, `(n, ..., cells)`, padded to the largest size.
            sizes: number of sites of each.
            condition: values of the labels that the model was trained with.

        Errors: `UnsupportedError` for the continuous kind, `ConfigError` for z of another shape.
        """
        raise self._no_bijection()

    def _no_bijection(self) -> UnsupportedError:
        return UnsupportedError(
            f"a flow of kind {self.kind!r} has no bijection in closed form; use log_prob and "
            "sample, or kind='coupling'"
        )
