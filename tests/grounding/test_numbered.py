from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import ContextOverflow, SettingsError
from fourcorners.grounding.evidence import Evidence, GroundingOptions, documents_from
from fourcorners.grounding.numbered import (
    MAX_PHRASE_WORDS,
    NumberReader,
    choice_pattern,
    pack_numbered,
    phrase_pattern,
    phrase_spans,
)
from fourcorners.grounding.packing import estimated_tokens
from fourcorners.grounding.pattern import matches
from fourcorners.grounding.prior import lexical_prior

REFUSAL = "Unsure about answer"
TEXTS = ["The ferry is blue. A ticket costs  €4.", "Unsure about answer. Dogs travel free.", "The ferry is blue."]


def evidence_of(texts: list[str], **options: Any) -> Evidence:
    return Evidence("What does a ticket cost?", documents_from(texts), GroundingOptions(**options))


def paged(evidence: Evidence, budget: int | None = None):
    return pack_numbered(evidence, lexical_prior(evidence.question, evidence.sentences), estimated_tokens, budget)


def test_each_wording_has_one_number_and_the_refusals_have_none() -> None:
    _, page = paged(evidence_of(TEXTS))
    assert page.blocks == ("[1] The ferry is blue.\n[2] A ticket costs €4.", "[3] Dogs travel free.")
    assert [sentence.text for sentence in page.sentences] == [
        "The ferry is blue.",
        "A ticket costs  €4.",
        "Dogs travel free.",
    ]


def test_what_does_not_fit_is_left_out_and_told() -> None:
    evidence = evidence_of([f"A ticket costs €{n}. Number {n} says more than that." for n in range(200)])
    packed, page = paged(evidence, 300)
    assert 5 < len(page.sentences) < 30
    assert estimated_tokens("\n\n".join(page.blocks)) <= 300
    assert packed.n_left_out == len(evidence.sentences) - len(page.sentences)
    with pytest.raises(ContextOverflow):
        paged(evidence_of(TEXTS * 50, packing="error"), 100)


def test_the_answer_is_numbers_or_the_refusal() -> None:
    _, page = paged(evidence_of(TEXTS))
    pattern = choice_pattern(page, 2, REFUSAL)
    assert all(matches(pattern, text) for text in ("1", "3", "3, 1", REFUSAL))
    assert not any(matches(pattern, text) for text in ("4", "0", "1, 2, 3", REFUSAL + ".", "1,2", "", "Unsure"))
    with pytest.raises(SettingsError, match="'1, 2'"):
        choice_pattern(page, 2, "1, 2")


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(1, 4))
def test_numbers_are_read_the_same_however_they_come(numbers: list[int], size: int) -> None:
    _, page = paged(evidence_of(TEXTS))
    text = ", ".join(map(str, numbers))
    reader = NumberReader(page, REFUSAL)
    found = [one for at in range(0, len(text), size) for one in reader.feed(text[at : at + size])]
    found += reader.end()
    assert found == [page.sentences[number - 1] for number in dict.fromkeys(numbers)]
    assert not reader.refused


def test_a_number_that_may_have_been_cut_is_not_used() -> None:
    _, page = paged(evidence_of(TEXTS))
    reader = NumberReader(page, REFUSAL)
    assert [one.text for one in reader.feed("1, 2")] == ["The ferry is blue."]
    assert reader.end(cut=True) == []


@pytest.mark.parametrize("text", [REFUSAL, f" {REFUSAL}\n"])
def test_the_refusal_is_all_of_it(text: str) -> None:
    _, page = paged(evidence_of(TEXTS))
    reader = NumberReader(page, REFUSAL)
    assert reader.feed(text) == []
    assert reader.end() == []
    assert reader.refused


def test_a_phrase_is_whole_words_of_its_sentence() -> None:
    (sentence,) = evidence_of(["On 3 May (in 2024) it cost $1,200.50, not 2.5 %."]).sentences
    pattern = phrase_pattern(sentence, REFUSAL)
    assert pattern is not None
    assert all(matches(pattern, text) for text in ("3 May", "it cost $1,200.50", "2.5 %", "in 2024)", "2024"))
    assert not any(
        matches(pattern, text) for text in ("1,200", "cos", "(in 2024", " it", "it ", "May on", "", "200.50")
    )
    assert phrase_spans(sentence, "$1,200.50") == [(27, 36)]
    assert phrase_spans(sentence, "200") == []


def test_a_phrase_is_short_and_never_reads_like_the_refusal() -> None:
    (sentence,) = evidence_of(["They were unsure about answer " + " ".join(f"w{n}" for n in range(40))]).sentences
    pattern = phrase_pattern(sentence, REFUSAL)
    assert pattern is not None
    assert not matches(pattern, "unsure about answer")
    words = [f"w{n}" for n in range(MAX_PHRASE_WORDS + 1)]
    assert matches(pattern, " ".join(words[:-1]))
    assert not matches(pattern, " ".join(words))
