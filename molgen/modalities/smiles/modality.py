"""`SmilesModality`: molecules as strings of characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Categorical
from molgen.core.modality import View
from molgen.core.sizes import Sizes
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.modalities.chemistry.modality import ConstitutionModality
from molgen.modalities.smiles.defaults import MARGINAL, SCALES, SIZES, VOCABULARY

FIELD = "tokens"

DEFAULTS = {
    "batch_size": 64,
    "lr": 1e-3,
    "solver": "ancestral",
    "steps": 40,
    "noise_scale": 0.85,  # a temperature: more strings are valid, at some cost in diversity
    "restarts": 6,
    "sample_batch": 256,
    "decoder": "autoregressive",
}
"""A string takes no more steps than it has characters; so nearly all are drawn one at a time."""


@final
class SmilesModality(ConstitutionModality):
    """Molecules as SMILES strings: one token per character, one site per token.

    The string of a record is what the model learns, so train on canonical strings: the named data sets hold
    RDKit's canonical SMILES without stereochemistry and explicit hydrogens. Strings that are no molecules
    stay as they are.

    Arguments:
        vocabulary: the characters, in the order of their codes; the default is QM9's.
        sizes: histogram of lengths.
        marginal: frequency of each character in the data.
        properties: mean and standard deviation of every property and label that can be a condition.

    Example:
        >>> modality = SmilesModality()
        >>> sample = modality.encode("CC=O", "characters")
        >>> modality.decode(sample, "characters")
        'CC=O'
    """

    name = "smiles"
    toolkit_path = "molgen.modalities.smiles.toolkit:SmilesToolkit"
    form = "smiles"

    def __init__(
        self,
        vocabulary: str | Sequence[str] = VOCABULARY,
        sizes: Mapping[Any, int] | None = None,
        marginal: Sequence[float] | None = None,
        properties: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.vocabulary = "".join(vocabulary)
        if not self.vocabulary or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ConfigError("vocabulary: expected distinct characters, at least one")
        if marginal is None and self.vocabulary == VOCABULARY:
            marginal = MARGINAL
        self.marginal = None if marginal is None else [float(p) for p in marginal]
        self.sizes = Sizes(SIZES if sizes is None else sizes)
        self.properties = {k: (float(v[0]), float(v[1])) for k, v in (properties or SCALES).items()}
        self._codes = {c: i for i, c in enumerate(self.vocabulary)}

    @cached_property
    def views(self) -> Mapping[str, View]:
        tokens = Categorical(len(self.vocabulary), marginal=self.marginal)
        return {"characters": View("characters", {FIELD: tokens}, ordered=True, defaults=DEFAULTS)}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, str):
            raise DataError(f"a record of type {type(record).__name__}, expected a SMILES string")
        if not record:
            raise DataError("an empty string, expected a SMILES", fix="remove it")
        try:
            codes = [self._codes[c] for c in record]
        except KeyError as missing:
            raise DataError(
                f"character {missing.args[0]!r} of {record!r} is not in the vocabulary {self.vocabulary!r}",
                fix="leave the record out, or fit the modality on data that has it",
            ) from None
        return {FIELD: np.array(codes, np.uint8 if len(self.vocabulary) < 256 else np.int64)}

    def decode(self, sample: Sample, view: str) -> str:
        # A code beyond the vocabulary is a character that no SMILES has, so that it can only be invalid.
        k = len(self.vocabulary)
        return "".join(self.vocabulary[i] if 0 <= i < k else "?" for i in sample[FIELD].tolist())

    def fit_to(self, records: Sequence[Any]) -> Self:
        """The modality with the characters, lengths and property scales of these strings."""
        from molgen.modalities.chemistry.properties import scales

        counts: dict[str, int] = {}
        for i, record in enumerate(records):
            if not isinstance(record, str) or not record:
                raise DataError(f"{record!r} is not a SMILES string", record=i + 1, fix="remove it")
            for c in record:
                counts[c] = counts.get(c, 0) + 1
        if not counts:
            raise DataError("no records to fit on", fix="give at least one molecule")
        total = sum(counts.values())
        vocabulary = "".join(sorted(counts))
        marginal = [float(f"{counts[c] / total:.5g}") for c in vocabulary]
        return type(self)(vocabulary, Sizes.of(map(len, records)).counts, marginal, scales(records))

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        if set(fixed) - {"size"}:
            raise ConfigError.unknown("fixed size", sorted(set(fixed) - {"size"})[0], ["size"])
        return self.sizes.draw(seed, indices, fixed.get("size"))

    def config(self) -> dict[str, Any]:
        return {
            "vocabulary": self.vocabulary,
            "sizes": self.sizes.config(),
            "marginal": self.marginal,
            "properties": {k: list(v) for k, v in self.properties.items()},
        }

    def trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """The transformer with rotary positions, ``"transformer"``."""
        if name not in (None, "transformer"):
            raise ConfigError.unknown("trunk of smiles", name, ["transformer"])
        from molgen.nn.transformer import Transformer

        return Transformer(spec, **{"width": 192, "depth": 4, "heads": 6, "rotary": True, **options})
