from hypothesis import given, settings
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.decoding import Outcome, Rules
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.phrase_policy import MAX_PHRASE_TOKENS, answer_in_phrases
from fourcorners.grounding.prior import lexical_prior
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
    policy = answer_in_phrases(PROMPT, evidence, shown, prior, vocabulary, chosen)
    return drive(stopped_at(policy, stop), model)


def check(answer: str, outcome: Outcome, evidence: Evidence) -> None:
    check_answer(answer, outcome_dicts(outcome), outcome.refused, evidence, whole_sentences=False)


@given(contexts, st.integers(1, 4), seeds, thresholds, st.sampled_from(["", " "]), st.sampled_from([0.0, 1.5]))
def test_whatever_the_model_says_the_answer_is_whole_words_or_the_refusal(
    vocabulary: Vocabulary, texts: list[str], most: int, seed: int, threshold: float, prefix: str, temperature: float
) -> None:
    evidence = evidence_of("When does the ferry leave?", texts, span="phrase", max_spans=most)
    chosen = rules(threshold=threshold, answer_prefix=prefix, temperature=temperature, seed=seed)
    answer, outcome = answered(vocabulary, evidence, seed, chosen)
    check(answer, outcome, evidence)
    assert outcome.refused == (outcome.score > threshold)


@given(st.lists(plain_sentences, min_size=1, max_size=5), seeds, thresholds)
def test_phrases_that_begin_like_the_refusal_are_told_from_it(
    vocabulary: Vocabulary, sentences: list[str], seed: int, threshold: float
) -> None:
    text = "\n\n".join([*sentences, REFUSAL, f"They are {REFUSAL}, they say"])
    evidence = evidence_of("Unsure?", [text], span="phrase", max_spans=3)
    answer, outcome = answered(vocabulary, evidence, seed, rules(threshold=threshold))
    check(answer, outcome, evidence)
    assert all(REFUSAL not in citation.quote for citation in outcome.citations if citation.quote.startswith("Unsure"))


def test_a_document_that_is_nothing_but_the_refusal_is_never_quoted_as_it(vocabulary: Vocabulary) -> None:
    for seed in range(10):
        evidence = evidence_of("?", [REFUSAL], span="phrase")
        answer, outcome = answered(vocabulary, evidence, seed, rules(threshold=1e9))
        check(answer, outcome, evidence)
        assert not outcome.refused
        assert answer in {"about", "about answer", "answer"}


def test_a_phrase_never_takes_a_number_price_or_date_apart(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("how much?", ["$1,200.50 3.2 kg 12 March 2024 well-known"], span="phrase")
    wholes = {"$1,200.50", "3.2 kg", "12 March 2024", "well-known"}
    for seed in range(30):
        answer, outcome = answered(vocabulary, evidence, seed, rules(threshold=1e9))
        check(answer, outcome, evidence)
        assert any(answer.startswith(whole) for whole in wholes)
        assert any(answer.endswith(whole) for whole in wholes)


def test_a_phrase_has_an_end(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("?", ["red " * 500], span="phrase")
    for seed in range(5):
        answer, _ = answered(vocabulary, evidence, seed, rules(threshold=1e9))
        assert len(vocabulary.plain(answer)) <= MAX_PHRASE_TOKENS + 8


def test_equal_phrases_are_listed(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("?", ["1986", "In 1986 and 1986"], span="phrase")
    citations = [
        citation
        for seed in range(20)
        for citation in answered(vocabulary, evidence, seed, rules(threshold=1e9))[1].citations
        if citation.quote == "1986"
    ]
    assert citations
    for citation in citations:
        assert (citation.document, citation.start) == (0, 0)
        assert [(span.document, span.start) for span in citation.also] == [(1, 3), (1, 12)]


def test_a_stop_string_cuts_the_answer_and_its_citation(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("?", ["abc stop def"], span="phrase")
    for seed in range(20):
        answer, outcome = answered(vocabulary, evidence, seed, rules(threshold=1e9), stop=("stop",))
        assert "stop" not in answer
        for citation in outcome.citations:
            assert evidence.documents[0].text[citation.start : citation.end] == citation.quote


def test_a_line_break_as_stop_string_ends_the_answer_after_one_phrase(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("?", ["abc stop def"], span="phrase", max_spans=3)
    for seed in range(20):
        answer, _ = answered(vocabulary, evidence, seed, rules(threshold=1e9), stop=("\n",))
        assert "\n" not in answer


@settings(max_examples=15)
@given(contexts, seeds)
def test_every_vocabulary_can_answer(any_vocabulary: Vocabulary, texts: list[str], seed: int) -> None:
    evidence = evidence_of("When does the ferry leave?", texts, span="phrase", max_spans=2)
    answer, outcome = answered(any_vocabulary, evidence, seed, rules(threshold=1e9, answer_prefix=" "))
    check(answer, outcome, evidence)
