"""Two corpora that need no download: English number names, and prose that ships with scikit-learn."""

from functools import cache
from importlib.resources import files

from molgen.core.records import Records

ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
VALUES = {word: n for n, word in enumerate(ONES)} | {word: 10 * n for n, word in enumerate(TENS, 2)}


def name(n: int) -> str:
    """The English name of a number below a million.

    Example:
        >>> name(407), name(90_021)
        ('four hundred and seven', 'ninety thousand and twenty-one')
    """
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{ONES[n % 10]}" if n % 10 else "")
    size, word = (100, "hundred") if n < 1000 else (1000, "thousand")
    rest = n % size
    link = " and " if 0 < rest < 100 else " "
    return f"{name(n // size)} {word}" + (link + name(rest) if rest else "")


def number(text: str) -> int | None:
    """The number that has this name, or None if none has.

    Example:
        >>> number("four hundred and seven"), number("four hundred seven")
        (407, None)
    """
    total = part = 0
    for word in text.replace("-", " ").split():
        if word == "thousand":
            total, part = 1000 * part, 0
        else:
            part = 100 * part if word == "hundred" else part + VALUES.get(word, 0)
    # Whatever the words may add up to: a name is what `name` gives.
    return total + part if total + part < 10**6 and name(total + part) == text else None


def number_names() -> Records:
    """The names of 0 to 9999."""
    return Records([name(n) for n in range(10_000)], name="numbers")


@cache
def descriptions() -> Records:
    """Pieces of 32 characters of what scikit-learn tells of its data sets, without lines of mere signs."""
    pages = {page.name: page for page in files("sklearn.datasets.descr").iterdir()}
    rst = [pages[name].read_text(encoding="utf-8") for name in sorted(pages) if name.endswith(".rst")]
    lines = [line for text in rst for line in text.splitlines()]
    flow = " ".join(" ".join(line for line in lines if any(map(str.isalpha, line))).split())
    return Records([flow[i : i + 32] for i in range(0, len(flow) - 31, 32)], name="descriptions")
