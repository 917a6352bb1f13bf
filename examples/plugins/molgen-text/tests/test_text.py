"""Text keeps what molgen promises, its files come back, its names of numbers mean numbers."""

from pathlib import Path

import pytest
from molgen_text import Text
from molgen_text.corpora import descriptions, name, number

from molgen import AutoregressiveModel
from molgen.core.errors import ConfigError, DataError
from molgen.core.registry import MODALITIES, lent
from molgen.io.formats import read, write
from molgen.testing import Check, modality_checks


@pytest.mark.parametrize("check", modality_checks(Text(), families=["autoregressive", "diffusion"]), ids=str)
def test_conformance(check: Check) -> None:
    check()


def test_a_number_has_one_name_and_a_name_one_number() -> None:
    numbers = [*range(2000), *range(2000, 10**6, 997), 10**6 - 1]
    assert all(number(name(n)) == n for n in numbers)
    assert len({name(n) for n in numbers}) == len(numbers)


@pytest.mark.parametrize(
    "text", ["", "and", "seven four", "two hundred seven", "hundred", "one  two", "zero hundred", "twenty-"]
)
def test_what_is_no_name_is_no_number(text: str) -> None:
    assert number(text) is None


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    lines = ["b\ta", " leading", "naïve – ☃", "a"]
    for suffix in ("txt", "txt.gz"):
        path = tmp_path / f"some.{suffix}"
        write(Text(), path, lines)
        assert list(read(Text(), path)) == lines


def test_a_file_is_cut_into_pieces(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("one two\n\n  three  four\nfive", encoding="utf-8")
    assert list(read(Text(), tmp_path / "book.txt:8")) == ["one two ", "three fo"]
    assert list(read(Text(), tmp_path / "book.txt")) == ["one two", "  three  four", "five"]
    with pytest.raises(ConfigError, match="whole number of characters"):
        read(Text(), tmp_path / "book.txt:many")


def test_the_alphabet_is_that_of_the_data() -> None:
    fitted = Text().fit_to(["snow", "on ☃"])
    assert fitted.alphabet == " nosw☃"
    with pytest.raises(DataError, match="'x' of 'ox' is not among"):
        fitted.encode("ox", "characters")
    with pytest.raises(DataError, match="expected a line of text"):
        fitted.encode("on\nwo", "characters")


def test_scores_count_words_names_and_what_is_new() -> None:
    modality = Text()
    some = ["four hundred and seven", "zero", "four hundred and seventeem", "ten thousand"] * 4
    scores = modality.evaluate(some, "numbers")
    train = set(modality.datasets["numbers"].load("train"))
    assert scores["numbers"] == 3 / 4
    assert scores["words"] == 1 - 1 / 11  # seventeem
    assert scores["new"] == sum(text not in train for text in some) / 16
    assert scores["floor/new"] == 1
    assert scores["valid"] == 3 / 4  # no number has an m
    assert scores["floor/size"] < scores["size"]
    assert "numbers" not in modality.evaluate(some, "descriptions")


def test_records_of_the_data_score_as_their_floor() -> None:
    known = list(descriptions())
    assert len(known) > 500
    assert all(len(text) == 32 for text in known)
    assert Text().evaluate(known[1::2], known)["words"] == 1
    assert Text().evaluate(known[1::2], known)["new"] == 0


def test_a_prefix_is_completed_with_what_follows_it() -> None:
    """Of ab and cd repeated, c is followed by d: after a prefix the chain rule goes on."""
    with lent(MODALITIES, Text):
        model = AutoregressiveModel(Text(), trunk_options={"width": 32, "depth": 1, "heads": 2})
        model.fit(["ababab", "cdcdcd"] * 40, max_steps=100, lr=5e-3, seed=0)
    assert model.complete("c", n=4, seed=0, top_k=1) == ["cdcdcd"] * 4
    assert model.complete("aba", n=2, seed=1, top_k=1) == ["ababab"] * 2
