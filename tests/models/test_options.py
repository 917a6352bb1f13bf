"""Options: declared once, checked, resolved at construction, and saved: no default changes a saved model."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest

import molgen
from molgen.core.errors import CheckpointError, ConfigError
from molgen.core.modality import Modality, View
from molgen.io.header import read_header
from molgen.models.base import GenerativeModel
from molgen.models.options import FitOptions, Options, option
from tests.goldens import digest
from tests.models.cells import fitted

FAMILIES: list[type[GenerativeModel]] = [
    made for family in molgen.list_families().values() for made in (family.kinds.values() or [family])
]
FLIPPED = {
    "batch_size": 3,
    "lr": 0.5,
    "solver": "heun",
    "steps": 2,
    "noise_scale": 0.1,
    "restarts": 1,
    "restart_from": 0.9,
    "time_density": (3.0, 2.0),
    "self_condition": True,
    "decoder": "independent",
    "site_state": False,
    "pair_order": "first",
    "graph_hops": 0,
}
"""Another default of each option that a view may set."""


@dataclass(frozen=True, kw_only=True)
class SomeOptions(Options):
    """Options of every type."""

    steps: int = option(5, "steps", ge=1, le=9, from_view=True)
    share: float = option(0.5, "share", ge=0, lt=1)
    how: Literal["fast", "slow"] = option("fast", "how")
    sizes: tuple[int, ...] = option((2, 3), "sizes", ge=1)
    pair: tuple[float, float] = option((1.0, 2.0), "pair", gt=0)
    flag: bool = option(False, "flag", from_view=True)
    extra: Mapping[str, Any] | None = option(None, "extra")
    twice: int | None = option(None, "twice", derive=lambda o: 2 * o.steps)


def test_what_is_given_comes_before_what_suits_the_data_before_the_default() -> None:
    suited = {"steps": 7, "flag": True, "share": 0.9}
    found = SomeOptions.resolve("some", {"steps": 2, "how": None}, suited)
    assert (found.steps, found.flag, found.how, found.twice) == (2, True, "fast", 4)
    assert found.share == 0.5, "a view sets only options that are declared so"
    assert SomeOptions.resolve("some", {}, suited).twice == 14


def test_values_are_those_of_json_again() -> None:
    options = SomeOptions(sizes=[4, 5], share=0, extra={"width": (1, 2)})
    assert options.sizes == (4, 5) and options.share == 0.0 and options.extra == {"width": [1, 2]}
    assert SomeOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
    with pytest.raises(FrozenInstanceError):
        options.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps is 0, expected a whole number, 1 to 9"),
        ({"steps": 2.5}, "steps is 2.5, expected a whole number"),
        ({"steps": True}, "steps is True"),
        ({"share": 1}, "share is 1, expected a number, 0 or more, below 1"),
        ({"share": "half"}, "share is half, expected a number"),
        ({"share": float("nan")}, "share is nan"),
        ({"how": "fats"}, "did you mean 'fast'"),
        ({"sizes": [2, 0]}, "sizes is 2, 0, expected a list of whole numbers, 1 or more"),
        ({"pair": [1.0]}, "pair is 1.0, expected a list of 2 numbers, above 0"),
        ({"flag": 1}, "flag is 1, expected true or false"),
        ({"extra": 3}, "extra is 3"),
        ({"stpes": 3}, "did you mean 'steps'"),
    ],
)
def test_bad_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        SomeOptions.resolve("some", given, {})
    assert message in str(error.value)


def test_saved_options_are_complete() -> None:
    saved = SomeOptions().to_json()
    for bad in ({**saved, "more": 1}, {k: v for k, v in saved.items() if k != "how"}):
        with pytest.raises(ConfigError, match="expected exactly"):
            SomeOptions.from_json(bad)


@pytest.mark.parametrize("made", FAMILIES, ids=lambda made: made.__name__)
def test_signature_docstring_and_help_name_every_option(made: type[GenerativeModel]) -> None:
    names = {f.name for f in fields(made.options_type)}
    assert names <= set(inspect.signature(made).parameters)
    doc = inspect.getdoc(made) or ""
    assert all(f"    {name}: " in doc for name in names)
    assert {name for name, _, _ in made.options_type.describe()} == names


def flipped(view: View) -> View:
    assert set(view.defaults) - {"sample_batch"} <= set(FLIPPED), "give another value to each default"
    return replace(view, defaults=FLIPPED)


@pytest.fixture
def other_defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other defaults of every view and of every option."""
    for modality in molgen.list_modalities().values():
        kind: type[Modality] = modality
        views = kind.views
        monkeypatch.setattr(
            kind,
            "views",
            property(lambda self, of=views: {k: flipped(v) for k, v in of.__get__(self).items()}),
        )
    yield


def test_a_new_model_takes_the_defaults_of_its_view(other_defaults: None) -> None:
    model = molgen.DiffusionModel("smiles")
    assert (model.options.steps, model.options.solver, model.fit_options.batch_size) == (2, "heun", 3)
    assert molgen.DiffusionModel("smiles", steps=9).options.steps == 9


@pytest.mark.parametrize("family", ["diffusion", "vae", "autoregressive"])
def test_no_default_changes_a_saved_model(family: str, tmp_path: Path, request: Any) -> None:
    model, path = fitted("graph", family), tmp_path / "model.safetensors"
    model.save(path)
    options = {"steps": 3} if family == "diffusion" else {}
    before = digest(list(model.sample(4, **options)))
    request.getfixturevalue("other_defaults")
    after = molgen.load(path)
    assert after.options == model.options and after.fit_options == model.fit_options
    assert digest(list(after.sample(4, **options))) == before


def test_a_header_without_an_option_is_refused(tmp_path: Path) -> None:
    from molgen.io import checkpoint

    path = tmp_path / "model.safetensors"
    fitted("smiles", "vae").save(path)
    tensors, header = checkpoint.read(path)
    del header["options"]["beta"]
    checkpoint.write(path, tensors, header)
    assert "beta" not in read_header(path)["options"]
    with pytest.raises(CheckpointError, match="beta"):
        molgen.load(path)


def test_training_and_sampling_take_their_defaults_from_the_saved_model() -> None:
    model = fitted("smiles", "vae")
    model.fit_options = FitOptions(batch_size=5, lr=0.25)
    assert model.fit_options.sample_batch == 20
    assert model.lightning_module().lr == 0.25
