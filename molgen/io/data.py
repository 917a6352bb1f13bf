"""Data sources, the data folder, and downloads that can be interrupted."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from molgen.core.errors import DataError
from molgen.core.records import Records
from molgen.io.console import bar, warn
from molgen.io.files import check_writable

_CHUNK = 1 << 18
_TRIES = 4  # times that one address is asked before the next one
_HEADERS = {"User-Agent": "molgen (data set downloader)", "Accept-Encoding": "identity"}


@final
@dataclass(frozen=True)
class DataSource:
    """A named data set: what it is, and how each of its splits is read.

    Arguments:
        name: e.g. ``"qm9"``.
        load: `load(split)` with ``"train"``, ``"valid"`` or ``"test"`` gives `Records`; looks in the
            data folder first, else downloads from the official source.
        records: number of records, all splits together.
        source: where it comes from, for `molgen list`.
        licence: e.g. ``"CC0"``.
        files: the converted files relative to the data folder; empty if embedded.
        splits: the splits there are.
    """

    name: str
    load: Callable[[str], Records]
    records: int
    source: str
    licence: str
    files: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "valid", "test")

    @property
    def present(self) -> bool:
        """Whether it can be read here and now, without a download."""
        folder = data_folder()
        return all((folder / file).is_file() for file in self.files)


def embedded(
    name: str, make: Callable[[], Records], records: int, source: str = "in the package", licence: str = "-"
) -> DataSource:
    """A data set that needs no file of the user's: eight tenths of it train, a tenth each is for the rest.

    Arguments:
        name: how a user selects it.
        make: gives all records, always the same.
        records: their number.
        source, licence: as for `DataSource`.

    Example:
        >>> source = embedded("tens", lambda: Records(list(range(10))), 10)
        >>> [len(source.load(split)) for split in source.splits], source.present
        ([8, 1, 1], True)
    """

    def load(split: str) -> Records:
        whole = make()
        order = np.random.default_rng(0).permutation(len(whole))
        edges = [0, round(0.8 * len(whole)), round(0.9 * len(whole)), len(whole)]
        k = ("train", "valid", "test").index(split)
        part: Records = whole[np.sort(order[edges[k] : edges[k + 1]])]
        return Records(part.items, part.labels, f"{name}/{split}")

    return DataSource(name, load, records, source, licence)


def data_folder() -> Path:
    """Where data sets lie: `MOLGEN_DATA`, else the folder `molgen` in the user's cache; nothing is made.

    Example:
        >>> data_folder().is_absolute()
        True
    """
    named = os.environ.get("MOLGEN_DATA")
    if named:
        return Path(named).expanduser().absolute()
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "molgen"


def find_or_download(relative: str, urls: Sequence[str], md5: str | None = None, fix: str = "") -> Path:
    """A file of the data folder, downloaded first if it is not there.

    Arguments:
        relative: the file within the data folder, e.g. ``"mnist/train-images-idx3-ubyte.gz"``.
        urls: official address and mirrors; none where no address is known for certain.
        md5: the checksum, where it is known; a file that lies there already must match it as well.
        fix: what to tell the user about getting the file by hand.

    Errors: `DataError` naming the file, the addresses and what to put where.
    """
    path = data_folder() / relative
    if path.is_file():
        if md5 is not None and checksum(path) != md5:
            raise DataError(
                f"md5 {checksum(path)}, expected {md5}",
                file=path,
                fix="delete the file, so that it is downloaded again, or put the original there",
            )
        return path
    if not urls:
        raise DataError(
            "no such file, and no official address is known to fetch it from",
            file=path,
            fix=fix or f"place it there, or set MOLGEN_DATA to a folder that has {relative}",
        )
    return download(urls, path, md5, fix)


def download(
    urls: str | Sequence[str],
    path: str | Path,
    md5: str | None = None,
    fix: str = "",
    *,
    pause: float = 1.0,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """Downloads a file; goes on where it broke off, within a call and from one call to the next.

    What has arrived lies in `<path>.part` until it is complete and its checksum right; only then it
    takes its name. The lock `<path>.lock` keeps two processes from writing one file: the second waits,
    and returns what the first has downloaded.

    Arguments:
        urls: the address, or several that are tried in order.
        path: the file that shall exist afterwards.
        md5: the checksum, where it is known.
        fix: what to tell the user about getting the file by hand.
        pause: seconds before the second try, doubled for each further one.
        timeout: seconds without a byte after which a try is given up.
        progress: whether to show a bar on a terminal.

    Errors: `DataError` if no address gives the file, or it has another checksum.
    """
    path, addresses = Path(path), [urls] if isinstance(urls, str) else list(urls)
    part = path.with_name(path.name + ".part")
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _version(path)
    failures = []
    with _locked(path):
        if _version(path) not in (None, before) and md5 in (None, checksum(path)):
            return path
        for url in addresses:
            why = _fetch(url, part, pause, timeout, progress)
            if why is None and md5 is not None and (got := checksum(part)) != md5:
                part.unlink()
                why = f"md5 {got}, expected {md5}"
            if why is None:
                os.replace(part, path)
                return path
            failures.append(f"{url}: {why}")
        kept = f"run again to go on after {part.stat().st_size:,} bytes, or " if part.is_file() else ""
    by_hand = fix or f"fetch it by hand from {' or '.join(addresses)} and put it there"
    raise DataError(f"cannot be downloaded ({'; '.join(failures)})", file=path, fix=kept + by_hand)


def checksum(path: str | Path) -> str:
    """The md5 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds `<path>.lock`, and removes it afterwards."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        warn(f"waiting for another process that downloads {path}")
        lock.acquire()
    try:
        yield
    finally:
        # FileLock checks that the file it locked still exists, so removing it here is safe.
        if os.name != "nt":
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _version(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None if there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def _fetch(url: str, part: Path, pause: float, timeout: float, progress: bool) -> str | None:
    """Downloads an address to `part`, with several tries; None, or why it failed."""
    from requests import HTTPError

    if not url.startswith(("http://", "https://")):
        return "not an http address"
    why = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _continue(url, part, timeout, progress)
            return None
        except HTTPError as error:
            return str(error)  # asking again does not help
        except OSError as error:  # those of requests among them
            why = _cause(error)
    return why


def _cause(error: BaseException) -> str:
    """The message of the innermost error: requests wraps it in those of two libraries."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return str(error) or type(error).__name__


def _continue(url: str, part: Path, timeout: float, progress: bool) -> None:
    """One try: requests what is missing after the bytes of `part`, and appends it."""
    import requests
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    have = part.stat().st_size if part.is_file() else 0
    headers = _HEADERS | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, timeout=timeout, stream=True) as answer:
        if answer.status_code == 416 and have:
            if answer.headers.get("Content-Range") == f"bytes */{have}":
                return  # it was complete already
            part.unlink()
            raise ConnectionError("the file has changed there; starting anew")
        if answer.status_code >= 400:
            passing = answer.status_code >= 500 or answer.status_code == 429
            why = f"HTTP {answer.status_code} {answer.reason}"
            raise ConnectionError(why) if passing else requests.HTTPError(why)
        resumed = answer.status_code == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise ConnectionError("another range came than was asked for")
        length = answer.headers.get("Content-Length")
        got = have if resumed else 0
        total = None if length is None else got + int(length)
        with part.open("ab" if resumed else "wb") as file, bar(total, part.stem, progress) as advance:
            advance(got)
            try:
                for chunk in answer.raw.stream(_CHUNK, decode_content=False):
                    file.write(chunk)
                    got += len(chunk)
                    advance(len(chunk))
            except HTTPError as error:  # urllib3 compares the length
                why = "timed out" if isinstance(error, ReadTimeoutError) else "broke off"
                of = "" if total is None else f" of {total:,}"
                raise ConnectionError(f"{why} after {got:,}{of} bytes") from None
