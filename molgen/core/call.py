"""Options that are handed on by name: a misspelt one is told with the nearest that there is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from molgen.core.errors import ConfigError

Found = TypeVar("Found")


def called(what: str, function: Callable[..., Found], *args: Any, **options: Any) -> Found:
    """The function's value for these arguments and options.

    Arguments:
        what: the options' noun, for the error, e.g. ``"scoring option of image"``.
        function: what is called; one that takes options of any name must look at them itself.
        args: its first arguments.
        options: the others, by name.

    Errors: `ConfigError` for an option that it does not take.

    Example:
        >>> def score(records, *, seed=0):
        ...     return len(records) + seed
        >>> called("scoring option", score, "abc", seed=2)
        5
        >>> called("scoring option", score, "abc", sed=2)
        Traceback (most recent call last):
        molgen.core.errors.ConfigError: unknown scoring option 'sed': did you mean 'seed'? Choices: seed
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        taken = [p.name for p in parameters[len(args) :] if p.kind in named]
        for name in options:
            if name not in taken:
                raise ConfigError.unknown(what, name, taken)
    return function(*args, **options)
