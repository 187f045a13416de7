import numpy as np
import pytest
from hypothesis import given

from fourcorners.grounding.prior import lexical_prior
from tests.support import contexts, evidence_of, questions

FERRY = """# The ferry to Holm

## When does the ferry leave?

The first ferry leaves at 6:40 on weekdays.

A ticket for an adult costs 12 euros, and children under six travel free.

Bicycles travel on the lower deck.

The pier was built in 1923 by Ruth Adeyemi.
"""


def best(question: str, *texts: str) -> str:
    sentences = evidence_of(question, texts).sentences
    return sentences[int(np.argmax(lexical_prior(question, sentences).sentences))].text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When does the first ferry leave?", "The first ferry leaves at 6:40 on weekdays."),
        (
            "How much is a ticket for an adult?",
            "A ticket for an adult costs 12 euros, and children under six travel free.",
        ),
        ("Where do bicycles travel?", "Bicycles travel on the lower deck."),
        ("Who built the pier?", "The pier was built in 1923 by Ruth Adeyemi."),
        ("When was the pier built?", "The pier was built in 1923 by Ruth Adeyemi."),
    ],
)
def test_the_right_sentence_of_plain_facts_comes_first(question: str, answer: str) -> None:
    assert best(question, FERRY) == answer


def test_a_heading_or_the_faq_question_itself_is_not_preferred() -> None:
    assert best("When does the ferry leave?", FERRY) == "The first ferry leaves at 6:40 on weekdays."
    faq = "Can I bring a dog on board?\nDogs travel free on a lead.\n"
    assert best("Can I bring a dog on board?", faq) == "Dogs travel free on a lead."


def test_a_question_about_something_else_favours_the_refusal_more() -> None:
    sentences = evidence_of("?", [FERRY]).sentences
    margins = [
        scores.refusal - scores.sentences.max()
        for scores in (
            lexical_prior("When does the first ferry leave?", sentences),
            lexical_prior("What do pandas eat in winter?", sentences),
        )
    ]
    assert margins[0] < margins[1]


def test_a_question_in_another_language_says_nothing() -> None:
    scores = lexical_prior("Comment tu t'appelle ?", evidence_of("?", ["Your name is Jean-baptiste"]).sentences)
    assert not scores.informed
    assert scores.sentences.tolist() == [0.0]
    assert scores.refusal == 0.0


@given(questions, contexts)
def test_any_question_and_context_get_finite_scores(question: str, texts: list[str]) -> None:
    sentences = evidence_of(question, texts).sentences
    scores = lexical_prior(question, sentences)
    assert scores.sentences.shape == (len(sentences),)
    assert np.isfinite(scores.sentences).all()
    assert np.isfinite(scores.refusal)


def test_a_label_that_only_repeats_the_question_is_not_preferred() -> None:
    contract = "**3. Rent.** The tenant pays 340 a month.\n\n**4. Deposit.** It is due before the keys are handed over."
    assert best("How much is the rent?", contract) == "The tenant pays 340 a month."
