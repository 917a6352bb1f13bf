"""Reading and writing files so that nothing is ever half written and every complaint names the file."""

from __future__ import annotations

import difflib
import gzip
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from molgen.core.errors import DataError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path to write a file or a folder at, which takes the place of `path` at the end.

    The temporary path lies beside `path` and keeps its suffixes. If the body raises, or is killed,
    whatever stood at `path` stands there still. A missing parent folder is made.

    Arguments:
        path: the file, or the folder, that shall exist afterwards.

    Errors: `DataError` if `path` cannot be written, or is a folder with something in it.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    check_writable(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            path.rmdir()  # empty, as checked above
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (temporary, path, path.parent):
            raise  # another file's trouble, met inside the body
        raise _unwritable(path, error.strerror or str(error)) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Writes pieces of text as they come, atomically; packed, the same bytes every time, for `.gz`.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.smi"
        >>> write_pieces(target, ("C" * n + " " for n in (1, 2)))
        >>> target.read_text()
        'C CC '
    """
    with atomic(path) as temporary, temporary.open("wb") as raw:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
                for piece in pieces:
                    packed.write(piece.encode())
        else:
            for piece in pieces:
                raw.write(piece.encode())


def check_writable(path: str | Path) -> None:
    """Refuses a path that cannot be written, before any long work, and leaves nothing behind.

    Errors: `DataError` if the folder is read-only, a parent is a file, or `path` is a folder with
        something in it.
    """
    path = Path(path)
    if path.name in ("", "..") or (path.is_dir() and path.resolve() == Path.cwd()):
        raise _unwritable(path, "not a file's name")
    if path.is_dir() and any(path.iterdir()):
        raise DataError(
            "a folder that is not empty", file=path, fix="give a new path, or empty the folder first"
        )
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise _unwritable(path, f"{folder} is not a folder")
    if path.exists() and not os.access(path, os.W_OK):
        raise _unwritable(path, "the file is read-only")
    probe = folder / f".{secrets.token_hex(4)}.probe"
    try:  # permission bits do not tell of read-only mounts and full disks; a file does
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def read_bytes(path: str | Path) -> bytes:
    """The contents of a file, unpacked if its name ends in `.gz`.

    Errors: `DataError` if the file is missing, empty, unreadable, or a truncated or damaged gzip.
    """
    path = Path(path)
    raw = _raw(path)
    if path.suffix.lower() != ".gz":
        return raw
    try:
        data = gzip.decompress(raw)
    except EOFError:
        raise DataError("a gzip file that breaks off", file=path, fix="copy or fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"not a sound gzip file ({error})", file=path, fix="copy or fetch it again") from None
    if not data:
        raise DataError("the file is empty", file=path, fix="give a file with at least one record")
    return data


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""The lines of a text file with their 1-based numbers, without line ends; reads `.gz` too.

    Errors: as for `read_bytes`, and `DataError` naming the line that is not UTF-8 text.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.smi"
        >>> _ = path.write_text("CCO\nC\n")
        >>> list(read_lines(path))
        [(1, 'CCO'), (2, 'C')]
    """
    path = Path(path)
    lines = read_bytes(path).split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise DataError("not a text file", file=path, record=f"line {number}", fix="give plain text")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError(
                "not UTF-8 text", file=path, record=f"line {number}", fix="save the file as UTF-8"
            ) from None
        yield number, text.removesuffix("\r")


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], compressed: bool = True) -> None:
    """Writes named arrays to an `.npz` file, atomically.

    Arguments:
        path: the file; its name is kept as it is.
        arrays: by name, of any type but objects.
        compressed: smaller and slower.

    Errors: `DataError` if the file cannot be written or an array holds objects.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise DataError(f"array {name!r} holds Python objects", file=path, fix="give it a plain type")
    save = np.savez_compressed if compressed else np.savez
    with atomic(path) as temporary, temporary.open("wb") as file:
        save(file, **{k: np.asarray(v) for k, v in arrays.items()})  # type: ignore[arg-type, unused-ignore]


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` file; nothing pickled is ever loaded.

    Errors: `DataError` if the file is missing, empty, damaged, or holds pickled objects.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> save_arrays(path, {"x": np.arange(3)})
        >>> load_arrays(path)
        {'x': array([0, 1, 2])}
    """
    path = Path(path)
    _exists(path)
    try:
        # Opened here, since numpy leaks the file it opened itself when that is damaged.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                fix = "write it with numpy.savez"
                raise DataError("a single array, expected an npz file", file=path, fix=fix)
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"not an npz file of plain arrays, or damaged ({why})", file=path, fix="write or fetch it again"
        ) from None


def _raw(path: Path) -> bytes:
    _exists(path)
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise DataError(problem, file=path, fix="check its permissions") from None


def _exists(path: Path) -> None:
    """Refuses what is missing, a folder, or empty."""
    if path.is_dir():
        raise DataError("a folder, expected a file", file=path, fix="name a file inside it")
    if not path.exists():
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        if near:
            fix = f"did you mean {path.with_name(near[0])}?"
        else:
            fix = "check the path" if path.parent.is_dir() else f"there is no folder {path.parent}"
        raise DataError("no such file", file=path, fix=fix)
    if path.is_file() and path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, fix="give a file with at least one record")


def _unwritable(path: Path, why: str) -> DataError:
    return DataError(f"cannot be written ({why})", file=path, fix="give a path in a folder you can write to")
