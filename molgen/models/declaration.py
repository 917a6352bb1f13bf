"""How a family is declared: its name, its kinds, its options, and what follows from them."""

from __future__ import annotations

import inspect
import textwrap
from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar, Self

from molgen.core.errors import ConfigError
from molgen.models.options import Options


class Declaration(ABC):
    """The declaration of a family of models, from which signature and docstring of the constructor follow.

    A family of several kinds is an abstract class with ``kinds = {}`` and the name of its default kind. Its
    subclasses are declared with a kind, ``class CouplingFlow(FlowModel, kind="coupling")``, and calling the
    family makes a model of the class that `kind` names. In the docstring, ``{options}`` on a line of its own
    stands for the arguments that `options_type` declares.
    """

    family: ClassVar[str]
    kind: ClassVar[str] = ""
    """The kind of this class; of an abstract family its default kind."""
    kinds: ClassVar[dict[str, type[Any]]] = {}
    """The kinds of an abstract family by name."""
    options_type: ClassVar[type[Options]] = Options
    options: Options
    generate: Callable[..., Any]

    def __init_subclass__(cls, kind: str | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if kind is not None:
            cls.kinds[kind] = cls  # still that of the abstract family
            cls.kind, cls.kinds = kind, {}
        cls.__signature__ = cls._signature()  # type: ignore[attr-defined]
        if cls.__doc__ and "{options}" in cls.__doc__:
            declared = cls.options_type.describe()
            rows = (f"{name}: {doc} (default: {default})." for name, doc, default in declared)
            wrapped = (textwrap.wrap(row, 100, subsequent_indent=12 * " ") for row in rows)
            cls.__doc__ = cls.__doc__.replace("{options}", "\n        ".join(map("\n".join, wrapped)))

    def __new__(cls, *args: Any, kind: str | None = None, **options: Any) -> Self:
        """A model of the kind's class."""
        return super().__new__(cls.of_kind(kind))

    @classmethod
    def of_kind(cls, kind: str | None = None) -> type[Self]:
        """The class of a kind, by default of the family's default one; `ConfigError` if there is none."""
        kind, classes = cls.kind if kind is None else kind, cls.kinds or {cls.kind: cls}
        if kind not in classes:
            raise ConfigError.unknown(f"kind of {cls.family}", kind, (name for name in classes if name))
        return classes[kind]  # type: ignore[return-value]

    @classmethod
    def title(cls) -> str:
        """The family and its kind in words, for messages."""
        return f"{cls.family} of kind {cls.kind!r}" if cls.kind else cls.family

    @classmethod
    def _signature(cls) -> inspect.Signature:
        """Of the constructor: what each class of the hierarchy takes by name, then the options."""
        found: dict[str, inspect.Parameter] = {}
        for base in cls.__mro__:
            if base not in (object, ABC) and "__init__" in vars(base):
                for p in list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]:
                    if p.kind is not p.VAR_KEYWORD and (p.name != "kind" or cls.kind):
                        found.setdefault(p.name, p)
        return inspect.Signature([*found.values(), *cls.options_type.parameters()])

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Options of the smallest useful model, for tests."""
        return {}

    @classmethod
    def sampling_options(cls) -> tuple[str, ...]:
        """Names of the options of `sample` that a model of the family takes, whatever its kind."""
        found: dict[str, None] = {}
        for made in cls.kinds.values() or [cls]:
            for p in inspect.signature(made.generate).parameters.values():
                if p.kind is p.KEYWORD_ONLY:
                    found[p.name] = None
        return tuple(found)
