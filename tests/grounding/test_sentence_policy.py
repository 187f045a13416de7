import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.decoding import Outcome, Rules
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.prior import lexical_prior
from fourcorners.grounding.sentence_policy import answer_in_sentences
from fourcorners.llms.stopping import stopped_at
from tests.support import (
    REFUSAL,
    MadeUpModel,
    check_answer,
    contexts,
    drive,
    evidence_of,
    outcome_dicts,
    plain_sentences,
    rules,
)

PROMPT = [5, 6, 7]
seeds = st.integers(0, 1000)
thresholds = st.sampled_from([-1e9, 0.0, 1e9])


def answered(
    vocabulary: Vocabulary, evidence: Evidence, seed: int, chosen: Rules, stop: tuple[str, ...] = ()
) -> tuple[str, Outcome]:
    prior = lexical_prior(evidence.question, evidence.sentences)
    shown = range(len(evidence.sentences))
    model = MadeUpModel(vocabulary.n_tokens, seed)
    policy = answer_in_sentences(PROMPT, evidence, shown, prior, vocabulary, chosen)
    return drive(stopped_at(policy, stop), model)


def check(answer: str, outcome: Outcome, evidence: Evidence) -> None:
    check_answer(answer, outcome_dicts(outcome), outcome.refused, evidence)


@given(contexts, st.integers(1, 4), seeds, thresholds, st.sampled_from(["", " "]), st.sampled_from([0.0, 1.5]))
def test_whatever_the_model_says_the_answer_is_sentences_or_the_refusal(
    vocabulary: Vocabulary, texts: list[str], most: int, seed: int, threshold: float, prefix: str, temperature: float
) -> None:
    evidence = evidence_of("When does the ferry leave?", texts, max_spans=most)
    chosen = rules(threshold=threshold, answer_prefix=prefix, temperature=temperature, seed=seed)
    answer, outcome = answered(vocabulary, evidence, seed, chosen)
    check(answer, outcome, evidence)
    assert outcome.refused == (outcome.score > threshold)


@given(st.lists(plain_sentences, min_size=1, max_size=5), seeds, thresholds)
def test_sentences_that_begin_like_the_refusal_are_told_from_it(
    vocabulary: Vocabulary, sentences: list[str], seed: int, threshold: float
) -> None:
    evidence = evidence_of("Unsure?", ["\n\n".join([*sentences, REFUSAL, f"{REFUSAL}, they say"])], max_spans=3)
    answer, outcome = answered(vocabulary, evidence, seed, rules(threshold=threshold))
    check(answer, outcome, evidence)
    assert all(citation.quote != REFUSAL for citation in outcome.citations)


def test_a_document_that_is_nothing_but_the_refusal_is_refused_by_the_branch(vocabulary: Vocabulary) -> None:
    answer, outcome = answered(vocabulary, evidence_of("?", [REFUSAL]), 0, rules(threshold=1e9))
    assert answer == REFUSAL
    assert outcome.refused
    assert outcome.score == np.inf


def test_equal_sentences_are_one_candidate_and_the_others_are_listed(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("Is it red?", ["It is red. It is red.", "It is red."], max_spans=5)
    answer, outcome = answered(vocabulary, evidence, 0, rules(threshold=1e9))
    assert answer == "It is red."
    (citation,) = outcome.citations
    assert (citation.document, citation.start, citation.end) == (0, 0, 10)
    assert [(span.document, span.start, span.end) for span in citation.also] == [(0, 11, 21), (1, 0, 10)]


def test_the_score_is_refusal_against_best_answer(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("Is it red?", ["It is red.\n\nIt is old."])
    scores = {seed: answered(vocabulary, evidence, seed, rules(threshold=1e9))[1].score for seed in range(10)}
    assert len(set(scores.values())) == 10
    for seed, score in scores.items():
        assert answered(vocabulary, evidence, seed, rules(threshold=score - 0.001))[1].refused
        assert not answered(vocabulary, evidence, seed, rules(threshold=score + 0.001))[1].refused


def test_a_budget_finishes_the_sentence_and_says_length(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("red?", ["The ferry is red. The bus is blue. The bike is green."], max_spans=3)
    answer, outcome = answered(vocabulary, evidence, 0, rules(threshold=1e9, max_new_tokens=1, prior_weight=0.0))
    check(answer, outcome, evidence)
    assert len(outcome.citations) == 1
    assert outcome.finish_reason == "length"


@pytest.mark.parametrize(("stop", "answer"), [("ever", "The best year "), ("1986", "The best year ever is ")])
def test_a_stop_string_cuts_the_answer_and_its_citation(vocabulary: Vocabulary, stop: str, answer: str) -> None:
    evidence = evidence_of("best year?", ["The best year ever is 1986"])
    text, outcome = answered(vocabulary, evidence, 0, rules(threshold=1e9), stop=(stop,))
    assert text == answer
    (citation,) = outcome.citations
    assert citation.quote == answer == evidence.documents[0].text[citation.start : citation.end]


def test_a_line_break_as_stop_string_ends_the_answer_after_one_sentence(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("red?", ["The ferry is red. The bus is red. The bike is red."], max_spans=3)
    for seed in range(10):
        text, outcome = answered(vocabulary, evidence, seed, rules(threshold=1e9), stop=("\n",))
        assert "\n" not in text
        assert len(outcome.citations) == 1


def test_an_empty_stop_string_stops_nothing(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("red?", ["The ferry is red."])
    assert answered(vocabulary, evidence, 0, rules(threshold=1e9), stop=("",))[0] == "The ferry is red."


def test_with_a_seed_and_a_temperature_the_draw_repeats(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("red?", ["The ferry is red. The bus is red. The bike is red. The pier is red."])
    drawn = [answered(vocabulary, evidence, 0, rules(threshold=1e9, temperature=5.0, seed=s))[0] for s in range(20)]
    assert len(set(drawn)) > 1
    assert drawn == [
        answered(vocabulary, evidence, 0, rules(threshold=1e9, temperature=5.0, seed=s))[0] for s in range(20)
    ]


@settings(max_examples=15)
@given(contexts, seeds)
def test_every_vocabulary_can_answer(any_vocabulary: Vocabulary, texts: list[str], seed: int) -> None:
    evidence = evidence_of("When does the ferry leave?", texts, max_spans=2)
    answer, outcome = answered(any_vocabulary, evidence, seed, rules(threshold=1e9, answer_prefix=" "))
    check(answer, outcome, evidence)
