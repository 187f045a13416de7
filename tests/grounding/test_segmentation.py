import time

import pytest
import regex
from hypothesis import given

from fourcorners.grounding.segmentation import MAX_SENTENCE_CHARS, chunks, headings, sentences
from tests.support import texts

MARKERS = regex.compile(r"\(?\d{1,3}[.)]\s")


def said(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def pieces(text: str) -> list[str]:
    return [text[start:end] for start, end in chunks(text)]


@given(texts)
def test_sentences_are_in_order_stripped_and_lose_no_word(text: str) -> None:
    last, lost = 0, ""
    for start, end in sentences(text):
        assert last <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        lost += text[last:start] + "\n"
        last = end
    lost += text[last:]
    assert not regex.search(r"[\p{L}\p{N}]", MARKERS.sub("", lost + " "))


@given(texts)
def test_a_sentence_never_cuts_a_letter_from_its_marks(text: str) -> None:
    borders = {at for match in regex.finditer(r"\X", text) for at in match.span()}
    for start, end in sentences(text):
        assert start in borders or not text[start - 1].isalnum()
        assert end in borders or not text[end - 1].isalnum()


@given(texts)
def test_chunks_tile_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(start < end for start, end in chunks(text))


@given(texts)
def test_a_chunk_never_cuts_a_letter_from_its_marks(text: str) -> None:
    borders = {0} | {match.end() for match in regex.finditer(r"\X", text)}
    assert all(end in borders or text[end - 1].isspace() for _, end in chunks(text))


@pytest.mark.parametrize(
    "whole",
    [
        "1986",
        "$1,200.50",
        "€5",
        "1.200,50 €",
        "CHF 40",
        "12 euros",
        "1 000 000",
        "3.2 kg",
        "-40 °C",
        "5 %",
        "6:40",
        "6:40 a.m.",
        "2024-03-12",
        "12/03/2024",
        "12 March 2024",
        "March 12, 2024",
        "May 2024",
        "10-15",
        "2 million",
        "well-known",
        "state-of-the-art",
        "twenty-five",
        "don't",
        "isn’t",
        "l'eau",
        "t'appelle",
        "AT&T",
        "U.S",
        "café",
        "cafe\u0301",
        "naïve",
        "Jean-baptiste",
        "👩‍👩‍👧‍👦",
        "🇫🇷",
        "3rd",
        "90-minute",
    ],
)
def test_what_belongs_together_is_one_chunk(whole: str) -> None:
    assert pieces(whole) == [whole]
    assert whole in pieces(f"It is {whole}, they say.")


def test_sentences_of_prose_are_found() -> None:
    assert said("Dr. Smith came at 6 p.m. on Monday. He left! Why?") == [
        "Dr. Smith came at 6 p.m. on Monday.",
        "He left!",
        "Why?",
    ]


def test_a_wrapped_paragraph_joins_and_keeps_its_line_breaks() -> None:
    wrapped = (
        "The ferry to Holm leaves from the northern pier at\n"
        "6:40 on weekdays, and bicycles travel free of charge\n"
        "on the lower deck."
    )
    assert said(wrapped) == [wrapped]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_one_entry_a_line_stays_apart(newline: str) -> None:
    entries = ["Monday: 9 to 17", "Tuesday: 9 to 12", "Sunday: closed"]
    assert said(newline.join(entries)) == entries


def test_list_items_table_rows_and_headings_stay_apart_without_their_markers() -> None:
    text = (
        "# Fares\n\n- Adults pay 12 euros\n- Dogs travel free\n1. Buy a ticket\n2. Board\n\n"
        "| Day | Time |\n|---|---|\n| Monday | 6:40 |\n"
    )
    assert said(text) == [
        "Fares",
        "Adults pay 12 euros",
        "Dogs travel free",
        "Buy a ticket",
        "Board",
        "| Day | Time |",
        "| Monday | 6:40 |",
    ]


def test_no_sentence_crosses_a_blank_line() -> None:
    assert said("The name of the ferry\n\nis not known") == ["The name of the ferry", "is not known"]


def test_headings_are_found_with_their_marker() -> None:
    text = "# One\ntext # not\n### Two\r\n"
    assert [text[start:end] for start, end in headings(text)] == ["# One", "### Two"]


def test_a_text_without_borders_is_cut_but_not_inside_a_letter() -> None:
    found = said("e\u0301" * 3 * MAX_SENTENCE_CHARS)
    assert max(map(len, found)) <= MAX_SENTENCE_CHARS + 64
    assert all(len(piece) % 2 == 0 for piece in found)


@pytest.mark.parametrize(
    "unit", ["x", "é", "e\u0301", "1", ".", "a-", "1,", "👩‍", "<|im_end|>", "\u0301", "x\n", "- x\n", "(", "*"]
)
def test_300_kb_without_a_space_are_cut_in_seconds(unit: str) -> None:
    text = (unit * 300_000)[:300_000]
    started = time.monotonic()
    sentences(text)
    chunks(text)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("text", ["", " ", "\n\r\n\t", "---", "...", "\u200d", "\ufeff", "\x00"])
def test_a_text_without_words_has_no_sentence(text: str) -> None:
    assert sentences(text) == []


def test_entries_of_about_the_same_length_are_not_taken_for_wrapped_lines() -> None:
    entries = [f"{who} ticket, valid for one day in both zones, 12.50" for who in ("Adult", "Child", "Group")]
    assert said("\n".join(entries)) == entries


def test_a_bold_title_that_opens_a_paragraph_stands_alone() -> None:
    text = "**3. Rent.** The tenant pays 340 a month. **Note:** it is due on Monday."
    assert said(text) == ["**3. Rent.**", "The tenant pays 340 a month.", "**Note:** it is due on Monday."]


def test_the_number_of_a_list_item_is_no_sentence() -> None:
    assert said("1. Buy a ticket.\n2. Go on board.") == ["Buy a ticket.", "Go on board."]


def test_a_table_row_stays_whole_whatever_its_cells_say() -> None:
    header, row = "| Model | Power (W) | Notes e.g. |", "| A1 | 30. | It is good. Very. |"
    text = f"{header}\n|---|---|---|\n{row}\n\nAfter it. The end."
    assert [text[start:end] for start, end in sentences(text)] == [header, row, "After it.", "The end."]
