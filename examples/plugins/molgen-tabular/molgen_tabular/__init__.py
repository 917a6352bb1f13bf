"""Rows of a table: real, whole and categorical columns with gaps. A row is one site, a column a field."""

import io
import math
import zlib
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd

from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Categorical, Continuous
from molgen.core.modality import Format, Modality
from molgen.core.records import Records
from molgen.io.data import embedded
from molgen.io.files import atomic, read_bytes
from molgen.io.resolve import resolve
from molgen_tabular.tables import TABLES

KINDS = ("real", "integer", "category")
_FIX = "mend or remove it, or learn the columns from all rows: Tabular().fit_to(rows)"


class Tabular(Modality):
    """Rows of a table: dicts from names of columns to a number, a text, or None where there is no value.

    Whether a number is missing is a class beside it; a missing category is one more category. In place of a
    missing number stands a draw that the rest of the row fixes: a constant would have infinite density.

    Arguments:
        columns: ``"real"``, ``"integer"`` or ``"category"`` for columns whose kind the data tell wrongly, as
            codes that are no numbers; after `fit_to`, all that was learned of each column.

    Example:
        >>> table = Tabular().fit_to([{"age": 31, "city": "Bern"}, {"age": None, "city": "Basel"}])
        >>> table.decode(table.encode({"age": None, "city": "Bern"}, "row"), "row")
        {'age': None, 'city': 'Bern'}
    """

    name = "tabular"

    def __init__(self, columns=None, **learned):
        super().__init__(**learned)
        self.columns = dict(columns or {})
        if wrong := [c for c in self.columns.values() if not isinstance(c, dict) and c not in KINDS]:
            raise ConfigError.unknown("kind of column", wrong[0], KINDS)
        # Names of fields may hold no dot.
        self._known = [(n.replace(".", "·"), n, c) for n, c in self.columns.items() if isinstance(c, dict)]

    def learn(self, records):
        if not all(isinstance(row, dict) and all(isinstance(n, str) for n in row) for row in records):
            raise DataError("not all rows are dicts by names of columns", fix="give such, a frame, or a CSV")
        frame = pd.DataFrame(list(records), dtype=object)
        if absent := [name for name in self.columns if name not in frame]:
            raise DataError(f"no column {absent[0]!r} among {', '.join(frame)}", fix="mend its name")
        given = {name: self.columns.get(name) for name in frame}
        return {"columns": {n: c if isinstance(c, dict) else _learned(frame[n], c) for n, c in given.items()}}

    @property
    def fields(self):
        found = {}
        for key, _, column in self._known:
            if "values" in column:
                found[key] = Categorical(len(column["values"]), **self.learned(key))
                continue
            found[key] = Continuous(1, levels=column["levels"], **self.learned(key))
            if column["gaps"]:
                found[f"no {key}"] = Categorical(2, **self.learned(f"no {key}"))
        return found or {"x": Continuous(1)}  # before a table was seen

    @property
    def views(self):
        filled = any(column.get("gaps") for _, _, column in self._known)
        return {"row": replace(super().views["fields"], name="row", bijective=not filled)}

    def encode(self, record, view):
        if not isinstance(record, dict) or not record or record.keys() - self.columns.keys():
            raise DataError(f"{record!r:.60}, expected a dict with {', '.join(self.columns)}", fix=_FIX)
        sample, empty = {}, []
        for key, name, column in self._known:
            value = None if _missing(record.get(name)) else record[name]
            if "values" in column:
                sample[key] = np.array([_code(name, value, column["values"])])
                continue
            if column["gaps"]:
                sample[f"no {key}"] = np.array([int(value is None)])
            if column["gaps"] and value is None:
                empty.append((key, column["levels"]))
            else:
                sample[key] = np.array([[_scaled(name, value, column)]], np.float32)
        draw = np.random.default_rng(zlib.crc32(b"".join(x.tobytes() for x in sample.values())))
        for key, levels in empty:
            x = draw.integers(levels) * 2 / (levels - 1) - 1 if levels else draw.normal()
            sample[key] = np.array([[x]], np.float32)
        return sample

    def decode(self, sample, view):
        row = {}
        for key, name, column in self._known:
            x = sample[key].flat[0].item()
            if "values" in column:
                row[name] = dict(enumerate(column["values"])).get(x)
                continue
            value = round(x * column["scale"] + column["centre"], column["places"])
            gap = column["gaps"] and sample[f"no {key}"][0]
            row[name] = None if gap else value if column["places"] else int(value)
        return row

    def evaluate(self, records, reference=None, **options):
        if reference is not None and not isinstance(reference, str):
            reference = resolve(self, reference)  # a frame, perhaps
        if self._known:
            return super().evaluate(resolve(self, records), reference, **options)
        seen = records if reference is None else resolve(self, reference)  # it knows the columns
        return self.fit_to(seen).evaluate(records, reference, **options)

    @property
    def formats(self):
        return Format((".csv", ".csv.gz"), self._read, _write), *super().formats

    def _read(self, path, on_error):
        kinds = {name: str for _, name, column in self._known if "values" in column}
        try:
            frame = pd.read_csv(io.BytesIO(read_bytes(path)), dtype=kinds)
        except ValueError as error:
            raise DataError(f"not a table ({error})", file=path, fix="give a CSV with a header") from None
        good = []
        for line, row in enumerate(self.from_frame(frame.convert_dtypes()), 2):
            try:
                good += [row] if not self._known or self.encode(row, "row") else []
            except DataError as error:
                on_error(error.at(file=path, record=f"line {line}"))
        return Records(good, name=path.name)

    def from_frame(self, frame):
        return Records(frame.astype(object).to_dict("records"), name="frame in memory")

    @property
    def datasets(self):
        return {name: embedded(name, *made, "scikit-learn", "BSD-3-Clause") for name, made in TABLES.items()}


def _missing(value):
    return (isinstance(value, str) and not value) or pd.isna(value) is True


def _code(name, value, values):
    value = None if value is None else str(value)
    if value not in values:
        raise DataError(f"{name} {value!r}, which was not in the data", fix=_FIX)
    return values.index(value)


def _scaled(name, value, column):
    try:
        x = (float(value) - column["centre"]) / column["scale"]
    except (TypeError, ValueError):
        x = math.nan
    if not abs(x) < math.inf or (column["levels"] and float(value) % 1):
        raise DataError(f"{name} {value!r}, expected a number as in the data", fix=_FIX)
    return x


def _learned(cells, kind):
    """What is known of a column: its values; or scale, places after the point, and levels where few."""
    known = cells[~cells.map(_missing)]
    gaps = len(known) < len(cells)
    kind = kind or {"i": "integer", "u": "integer", "f": "real"}.get(known.convert_dtypes().dtype.kind)
    if kind not in ("real", "integer") or known.empty:
        return {"values": sorted(set(known.map(str))) + [None] * gaps}
    x = np.array([_scaled(cells.name, v, {"centre": 0, "scale": 1, "levels": None}) for v in known])
    mean, sd, levels = float(x.mean()), float(x.std()) or 1.0, None
    low, high = int(x.min()), int(x.max())
    if kind == "integer" and 0 < high - low < 400:  # whole numbers of a wider range are rounded reals
        wide = (high - low) // 8  # room for rows not yet seen; one beyond is as likely as the last level
        low, high = low - (wide if low < 0 else min(wide, low)), high + wide
        mean, sd, levels = (low + high) / 2, (high - low) / 2, high - low + 1
    digits = max(-int(Decimal(repr(v)).as_tuple().exponent) for v in x.tolist())  # as the data are written
    places = 0 if kind == "integer" else min(digits, 6 - math.floor(math.log10(sd)))
    return {"centre": mean, "scale": sd, "places": places, "levels": levels, "gaps": gaps}


def _write(path, records):
    with atomic(path) as temporary:
        pd.DataFrame(list(records), dtype=object).to_csv(temporary, index=False)
