import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import ContextOverflow
from fourcorners.grounding.packing import Packed, pack
from fourcorners.grounding.prior import lexical_prior
from tests.support import contexts, evidence_of

FACTS = ["The ferry leaves at 6:40. It is red. It carries 40 bikes.", "\nDogs travel free. The pier is old.\n"]


def packed(question: str, texts: list[str], budget: int, most: int | None = None) -> Packed:
    evidence = evidence_of(question, texts)
    return pack(evidence, lexical_prior(question, evidence.sentences), lambda text: len(text.split()), budget, most)


def test_whole_documents_are_shown_where_they_fit() -> None:
    result = packed("When does the ferry leave?", FACTS, 100)
    assert result == Packed((0, 1, 2, 3, 4), (FACTS[0], FACTS[1].strip()), 0)


def test_else_the_best_sentences_are_shown_in_document_order() -> None:
    result = packed("When does the ferry leave, and do dogs travel free?", FACTS, 16)
    assert result.blocks == ("The ferry leaves at 6:40.", "Dogs travel free.")
    assert result.shown == (0, 3)
    assert result.n_left_out == 3


def test_a_model_that_reads_sentences_gets_them_a_line_each() -> None:
    result = packed("When does the ferry leave?", FACTS, 100, most=3)
    assert len(result.shown) == 3
    assert result.n_left_out == 2
    assert 0 in result.shown
    assert sum(len(block.split("\n")) for block in result.blocks) == 3


def test_where_no_sentence_fits_it_says_so() -> None:
    with pytest.raises(ContextOverflow, match="2 tokens"):
        packed("?", [" ".join(["word"] * 50)], 2)


def test_a_sentence_of_more_than_half_the_budget_is_shown_in_part() -> None:
    (block,) = packed("?", [" ".join(["word"] * 50)], 20).blocks
    assert 5 <= block.count("word") <= 10


@given(contexts, st.integers(8, 60), st.none() | st.integers(1, 4))
def test_what_is_shown_fits_the_budget_and_nothing_is_dropped_in_silence(
    texts: list[str], budget: int, most: int | None
) -> None:
    evidence = evidence_of("ferry?", texts)
    if not evidence.sentences:
        return
    try:
        result = packed("ferry?", texts, budget, most)
    except ContextOverflow:
        return
    assert list(result.shown) == sorted(set(result.shown))
    texts_shown = {evidence.sentences[index].text for index in result.shown}
    assert len(texts_shown) + result.n_left_out >= len({sentence.text for sentence in evidence.sentences})
    assert sum(len(block.split()) for block in result.blocks) <= budget
    assert most is None or len(result.shown) <= most
    for index in result.shown:
        assert any(evidence.sentences[index].text[:1] in block for block in result.blocks)


def test_equal_sentences_take_the_place_of_one() -> None:
    texts = ["The ferry is red. " * 20, "The bus is red.", "The bike is red."]
    result = packed("What is red?", texts, 100, most=3)
    assert "\n".join(result.blocks).split("\n").count("The ferry is red.") == 1
    assert {"The bus is red.", "The bike is red."} <= set("\n".join(result.blocks).split("\n"))
