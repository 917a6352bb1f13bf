"""Options of scores: what is misspelt is refused with the nearest that there is, by every way in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import molgen
from molgen.core.registry import get_modality
from molgen.testing.toys import Words
from tests.models.cells import records, tiny

NEAREST = {
    "image": ("featurs", "features"),
    "smiles": ("distance", "distances"),
    "graph": ("distance", "distances"),
    "molecule": ("posebusters", "n_posebusters"),
    "protein": ("diversty", "diversity"),
}


@pytest.mark.parametrize("name", sorted(NEAREST))
def test_an_unknown_option_names_the_nearest(name: str) -> None:
    given, near = NEAREST[name]
    for evaluate in (
        lambda **options: molgen.evaluate(list(records(name)), name, **options),
        lambda **options: tiny(name).evaluate(list(records(name)), **options),
        lambda **options: get_modality(name).evaluate(list(records(name)), **options),
    ):
        with pytest.raises(molgen.ConfigError, match=f"option of {name} '{given}': did you mean '{near}'"):
            evaluate(**{given: 1})


class Scored(Words):  # type: ignore[misc]
    """Words with scores of their own, whose options stand in the signature."""

    def evaluate(self, records: Sequence[Any], reference: Any = None, *, most: int = 9) -> dict[str, float]:
        return {"n": float(min(len(records), most))}


def test_options_of_a_plugin_are_its_signature() -> None:
    assert molgen.evaluate(["ab", "a"], Scored(), most=1) == {"n": 1.0}
    with pytest.raises(molgen.ConfigError, match="'mst': did you mean 'most'"):
        molgen.evaluate(["ab"], Scored(), mst=1)
    with pytest.raises(molgen.ConfigError, match="Choices: seed, view"):
        molgen.evaluate(["ab"], Words(), depth=1)
