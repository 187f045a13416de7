"""Answers by pointing: whatever the scores are, the answer is a place in the documents or the refusal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.decoding import Evaluate, Outcome, Rules
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.packing import pack
from fourcorners.grounding.page import N_MARKS, page_of, signs_of
from fourcorners.grounding.pointing import answer_by_pointing
from fourcorners.grounding.prior import lexical_prior
from fourcorners.grounding.segmentation import chunks
from tests.support import REFUSAL, MadeUpModel, check_answer, contexts, drive, evidence_of, outcome_dicts, rules

DOCUMENT = "The ferry leaves at 9:30 from pier 4. A ticket costs $1,200.50. Dogs travel free."
seeds = st.integers(0, 1000)
thresholds = st.sampled_from([-1e9, 0.0, 1e9])


def pointed(
    vocabulary: Vocabulary, evidence: Evidence, model: Callable[..., object], chosen: Rules
) -> tuple[str, Outcome]:
    prior = lexical_prior(evidence.question, evidence.sentences)
    signs = signs_of(vocabulary.control, vocabulary.n_tokens)
    packed = pack(evidence, prior, lambda text: len(vocabulary.plain(text)), 2000, N_MARKS, 400)
    page = page_of(evidence, packed, vocabulary, signs)
    policy = answer_by_pointing(page, packed, evidence, prior, vocabulary, signs, chosen)
    return drive(policy, model)


class Told:
    """A model that scores as told: the sentence, the words that begin and end the answer, and the confirmation."""

    def __init__(self, vocabulary: Vocabulary, sentence: int, start: str, end: str, check: float = 5.0) -> None:
        self._vocabulary, self._signs = vocabulary, signs_of(vocabulary.control, vocabulary.n_tokens)
        self._sentence, self._start, self._end, self._check = sentence, start, end, check
        self.asked: list[Evaluate] = []

    def __call__(self, step: Evaluate) -> np.ndarray:
        self.asked.append(step)
        rows = np.zeros((step.n_logits, self._vocabulary.n_tokens), np.float32)
        if step.position == 0:
            rows[self._sentence, self._signs.yes] = 50.0
            return rows
        rows[-1, self._signs.yes] = self._check
        pieces = [self._vocabulary.pieces[token].decode().strip() for token in step.tokens[1:-1]]
        if self._start in pieces and self._end in pieces:
            rows[pieces.index(self._start), self._signs.start] = 9.0
            rows[len(pieces) - 1 - pieces[::-1].index(self._end), self._signs.end] = 9.0
        return rows


@given(
    contexts, st.integers(1, 4), seeds, thresholds, st.sampled_from([0.0, 1.5]), st.sampled_from(["sentence", "phrase"])
)
def test_whatever_the_model_says_the_answer_is_in_the_documents_or_the_refusal(
    vocabulary: Vocabulary, texts: list[str], most: int, seed: int, threshold: float, temperature: float, span: str
) -> None:
    evidence = evidence_of("When does the ferry leave?", texts, max_spans=most, span=span)
    if not evidence.sentences:
        return
    model = MadeUpModel(vocabulary.n_tokens, seed)
    chosen = rules(threshold=threshold, temperature=temperature, seed=seed)
    answer, outcome = pointed(vocabulary, evidence, model, chosen)
    check_answer(answer, outcome_dicts(outcome), outcome.refused, evidence, whole_sentences=span == "sentence")
    for citation in outcome.citations:
        document = evidence.documents[citation.document].text
        borders = chunks(document)
        if span == "phrase":
            assert citation.start in {start for start, _ in borders}
            assert citation.end in {end for _, end in borders}


def test_it_quotes_the_sentence_that_the_model_points_at(vocabulary: Vocabulary) -> None:
    model = Told(vocabulary, 1, "A", ".")
    answer, outcome = pointed(vocabulary, evidence_of("What about dogs?", [DOCUMENT]), model, rules(check_weight=1.0))
    assert answer == "A ticket costs $1,200.50."
    assert outcome.citations[0].start == DOCUMENT.index("A ticket")
    assert [step.position for step in model.asked] == [0, *[len(model.asked[0].tokens)] * 3]


def test_a_phrase_is_cut_at_the_borders_of_words_and_prices(vocabulary: Vocabulary) -> None:
    model = Told(vocabulary, 1, "2", "5")  # inside the price
    evidence = evidence_of("What does it cost?", [DOCUMENT], span="phrase")
    answer, _ = pointed(vocabulary, evidence, model, rules(check_weight=1.0))
    assert answer == "$1,200.50"


def test_a_sentence_that_is_not_confirmed_is_refused(vocabulary: Vocabulary) -> None:
    evidence = evidence_of("What about dogs?", [DOCUMENT])
    answer, outcome = pointed(vocabulary, evidence, Told(vocabulary, 1, "A", ".", -60.0), rules(check_weight=1.0))
    assert (answer, outcome.refused) == (REFUSAL, True)
    assert outcome.score > 0
    answer, outcome = pointed(vocabulary, evidence, Told(vocabulary, 1, "A", ".", -60.0), rules(check_weight=0.0))
    assert not outcome.refused


@pytest.mark.parametrize("text", [REFUSAL, f"{REFUSAL}."])
def test_a_document_that_says_no_more_than_the_refusal_is_refused(vocabulary: Vocabulary, text: str) -> None:
    evidence = evidence_of("When?", [text])
    answer, outcome = pointed(vocabulary, evidence, MadeUpModel(vocabulary.n_tokens, 1), rules(threshold=1e9))
    if text == REFUSAL:
        assert (answer, outcome.refused, outcome.score) == (REFUSAL, True, np.inf)
    else:
        assert outcome.refused == (answer == REFUSAL)
