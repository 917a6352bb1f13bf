"""Families whose models come in several kinds, each kind a class of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.errors import ConfigError
from molgen.core.noise import Noise
from molgen.models.base import GenerativeModel


class FamilyOfKinds(GenerativeModel):
    """A family of several kinds: called with `kind`, it makes a model of that kind's class.

    The classes are subclasses of the family, so that a model of any kind is an instance of it. Their
    constructors take and record `kind` as well, so that a checkpoint finds its class again.

    Errors: `ConfigError` for a kind that there is not, or an option that is not of this kind.
    """

    kinds: ClassVar[Mapping[str, str]]
    """Where the class of each kind is, ``"module:Class"``, the default first."""

    def __new__(cls, *args: Any, kind: str | None = None, **options: Any) -> Self:
        classes = cls.classes()
        kind = next(iter(classes)) if kind is None else kind
        if kind not in classes:
            raise ConfigError.unknown(f"kind of {cls.family}", kind, classes)
        taken = classes[kind].arguments()
        for name in options:
            if name not in taken:
                raise ConfigError.unknown(f"option of {cls.family} of kind {kind!r}", name, taken)
        return super().__new__(classes[kind])

    if TYPE_CHECKING:
        # The family is called and never made itself, so that to type checkers it is not abstract.
        def build(self) -> nn.Module: ...
        def losses(self, network: nn.Module, batch: Batch, noise: Noise) -> dict[str, Tensor]: ...
        def generate(
            self, mask: Tensor, labels: Mapping[str, Tensor], noise: Noise, *args: Any, **options: Any
        ) -> dict[str, Tensor]: ...

    @classmethod
    def classes(cls) -> dict[str, type[Self]]:
        """The class of each kind; called on such a class, itself alone."""
        found = {kind: resolve_name(path) for kind, path in cls.kinds.items()}
        return {kind: made for kind, made in found.items() if issubclass(made, cls)}

    @classmethod
    def arguments(cls) -> tuple[str, ...]:
        classes = list(cls.classes().values())
        if classes == [cls]:
            return super().arguments()
        return tuple(dict.fromkeys(name for kind in classes for name in kind.arguments()))

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for kind in cls.classes().values() for name in kind.sampling))
