"""Text: a kind of data for molgen, one character a site."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Categorical
from molgen.core.modality import Format, Modality, View
from molgen.core.records import Records
from molgen.io.data import DataSource, embedded
from molgen.io.files import atomic, read_lines
from molgen_text.corpora import descriptions, number, number_names

ASCII = "".join(map(chr, range(32, 127)))
DEFAULTS = {"solver": "ancestral", "steps": 64, "decoder": "autoregressive"}


@final
class Text(Modality):
    """Lines of text: `str`, without line breaks, not empty.

    Arguments:
        alphabet: the characters, in the order of their codes; before data are seen, printable ASCII.
        learned: as for `Modality`.

    Example:
        >>> text = Text().fit_to(["ab", "cab"])
        >>> text.alphabet, text.encode("cab", "characters")["characters"].tolist()
        ('abc', [2, 0, 1])
    """

    name = "text"

    def __init__(self, alphabet: str = ASCII, **learned: Any) -> None:
        super().__init__(**learned)
        if not alphabet or len(set(alphabet)) != len(alphabet):
            raise ConfigError(f"alphabet {alphabet!r}: expected distinct characters, at least one")
        self.alphabet = alphabet

    @property
    def views(self) -> Mapping[str, View]:
        field = Categorical(len(self.alphabet), **self.learned("characters"))
        return {"characters": View("characters", {"characters": field}, ordered=True, defaults=DEFAULTS)}

    def learn(self, records: Sequence[Any]) -> dict[str, Any]:
        return {"alphabet": "".join(sorted(set("".join(map(str, records))))) or ASCII}

    def encode(self, record: Any, view: str) -> Sample:
        if not isinstance(record, str) or record.splitlines() != [record]:
            raise DataError(f"{record!r:.80}, expected a line of text", fix="remove it")
        codes = [self.alphabet.find(character) for character in record]
        if -1 in codes:
            raise DataError(
                f"character {record[codes.index(-1)]!r} of {record!r:.80} is not among {self.alphabet!r}",
                fix="leave the record out, or fit to data that have it",
            )
        return {"characters": np.array(codes)}

    def decode(self, sample: Sample, view: str) -> str:
        # A site that was never written is no character of any alphabet: the sign that stands for one.
        return "".join(f"{self.alphabet}\ufffd"[i] for i in sample["characters"].tolist())

    @property
    def formats(self) -> Sequence[Format]:
        return [Format((".txt", ".txt.gz"), _read, _write)]

    @property
    def datasets(self) -> Mapping[str, DataSource]:
        made, rst = "made by formula", "descriptions that ship with scikit-learn"
        return {
            "numbers": embedded("numbers", number_names, 10_000, made),
            "descriptions": embedded("descriptions", descriptions, len(descriptions()), rst, "BSD-3-Clause"),
        }

    def evaluate(self, records: Sequence[Any], reference: Any = None, **options: Any) -> dict[str, float]:
        """Generic scores, and with a reference `words`, `new` and, if it holds number names, `numbers`.

        They are shares: of words that the reference has, of records that it has not, of records that
        are number names. `floor/words` and `floor/new` are those of records that were held out.
        """
        if reference is None:
            return super().evaluate(records, None, **options)
        if isinstance(reference, str):
            if reference not in self.datasets:
                raise ConfigError.unknown("reference of text", reference, self.datasets)
            known, held = (self.datasets[reference].load(part) for part in ("train", "test"))
        else:
            known, held = reference[1::2], reference[::2]
        told = self.replace(scales={}, **self.learn([*known, *held]))
        scores = super(Text, told).evaluate(records, reference, **options)
        words, lines = {word for text in known for word in text.split()}, set(known)
        for key, some in (("", records), ("floor/", held)):
            scores[f"{key}words"] = _share(word in words for text in some for word in text.split())
            scores[f"{key}new"] = _share(text not in lines for text in some)
        if all(number(text) is not None for text in held):
            scores["numbers"] = _share(number(text) is not None for text in records)
        return scores


def _share(found: Any) -> float:
    found = list(found)
    return sum(found) / len(found) if found else float("nan")


def _read(path: Path, on_error: Any) -> Records:
    """A record a line, without empty ones; of `name.txt:80`, pieces of 80 characters, blanks made one."""
    name, _, length = path.name.partition(":")
    if length and not (length.isdecimal() and int(length)):
        raise ConfigError(f"{path}: expected a whole number of characters after the colon, as in a.txt:80")
    lines = [(n, line) for n, line in read_lines(path.with_name(name)) if line]
    if length:
        flow, k = " ".join(" ".join(line for _, line in lines).split()), int(length)
        return Records([flow[i : i + k] for i in range(0, len(flow) - k + 1, k)], name=name)
    items = []
    for n, line in lines:
        if line.splitlines() == [line]:
            items.append(line)
        else:
            on_error(DataError("a line with a break in it", file=path, record=f"line {n}", fix="remove it"))
    return Records(items, name=name)


def _write(path: Path, records: Sequence[Any]) -> None:
    data = "".join(f"{text}\n" for text in records).encode()
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
