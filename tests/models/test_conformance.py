"""molgen's own modalities and families under the suite that every plugin runs, and what the suite finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import molgen
from molgen.core.batch import Sample
from molgen.core.errors import ConfigError
from molgen.core.fields import Field, Positions
from molgen.core.modality import Modality
from molgen.core.registry import get_modality
from molgen.models.diffusion import DiffusionModel
from molgen.testing import Cell, Check, Complaint, Subject, check_modality, check_model, modality_checks
from molgen.testing import cells as pairs
from molgen.testing import family as families
from molgen.testing import modality as modalities
from molgen.testing.report import run_all
from molgen.testing.toys import Clouds, Curves, Words

MODALITIES = ("graph", "image", "molecule", "protein", "smiles")
KINDS = [(name, kind) for name, source in molgen.list_families().items() for kind in source.kinds or ("",)]


@cache
def subject(name: str) -> Subject:
    return Subject(get_modality(name))


def bound(checks: Mapping[str, Callable[[Any], None]], what: Any) -> list[Check]:
    return [Check(name, partial(check, what)) for name, check in checks.items()]


@pytest.mark.parametrize("name", MODALITIES)
def test_modality(name: str) -> None:
    run_all(name, bound(modalities.CHECKS, subject(name)))


@pytest.mark.parametrize("name", MODALITIES)
@pytest.mark.parametrize(("family", "kind"), KINDS, ids=lambda value: value or "plain")
def test_pair(family: str, kind: str, name: str) -> None:
    cell = Cell(subject(name), family, kind)
    checks = bound(pairs.CHECKS, cell)
    run_all(str(cell), checks[:1] if cell.refusal else checks)
    # The energy over classes alone is the one kind that may refuse a modality of molgen's own.
    assert not cell.refusal or kind == "dbm"


@pytest.mark.parametrize(("family", "kind"), KINDS, ids=lambda value: value or "plain")
def test_family(family: str, kind: str) -> None:
    cell = Cell(subject("smiles"), family, kind)
    families.check_declaration(cell.family)
    run_all(str(cell), bound(families.CHECKS, cell))


def test_a_family_on_every_geometry() -> None:
    check_model(DiffusionModel)


# ---------------------------------------------------------------------- the suite finds faults


class Sloppy(Modality):
    """Curves, to be broken in one way or another."""

    name = "sloppy"

    def __init__(self, **learned: Any) -> None:
        super().__init__(**learned)

    @property
    def fields(self) -> Mapping[str, Field]:
        return Curves(scales=self.scales).fields

    def encode(self, record: Any, view: str) -> Sample:
        return Curves().encode(record, view)

    def decode(self, sample: Sample, view: str) -> Any:
        return Curves().decode(sample, view)


def failure(source: type[Modality], **learned: Any) -> str:
    with pytest.raises(Complaint) as error:
        check_modality(source(**learned), Curves().datasets["waves"].load("train"), families=[])
    return str(error.value)


def test_faults_of_a_codec_are_found_and_their_fix_is_told() -> None:
    class Halves(Sloppy):
        def decode(self, sample: Sample, view: str) -> Any:
            return sample["x"][:, 0] / 2

    assert "round trip: record 1 in view 'fields' comes back changed" in failure(Halves)
    assert "let decode invert encode" in failure(Halves)

    class Careless(Sloppy):
        def encode(self, record: Any, view: str) -> Sample:
            return {"x": record.astype(np.float32)[:, None]}

    assert "bad records: encode of a object raises AttributeError" in failure(Careless)

    class Wide(Sloppy):
        def encode(self, record: Any, view: str) -> Sample:
            return {"x": super().encode(record, view)["x"].astype(np.float64)}

    assert "'x' is float64; fix: give float32" in failure(Wide)

    class Picky(Sloppy):
        def decode(self, sample: Sample, view: str) -> Any:
            if abs(sample["x"]).max() > 9:
                raise ValueError("too large")
            return super().decode(sample, view)

    assert "decoding is total: random values" in failure(Picky)

    class Changing(Sloppy):
        def encode(self, record: Any, view: str) -> Sample:
            sample = super().encode(record, view)
            record *= 2
            return sample

    assert "encode changes the record" in failure(Changing)


def test_faults_of_sizes_configuration_and_network_are_found() -> None:
    class Shuffled(Sloppy):
        def draw_sizes(self, seed: int, indices: Any, **fixed: Any) -> list[int]:
            return [6 + len(indices) % 3] * len(indices)

    assert "sizes depend on which samples are drawn together" in failure(Shuffled)

    class Forgetful(Sloppy):
        def config(self) -> dict[str, Any]:
            return {}

    assert "has other" in failure(Forgetful) or "log_size" in failure(Forgetful)

    class Leaky(Sloppy):
        def trunk(self, spec: Any, name: str | None = None, **options: Any) -> Any:
            trunk = super().trunk(spec, name, **options)
            forward = trunk.forward

            def leaking(streams: Any, mask: Tensor, context: Tensor | None) -> Any:
                return forward(streams, torch.ones_like(mask), context)

            trunk.forward = leaking  # type: ignore[method-assign]
            return trunk

    assert "trunk: output for 'x' of a sample beside longer ones" in failure(Leaky)


def test_faults_of_symmetry_are_found() -> None:
    class Turned(Sloppy):
        @property
        def fields(self) -> Mapping[str, Field]:
            return {"x": Positions(**self.learned("x"))}

        def encode(self, record: Any, view: str) -> Sample:
            return {"x": Clouds().encode(record, view)["places"] + np.float32(1)}

        def decode(self, sample: Sample, view: str) -> Any:
            return sample["x"]

        def trunk(self, spec: Any, name: str | None = None, **options: Any) -> Any:
            trunk = super().trunk(spec, name, **options)
            forward = trunk.forward

            def crooked(streams: Any, mask: Tensor, context: Tensor | None) -> Any:
                out = forward(streams, mask, context)
                return type(out)(
                    out.site, out.pair, out.point * torch.tensor([1.0, 2, 3], dtype=out.point.dtype)
                )

            trunk.forward = crooked  # type: ignore[method-assign]
            return trunk

    with pytest.raises(Complaint) as error:
        check_modality(Turned(), Clouds().datasets["clouds"].load("train"), families=[])
    assert "breaks its constraint by 1" in str(error.value)
    assert "output for 'x' of turned points" in str(error.value)


def test_a_family_that_forgets_the_seed_is_found() -> None:
    class Fickle(DiffusionModel):  # type: ignore[misc]
        def generate(self, mask: Tensor, labels: Any, noise: Any, *args: Any, **options: Any) -> Any:
            values = super().generate(mask, labels, noise, *args, **options)
            return {k: v + 1e-3 * torch.rand(v.shape) for k, v in values.items()}

    cell = Cell(Subject(Curves()), Fickle)
    with pytest.raises(Complaint, match="the same seed gives other samples; fix: draw from the `noise`"):
        pairs.check_seeds(cell)
    with pytest.raises(Complaint, match="torch's global generator"):
        pairs.check_randomness(cell)


def test_records_are_asked_for_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match="no embedded data set to check it with; give records"):
        modality_checks(Sloppy(), families=[])
    with pytest.raises(ConfigError, match="2 records to check 'toy_words' with, give at least 10"):
        modality_checks(Words(), ["ab", "b"], families=[])
