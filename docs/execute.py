"""Runs the code of the guide: `python -m docs.execute [PAGE ...]` runs pages and updates their pictures.

A page is run from top to bottom in an empty folder. Its `python` blocks share one namespace; those with
`>>>` are doctests. In `bash` blocks the lines that start with `molgen` are run; a `text` block directly below
is their output, or the error message of a command that exits with status 2. Numbers with a decimal point may
differ by five per cent or two units of their last digit, since machines round differently; everything else is
compared exactly. A `console` block is only shown.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import math
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

PAGES = Path(__file__).parent / "pages"
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]*/)?images/([^)]+\.png)\)")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+\.\d*(?:e[-+]?\d+)?(?![\w.]*\w)")
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Arguments:
        language: the word after the fence.
        code: its text.
        line: the first line of the text, counted from 1.
        shown: the text block right after it, or None.
    """

    language: str
    code: str
    line: int
    shown: str | None = None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    matches = list(_FENCE.finditer(text))
    found = []
    for match, after in zip_longest(matches, matches[1:]):
        follows = after is not None and after[1] == "text" and not text[match.end() : after.start()].strip()
        shown = after[2] if after is not None and follows else None
        found.append(Block(match[1], match[2], text.count("\n", 0, match.start()) + 2, shown))
    return found


def pictures(page: Path) -> list[str]:
    """Names of the pictures that a page shows."""
    return [match[2] for match in _PICTURE.finditer(page.read_text(encoding="utf-8"))]


def execute(page: Path, folder: Path) -> None:
    """Runs a page in a folder.

    Errors: `AssertionError` with the lines whose output differs from the page.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    differences = []
    with contextlib.chdir(folder):
        for block in blocks(page):
            where = f"{page.name}, line {block.line}"
            if block.language == "bash":
                differences.append(_commands(block, where))
            elif block.language == "python" and ">>>" in block.code:
                differences.append(_doctest(block, page, namespace))
            elif block.language == "python":
                code = "\n" * (block.line - 1) + block.code  # so that tracebacks name the page's lines
                exec(compile(code, str(page), "exec"), namespace)
    if any(differences):
        raise AssertionError("\n".join(filter(None, differences)))


class Checker(doctest.OutputChecker):
    """Compares text exactly, except numbers with a decimal point, which may differ by some per cent.

    Example:
        >>> Checker().check_output("fcd 2.178, 10 of 10\\n", "fcd 2.19, 10 of 10\\n", 0)
        True
        >>> Checker().check_output("fcd 2.178, 10 of 10\\n", "fcd 2.178, 9 of 10\\n", 0)
        False
    """

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        flags = optionflags | doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
        if super().check_output(want, got, flags):
            return True
        known, found = _NUMBER.findall(want), _NUMBER.findall(got)
        if len(known) != len(found) or not all(map(_near, known, found)):
            return False
        return super().check_output(_NUMBER.sub("#", want), _NUMBER.sub("#", got), flags)


def _near(want: str, got: str) -> bool:
    digit = 10.0 ** -len(want.partition(".")[2].partition("e")[0])
    return math.isclose(float(want), float(got), rel_tol=_TOLERANCE, abs_tol=2.01 * digit)


def _doctest(block: Block, page: Path, namespace: dict[str, Any]) -> str:
    """Runs a block of examples; what differs, if anything."""
    test = doctest.DocTestParser().get_doctest(block.code, namespace, page.name, str(page), block.line - 1)
    test.globs = namespace  # not a copy, so that the next block has the names
    errors = io.StringIO()
    runner = doctest.DocTestRunner(checker=Checker(), verbose=False)
    runner.run(test, out=errors.write, clear_globs=False)
    return errors.getvalue()


def _commands(block: Block, where: str) -> str:
    """Runs the commands of a block; what differs, if anything.

    Errors: `AssertionError` for a command with another exit status.
    """
    from molgen import cli

    printed, errors = io.StringIO(), io.StringIO()
    wanted = 2 if block.shown is not None and block.shown.startswith("molgen: ") else 0
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["molgen"]:
            continue
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            status = cli.main(words[1:])
        if status != wanted:
            raise AssertionError(f"{where}: `{line}` exits with {status}: {errors.getvalue()}")
    got = (errors if wanted else printed).getvalue()
    if block.shown is not None and not Checker().check_output(block.shown, got, 0):
        return f"{where}: expected\n{block.shown}\ngot\n{got}"
    return ""


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs pages, all by default, and copies their pictures into `pages/images`."""
    parser = argparse.ArgumentParser(prog="python -m docs.execute", description=__doc__)
    parser.add_argument("pages", nargs="*", help="e.g. metrics; all by default")
    names = parser.parse_args(argv).pages or [str(p.relative_to(PAGES).with_suffix("")) for p in every()]
    import torch

    torch.set_num_threads(1)
    for name in names:
        page = PAGES / f"{name}.md"
        with _temporary() as folder:
            os.environ["MOLGEN_DATA"] = str(folder / "no-data")  # embedded data are enough
            execute(page, folder)
            for picture in pictures(page):
                if (folder / picture).is_file():
                    shutil.copy(folder / picture, PAGES / "images" / picture)
        print(f"{name}: output as shown")
    return 0


def every() -> list[Path]:
    """The pages that hold code to run."""
    run = ("python", "bash")
    return [p for p in sorted(PAGES.rglob("*.md")) if any(b.language in run for b in blocks(p))]


if __name__ == "__main__":
    raise SystemExit(main())
