"""`GraphModality`: molecules as graphs of heavy atoms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Categorical, Field
from molgen.core.modality import View
from molgen.core.sizes import Sizes
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.modalities.chemistry.modality import ConstitutionModality
from molgen.modalities.graph.defaults import ATOM_MARGINAL, BOND_MARGINAL, KINDS, SCALES, SIZES

ATOMS, BONDS = "atoms", "bonds"
_TRUNKS = ("pair", "message")

DEFAULTS = {
    "batch_size": 64,
    "lr": 1e-3,
    "solver": "ancestral",
    "steps": 60,
    "restarts": 4,
    "sample_batch": 256,
    "decoder": "autoregressive",
    "site_state": True,  # most slots are pairs of atoms, which the valences left decide
    "pair_order": "nearest",  # a ring that closed may have filled the atom before
}
"""Steps enough that few bonds are drawn at once: a jump of one cannot see the others of its step."""


@final
class GraphModality(ConstitutionModality):
    """Molecules as graphs: `rdkit.Chem.Mol` without conformer; heavy atoms are sites, bonds live on pairs.

    Kinds of atoms are elements with a charge; bonds are none, single, double or triple of the kekulised
    graph. Hydrogens follow from the valences. Stereochemistry and isotopes are dropped. Atoms stand in the
    order of the canonical SMILES, a modelling choice that lets a network with positions learn the traversal.

    Arguments:
        kinds: the kinds of atoms, e.g. ``["C", "N+"]``, or ``"CH2"`` where no valence implies the hydrogens
            (radicals, some of phosphorus); the default is QM9's.
        sizes: histogram of the number of heavy atoms.
        marginals: frequencies of the kinds and of the bond classes (over pairs) in the data, by field.
        properties: mean and standard deviation of every property and label that can be a condition.
        windows: the part of time in which each field changes.
        noise: ``"mask"`` or ``"marginal"``.

    Example:
        >>> from rdkit import Chem
        >>> modality = GraphModality()
        >>> sample = modality.encode(Chem.MolFromSmiles("c1ccoc1"), "graph")
        >>> sample["atoms"].shape, sample["bonds"].shape
        ((5,), (5, 5))
        >>> Chem.MolToSmiles(modality.decode(sample, "graph"))
        'c1ccoc1'
    """

    name = "graph"
    toolkit_path = "molgen.modalities.graph.toolkit:GraphToolkit"
    form = "graph"

    def __init__(
        self,
        kinds: Sequence[str] = KINDS,
        sizes: Mapping[Any, int] | None = None,
        marginals: Mapping[str, Sequence[float]] | None = None,
        properties: Mapping[str, Sequence[float]] | None = None,
        windows: Mapping[str, Sequence[float]] | None = None,
        noise: Literal["mask", "marginal"] = "mask",
    ) -> None:
        self.kinds = list(kinds)
        if not self.kinds or len(set(self.kinds)) != len(self.kinds):
            raise ConfigError("kinds: expected distinct kinds of atoms, at least one")
        if marginals is None and self.kinds == list(KINDS):
            marginals = {ATOMS: ATOM_MARGINAL, BONDS: BOND_MARGINAL}
        self.marginals = {k: [float(p) for p in v] for k, v in (marginals or {}).items()}
        self.sizes = Sizes(SIZES if sizes is None else sizes)
        self.properties = {k: (float(v[0]), float(v[1])) for k, v in (properties or SCALES).items()}
        self.windows = {ATOMS: (0.0, 1.0), BONDS: (0.0, 1.0)}
        for name, window in (windows or {}).items():
            if name not in self.windows:
                raise ConfigError.unknown("window of field", name, self.windows)
            self.windows[name] = (float(window[0]), float(window[1]))
        self.noise: Literal["mask", "marginal"] = noise
        self._codes = {kind: i for i, kind in enumerate(self.kinds)}

    @cached_property
    def views(self) -> Mapping[str, View]:
        atoms = Categorical(
            len(self.kinds),
            marginal=self.marginals.get(ATOMS),
            noise=self.noise,
            window=self.windows[ATOMS],
        )
        bonds = Categorical(
            4,
            pairs=True,
            marginal=self.marginals.get(BONDS),
            noise=self.noise,
            window=self.windows[BONDS],
            weight=4.0,  # a molecule has four times as many pairs as atoms, and they are as hard
        )
        fields: dict[str, Field] = {ATOMS: atoms, BONDS: bonds}
        return {"graph": View("graph", fields, bijective=False, ordered=True, defaults=DEFAULTS)}

    def encode(self, record: Any, view: str) -> Sample:
        from molgen.modalities.graph.codec import to_arrays

        kinds, bonds = to_arrays(checked(record))
        try:
            codes = [self._codes[kind] for kind in kinds]
        except KeyError as missing:
            raise DataError(
                f"an atom {missing.args[0]}, expected one of {', '.join(self.kinds)}",
                fix="leave the record out, or fit the modality on data that has it",
            ) from None
        return {ATOMS: np.array(codes, np.uint8), BONDS: bonds}

    def decode(self, sample: Sample, view: str) -> Any:
        from molgen.modalities.graph.codec import to_mol

        last = len(self.kinds) - 1
        return to_mol([self.kinds[min(i, last)] for i in sample[ATOMS].tolist()], np.asarray(sample[BONDS]))

    def fit_to(self, records: Sequence[Any]) -> Self:
        """The modality with the kinds of atoms, sizes, frequencies and property scales of these molecules."""
        from molgen.modalities.chemistry.properties import scales
        from molgen.modalities.graph.codec import to_arrays

        kinds: Counter[str] = Counter()
        sizes: Counter[int] = Counter()
        orders = np.zeros(4)
        for i, record in enumerate(records):
            try:
                found, bonds = to_arrays(checked(record))
            except DataError as error:
                raise error.at(record=i + 1) if error.record is None else error from None
            kinds.update(found)
            sizes[len(found)] += 1
            orders += np.bincount(bonds[np.triu_indices(len(found), 1)], minlength=4)
        if not kinds:
            raise DataError("no records to fit on", fix="give at least one molecule")
        names = [kind for kind, _ in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))]
        marginals = {ATOMS: _shares([kinds[k] for k in names]), BONDS: _shares(orders.tolist())}
        return type(self)(names, sizes, marginals, scales(records), self.windows, self.noise)

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        if set(fixed) - {"size"}:
            raise ConfigError.unknown("fixed size", sorted(set(fixed) - {"size"})[0], ["size"])
        return self.sizes.draw(seed, indices, fixed.get("size"))

    def config(self) -> dict[str, Any]:
        return {
            "kinds": self.kinds,
            "sizes": self.sizes.config(),
            "marginals": self.marginals,
            "properties": {k: list(v) for k, v in self.properties.items()},
            "windows": {k: list(v) for k, v in self.windows.items()},
            "noise": self.noise,
        }

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The pair transformer with positions, ``"pair"``, or message passing, ``"message"``."""
        if name not in (None, *_TRUNKS):
            raise ConfigError.unknown("trunk of graph", name, _TRUNKS)
        if name == "message":
            from molgen.nn.message import MessageTrunk

            return MessageTrunk(spec, **options)
        from molgen.nn.pair import PairTransformer

        return PairTransformer(spec, **{"ordered": True, **options})


def checked(record: Any) -> Any:
    """The record; `DataError` unless it is a molecule of RDKit."""
    from rdkit.Chem import Mol

    if not isinstance(record, Mol):
        raise DataError(
            f"a record of type {type(record).__name__}, expected rdkit.Chem.Mol",
            fix="parse it with rdkit.Chem.MolFromSmiles",
        )
    return record


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    if not total:  # molecules of one atom have no pairs
        return [round(1 / len(counts), 5)] * len(counts)
    return [float(f"{c / total:.5g}") for c in counts]
