"""Families and modalities by name, found through entry points and imported only when they are used.

molgen's own are declared in its `pyproject.toml` as a plugin's are in the plugin's: the same door for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast, final

from molgen.core.errors import ConfigError, MolgenError
from molgen.version import __version__

if TYPE_CHECKING:
    from molgen.core.modality import Modality

FAMILIES, MODALITIES = "molgen.models", "molgen.modalities"
_NOUNS = {FAMILIES: "family", MODALITIES: "modality"}


@final
class Table(Mapping[str, Any]):
    """The classes of one entry-point group by name; a class is imported when it is looked up.

    Arguments:
        group: ``"molgen.models"`` or ``"molgen.modalities"``.

    Errors: `ConfigError` on looking up a name that is unknown, declared twice, cannot be imported, or
        is not what the group holds.

    Example:
        >>> "diffusion" in Table(FAMILIES)
        True
    """

    def __init__(self, group: str) -> None:
        self.group, self.noun = group, _NOUNS[group]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*_points(self.group), *_lent[self.group]}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in _points(self.group) or name in _lent[self.group]

    def __getitem__(self, name: str) -> Any:
        if name in _lent[self.group]:
            return _lent[self.group][name]
        points = _points(self.group).get(name)
        if points is None:
            if not len(self):
                raise ConfigError(f"no {self.noun} is declared; install molgen itself, e.g. pip install -e .")
            raise ConfigError.unknown(self.noun, name, self)
        if len(points) > 1:
            sources = " and ".join(_source(point) for point in points)
            raise ConfigError(f"{self.noun} {name!r} is declared by {sources}; uninstall all but one")
        return self._checked(points[0])

    def path(self, name: str) -> str:
        """Where a name's class is, ``"module:Class"``, without importing it."""
        if name in _lent[self.group]:
            found = _lent[self.group][name]
            return f"{found.__module__}:{found.__qualname__}"
        return _points(self.group)[name][0].value

    def source(self, name: str) -> str:
        """The package that declares a name."""
        return "this session" if name in _lent[self.group] else _source(_points(self.group)[name][0])

    def _checked(self, point: EntryPoint) -> type:
        where = f"{self.noun} {point.name!r} of package {_source(point)} ({point.value})"
        _suits(point, where)
        try:
            found = point.load()
        except MolgenError:
            raise
        except Exception as error:  # a plugin may fail in any way it likes
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(f"{where} cannot be imported: {why}; repair or uninstall it") from error
        if self.group == MODALITIES:
            from molgen.core.modality import Modality

            called = getattr(found, "name", None)
            right = isinstance(found, type) and issubclass(found, Modality)
        else:
            called = getattr(found, "family", None)
            right = isinstance(found, type) and hasattr(found, "losses") and hasattr(found, "sample")
        if not right:
            raise ConfigError(f"{where} is not a {self.noun}; repair or uninstall the package")
        version = getattr(found, "version", 1)
        if type(version) is not int or version < 1:
            raise ConfigError(
                f"{where} declares version {version!r}, expected a whole number from 1 up, which counts "
                "changes of its constructor and fields"
            )
        if called != point.name:
            # Checkpoints record what the class calls itself and are found by what is declared.
            raise ConfigError(f"{where} calls itself {called!r}; the two names must agree")
        return cast(type, found)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {self.path(name)}" for name in self) + "}"


_lent: dict[str, dict[str, type]] = {FAMILIES: {}, MODALITIES: {}}


@contextmanager
def lent(group: str, *classes: type) -> Iterator[None]:
    """Makes classes that no package declares known by their names within a block, e.g. in a test.

    Arguments:
        group: ``"molgen.models"`` or ``"molgen.modalities"``.
        classes: each known by its `family` or its `name`; goes before what is declared.
    """
    before = dict(_lent[group])
    _lent[group].update({getattr(c, "name" if group == MODALITIES else "family"): c for c in classes})
    try:
        yield
    finally:
        _lent[group].clear()
        _lent[group].update(before)


def _suits(point: EntryPoint, where: str) -> None:
    """Refuses a plugin whose package asks for another molgen than this one; pip may have been told not to."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in (point.dist.requires or ()) if point.dist is not None else ():
        try:
            needed = Requirement(text)
        except InvalidRequirement:
            continue
        if needed.name == "molgen" and not needed.specifier.contains(__version__, prereleases=True):
            raise ConfigError(
                f"{where} needs molgen {needed.specifier}, here is {__version__}; install versions that match"
            )


@cache
def _points(group: str) -> dict[str, list[EntryPoint]]:
    """The declarations of a group by name; the same one found twice on the path counts once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        known = found.setdefault(point.name, [])
        if all((_source(point), point.value) != (_source(other), other.value) for other in known):
            known.append(point)
    return found


def refresh() -> None:
    """Forgets what was found, so that a package installed just now is seen."""
    _points.cache_clear()


def _source(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"


def get_modality(name: str) -> Modality:
    """A modality with its defaults, by its registered name.

    Errors: `ConfigError` as for `Table`.
    """
    return cast("Modality", Table(MODALITIES)[name]())


def get_family(name: str) -> type[Any]:
    """A family's class, by its registered name.

    Errors: `ConfigError` as for `Table`.
    """
    return cast("type[Any]", Table(FAMILIES)[name])
