"""Verbatim answers by pointing: the reader scores every sentence, confirms the best, and marks a span in it.

Nothing is decoded token by token: what is emitted is a place in the documents, so it is verbatim whatever the scores.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fourcorners.grounding.decoding import SEPARATOR, Evaluate, Outcome, Piece, Policy, Rules, Scores, Tokens
from fourcorners.grounding.disagreement import with_contradictions
from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.packing import Packed
from fourcorners.grounding.page import Page, Signs
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.quoting import (
    Candidate,
    candidates_of,
    citation_of,
    contradicting,
    contradicting_phrases,
    phrase_citation,
    pieces_of,
    reads_like_refusal,
)
from fourcorners.grounding.segmentation import chunks
from fourcorners.grounding.tracker import Start, word_starts

N_CONFIRMED = 3
"""So many of the sentences with the best scores are looked at closer."""
STOP_MARGIN = 1.5
"""A further sentence is worth adding while it scores at most this far (in nats) behind the best one."""
MAX_PHRASE_BYTES = 240


class _Closer(NamedTuple):
    """What the reader says of a sentence that it is shown once more: whether it answers, and where in it."""

    check: float
    starts: Scores
    ends: Scores


def answer_by_pointing(
    page: Page, packed: Packed, evidence: Evidence, prior: PriorScores, tokens: Tokens, signs: Signs, rules: Rules
) -> Policy:
    """Emit the refusal, or one to ``max_spans`` sentences of ``page`` or spans in them, then the ``Outcome``.

    Takes one evaluation, and a short one for each sentence that is looked at closer.
    """
    yield from _Pointing(page, packed, evidence, prior, tokens, signs, rules).run()


class _Pointing:
    """The state of one answer: the candidates, their scores, and what was said so far."""

    def __init__(
        self,
        page: Page,
        packed: Packed,
        evidence: Evidence,
        prior: PriorScores,
        tokens: Tokens,
        signs: Signs,
        rules: Rules,
    ) -> None:
        self._page, self._evidence, self._prior = page, evidence, prior
        self._tokens, self._signs, self._rules = tokens, signs, rules
        place = {index: number for number, index in enumerate(packed.shown)}
        candidates = candidates_of(evidence, packed.shown, prior, rules.prior_weight)
        if evidence.options.span == "phrase":
            candidates = [c for c in candidates if self._starts_of(c, page.sentences[place[c.index]])]
        self._candidates = candidates
        self._places = [place[candidate.index] for candidate in candidates]
        self._chance = np.random.default_rng(rules.seed)
        self._said: list[str] = [evidence.options.refusal]

    def run(self) -> Policy:
        """The policy itself."""
        rules, options = self._rules, self._evidence.options
        score = np.inf
        if self._candidates:
            rows = yield Evaluate(0, self._page.tokens, len(self._page.sentences) + 1)
            of_model = rules.model_weight * rows[:, self._signs.yes].astype(np.float64)
            scores = np.array([c.prior for c in self._candidates]) + of_model[self._places]
            leading = [int(n) for n in np.argsort(-scores, kind="stable")[:N_CONFIRMED]]
            closers = []
            for number in leading:
                closers.append((yield from self._look_closer(number)))
            confirmed = scores[leading] + rules.check_weight * np.array([closer.check for closer in closers])
            refusal = rules.prior_weight * self._prior.refusal + float(of_model[-1])
            score = refusal - float(confirmed.max())
            picked = self._pick(confirmed)
            best, closer = leading[picked], closers[picked]
        if score > rules.threshold or not self._candidates:
            n_tokens = self._tokens.plain(options.refusal)
            yield from pieces_of(options.refusal, n_tokens, self._tokens)
            yield Outcome(True, score, rules.threshold, (), "stop")
            return
        yield from self._quote(scores, best, closer, score)

    def _pick(self, scores: Scores) -> int:
        if self._rules.temperature <= 0:
            return int(scores.argmax())
        chances = np.exp((scores - scores.max()) / self._rules.temperature)
        return int(self._chance.choice(len(scores), p=chances / chances.sum()))

    def _look_closer(self, number: int) -> Generator[Any, Any, _Closer]:
        signs, sentence = self._signs, self._page.sentences[self._places[number]]
        asked = (signs.again, *sentence, signs.check)
        rows = yield Evaluate(len(self._page.tokens), asked, len(sentence) + 1)
        rows = rows.astype(np.float64)
        return _Closer(float(rows[-1, signs.yes]), rows[:-1, signs.start], rows[:-1, signs.end])

    def _quote(self, scores: Scores, best: int, closer: _Closer, score: float) -> Policy:
        """Emit the best, and further ones while scores and budget ask for them; with each what contradicts it."""
        citations: list[Citation] = []
        n_tokens, n_spans, reason = 0, 0, "stop"
        left = [int(n) for n in np.argsort(-scores, kind="stable") if n != best]
        while True:
            quoted = self._citation(best, closer)
            if quoted is not None:
                for citation in (quoted, *self._contradicting([*citations, quoted])):
                    if citation is not quoted and n_tokens >= self._rules.max_new_tokens:
                        reason = "length"
                        break
                    if citations:
                        yield Piece(SEPARATOR, 0)
                    emitted = self._tokens.plain(citation.quote)
                    yield from pieces_of(citation.quote, emitted, self._tokens)
                    citations.append(citation)
                    self._said.append(citation.quote)
                    n_tokens += len(emitted)
                n_spans += 1
            left = [n for n in left if self._candidates[n].text not in self._said]
            near = left and scores[left[0]] >= scores.max() - STOP_MARGIN
            if not near or n_spans >= self._evidence.options.max_spans:
                break
            if n_tokens >= self._rules.max_new_tokens:
                reason = "length"
                break
            best = left.pop(0)
            if self._evidence.options.span == "phrase":
                closer = yield from self._look_closer(best)
        found = with_contradictions(self._evidence, citations)
        yield Outcome(False, score, self._rules.threshold, found, reason)

    def _citation(self, number: int, closer: _Closer) -> Citation | None:
        """The sentence, or the best span in it; None where it holds no word that can be quoted."""
        candidate = self._candidates[number]
        if self._evidence.options.span == "sentence":
            return citation_of(self._evidence, candidate.spans)
        span = self._best_span(candidate, self._page.sentences[self._places[number]], closer)
        return None if span is None else phrase_citation(self._evidence, self._prior, [span])

    def _starts_of(self, candidate: Candidate, shown: Sequence[int]) -> list[Start]:
        """Where a phrase may begin in what is shown of the sentence."""
        n_bytes = sum(len(self._tokens.pieces[token]) for token in shown)
        starts = word_starts([self._evidence.sentences[candidate.index]], [0.0])
        refusal = self._evidence.options.refusal
        return [
            start
            for start in starts
            if any(
                start.offset < end <= min(n_bytes, start.last_end, start.offset + MAX_PHRASE_BYTES)
                for end in start.ends
            )
            and not reads_like_refusal(start, refusal)
        ]

    def _best_span(self, candidate: Candidate, shown: Sequence[int], closer: _Closer) -> Span | None:
        """The stretch of whole words whose first and last token score best together."""
        first = candidate.spans[0]
        begins, ends = self._word_scores(candidate.text, shown, closer)
        found: list[tuple[float, int, int]] = []
        for start in self._starts_of(candidate, shown):
            if start.offset in begins:
                last = min(start.last_end, start.offset + MAX_PHRASE_BYTES)
                near = [end for end in start.ends & ends.keys() if start.offset < end <= last]
                found += [(begins[start.offset] + ends[end], start.offset, end) for end in near]
        data = candidate.text.encode()
        for _, left, right in sorted(found, key=lambda one: (-one[0], one[1], one[2])):
            text = data[left:right].decode("utf-8", "replace")
            if text not in self._said:
                begin_at = first.start + len(data[:left].decode())
                return Span(first.document, begin_at, begin_at + len(text))
        return None

    def _word_scores(
        self, text: str, shown: Sequence[int], closer: _Closer
    ) -> tuple[dict[int, float], dict[int, float]]:
        """For each word, number or price that is shown whole: the best score of its tokens, by where it begins and
        by where it ends, in bytes."""
        borders = np.cumsum([0, *(len(self._tokens.pieces[token]) for token in shown)])
        begins, ends = dict[int, float](), dict[int, float]()
        offset = 0
        for left, right in chunks(text):
            size = len(text[left:right].encode())
            if offset + size > borders[-1]:
                break
            own = slice(_token_at(borders, offset), _token_at(borders, offset + size - 1) + 1)
            begins[offset] = float(closer.starts[own].max())
            ends[offset + size] = float(closer.ends[own].max())
            offset += size
        return begins, ends

    def _contradicting(self, citations: Sequence[Citation]) -> list[Citation]:
        """What other documents say instead of the last citation; of a phrase, where it is what they deny."""
        if self._evidence.options.span == "sentence":
            found = contradicting(self._evidence, self._prior, citations)
            return [citation_of(self._evidence, spans) for spans in found]
        return contradicting_phrases(self._evidence, self._prior, citations[-1], self._said)


def _token_at(borders: Scores, offset: int) -> int:
    """The token that byte ``offset`` stands in."""
    return int(np.searchsorted(borders, offset, side="right")) - 1
