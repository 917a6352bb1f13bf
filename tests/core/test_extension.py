"""A new kind of field touches no family, and a new family touches no field."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from molgen import AutoregressiveModel, ConsistencyModel, DiffusionModel, EnergyModel, FlowModel, VAEModel
from molgen.core.batch import Batch
from molgen.core.capabilities import Capability, Entries, PathLikelihood
from molgen.core.densities import Discrete
from molgen.core.errors import UnsupportedError
from molgen.core.fields import Categorical, Field, GaussianField
from molgen.core.modality import Modality
from molgen.core.rng import RandomSource
from molgen.core.schedules import GaussianSchedule, Window
from molgen.core.step import TRAINED, TrainingStep
from molgen.models.base import GenerativeModel
from molgen.testing.toys import Words

SMALL = {"width": 16, "depth": 1, "heads": 2}

# ---------------------------------------------------------------------- a new field


@final
class Ordinal(GaussianField):
    """Whole numbers 0 .. K - 1 with an order: reals under noise, one of K where each entry is by itself."""

    shape = (1,)

    def __init__(self, levels: int) -> None:
        self.levels, self.mean, self.sd = levels, (levels - 1) / 2, levels / 12**0.5
        self.window, self.weight = Window(), 1.0
        self.schedule = GaussianSchedule(0.01 * self.sd, 80 * self.sd)


@Entries.register(Ordinal)
@final
class OrdinalEntries(Entries):
    """A softmax over the levels, which are read as one number."""

    field: Ordinal
    count = inputs = 1

    def __init__(self, field: Ordinal) -> None:
        super().__init__(field)
        self.outputs = field.levels

    def embed_entry(self, entries: Tensor) -> Tensor:
        return ((entries - self.field.mean) / self.field.sd)[..., None]

    def likelihood(self, raw: Tensor) -> Discrete:
        return Discrete(raw)


class Grades(Modality):
    """Lists of grades 0 .. 5."""

    name = "grades"

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"grade": Ordinal(6)}

    def encode(self, record: Any, view: str) -> dict[str, np.ndarray]:
        return {"grade": np.asarray(record, np.float32)[:, None]}

    def decode(self, sample: dict[str, np.ndarray], view: str) -> Any:
        return sample["grade"][:, 0].round().astype(int).tolist()


RECORDS = [[0, 1], [5, 5, 4], [2, 3], [1, 1, 2], [4], [3, 3]]


@pytest.mark.parametrize(
    "family",
    [DiffusionModel, FlowModel, ConsistencyModel, EnergyModel, AutoregressiveModel, VAEModel],
    ids=lambda f: str(f.family),
)
def test_a_new_field_runs_in_every_family_whose_capabilities_it_has(family: Any) -> None:
    model = family(Grades(), trunk_options=SMALL)
    model.fit(RECORDS, max_steps=2, batch_size=4, seed=0)
    assert len(model.sample(3, seed=0)) == 3
    assert torch.isfinite(
        torch.cat([w.flatten() for w in model.tensors().values() if w.is_floating_point()])
    ).all()


def test_where_a_capability_is_missing_the_model_is_refused_by_its_name() -> None:
    with pytest.raises(UnsupportedError, match="reals of full dimension.*'grade'.*Dequantization.register"):
        FlowModel(Grades(), kind="coupling")
    assert not PathLikelihood.supports(Categorical(2))
    with pytest.raises(UnsupportedError, match="Categorical has no density along the path"):
        PathLikelihood.of(Categorical(2))


# ---------------------------------------------------------------------- a new family


class Blur(Capability[Any]):
    """A typical value, which only this family asks for."""

    what = "typical value"

    @abstractmethod
    def typical(self, like: Tensor, mask: Tensor) -> Tensor:
        """The value, of the shape of others."""


@Blur.register(GaussianField)
@final
class RealBlur(Blur):
    """The mean of the data."""

    def typical(self, like: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.field.project(torch.full_like(like, self.field.mean), mask)
        return found


@Blur.register(Categorical)
@final
class ClassBlur(Blur):
    """The commonest class."""

    def typical(self, like: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.field.project(torch.full_like(like, int(self.field.frequencies.argmax())), mask)
        return found


@final
class TypicalModel(GenerativeModel):
    """Gives the typical value of every field."""

    family: ClassVar[str] = "typical"
    capabilities = (Blur,)

    def build(self) -> nn.Module:
        return nn.Linear(1, 1)

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        return {"none": network(torch.ones(1, 1)).square().mean()}

    def generate(
        self, mask: Tensor, labels: Mapping[str, Tensor], rng: RandomSource, **options: Any
    ) -> dict[str, Tensor]:
        blur = Blur.each(self.view.fields)
        return {k: b.typical(b.field.prior(mask, rng), mask) for k, b in blur.items()}


def test_a_new_family_brings_a_capability_of_its_own() -> None:
    model = TypicalModel(Words())
    model.fit(["aab", "ab", "aaa", "b"], max_steps=1, batch_size=4, seed=0)
    assert {letter for word in model.sample(3, seed=0) for letter in word} == {"a"}
    grades = TypicalModel(Grades())
    grades.fit(RECORDS, max_steps=1, batch_size=4, seed=0)
    assert {grade for record in grades.sample(3, seed=0) for grade in record} == {2}


def test_the_base_of_fields_asks_for_little() -> None:
    verbs = [n for n, v in vars(Field).items() if callable(v) and not n.startswith("_")]
    assert len(verbs) <= 12
