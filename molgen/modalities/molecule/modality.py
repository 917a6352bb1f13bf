"""`MoleculeModality`: molecules in 3D with explicit hydrogens, formal charges and bonds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Self, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.conditions import Condition
from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Angles, Categorical, Continuous, Field, Positions
from molgen.core.modality import Modality, View, bounds
from molgen.core.records import Records, evenly
from molgen.core.sizes import Sizes
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.modalities.chemistry.parse import flat, sanitised
from molgen.modalities.chemistry.properties import measure, scalars, scales
from molgen.modalities.molecule.codec import Mol, assemble, canonical, kinds, positions_of
from molgen.modalities.molecule.internal import from_internal, to_internal

ATOMS, BONDS, POSITIONS = "atoms", "bonds", "positions"
LENGTHS, ANGLES, TORSIONS = "lengths", "angles", "torsions"
TRUNKS = ("pair", "equivariant", "message")
_FIT_ON = 2000  # records that fix the scales of computed properties
_MEASURE = 400  # records that fix those of lengths and angles, which differ little between molecules

DEFAULTS = {
    "batch_size": 64,
    "lr": 1e-3,
    "solver": "ancestral",  # forgets errors of earlier steps; steadier than dpm_2m here
    "steps": 60,
    "noise_scale": 0.7,
    "restarts": 8,
    "time_density": (1.0, 1.3),  # the geometry, in the first half of time, is the harder part
    "sample_batch": 256,
}
INTERNAL = {
    "batch_size": 8,
    "lr": 2e-3,
    "sample_batch": 128,
    "decoder": "autoregressive",
    "site_state": True,  # most slots are pairs of atoms: what is bonded already decides nearly all of them
    "graph_hops": 2,  # an atom is placed from its neighbours, and beside theirs
}


@final
class MoleculeModality(Modality):
    """Molecules: `rdkit.Chem.Mol` with one conformer and explicit hydrogens.

    Views: ``cartesian`` has the element and formal charge of each atom, the kekulised order of each bond, and
    coordinates in Angstrom. The graph resolves first and the geometry after, in windows of one time.
    ``internal`` has the same graph and then, for each atom, the length, angle and torsion that place it after
    those before it (see `internal`; where a ring closes, the length of the closing bond instead of the
    angle), which do not change when the molecule moves. Atoms stand in a canonical
    order (see `codec.canonical`), which is a modelling choice: a record comes back with the same canonical
    SMILES and the same coordinates under that permutation; from ``internal``, up to a rigid motion.

    Arguments:
        atoms: element, formal charge and frequency of every class of atoms.
        bonds: frequencies of no bond, single, double and triple among pairs of atoms.
        sd: standard deviation of a centred coordinate in Angstrom.
        sizes: how many molecules of the data have each number of atoms.
        scales: mean and standard deviation of every property.
        windows: where in time the graph and the geometry change.
        internal: mean and standard deviation of the lengths in Angstrom, and of the angles in radians (and
            closing bonds), by field.

    Example:
        >>> from rdkit import Chem
        >>> water = assemble([("O", 0), ("H", 0), ("H", 0)], np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]),
        ...                  np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]))
        >>> modality = MoleculeModality()
        >>> sample = modality.encode(water, "cartesian")
        >>> sample["atoms"].tolist(), sample["positions"].shape
        ([2, 0, 0], (3, 3))
        >>> Chem.MolToSmiles(modality.decode(sample, "cartesian"))
        '[H]O[H]'
    """

    name = "molecule"
    toolkit_path = "molgen.modalities.molecule.toolkit:MoleculeToolkit"
    sizes: Sizes

    def __init__(
        self,
        atoms: Sequence[tuple[str, int, float]] | None = None,
        bonds: Sequence[float] | None = None,
        sd: float = 1.3984,
        sizes: Mapping[int | str, int] | None = None,
        scales: Mapping[str, Sequence[float]] | None = None,
        windows: Mapping[str, Sequence[float]] | None = None,
        internal: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.atoms = [(str(s), int(c), float(f)) for s, c, f in (QM9_ATOMS if atoms is None else atoms)]
        self.bonds = [float(f) for f in (QM9_BONDS if bonds is None else bonds)]
        self.sd = float(sd)
        self.sizes = Sizes(QM9_SIZES if sizes is None else sizes)
        given = QM9_SCALES if scales is None else scales
        self.scales = {str(name): (float(mean), float(sd)) for name, (mean, sd) in given.items()}
        # Tokens take twice the steps of coordinates: few may be drawn at once.
        self.windows = {"graph": (1 / 3, 1.0), "geometry": (0.0, 1 / 3)}
        for part, window in (windows or {}).items():
            if part not in self.windows:
                raise ConfigError.unknown("window", part, self.windows)
            self.windows[part] = (float(window[0]), float(window[1]))
        self.internal = dict(QM9_INTERNAL)
        for part, (mean, spread) in (internal or {}).items():
            if part not in self.internal:
                raise ConfigError.unknown("internal coordinate", part, self.internal)
            self.internal[part] = (float(mean), float(spread))
        self._class = {(symbol, charge): i for i, (symbol, charge, _) in enumerate(self.atoms)}

    @cached_property
    def views(self) -> Mapping[str, View]:
        graph, geometry = self.windows["graph"], self.windows["geometry"]
        shares = [share for _, _, share in self.atoms]
        bonded: dict[str, Field] = {
            # Several tokens are drawn at once, and the surest of them depend on each other.
            ATOMS: Categorical(len(self.atoms), marginal=shares, window=graph, order="random"),
            BONDS: Categorical(4, pairs=True, marginal=self.bonds, window=graph, weight=8.0, order="random"),
        }
        cartesian = {**bonded, POSITIONS: Positions(sd=self.sd, noise=(0.004, 6.0), window=geometry)}
        internal: dict[str, Field] = {
            **bonded,
            # Angles crowd in a tenth of the circle, and some are lengths: on the line, in units of their own
            # spread, a mixture of few components tells them apart.
            **{
                name: Continuous(1, mean=mean, sd=sd, window=geometry)
                for name, (mean, sd) in self.internal.items()
            },
            TORSIONS: Angles(1, window=geometry),
        }
        return {
            "cartesian": View("cartesian", cartesian, bijective=False, invariant=False, defaults=DEFAULTS),
            "internal": View("internal", internal, bijective=False, ordered=True, defaults=INTERNAL),
        }

    # ------------------------------------------------------------------ codec

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, Mol) or record.GetNumAtoms() == 0:
            raise DataError(f"{type(record).__name__} without atoms, expected a molecule", fix="remove it")
        xyz = positions_of(record)
        order, bonds = canonical(record)
        found = kinds(record)
        try:
            atoms = np.array([self._class[found[i]] for i in order], dtype=np.uint8)
        except KeyError as missing:
            symbol, charge = missing.args[0]
            known = ", ".join(f"{s}{c:+d}" if c else s for s, c, _ in self.atoms)
            raise DataError(
                f"atom {symbol} with charge {charge:+d}, known are {known}",
                fix="fit a new model on data with this atom, or leave the record out",
            ) from None
        graph = {ATOMS: atoms, BONDS: bonds}
        if self.view(view).name == "cartesian":
            return {**graph, POSITIONS: (xyz[order] - xyz.mean(0)).astype(np.float32)}
        values = to_internal(xyz[order], bonds)
        # What the first atoms lack stands at zero in the unit of its field.
        zeros = {**{name: mean for name, (mean, _) in self.internal.items()}, TORSIONS: 0.0}
        return graph | {
            name: np.nan_to_num(values[:, k : k + 1], nan=zeros[name])
            for k, name in enumerate((LENGTHS, ANGLES, TORSIONS))
        }

    def decode(self, sample: Sample, view: str) -> Mol:
        last = len(self.atoms) - 1  # a class that is still masked cannot be written; it becomes the last
        atoms = [self.atoms[min(int(k), last)][:2] for k in sample[ATOMS]]
        bonds = np.asarray(sample[BONDS]) % 4
        if self.view(view).name == "cartesian":
            return assemble(atoms, bonds, sample[POSITIONS])
        values = np.concatenate([sample[name] for name in (LENGTHS, ANGLES, TORSIONS)], 1)
        return assemble(atoms, bonds, from_internal(values, bonds))

    # ------------------------------------------------------------------ what the data teach

    def fit_to(self, records: Sequence[Any]) -> Self:
        atoms: Counter[tuple[str, int]] = Counter()
        bonds = np.zeros(4)
        sizes: Counter[int] = Counter()
        square, count = 0.0, 0
        for number, record in enumerate(records, 1):
            try:
                xyz = positions_of(record)
            except DataError as error:
                raise error.at(record=number) from None
            n = record.GetNumAtoms()
            atoms.update(kinds(record))
            sizes[n] += 1
            orders = Counter(round(bond.GetBondTypeAsDouble() + 0.1) for bond in record.GetBonds())
            for order, times in orders.items():
                bonds[min(order, 3)] += times
            bonds[0] += n * (n - 1) / 2 - record.GetNumBonds()
            square += float(((xyz - xyz.mean(0)) ** 2).sum())
            count += 3 * n
        if not sizes:
            raise DataError("no molecules to fit to", fix="give at least one molecule with coordinates")
        total = sum(atoms.values())
        order_of = sorted(atoms, key=lambda kind: (kind[0] != "H", kind[1] != 0, -atoms[kind], kind))
        return type(self)(
            [(symbol, charge, round(atoms[symbol, charge] / total, 7)) for symbol, charge in order_of],
            [round(float(share), 6) for share in bonds / max(bonds.sum(), 1)],
            round(math.sqrt(square / max(count, 1)), 4) or 1.0,
            dict(sorted(sizes.items())),
            scales([_skeleton(record) for record in evenly(records, _FIT_ON)]) | _labels(records),
            self.windows,
            _internal(evenly(records, _MEASURE)),
        )

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        """Numbers of atoms, hydrogens included; `size=` fixes them."""
        size = fixed.pop("size", None)
        if fixed:
            raise ConfigError.unknown("size option of molecule", next(iter(fixed)), ["size"])
        return self.sizes.draw(seed, indices, size)

    def log_size(self, n: int) -> float:
        return self.sizes.log(n)

    def config(self) -> dict[str, Any]:
        return {
            "atoms": [list(kind) for kind in self.atoms],
            "bonds": list(self.bonds),
            "sd": self.sd,
            "sizes": self.sizes.config(),
            "scales": {name: list(scale) for name, scale in self.scales.items()},
            "windows": {name: list(window) for name, window in self.windows.items()},
            "internal": {name: list(scale) for name, scale in self.internal.items()},
        }

    # ------------------------------------------------------------------ network, conditions, edges

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The pair transformer; ``"equivariant"`` (e3nn) and ``"message"`` (PyG) are alternatives."""
        make: Callable[[TrunkSpec], Trunk]
        if name in (None, "pair"):
            from molgen.nn.pair import PairTransformer

            make = partial(PairTransformer, **{"ordered": True, "vectors": 8, **options})
        elif name == "equivariant":
            from molgen.nn.equivariant import EquivariantTrunk

            make = partial(EquivariantTrunk, **options)
        elif name == "message":
            from molgen.nn.message import MessageTrunk

            make = partial(MessageTrunk, **options)
        else:
            raise ConfigError.unknown("trunk of molecule", name, TRUNKS)
        from molgen.modalities.molecule.trunk import TopologicalTrunk

        return TopologicalTrunk(spec, make, slice(1, 4))  # bonds are the one field on pairs; 0 is no bond

    def causal_trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The causal transformer, narrow by default, since a molecule has hundreds of entries."""
        return super().causal_trunk(spec, name, **{"width": 96, "heads": 4, **options})

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return scalars(self.scales)

    def measure(self, record: Any, name: str) -> float:
        return measure(_skeleton(record), name)


def _skeleton(record: Mol) -> Mol:
    """The molecule without explicit hydrogens, as the properties are defined; itself if it is not valid."""
    mol = sanitised(record)
    return record if mol is None else flat(mol)


def _internal(records: Sequence[Mol]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the lengths and angles by which the atoms are placed."""
    found = [np.zeros((0, 3), np.float32)]
    for record in records:
        order, bonds = canonical(record)
        found.append(to_internal(positions_of(record)[order], bonds))
    scales = zip((LENGTHS, ANGLES), np.concatenate(found).T, strict=False)
    return {
        name: (round(mean, 4), round(sd, 4) or 0.1)
        for name, (mean, sd) in ((name, bounds(values)) for name, values in scales)
        if mean
    }


def _labels(records: Sequence[Any]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the numeric labels of all records."""
    if not isinstance(records, Records) or not records.labels:
        return {}
    found = {name: bounds(np.asarray(values, dtype=np.float64)) for name, values in records.labels.items()}
    return {name: (float(f"{mean:.6g}"), float(f"{sd:.6g}")) for name, (mean, sd) in found.items()}


# What `fit_to` gives on QM9's training set, so that an unfitted modality can be constructed and tried.
QM9_ATOMS = [
    ("H", 0, 0.5140657),
    ("C", 0, 0.3524294),
    ("O", 0, 0.0777694),
    ("N", 0, 0.0552448),
    ("N", 1, 0.0002453),
    ("O", -1, 0.000174),
    ("C", -1, 4.04e-05),
    ("N", -1, 3.09e-05),
]
QM9_INTERNAL = {LENGTHS: (1.2479, 0.1953), ANGLES: (1.9656, 0.2638)}
QM9_BONDS = [0.882161, 0.106142, 0.009928, 0.001769]
# fmt: off
QM9_SIZES = {
    3: 1, 4: 4, 5: 4, 6: 8, 7: 15, 8: 41, 9: 98, 10: 284, 11: 669, 12: 1462, 13: 2775, 14: 4840, 15: 7584,
    16: 10502, 17: 12957, 18: 13320, 19: 13808, 20: 9466, 21: 9958, 22: 3391, 23: 4841, 24: 538, 25: 1506,
    26: 48, 27: 266, 29: 25,
}
QM9_SCALES = {
    "logp": (0.312495, 0.955272), "qed": (0.46797, 0.0726485), "tpsa": (37.3031, 20.7131),
    "weight": (122.749, 7.83065),
    "homo": (-0.243361, 0.0190722), "lumo": (0.0151141, 0.0464553), "gap": (0.258474, 0.0460063),
    "mu": (2.6511, 1.48594), "alpha": (75.4141, 8.12821), "cv": (31.7033, 4.07093),
}
# fmt: on
