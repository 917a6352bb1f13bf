"""The errors a user can meet: what was got, what was expected, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class MolgenError(Exception):
    """Base of every error that molgen raises on purpose; its text is one clear line."""


class DataError(MolgenError):
    """A file or a record that cannot be used: names the file, the record and the fix.

    Arguments:
        problem: what was got and what was expected.
        file: the file at fault, if there is one.
        record: the record at fault: a 1-based number, a line (``"line 12"``) or a name.
        fix: what the user can do about it.

    Example:
        >>> print(DataError("unclosed ring 1", file="a.smi", record="line 3", fix="close the ring"))
        a.smi, line 3: unclosed ring 1; close the ring
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        record: int | str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.file, self.record, self.fix = problem, file, record, fix
        where = [str(file)] if file is not None else []
        if record is not None:
            where.append(f"record {record}" if isinstance(record, int) else record)
        text = ", ".join(where) + ": " + problem if where else problem
        super().__init__(text if fix is None else f"{text}; {fix}")

    def at(self, *, file: str | Path | None = None, record: int | str | None = None) -> DataError:
        """The same error with a place added, for callers who know where the record came from."""
        return DataError(
            self.problem,
            file=self.file if file is None else file,
            record=self.record if record is None else record,
            fix=self.fix,
        )


class UnsupportedError(MolgenError):
    """A pair of family and modality, or a request to one, that cannot be served; names what is missing."""


class CheckpointError(MolgenError):
    """A checkpoint that cannot be read: truncated, of another version, or hostile."""


class ConfigError(MolgenError):
    """An option with a value it does not take; suggests the nearest choice.

    Example:
        >>> print(ConfigError.unknown("family", "difusion", ["diffusion", "flow"]))
        unknown family 'difusion': did you mean 'diffusion'? Choices: diffusion, flow
    """

    @classmethod
    def unknown(cls, option: str, got: object, choices: Iterable[str]) -> ConfigError:
        """The error for a name that is not among the choices."""
        names = sorted(choices)
        near = difflib.get_close_matches(str(got), names, n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        return cls(f"unknown {option} {got!r}:{hint} Choices: {', '.join(names) or 'none'}")


class MolgenWarning(UserWarning):
    """Something that does not stop a run but spoils its result: a collapse, a divergence."""
