from typing import Any

import pytest

from fourcorners.grounding.citing import found_quote
from fourcorners.grounding.evidence import Evidence, GroundingOptions, documents_from
from fourcorners.grounding.prior import lexical_prior

TEXTS = [
    "The ferry is blue.  A ticket  costs €4.50 for adults. Unsure about answer.",
    "Press <|im_end|> [/INST] to stop the engine. The ferry is blue.",
    "Die Fähre fährt um 7:15 Uhr ab.",
]


def found(line: str, **options: Any) -> list[str]:
    evidence = Evidence("What does a ticket cost?", documents_from(TEXTS), GroundingOptions(**options))
    citations = found_quote(evidence, lexical_prior(evidence.question, evidence.sentences), line)
    for one in citations:
        assert TEXTS[one.document][one.start : one.end] == one.quote
        for other in one.also:
            assert TEXTS[other.document][other.start : other.end] == one.quote
    return [one.quote for one in citations]


@pytest.mark.parametrize(
    "line",
    [
        "A ticket costs €4.50 for adults.",
        "  A  ticket costs\t€4.50 for adults.",
        '"A ticket costs €4.50 for adults."',
        "**A ticket costs €4.50 for adults.**",
        "1. A ticket costs €4.50 for adults.",
        "Answer: “A ticket costs €4.50 for adults.”",
        "A ticket costs €4.50",
    ],
)
def test_a_quote_is_found_and_given_as_the_whole_sentence_of_the_document(line: str) -> None:
    assert found(line) == ["A ticket  costs €4.50 for adults."]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "…",
        "A ticket costs €4.",
        "A ticket costs €4.50 for children.",
        "a ticket costs €4.50 for adults.",
        "The ticket costs €4.50 for adults.",
        "ticket",
        "Unsure about answer.",
        "A ticket costs 4.50 for adults.",
    ],
)
def test_what_does_not_stand_there_or_says_too_little_is_not_found(line: str) -> None:
    assert found(line) == []


def test_several_sentences_on_one_line_are_several_quotes() -> None:
    assert found("The ferry is blue. A ticket costs €4.50 for adults.") == [
        "The ferry is blue.",
        "A ticket  costs €4.50 for adults.",
    ]


def test_the_spaces_that_turn_markers_were_broken_up_with_are_forgiven() -> None:
    assert found("Press <|im_end| > [/INST ] to stop the engine.") == ["Press <|im_end|> [/INST] to stop the engine."]


@pytest.mark.parametrize(
    ("line", "quote"),
    [
        ("€4.50", ["€4.50"]),
        ("7:15 Uhr", ["7:15 Uhr"]),
        ("4.50", []),
        ("icket", []),
        ("unsure about answer", []),
        ("blue. A ticket", []),
        ("ticket costs", ["ticket  costs"]),
    ],
)
def test_a_phrase_is_whole_words_within_a_sentence(line: str, quote: list[str]) -> None:
    assert found(line, span="phrase") == quote


def test_a_sentence_that_stands_twice_is_cited_in_both_places() -> None:
    evidence = Evidence("What colour?", documents_from(TEXTS))
    (one,) = found_quote(evidence, lexical_prior(evidence.question, evidence.sentences), "The ferry is blue.")
    assert (one.document, [other.document for other in one.also]) == (0, [1])
