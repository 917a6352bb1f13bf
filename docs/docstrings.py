"""An extension of griffe: converts molgen's docstrings to the format of mkdocstrings."""

from __future__ import annotations

import inspect
import re
from pkgutil import resolve_name
from typing import Any

from griffe import Extension, Object

_INLINE = re.compile(r"^( *)(Errors|Keys|Returns|Source): +(?=\S)", re.MULTILINE)
_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
_MATH = re.compile(r"^( *)\.\. math:: *(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_SEVERAL = re.compile(r"^( +)((?:\w+, )+\w+): (.*(?:\n\1 +\S.*)*)", re.MULTILINE)
_LITERAL = re.compile(r"::$", re.MULTILINE)
_ROLE = re.compile(r":math:`([^`]*)`")


def to_google(text: str) -> str:
    r"""A docstring of molgen as Markdown with Google sections.

    Example:
        >>> to_google("Noise :math:`\\sigma`.\n\nErrors: `DataError`.\n\nExample:\n    >>> 1 + 1")
        'Noise $\\sigma$.\n\n**Errors:** `DataError`.\n\nExamples:\n    >>> 1 + 1'
    """
    text = _MATH.sub(lambda m: f"{m[1]}$$\n{m[1]}{' '.join(m[2].split())}\n{m[1]}$$", text)
    text = _ROLE.sub(r"$\1$", text)
    text = _INLINE.sub(r"\1**\2:** ", text)
    text = _SEVERAL.sub(_each, text)
    text = _LITERAL.sub(":", text)
    return _EXAMPLE.sub(r"\1Examples:", text)


def _each(match: re.Match[str]) -> str:
    """Arguments that share a line, each with the line."""
    return "\n".join(f"{match[1]}{name}: {match[3]}" for name in match[2].split(", "))


class Docstrings(Extension):  # type: ignore[misc]  # griffe is there only with the extra docs
    """Turns every docstring before it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is None:
            return
        text = obj.docstring.value
        if "{options}" in text:  # a family, whose options complete its docstring when it is imported
            text = inspect.getdoc(resolve_name(obj.path)) or text
        obj.docstring.value = to_google(text)
