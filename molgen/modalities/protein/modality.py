"""`ProteinModality`: backbones of one chain as a CA trace, in space or as angles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np
import torch

from molgen.core.batch import Batch, Sample, split
from molgen.core.conditions import Condition, Scalar
from molgen.core.errors import ConfigError, DataError, UnsupportedError
from molgen.core.fields import Angles, Categorical, Positions
from molgen.core.modality import Modality, View
from molgen.core.records import Records
from molgen.core.rng import Key, RandomSource, generator
from molgen.core.trunk import Trunk, TrunkSpec

NM = 0.1
"""Nanometres per Angstrom."""

INTERNAL = {"batch_size": 16, "lr": 1e-3, "sample_batch": 32, "decoder": "autoregressive"}
DEFAULTS = {
    "batch_size": 4,
    "lr": 1e-3,
    "solver": "ancestral",
    "steps": 60,
    "noise_scale": 0.8,  # fresh noise in full leaves helices unformed; at half of it chains collapse
    "restarts": 14,  # of the last Angstrom, which part chains that run into each other
    "restart_from": 0.28,
    "sample_batch": 16,
}
FOLDED = {
    **DEFAULTS,
    "steps": 90,
    "restarts": 0,  # would draw secondary structure and pairing again as well
    "self_condition": True,
    "time_density": (1.3, 1.6),  # folds are decided at middling noise
}
PAIRING, FOLDING = 0.88, 0.65
"""The times at which the secondary structure is settled, and then the pairing of strands."""


@final
class ProteinModality(Modality):
    """Protein backbones: one chain of residues with the atoms N, CA, C and O.

    Views: ``"cartesian"`` has the field `ca`, positions of the CA atoms in nm. ``"folded"`` has besides the
    fields `structure`, whether each residue is in a coil, a helix or a strand, and `bridges`, which residues
    are paired in a sheet, and in which sense; they resolve in this order before `ca`. ``"internal"`` has the
    field `angles`, the virtual bond angle theta and torsion tau that place each residue after those before
    it, at bonds of 3.80 Angstrom. N, C and O are rebuilt from the CA trace.

    Arguments:
        sizes: chains per number of residues.
        sd: standard deviation of a centred CA coordinate, in nm.
        draw: shortest and longest chain that `draw_sizes` draws, if the data reach from one to the other;
            else all sizes of the data are drawn.
        helix, strand: mean and standard deviation of the contents.

    Example:
        >>> modality = ProteinModality()
        >>> list(modality.views), modality.draw_sizes(0, [0], length=100)
        (['cartesian', 'folded', 'internal'], [100])
    """

    name = "protein"
    toolkit_path = "molgen.modalities.protein.toolkit:ProteinToolkit"
    size_options = ("length",)

    def __init__(
        self,
        sizes: Mapping[Any, int] | None = None,
        sd: float = 0.803,
        draw: Sequence[int] = (64, 128),
        helix: Sequence[float] = (0.33, 0.24),
        strand: Sequence[float] = (0.28, 0.19),
    ) -> None:
        counts = {n: 1 for n in range(64, 129)} if sizes is None else sizes
        self.sizes = {int(n): int(count) for n, count in sorted(counts.items(), key=lambda x: int(x[0]))}
        if len(draw) != 2 or not 1 <= draw[0] <= draw[1]:
            raise ConfigError(f"draw={tuple(draw)}: expected the shortest and the longest length")
        self.sd, self.draw = float(sd), (int(draw[0]), int(draw[1]))
        self.helix, self.strand = (float(helix[0]), float(helix[1])), (float(strand[0]), float(strand[1]))
        self._views = {
            "cartesian": View(
                "cartesian",
                {"ca": Positions(sd=self.sd, noise=_NOISE)},
                bijective=False,
                invariant=False,
                defaults=DEFAULTS,
            ),
            "folded": View(
                "folded",
                {
                    "structure": Categorical(
                        3, marginal=self._shares, window=(PAIRING, 1.0), weight=0.5, order="random"
                    ),
                    "bridges": Categorical(
                        3,
                        pairs=True,
                        marginal=_BRIDGES,
                        window=(FOLDING, PAIRING),
                        weight=16.0,  # nearly all pairs are easy, and the loss is their mean
                        order="random",
                    ),
                    "ca": Positions(sd=self.sd, noise=_NOISE, window=(0.0, FOLDING)),
                },
                bijective=False,
                invariant=False,
                defaults=FOLDED,
            ),
            "internal": View(
                "internal",
                {"angles": Angles(2)},
                bijective=False,
                ordered=True,
                defaults=INTERNAL,
            ),
        }

    @property
    def views(self) -> Mapping[str, View]:
        return self._views

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {"helix": Scalar("helix", *self.helix), "strand": Scalar("strand", *self.strand)}

    def config(self) -> dict[str, Any]:
        return {
            "sizes": {str(n): count for n, count in self.sizes.items()},
            "sd": self.sd,
            "draw": list(self.draw),
            "helix": list(self.helix),
            "strand": list(self.strand),
        }

    @property
    def _shares(self) -> list[float]:
        """Frequencies of coil, helix and strand in the data."""
        helix, strand = self.helix[0], self.strand[0]
        return [max(1 - helix - strand, 0.01), max(helix, 0.01), max(strand, 0.01)]

    # ------------------------------------------------------------------ codec

    def encode(self, record: Any, view: str) -> Sample:
        from molgen.modalities.protein.backbone import coordinates
        from molgen.modalities.protein.geometry import to_internal
        from molgen.modalities.protein.secondary import assign, bridges

        atoms, name = coordinates(record), self.view(view).name
        ca = atoms[:, 1].astype(np.float64)
        if len(ca) == 0:
            raise DataError("a chain without residues", fix="give at least one complete residue")
        if not np.isfinite(ca).all():
            raise DataError("coordinates that are not finite", fix="remove the residue or the record")
        if name == "internal":
            return {"angles": to_internal(ca).astype(np.float32)}
        positions = {"ca": ((ca - ca.mean(0)) * NM).astype(np.float32)}
        if name == "cartesian":
            return positions
        return {"structure": assign(atoms).astype(np.uint8), "bridges": bridges(atoms), **positions}

    def decode(self, sample: Sample, view: str) -> Any:
        return self._build([self._trace(sample, view)])[0]

    def decode_all(self, batch: Batch, view: str, rng: RandomSource | None = None) -> list[Any]:
        return self._build([self._trace(sample, view) for sample in split(batch)])

    def _trace(self, sample: Sample, view: str) -> np.ndarray:
        from molgen.modalities.protein.geometry import from_internal

        if self.view(view).name == "internal":
            return from_internal(sample["angles"].astype(np.float64))
        return np.asarray(sample["ca"], np.float64) / NM

    @staticmethod
    def _build(traces: list[np.ndarray]) -> list[Any]:
        from molgen.modalities.protein.backbone import Backbone
        from molgen.modalities.protein.rebuild import rebuild

        return [
            Backbone("molgen", atoms.astype(np.float32), bfactor=np.minimum(distance, 99.0), drawn=True)
            for atoms, distance in rebuild(traces)
        ]

    # ------------------------------------------------------------------ what the data say

    def fit_to(self, records: Sequence[Any]) -> Self:
        from molgen.modalities.protein.backbone import trace

        traces = [trace(record) for record in records]
        if not traces:
            raise DataError("no chains", fix="give at least one")
        sizes, counts = np.unique([len(ca) for ca in traces], return_counts=True)
        drawn = _drawn(dict(zip(sizes.tolist(), counts.tolist(), strict=True)), self.draw)
        usual = [ca for ca in traces if len(ca) in drawn]
        squares = sum(float(((ca - ca.mean(0)) ** 2).sum()) for ca in usual)
        labels = records.labels if isinstance(records, Records) else {}
        return type(self)(
            sizes=dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
            sd=math.sqrt(squares / sum(ca.size for ca in usual)) * NM or 1.0,
            draw=self.draw,
            helix=_bounds(labels.get("helix"), self.helix),
            strand=_bounds(labels.get("strand"), self.strand),
        )

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        if fixed.get("length") is not None:
            return [self._length(fixed["length"])] * len(indices)
        drawn = _drawn(self.sizes, self.draw)
        sizes, counts = np.array(list(drawn)), np.array(list(drawn.values()), np.float64)
        below = np.cumsum(counts / counts.sum())
        picks = [float(torch.rand((), generator=generator(seed, i, Key.CHAIN_LENGTH))) for i in indices]
        index = np.searchsorted(below, picks, side="right").clip(max=len(sizes) - 1)
        return [int(n) for n in sizes[index]]

    @staticmethod
    def _length(value: Any) -> int:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or number != int(number) or number < 4:
            raise ConfigError(f"condition length={value}: expected a whole number of residues, at least 4")
        return int(number)

    def log_size(self, n: int) -> float:
        """log p(size) under the histogram of the data (all of it, not only the lengths that are drawn)."""
        count = self.sizes.get(n, 0)
        return math.log(count / sum(self.sizes.values())) if count else -math.inf

    def measure(self, record: Any, name: str) -> float:
        from molgen.modalities.protein.backbone import coordinates

        if name in ("helix", "strand"):
            from molgen.modalities.protein.secondary import contents

            return contents(coordinates(record))[name]
        raise UnsupportedError(
            f"protein records carry no {name!r}: choose among {', '.join(self.conditions)}"
        )

    # ------------------------------------------------------------------ network, data

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The network body: ``"pair"`` (default, knows the order), ``"equivariant"`` or ``"message"``."""
        if name in (None, "pair"):
            from molgen.nn.pair import PairTransformer

            return PairTransformer(spec, **{"ordered": True, **_PAIR, **options})
        if name == "equivariant":
            from molgen.nn.equivariant import EquivariantTrunk

            # All pairs would be ten times slower; the cutoff is about 12 A in folded chains.
            return EquivariantTrunk(spec, **{"cutoff": 1.5, **options})
        if name == "message":
            from molgen.nn.message import MessageTrunk

            return MessageTrunk(spec, **options)
        raise ConfigError.unknown("trunk of protein", name, ["pair", "equivariant", "message"])


_NOISE = (0.004, 6.0)
_BRIDGES = (0.996, 0.001, 0.003)
"""Frequencies of no pairing, parallel and antiparallel pairing over all pairs of residues."""
_PAIR: dict[str, Any] = {"width": 96, "pair_width": 24, "depth": 5, "heads": 8, "neighbours": 3}


def _drawn(sizes: Mapping[int, int], draw: tuple[int, int]) -> dict[int, int]:
    """The part of the histogram that is drawn from: the middle of wide data, all of narrow data."""
    wide = min(sizes) <= draw[0] and max(sizes) >= draw[1]
    return {n: count for n, count in sizes.items() if not wide or draw[0] <= n <= draw[1]}


def _bounds(values: np.ndarray | None, default: tuple[float, ...]) -> tuple[float, float]:
    """Mean and standard deviation of a label, or what was there before."""
    known = np.asarray([] if values is None else values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return default[0], default[1]
    return float(known.mean()), float(known.std()) or 1.0
