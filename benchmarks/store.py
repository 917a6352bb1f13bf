"""Rows of measurements on disk, written one by one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from molgen.core.errors import DataError
from molgen.io.files import atomic

RESULTS = Path(__file__).parent / "results"


@final
class Store:
    """A JSON file of rows, each identified by some of its entries.

    Every row is on disk when `put` returns, so that an interrupted run loses only its current row.

    Arguments:
        path: the file; need not exist.
        kind: the kind of rows, stored with them.
        key: the entries that identify a row.

    Errors: `DataError` for a file with other content.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> Store(path, "demo", ["cell"]).put({"cell": "a", "value": 1})
        >>> Store(path, "demo", ["cell"]).put({"cell": "a", "value": 2})
        >>> Store(path, "demo", ["cell"]).rows
        [{'cell': 'a', 'value': 2}]
    """

    def __init__(self, path: Path, kind: str, key: Sequence[str]) -> None:
        self.path, self.kind, self.key = path, kind, tuple(key)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows on disk, in the order of their first writing."""
        if not self.path.is_file():
            return []
        content = read_json(self.path)
        if content.get("kind") != self.kind or not isinstance(content.get("rows"), list):
            raise DataError(f"no rows of kind {self.kind!r}", file=self.path, fix="move it out of the way")
        rows: list[dict[str, Any]] = content["rows"]
        return rows

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """The first row with all these entries, or None."""
        return next((row for row in self.rows if self._has(row, wanted)), None)

    def put(self, row: Mapping[str, Any]) -> None:
        """Writes a row, and replaces the one with the same key, if any."""
        rows, own = self.rows, {name: row[name] for name in self.key}
        places = [i for i, other in enumerate(rows) if self._has(other, own)]
        if places:
            rows[places[0]] = dict(row)
        else:
            rows.append(dict(row))
        write_json(self.path, {"kind": self.kind, "rows": rows})

    @staticmethod
    def _has(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        return all(row.get(name) == value for name, value in wanted.items())


def read_json(path: Path) -> dict[str, Any]:
    """A result; `DataError` if the file is not a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DataError("not a JSON object", file=path, fix="move it out of the way")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a result, atomically, as standard JSON: NaN and infinities become null."""
    text = json.dumps(_plain(content), indent=1, allow_nan=False)
    with atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
