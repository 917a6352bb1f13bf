"""The whole suite: every check of a modality, of a family, of all pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from molgen.core.modality import Modality
from molgen.core.registry import FAMILIES, MODALITIES, Table, get_modality, lent
from molgen.models.base import GenerativeModel
from molgen.testing import cells, family, modality
from molgen.testing.report import Check, Complaint, run_all
from molgen.testing.subject import Cell, Subject
from molgen.testing.toys import TOYS

Told = Callable[[str, str, float], None]


def _silent(name: str, complaint: str, seconds: float) -> None:
    """Reports nothing."""


def modality_checks(
    kind: Modality | str, records: Any = None, families: Sequence[str] | None = None
) -> list[Check]:
    """Every check of a modality: its own promises, and those with each family.

    Arguments:
        kind: the modality, or a registered name.
        records: at least 10 valid ones, as for `fit`; by default of its first embedded data set.
        families: names of families; by default all that are installed.

    Example:
        >>> from molgen.testing.toys import Words
        >>> checks = modality_checks(Words(), families=["vae"])
        >>> [str(check) for check in checks][:2], str(checks[-1])
        (['declaration', 'configuration'], 'vae-on-toy_words:-devices')
        >>> checks[0]()
    """
    made = get_modality(kind) if isinstance(kind, str) else kind
    subject = Subject(made, records)
    found = [_bound(name, check, subject, made) for name, check in modality.CHECKS.items()]
    for name in Table(FAMILIES) if families is None else families:
        source: type[GenerativeModel] = Table(FAMILIES)[name]
        for sort in source.kinds or ("",):
            found += _cell_checks(Cell(subject, source, sort), made)
    return found


def check_modality(
    kind: Modality | str, records: Any = None, families: Sequence[str] | None = None, told: Told = _silent
) -> None:
    """Runs every check of a modality.

    Arguments:
        kind, records, families: as for `modality_checks`.
        told: called with the name, the complaint (empty if none) and the seconds of each check.

    Errors: `Complaint`, an `AssertionError`, with all failed checks and their fixes.

    Example:
        >>> from molgen.testing.toys import Words
        >>> check_modality(Words(), families=[])
    """
    made = get_modality(kind) if isinstance(kind, str) else kind
    run_all(f"modality {made.name!r}", modality_checks(made, records, families), told)


def model_checks(source: type[GenerativeModel]) -> list[Check]:
    """Every check of a family: its own promises, and those on a small modality of each geometry.

    Arguments:
        source: the class, registered or not.
    """
    found = [Check("declaration", lambda: family.check_declaration(source))]
    subjects = [Subject(toy()) for toy in TOYS]
    for sort in source.kinds or ("",):
        pairs = [Cell(subject, source, sort) for subject in subjects]
        for cell in pairs:
            found += _cell_checks(cell, source, *TOYS)
        found.append(Check(f"{sort or source.family}: works at all", partial(_some, pairs)))
        for name, check in family.CHECKS.items():
            found.append(_bound(f"{sort or source.family}: {name}", _first(check), pairs, source, *TOYS))
    return found


def check_model(source: type[GenerativeModel], told: Told = _silent) -> None:
    """Runs every check of a family.

    Arguments:
        source: the class, registered or not.
        told: as for `check_modality`.

    Errors: `Complaint`, an `AssertionError`, with all failed checks and their fixes.
    """
    run_all(f"family {source.family!r}", model_checks(source), told)


# --------------------------------------------------------------------------- parts


def _cell_checks(cell: Cell, *known: Any) -> Iterator[Check]:
    for name, check in cells.CHECKS.items():
        yield _bound(f"{_title(cell)}: {name}", _unless_refused(name, check), cell, *known)


def _title(cell: Cell) -> str:
    name = f"{cell.family.family}{cell.kind and '-' + cell.kind}"
    return f"{name} on {cell.subject.modality.name}" if isinstance(cell.subject.modality, TOYS) else name


def _unless_refused(name: str, check: Callable[[Cell], None]) -> Callable[[Cell], None]:
    """A check that passes if the pair is refused at construction with a reason."""

    def run(cell: Cell) -> None:
        if name == "construction" or not cell.refusal:
            check(cell)

    return run


def _first(check: Callable[[Cell], None]) -> Callable[[Sequence[Cell]], None]:
    def run(pairs: Sequence[Cell]) -> None:
        for cell in pairs:
            if not cell.refusal:
                check(cell)
                return

    return run


def _some(pairs: Sequence[Cell]) -> None:
    if all(cell.refusal for cell in pairs):
        raise Complaint(
            "the family refuses every kind of data: " + "; ".join(cell.refusal for cell in pairs),
            "ask for fewer properties of the view in `needs`",
        )


def _bound(name: str, check: Callable[[Any], None], subject: Any, *known: Any) -> Check:
    """A check of its subject; while it runs, all its classes are registered by name."""

    def run() -> None:
        with ExitStack() as stack:
            for source in known:
                source = type(source) if isinstance(source, Modality) else source
                group = MODALITIES if issubclass(source, Modality) else FAMILIES
                stack.enter_context(lent(group, source))
            check(subject)

    return Check(name, run)
