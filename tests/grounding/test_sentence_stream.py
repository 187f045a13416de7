from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.grounding.marks import MarkFilter, without_marks
from fourcorners.grounding.sentence_stream import MAX_PENDING_CHARS, SentenceStream
from tests.support import texts


def sentences(pieces: list[str]) -> list[str]:
    stream = SentenceStream()
    found = [sentence for piece in pieces for sentence in stream.feed(piece)]
    return [*found, *stream.end()]


def cut(text: str, places: list[int]) -> list[str]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. It pours.", ["It rains. ", "It pours."]),
        ("Is it? Yes! Good.", ["Is it? ", "Yes! ", "Good."]),
        ("Dr. Smith came at 3.15 p.m. on foot.", ["Dr. Smith came at 3.15 p.m. on foot."]),
        ("It costs 3.50 euros. He paid.", ["It costs 3.50 euros. ", "He paid."]),
        ("Am 3. März kam er. Er blieb.", ["Am 3. März kam er. ", "Er blieb."]),
        ("1. Open the lid.\n2. Pour.", ["1. Open the lid.\n", "2. Pour."]),
        ("- one thing\n- another thing", ["- one thing\n", "- another thing"]),
        ("The pump is covered\nfor four years.", ["The pump is covered\nfor four years."]),
        ("Title\n\nThe text.", ["Title\n\n", "The text."]),
        ('He said "Stop." Then he left.', ['He said "Stop." ', "Then he left."]),
        ("J. R. Smith, e.g. here, waits… and goes.", ["J. R. Smith, e.g. here, waits… and goes."]),
        ("今日は晴れ。明日は雨。", ["今日は晴れ。", "明日は雨。"]),
        ("...", ["..."]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_sees_it(text: str, expected: list[str]) -> None:
    assert sentences([text]) == expected
    assert sentences(list(text)) == expected


@given(texts, st.lists(st.integers(0, 10_000), max_size=12))
def test_however_it_is_cut_the_sentences_are_the_same_and_joined_the_text(text: str, places: list[int]) -> None:
    expected = sentences([text])
    assert "".join(expected) == text
    assert sentences(cut(text, places)) == expected
    assert sentences(list(text)) == expected


@pytest.mark.parametrize("unit", ["x", "word ", "a. ", "。", "1. ", "\n", "é. E", '"'])
def test_long_texts_are_cut_alike_too(unit: str) -> None:
    text = unit * (3 * MAX_PENDING_CHARS // len(unit)) + "End. Last"
    expected = sentences([text])
    assert "".join(expected) == text
    assert max(map(len, expected)) <= MAX_PENDING_CHARS
    assert sentences(cut(text, list(range(0, len(text), 7)))) == expected


def test_a_sentence_is_out_as_soon_as_the_next_has_begun() -> None:
    stream = SentenceStream()
    assert list(stream.feed("It rains.")) == []
    assert list(stream.feed(" It")) == []
    assert list(stream.feed(" ")) == ["It rains. "]


def filtered(pieces: list[str]) -> str:
    marks = MarkFilter()
    return without_marks("".join([*(marks.feed(piece) for piece in pieces), marks.end()]))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("True [1].", "True."),
        ("True.[1][2] More", "True. More"),
        ("True [1, 2] and [unsupported] [Unsupported].", "True and."),
        ("a [[1]] b [1[2]] c", "a [] b c"),
        ("【3】 and ［4］ [5†source]", " and [5†source]"),
        ("keep [this] and [a1] and x[i]", "keep [this] and [a1] and x[i]"),
        ("open [1", "open [1"),
    ],
)
def test_what_would_pass_for_a_mark_is_taken_out(said: str, shown: str) -> None:
    assert filtered([said]) == shown
    assert filtered(list(said)) == shown


@given(st.lists(st.sampled_from(["[", "]", "1", "23", " ", ",", "unsupported", "x", ".", "【", "\u200b"]), max_size=14))
def test_no_mark_is_left_however_it_comes(parts: list[str]) -> None:
    assert without_marks(filtered(parts)) == filtered(parts)
    assert "[1]" not in filtered(parts)
    assert "[unsupported]" not in filtered(parts)
