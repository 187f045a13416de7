"""Verbatim answers in short spans: whole words of one sentence, decoded step by step under the grammar's mask."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from fourcorners.grounding.decoding import (
    SEPARATOR,
    Evaluate,
    Outcome,
    Piece,
    Policy,
    Rules,
    Scores,
    Tokens,
    log_mass,
    log_softmax,
)
from fourcorners.grounding.disagreement import with_contradictions
from fourcorners.grounding.evidence import Citation, Evidence, Sentence
from fourcorners.grounding.grammar import Constraint, phrase_grammar
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.quoting import contradicting_phrases, phrase_citation, reads_like_refusal
from fourcorners.grounding.tracker import SpanTracker, word_starts

MAX_PHRASE_TOKENS = 48
"""A longer phrase ends at its next word."""


def answer_in_phrases(
    prompt: Sequence[int],
    evidence: Evidence,
    shown: Sequence[int],
    prior: PriorScores,
    tokens: Tokens,
    rules: Rules,
) -> Policy:
    """Emit the refusal, or one to ``max_spans`` distinct spans of the ``shown`` sentences, then the ``Outcome``.

    The score is the log-odds of the refusal branch against all spans together. A context without a word that can be
    quoted (nothing but runs of hundreds of characters) is refused.
    """
    return _PhraseDecoder(evidence, shown, prior, tokens, rules).run(tuple(prompt))


class _PhraseDecoder:
    """The state of one answer: which places are still free, and the sequence position reached."""

    def __init__(
        self, evidence: Evidence, shown: Sequence[int], prior: PriorScores, tokens: Tokens, rules: Rules
    ) -> None:
        self._evidence, self._prior, self._tokens, self._rules = evidence, prior, tokens, rules
        self._texts = list(dict.fromkeys(evidence.sentences[index].text for index in shown))
        masses: dict[str, list[float]] = {text: [] for text in self._texts}
        first: dict[str, Sentence] = {}
        for sentence, score in zip(evidence.sentences, prior.sentences, strict=True):
            if sentence.text in masses:
                first.setdefault(sentence.text, sentence)
                masses[sentence.text].append(rules.prior_weight * float(score))
        # One place stands for all of the same text, with the mass of all; the citation looks the others up.
        weighted = [log_mass(np.array(masses[text])) for text in first]
        starts = word_starts(list(first.values()), weighted, self._can_spell)
        self._starts = [start for start in starts if not reads_like_refusal(start, evidence.options.refusal)]
        self._refusal_prior = rules.prior_weight * prior.refusal
        self._chance = np.random.default_rng(rules.seed)
        self._said: list[str] = [evidence.options.refusal]
        self._position = 0

    def run(self, prompt: tuple[int, ...]) -> Policy:
        """The policy itself."""
        refusal, rules = self._evidence.options.refusal, self._rules
        lead, reason = rules.answer_prefix, "stop"
        constraint, score = self._constraint(lead, refusal), np.inf
        if self._starts:
            logits = (yield Evaluate(0, prompt))[-1]
            self._position = len(prompt)
            score = yield from self._refusal_log_odds(constraint, logits)
        if score > rules.threshold or not self._starts:
            yield Piece(refusal, len(self._tokens.plain(refusal)))
            yield Outcome(True, score, rules.threshold, (), "stop")
            return
        citations, n_spans = list[Citation](), 0
        while True:
            citation, logits = yield from self._one_span(constraint, logits, lead)
            citations.append(citation)
            self._said.append(citation.quote)
            n_spans += 1
            is_last = n_spans == self._evidence.options.max_spans
            for other in contradicting_phrases(self._evidence, self._prior, citation, self._said):
                behind = tuple(self._tokens.plain(SEPARATOR + other.quote))
                yield Piece(SEPARATOR, 0)
                yield Piece(other.quote, len(behind))
                citations.append(other)
                self._said.append(other.quote)
                is_last = is_last or self._position + len(behind) > rules.window_tokens - MAX_PHRASE_TOKENS
                if not is_last:
                    logits = (yield Evaluate(self._position, behind))[-1]
                    self._position += len(behind)
            if is_last or not self._tracker().alive:
                break
            room = rules.window_tokens - self._position - MAX_PHRASE_TOKENS
            if self._position - len(prompt) >= rules.max_new_tokens or room < 0:
                reason = "length"
                break
            separator = tuple(self._tokens.plain(SEPARATOR))
            if logits[separator[0]] <= max(logits[token] for token in self._tokens.end_tokens):
                break
            yield Piece(SEPARATOR, len(separator))
            logits = (yield Evaluate(self._position, separator))[-1]
            self._position += len(separator)
            if lead:
                lead, constraint = "", self._constraint("", refusal)
        yield Outcome(False, score, rules.threshold, with_contradictions(self._evidence, citations), reason)

    def _one_span(
        self, constraint: Constraint, logits: Scores, lead: str
    ) -> Generator[Any, Any, tuple[Citation, Scores]]:
        """One span, and the logits behind it. The tracker knows no place for the refusal, so it can't be said here."""
        tracker = self._tracker()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        path: list[int] = []
        skip = len(lead.encode())
        while (token := self._choose(constraint, tracker, path, logits, skip)) != self._tokens.eos:
            path.append(token)
            piece = self._tokens.pieces[token]
            fresh, skip = piece[skip:], max(0, skip - len(piece))
            tracker.advance(fresh)
            yield Piece(decoder.decode(fresh), 1)
            logits = (yield Evaluate(self._position, (token,)))[-1]
            self._position += 1
        return phrase_citation(self._evidence, self._prior, tracker.spans()), logits

    def _choose(self, constraint: Constraint, tracker: SpanTracker, path: list[int], logits: Scores, skip: int) -> int:
        legal, joint = self._joint(constraint, tracker, path, logits, skip, refusal_token=None)
        if len(path) >= MAX_PHRASE_TOKENS and self._tokens.eos in legal:
            return self._tokens.eos
        if self._rules.temperature <= 0:
            return legal[int(joint.argmax())]
        chances = np.exp(log_softmax(joint / self._rules.temperature))
        return legal[int(self._chance.choice(len(legal), p=chances / chances.sum()))]

    def _joint(
        self,
        constraint: Constraint,
        tracker: SpanTracker,
        path: Sequence[int],
        logits: Scores,
        skip: int,
        refusal_token: int | None,
    ) -> tuple[list[int], Scores]:
        """The tokens that may follow ``path`` and their log-probabilities, model and prior together."""
        pieces, legal, mass = self._tokens.pieces, [], []
        allowed = [int(token) for token in constraint.allowed_after(path)]
        # The lead (a space) comes with the first word or alone: what is behind it decides.
        bare = {token: pieces[token][skip:] for token in allowed if token != self._tokens.eos}
        behind = tracker.masses(piece for piece in bare.values() if piece)
        total = tracker.masses_total()
        for token in allowed:
            if token == self._tokens.eos:
                value = tracker.end_mass() if tracker.emitted else -np.inf
            else:
                value = behind.get(bare[token], -np.inf) if bare[token] else total
            if token == refusal_token:
                value = float(np.logaddexp(value, self._refusal_prior))
            if value > -np.inf:
                legal.append(token)
                mass.append(value)
        model = log_softmax(logits[legal].astype(np.float64))
        return legal, log_softmax(self._rules.model_weight * model + np.array(mass))

    def _refusal_log_odds(self, constraint: Constraint, logits: Scores) -> Generator[Any, Any, float]:
        """Walk the refusal's tokens until no quote shares them; the rest is forced and costs nothing."""
        lead = self._rules.answer_prefix
        branch = self._tokens.plain(lead + self._evidence.options.refusal)
        tracker = self._tracker()
        total, skip = 0.0, len(lead.encode())
        for depth, token in enumerate(branch):
            if depth:
                logits = (yield Evaluate(self._position, tuple(branch[:depth])))[-1]
            legal, joint = self._joint(constraint, tracker, branch[:depth], logits, skip, refusal_token=token)
            if token not in legal:
                return -np.inf
            total += float(joint[legal.index(token)])
            piece = self._tokens.pieces[token]
            tracker.advance(piece[skip:])
            skip = max(0, skip - len(piece))
            if not tracker.alive:
                break
        return total - float(np.log(-np.expm1(min(total, -1e-12))))

    def _can_spell(self, text: str) -> bool:
        return b"".join(self._tokens.pieces[token] for token in self._tokens.plain(text)) == text.encode()

    def _tracker(self) -> SpanTracker:
        return SpanTracker(self._starts, excluded=self._said)

    def _constraint(self, lead: str, refusal: str) -> Constraint:
        grammar = phrase_grammar(self._texts, refusal=refusal, prefix=lead)
        return Constraint(self._tokens.constraint_tokenizer, grammar)
