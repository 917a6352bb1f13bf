"""Options as `name=value`, the help that lists those of a family, and plain tables."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, final

import typer
from typer.core import TyperCommand

from molgen.core.errors import ConfigError
from molgen.core.registry import FAMILIES, Table

if TYPE_CHECKING:
    from molgen.models.base import GenerativeModel

_WORDS = "molgen.words"  # where a command keeps what it was called with, for its help


@final
class FamilyHelp(TyperCommand):
    """A command whose help lists the options of the family that it names, or names the families."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        words = ctx.meta.get(_WORDS, [])
        families = Table(FAMILIES)
        named = [word for word in words if word in families]
        if not named:
            formatter.write(f"\n  molgen fit FAMILY --help lists the options of {', '.join(families)}.\n")
        for name in named:
            for made in families[name].kinds.values() or [families[name]]:
                with formatter.section(f"Values of --option for {made.title()}"):
                    rows = made.options_type.describe()
                    formatter.write_dl([(key, f"{doc} [{default}]") for key, doc, default in rows])


def parse_options(texts: list[str], owner: type[GenerativeModel] | None = None) -> dict[str, Any]:
    """Options from `key=value`: values are JSON where they can be, dots in keys nest.

    Arguments:
        texts: what the user gave.
        owner: a family whose constructor must take them; None where somebody else checks.

    Errors: `ConfigError` for a text without a key, or a name that the owner does not take.

    Example:
        >>> parse_options(["width=64", "solver=heun", "trunk_options.depth=2"])
        {'width': 64, 'solver': 'heun', 'trunk_options': {'depth': 2}}
    """
    out: dict[str, Any] = {}
    for text in texts:
        key, raw = pair(text, "--option")
        try:
            value = json.loads(raw)
        except ValueError:
            value = raw
        *parents, last = key.split(".")
        inner = out
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--option {text}: {parent} has been given a value already")
        inner[last] = value
    if owner is not None:
        made = owner.of_kind(out.get("kind"))
        taken = set(inspect.signature(made).parameters) - {"modality", "view", "trunk"}
        for name in out:
            if name not in taken:
                raise ConfigError.unknown(f"option of {made.title()}", name, taken)
    return out


def pair(text: str, option: str) -> tuple[str, str]:
    """Name and value of `name=value`; `ConfigError` for anything else."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ConfigError(f"{option} {text}: expected name=value")
    return key, value


def print_table(title: str, rows: list[list[str]]) -> None:
    """A title and aligned rows, plain, so that other programs can read them."""
    typer.echo(title)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  " + "  ".join(cells).rstrip())
    if not rows:
        typer.echo("  none")
