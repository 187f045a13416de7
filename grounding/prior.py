"""The lexical prior: how likely each sentence, or the refusal, is the answer, by words alone.

A log-linear model over idf-weighted overlap between the question and each sentence. Its weights were fitted by
``training/fit_prior.py`` on ten articles of the SQuAD 2.0 train split, those of the refusal also on
``benchmarks/data/plain_dev.jsonl``; the layout weights (headings, FAQ questions), which neither can teach, are set by
hand.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fourcorners.grounding.answer_type import answer_type, holds
from fourcorners.grounding.evidence import Sentence
from fourcorners.grounding.words import alike, folded_words, function_words, guess_language, stem, word_families

SENTENCE_FEATURES = ("overlap", "above", "near", "topic", "type", "matched", "best", "function")
SENTENCE_WEIGHTS = np.array([1.25, 0.43, 0.55, 0.43, 0.72, 2.19, 0.84, 0.55])
REFUSAL_FEATURES = ("bias", "coverage", "best_overlap", "question_length", "best_type")
REFUSAL_WEIGHTS = np.array([1.90, 0.35, 0.02, 0.73, 0.38])
ECHO_WEIGHT = -3.0
"""For a few words that only repeat the question's, such as a signature or a label."""
MAX_ECHO_WORDS = 3
BEST_SCORE_WEIGHT = 0.09
"""How much of the best sentence's score the refusal gets: the fit trusts that score only in part."""
KIND_WEIGHTS = {"statement": 0.0, "heading": -2.0, "title": -1.5, "header_row": -2.0, "question": -3.0}

PREFIX_CREDIT = 0.7
"""Credit for two words that share most of their letters from the start, such as "validity" and "validation"."""
FAMILY_CREDIT = 0.3
"""Credit for words of one family, such as "price" and "fee"."""
MAX_QUESTION_TERMS = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PriorScores:
    """Unnormalised log-scores. ``sentences`` has one entry a sentence, in order; ``refusal`` is on the same scale.

    ``informed`` is False where question and text are in different languages: then words say nothing, all are equal.
    """

    sentences: Floats
    refusal: float
    informed: bool


def prior_numbers() -> tuple[object, ...]:
    """All that was fitted or set by hand: whoever keeps figures made of scores can tell when they are out of date."""
    weights = (SENTENCE_WEIGHTS.tolist(), REFUSAL_WEIGHTS.tolist(), sorted(KIND_WEIGHTS.items()))
    return (*weights, ECHO_WEIGHT, MAX_ECHO_WORDS, BEST_SCORE_WEIGHT, PREFIX_CREDIT, FAMILY_CREDIT, MAX_QUESTION_TERMS)


def lexical_prior(question: str, sentences: Sequence[Sentence]) -> PriorScores:
    """Score ``sentences`` (of all documents, in order) and the refusal for ``question``. About 0.1 ms a sentence."""
    if not sentences:
        return PriorScores(np.zeros(0), 0.0, informed=False)
    features = prior_features(question, sentences)
    if features is None:
        return PriorScores(np.zeros(len(sentences)), 0.0, informed=False)
    of_sentences, of_refusal = features
    scores = of_sentences @ SENTENCE_WEIGHTS + kind_scores(question, sentences)
    refusal = float(of_refusal @ REFUSAL_WEIGHTS) + BEST_SCORE_WEIGHT * float(scores.max())
    return PriorScores(scores, refusal, informed=True)


def kind_scores(question: str, sentences: Sequence[Sentence]) -> Floats:
    """What the layout takes from each sentence's score: headings, FAQ questions and mere echoes are no answers."""
    asked = set(folded_words(question))
    return np.array([KIND_WEIGHTS[s.kind] + ECHO_WEIGHT * _only_echoes(s.text, asked) for s in sentences])


def prior_features(question: str, sentences: Sequence[Sentence]) -> tuple[Floats, Floats] | None:
    """Feature rows, one a sentence, and the refusal's features; None where question and text differ in language."""
    words = [folded_words(sentence.text) for sentence in sentences]
    asked = list(dict.fromkeys(folded_words(question)))[:MAX_QUESTION_TERMS]
    language = _shared_language(asked, [word for sentence in words for word in sentence])
    if language is None:
        return None
    stems = [{stem(word, language) for word in sentence} for sentence in words]
    credit, weight, functional = _term_matches([stem(word, language) for word in asked], stems, language)
    overlap = credit @ weight
    kind, known = answer_type(question), set(asked)
    answers = np.array([holds(kind, sentence.text, known) for sentence in sentences])
    columns = (
        overlap,
        _with_context(credit, sentences, above=True) @ weight - overlap,
        _with_context(credit, sentences, above=False) @ weight - overlap,
        _with_topic(credit, sentences) @ weight - overlap,
        answers,
        np.log1p((credit > 0).sum(axis=1)),
        (overlap == overlap.max()).astype(float),
        functional,
    )
    best = int(overlap.argmax())
    refusal = (1.0, float(credit.max(axis=0) @ weight), overlap[best], math.sqrt(len(weight)), answers[best])
    return np.stack(columns, axis=1), np.array(refusal)


def _only_echoes(text: str, asked: set[str]) -> bool:
    if len(text) > 60:
        return False
    words = folded_words(text)
    return len(words) <= MAX_ECHO_WORDS and asked.issuperset(words)


def _shared_language(asked: list[str], words: list[str]) -> str | None:
    of_question, of_text = guess_language(asked), guess_language(words)
    if of_question and of_text and of_question != of_text and not set(asked) & set(words):
        return None
    return of_text or of_question or "english"


def _term_matches(asked: list[str], stems: list[set[str]], language: str) -> tuple[Floats, Floats, Floats]:
    """Credit of each content term in each sentence, the terms' idf weights (sum 1), and function-word overlap."""
    known = function_words(language)
    terms = [term for term in dict.fromkeys(asked) if term not in known] or list(dict.fromkeys(asked))
    frequency = Counter(chain.from_iterable(stems))
    by_prefix: dict[str, list[str]] = defaultdict(list)
    for term in frequency:
        by_prefix[term[:4]].append(term)
    families = word_families() if language == "english" else {}
    functional = [term for term in dict.fromkeys(asked) if term in known and term in frequency]
    credits: list[dict[str, float]] = []
    for term in terms:
        variants = dict.fromkeys(families.get(term, ()), FAMILY_CREDIT)
        variants |= {other: PREFIX_CREDIT for other in by_prefix[term[:4]] if alike(term, other)}
        variants[term] = 1.0
        credits.append({other: value for other, value in variants.items() if other in frequency})
    rows = _rows(stems, {*functional, *(other for one in credits for other in one)})
    credit = np.zeros((len(stems), len(terms)))
    for column, present in enumerate(credits):
        for other, value in sorted(present.items(), key=lambda item: item[1]):
            credit[rows[other], column] = value  # the best one last
    weight = np.array([_idf(frequency[term], len(stems)) for term in terms])
    shares = np.array([_idf(frequency[term], len(stems)) for term in functional])
    inside = np.zeros((len(stems), len(functional)))
    for column, term in enumerate(functional):
        inside[rows[term], column] = 1.0
    together = inside @ shares / shares.sum() if functional else np.zeros(len(stems))
    return credit, weight / weight.sum() if len(weight) else weight, together


def _rows(stems: Sequence[set[str]], wanted: set[str]) -> dict[str, list[int]]:
    """The sentences that hold each of the wanted stems."""
    found: dict[str, list[int]] = {term: [] for term in wanted}
    for row, sentence in enumerate(stems):
        for term in sentence & wanted:
            found[term].append(row)
    return found


def _idf(frequency: int, n_sentences: int) -> float:
    return math.log(1 + (n_sentences + 1) / (frequency + 0.5))


def _with_context(credit: Floats, sentences: Sequence[Sentence], *, above: bool) -> Floats:
    """Credit of each sentence together with its neighbour above (and its headings), or with both neighbours."""
    joined = credit.copy()
    documents = np.array([sentence.document for sentence in sentences])
    together = (documents[1:] == documents[:-1])[:, None]
    np.maximum(joined[1:], credit[:-1] * together, out=joined[1:])
    if not above:
        np.maximum(joined[:-1], credit[1:] * together, out=joined[:-1])
    for index, sentence in enumerate(sentences):
        if sentence.under:
            joined[index] = np.maximum(joined[index], credit[list(sentence.under)].max(axis=0))
    return joined


def _with_topic(credit: Floats, sentences: Sequence[Sentence]) -> Floats:
    """Credit of each sentence together with the first of its document: what a later "it" or "she" stands for."""
    first: dict[int, int] = {}
    for index, sentence in enumerate(sentences):
        first.setdefault(sentence.document, index)
    return np.maximum(credit, credit[[first[sentence.document] for sentence in sentences]])
