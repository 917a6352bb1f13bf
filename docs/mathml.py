"""A hook of mkdocs: converts formulas to MathML, which browsers render without scripts."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Converts the formulas that arithmatex has marked to MathML.

    Example:
        >>> on_page_content('<span class="arithmatex">\\\\(x^2\\\\)</span>')[:5]
        '<math'
    """
    return _FORMULA.sub(_drawn, content)


def _drawn(match: re.Match[str]) -> str:
    display = "inline" if match[2] == "(" else "block"
    return str(convert(html.unescape(match[3]).strip(), display=display))
