"""Capabilities: what a family asks of a field, with one implementation per kind of field."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from molgen.core.errors import UnsupportedError
from molgen.core.fields.field import Field

F = TypeVar("F", bound=Field)
C = TypeVar("C", bound="type[Capability[Any]]")


class Capability(ABC, Generic[F]):
    """One thing that fields of some kinds can do.

    A capability is a class in a file of its own, with an implementation for each kind of field beside it. A
    family names those that it needs. A field of another package registers its own implementation; a family of
    another package may bring a capability of its own, with implementations for the fields that it knows.

    Arguments:
        field: the field, of a kind that the implementation is registered for.

    Example:
        >>> from molgen.core.capabilities import Entries
        >>> from molgen.core.fields import Categorical, Positions
        >>> Entries.of(Categorical(3)).count, Entries.supports(Positions())
        (1, False)
    """

    what: ClassVar[str]
    """What a field has that has the capability, for messages."""
    implementations: ClassVar[dict[type[Field], type[Capability[Any]]]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if Capability in cls.__bases__:
            cls.implementations = {}

    def __init__(self, field: F) -> None:
        self.field = field

    @classmethod
    def register(cls, *kinds: type[Field]) -> Callable[[C], C]:
        """Decorates the implementation for some kinds of fields and those that extend them."""

        def keep(implementation: C) -> C:
            cls.implementations.update(dict.fromkeys(kinds, implementation))
            return implementation

        return keep

    @classmethod
    def supports(cls, field: Field) -> bool:
        """Whether a field has the capability."""
        return any(kind in cls.implementations for kind in type(field).__mro__)

    @classmethod
    def of(cls, field: Field) -> Self:
        """The capability of a field.

        Errors: `UnsupportedError` if it has none.
        """
        for kind in type(field).__mro__:
            if kind in cls.implementations:
                return cast(Self, cls.implementations[kind](field))
        raise UnsupportedError(f"{type(field).__name__} has no {cls.what}; {cls._fix()}")

    @classmethod
    def each(cls, fields: Mapping[str, Field]) -> dict[str, Self]:
        """The capability of each of several fields."""
        return {name: cls.of(field) for name, field in fields.items()}

    @classmethod
    def _fix(cls) -> str:
        return f"choose another view, or register an implementation with {cls.__name__}.register"


def require(
    who: str, where: str, fields: Mapping[str, Field], capabilities: Iterable[type[Capability[Any]]]
) -> None:
    """Refuses fields that lack a capability.

    Arguments:
        who: the family.
        where: the view and the modality of the fields.
        fields: the fields by name.
        capabilities: what each of them needs.

    Errors: `UnsupportedError` naming the field and the first capability that it lacks.
    """
    for capability in capabilities:
        for name, field in fields.items():
            if not capability.supports(field):
                raise UnsupportedError(
                    f"{who} needs {capability.what}; field {name!r} of {where} has none: {capability._fix()}"
                )
