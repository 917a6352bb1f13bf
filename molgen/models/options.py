"""Options of algorithms: declared once, checked, resolved at construction, saved with the model."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Literal, Self, Union, final, get_args, get_origin, get_type_hints

from molgen.core.errors import ConfigError


@final
@dataclass(frozen=True)
class _Spec:
    """What an option means and which values it takes."""

    doc: str
    ge: float | None
    gt: float | None
    le: float | None
    lt: float | None
    from_view: bool
    derive: Callable[[Any], Any] | None
    derived: str

    @property
    def range(self) -> str:
        """The range in words; empty if there is none."""
        if self.ge is not None and self.le is not None:
            return f"{self.ge:g} to {self.le:g}"
        parts = [
            "" if self.ge is None else f"{self.ge:g} or more",
            "" if self.gt is None else f"above {self.gt:g}",
            "" if self.le is None else f"at most {self.le:g}",
            "" if self.lt is None else "finite" if self.lt == math.inf else f"below {self.lt:g}",
        ]
        return ", ".join(part for part in parts if part)

    def holds(self, value: float) -> bool:
        """Whether a number is in the range."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )


def option(
    default: Any,
    doc: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    from_view: bool = False,
    derive: Callable[[Any], Any] | None = None,
    derived: str = "",
) -> Any:
    """A field of an `Options` dataclass.

    Arguments:
        default: the value where nothing else gives one.
        doc: what it means, with its unit; a phrase without a full stop.
        ge, gt, le, lt: bounds of a number, or of each number of a tuple.
        from_view: whether `View.defaults` may hold a default that suits the data better.
        derive: the value in place of None, from the options before it.
        derived: `derive` in words.
    """
    spec = _Spec(doc, ge, gt, le, lt, from_view, derive, derived)
    return dataclasses.field(default=default, metadata={"option": spec})


@dataclass(frozen=True, kw_only=True)
class Options(ABC):  # noqa: B024
    """The options of one algorithm: a frozen dataclass whose fields are made by `option`.

    Constructors, docstrings, the command line's ``--option``, checkpoints and model cards read it. Values are
    checked and converted to the annotated type: ``bool``, ``int``, ``float``, ``str``, ``Literal``, tuples of
    these, mappings, and unions of them.

    Errors: `ConfigError` for a value of another type or out of range.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class SamplerOptions(Options):
        ...     steps: int = option(50, "number of steps", ge=1, le=1000, from_view=True)
        ...     eta: float = option(0.0, "share of fresh noise", ge=0, le=1)
        >>> SamplerOptions.resolve("sampler", {"eta": 1}, {"steps": 20})
        SamplerOptions(steps=20, eta=1.0)
        >>> SamplerOptions(steps=0)
        Traceback (most recent call last):
        molgen.core.errors.ConfigError: steps is 0, expected a whole number, 1 to 1000
    """

    def __post_init__(self) -> None:
        for name, spec, hint in _specs(type(self)):
            value = getattr(self, name)
            if value is None and spec.derive is not None:
                value = spec.derive(self)
            object.__setattr__(self, name, _checked(name, value, hint, spec))

    @classmethod
    def resolve(cls, owner: str, given: Mapping[str, Any], suited: Mapping[str, Any]) -> Self:
        """The options of a new model: what is given, else what suits the data, else the default.

        Arguments:
            owner: whose options they are, for errors.
            given: values by name; None stands for the default.
            suited: defaults of the view, of which an option takes its own if it is declared `from_view`.

        Errors: `ConfigError` for an unknown name or a bad value.
        """
        names = [name for name, _, _ in _specs(cls)]
        for name in given:
            if name not in names:
                raise ConfigError.unknown(f"option of {owner}", name, names)
        chosen = {name: suited[name] for name, spec, _ in _specs(cls) if spec.from_view and name in suited}
        chosen |= {name: value for name, value in given.items() if value is not None}
        return cls(**chosen)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """Saved options as they were, without any default.

        Errors: `ConfigError` if one is missing or unknown.
        """
        names = {name for name, _, _ in _specs(cls)}
        if names != set(saved):
            missing, unknown = sorted(names - set(saved)), sorted(set(saved) - names)
            raise ConfigError(
                f"options missing: {missing}, unknown: {unknown}; expected exactly {sorted(names)}"
            )
        return cls(**saved)

    def to_json(self) -> dict[str, Any]:
        """All values by name, as JSON holds them."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """The options as keyword-only parameters of a signature."""
        return [
            Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in dataclasses.fields(cls)
        ]

    @classmethod
    def describe(cls) -> list[tuple[str, str, str]]:
        """Name, meaning and default of each option, with its range or choices.

        Example:
            >>> FitOptions.describe()[1]
            ('lr', 'peak learning rate', "0.001, or the view's; a number, above 0")
        """
        rows = []
        for f in dataclasses.fields(cls):
            spec, hint = f.metadata["option"], get_type_hints(cls)[f.name]
            default = spec.derived or ("none" if f.default is None else _shown(f.default))
            suited = ", or the view's" if spec.from_view else ""
            rows.append((f.name, spec.doc, f"{default}{suited}; {_expected(hint, spec)}"))
        return rows


@final
@dataclass(frozen=True, kw_only=True)
class FitOptions(Options):
    """Defaults of training and sampling that change no result of a trained model but rounding."""

    batch_size: int = option(64, "samples in a training batch", ge=1, from_view=True)
    lr: float = option(1e-3, "peak learning rate", gt=0, from_view=True)
    sample_batch: int | None = option(
        None,
        "samples drawn at a time",
        ge=1,
        from_view=True,
        derive=lambda o: 4 * o.batch_size,
        derived="four training batches",
    )


def _specs(kind: type[Options]) -> tuple[tuple[str, _Spec, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, f.metadata["option"], hints[f.name]) for f in dataclasses.fields(kind))


def _checked(name: str, value: Any, hint: Any, spec: _Spec) -> Any:
    """A value as the annotated type, within its range."""
    try:
        found = _converted(value, hint)
    except TypeError:
        found = None
        fits = False
    else:
        fits = all(spec.holds(number) for number in _numbers(found))
    if not fits:
        choices = _choices(hint)
        if choices and isinstance(value, str):
            raise ConfigError.unknown(name, value, choices)
        raise ConfigError(f"{name} is {_shown(value)}, expected {_expected(hint, spec)}")
    return found


def _converted(value: Any, hint: Any) -> Any:
    """A value as the annotated type; `TypeError` if it is another."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for choice in inner:
            try:
                return _converted(value, choice)
            except TypeError:
                continue
    elif origin is Literal and value in inner:
        return value
    elif origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(each) == len(value):
            return tuple(_converted(v, h) for v, h in zip(value, each, strict=True))
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return json.loads(json.dumps(dict(value)))
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint is int and isinstance(value, bool):
        raise TypeError
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise TypeError


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _choices(hint: Any) -> list[str]:
    """The names among which an option chooses."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if get_origin(hint) in (Union, types.UnionType):
        return [name for part in get_args(hint) for name in _choices(part)]
    return []


_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name", type(None): "none"}


def _expected(hint: Any, spec: _Spec) -> str:
    """The values that an option takes, in words."""

    def noun(hint: Any) -> str:
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return " or ".join(noun(part) for part in inner if part is not type(None) or spec.derive is None)
        if origin is Literal:
            return "one of " + ", ".join(str(choice) for choice in inner)
        if origin is tuple:
            count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
            return f"a list of {count}{_NOUNS[inner[0]].removeprefix('a ')}s"
        return _NOUNS.get(hint, "options by name")

    return noun(hint) + (f", {spec.range}" if spec.range else "")


def _shown(value: Any) -> str:
    return ", ".join(map(_shown, value)) if isinstance(value, (tuple, list)) else str(value)
