"""Which documents say otherwise than an answer: sentences about as good, from other documents, that contradict it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fourcorners.grounding.contradiction import Conflict, contradiction
from fourcorners.grounding.evidence import Citation, Evidence, Sentence
from fourcorners.grounding.prior import PriorScores

MARGIN = 3.0
"""About as good: at most this far (in nats of the prior) behind the sentence that is contradicted."""
MOST_LOOKED_AT = 64
MOST_SHOWN = 3
"""For each sentence of an answer; no two of them say the same."""
_MOST_COMPARED = 24


class Disagreement(NamedTuple):
    """The sentence (its index) that contradicts another, and where in the texts of both."""

    sentence: int
    conflict: Conflict


def disagreements(evidence: Evidence, prior: PriorScores, sentence: int, said: Collection[str]) -> list[Disagreement]:
    """The sentences of other documents that contradict ``sentence``, best document first; ``said`` are left out.

    Empty where the options say to ignore them, and where the prior knows nothing of how good a sentence is.
    """
    if evidence.options.contradictions == "ignore" or not prior.informed or len(evidence.documents) < 2:
        return []
    text = evidence.sentences[sentence].text
    own = {other.document for other in evidence.sentences if other.text == text}
    near = np.flatnonzero(prior.sentences >= prior.sentences[sentence] - MARGIN)
    foreign = [int(i) for i in near if _may_answer(evidence, int(i), own, said)]
    best = sorted(foreign, key=lambda i: -prior.sentences[i])[:MOST_LOOKED_AT]
    contexts = _Contexts(evidence)
    found: list[Disagreement] = []
    for index in sorted(best):
        conflict = contexts.conflict(sentence, index)
        if conflict is None or any(contexts.conflict(other.sentence, index) is None for other in found):
            continue
        found.append(Disagreement(index, conflict))
        if len(found) == MOST_SHOWN:
            break
    return found


def with_contradictions(evidence: Evidence, citations: Sequence[Citation]) -> tuple[Citation, ...]:
    """``citations``, each with the numbers of those of other documents that contradict it in what it quotes."""
    if evidence.options.contradictions == "ignore" or len({citation.document for citation in citations}) < 2:
        return tuple(citations)
    contexts = _Contexts(evidence)
    against: list[list[int]] = [[] for _ in citations]
    places = [contexts.sentence_of(citation) for citation in citations[:_MOST_COMPARED]]
    for j, second in enumerate(places):
        for i, first in enumerate(places[:j]):
            if citations[i].document == citations[j].document:
                continue
            conflict = contexts.conflict(first, second)
            if (
                conflict
                and contexts.quotes(citations[i], first, conflict.first)
                and contexts.quotes(citations[j], second, conflict.second)
            ):
                against[i].append(j + 1)
                against[j].append(i + 1)
    return tuple(replace(c, contradicts=tuple(numbers)) for c, numbers in zip(citations, against, strict=True))


def sentence_at(evidence: Evidence, document: int, start: int) -> int:
    """The index of the sentence that character ``start`` of a document stands in."""
    return next(i for i, s in enumerate(evidence.sentences) if s.document == document and s.start <= start < s.end)


class _Contexts:
    """Sentences together with what gives them their subject."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._first: dict[int, int] = {}
        for index, sentence in enumerate(evidence.sentences):
            self._first.setdefault(sentence.document, index)

    def conflict(self, first: int, second: int) -> Conflict | None:
        a, b = self._evidence.sentences[first], self._evidence.sentences[second]
        return contradiction(
            self._evidence.question,
            a.text,
            b.text,
            first_context=self._around(first, a),
            second_context=self._around(second, b),
        )

    def sentence_of(self, citation: Citation) -> int:
        return sentence_at(self._evidence, citation.document, citation.start)

    def quotes(self, citation: Citation, sentence: int, part: tuple[int, int]) -> bool:
        """Whether the citation has a character of that ``part`` of the sentence."""
        begin = self._evidence.sentences[sentence].start
        return citation.start < begin + part[1] and begin + part[0] < citation.end

    def _around(self, index: int, sentence: Sentence) -> str:
        around = dict.fromkeys((self._first[sentence.document], *sentence.under))
        return " ".join(self._evidence.sentences[other].text for other in around if other != index)


def _may_answer(evidence: Evidence, index: int, own: Collection[int], said: Collection[str]) -> bool:
    sentence = evidence.sentences[index]
    if sentence.document in own or sentence.kind != "statement":
        return False
    return sentence.text not in said and sentence.text != evidence.options.refusal
