"""How a remote model is made to answer: by number under a pattern, by quotes that are looked up, or in its own words.

A policy is a generator. It yields an ``Ask``, then ``NEXT`` for each ``Delta`` of the answer (None at its end),
``Piece`` for text that is final, and one ``Outcome`` where the answer is verbatim. It touches no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fourcorners.engine.stopping import StopFilter
from fourcorners.errors import AnswerFormatError, BackendError, shortened
from fourcorners.grounding.citing import contradicting, found_quote, phrase_citation, sentence_citation
from fourcorners.grounding.decoding import SEPARATOR, Outcome, Piece
from fourcorners.grounding.disagreement import with_contradictions
from fourcorners.grounding.evidence import Citation, Evidence, Sentence, Span
from fourcorners.grounding.lookalike import reads_like
from fourcorners.grounding.numbered import (
    MAX_PHRASE_WORDS,
    NumberReader,
    Page,
    choice_pattern,
    phrase_pattern,
    phrase_spans,
)
from fourcorners.grounding.packing import estimated_tokens
from fourcorners.grounding.pattern import Literal, Maybe, Pattern, Row, matches
from fourcorners.grounding.prior import PriorScores
from fourcorners.llms.asking import NEXT, Ask, Delta

Policy = Generator[Any, Any, None]

EVENTS_BEHIND_A_STOP = 8
"""A server that was told the stop string too ends by itself a few tokens later, and then tells the usage."""
PHRASE_TOKENS = MAX_PHRASE_WORDS * 12
UNHELD = "the server did not hold the model to the pattern"


@dataclass
class Quoting:
    """A verbatim answer on its way: what is cited so far, and the limits that it keeps to."""

    evidence: Evidence
    prior: PriorScores
    max_new_tokens: int
    citations: list[Citation] = field(default_factory=list)
    n_spans: int = 0
    n_tokens: int = 0
    finish_reason: str = "stop"

    def is_full(self) -> bool:
        """Whether no further span may follow; notes it where that is for the answer's length."""
        if self.n_spans >= self.evidence.options.max_spans:
            return True
        if self.n_tokens >= self.max_new_tokens:
            self.finish_reason = "length"
        return self.finish_reason == "length" and bool(self.citations)

    def add(self, citation: Citation) -> Policy:
        """Emit a quote, unless it was quoted already, and behind it what contradicts it."""
        if self.is_full() or citation.quote in self._said:
            return
        yield from self._emit(citation)
        self.n_spans += 1
        whole = self.evidence.options.span == "sentence"
        for other in contradicting(self.evidence, self.prior, citation, self._said, whole=whole):
            if other.quote not in self._said:
                yield from self._emit(other)

    def outcome(self, details: dict[str, Any]) -> Outcome:
        """The end of an answer that is none of the refusals."""
        citations = with_contradictions(self.evidence, self.citations)
        return Outcome(False, np.nan, np.nan, citations, self.finish_reason, details)

    @property
    def _said(self) -> list[str]:
        return [citation.quote for citation in self.citations]

    def _emit(self, citation: Citation) -> Policy:
        if self.citations:
            yield Piece(SEPARATOR, 0)
        yield Piece(citation.quote, 0)
        self.citations.append(citation)
        self.n_tokens += estimated_tokens(citation.quote)


def refuse(evidence: Evidence, guarantee: str = "enforced") -> Policy:
    """The refusal."""
    yield Piece(evidence.options.refusal, 0)
    yield Outcome(True, np.nan, np.nan, (), "stop", {"guarantee": guarantee})


def answer_by_number(ask: Ask, ask_phrase: Callable[[Sentence], Ask] | None, page: Page, quoting: Quoting) -> Policy:
    """The sentences that the model names by their numbers; with ``ask_phrase`` the words that it marks in them.

    Raises BackendError where the server lets the model say neither.
    """
    evidence, options = quoting.evidence, quoting.evidence.options
    pattern = choice_pattern(page, options.max_spans, options.refusal)
    reader, chosen = NumberReader(page, options.refusal), list[Sentence]()
    length = estimated_tokens(options.refusal) + 6 * options.max_spans
    yield ask._replace(pattern=_led(pattern), max_new_tokens=length)
    finish = ""
    while (delta := (yield NEXT)) is not None:
        finish = delta.finish_reason or finish
        fresh = reader.feed(delta.text)
        chosen += fresh
        for sentence in [] if ask_phrase else fresh:
            yield from quoting.add(sentence_citation(evidence, sentence.text))
    held = matches(pattern, reader.text.strip())
    last = reader.end(cut=finish == "length" and not held)
    chosen += last
    guarantee = "enforced" if held else "verified"
    if reader.refused or (not chosen and reads_like(reader.text, options.refusal)):
        yield from refuse(evidence, guarantee)
        return
    if not chosen:
        raise BackendError(f"{UNHELD} of numbers: it answered {shortened(reader.text)}; set server=… to what it is")
    for sentence in chosen if ask_phrase else last:
        if ask_phrase is None:
            yield from quoting.add(sentence_citation(evidence, sentence.text))
        elif not quoting.is_full():
            yield from _phrase(ask_phrase(sentence), sentence, quoting)
    if not quoting.citations:
        raise BackendError(f"no words can be quoted of what {shortened(reader.text)} names: take span='sentence'")
    yield quoting.outcome({"guarantee": guarantee})


def _phrase(ask: Ask, sentence: Sentence, quoting: Quoting) -> Policy:
    pattern = phrase_pattern(sentence, quoting.evidence.options.refusal)
    if pattern is None:
        return
    yield ask._replace(pattern=_led(pattern), max_new_tokens=PHRASE_TOKENS)
    text = ""
    while (delta := (yield NEXT)) is not None:
        text += delta.text
    places = phrase_spans(sentence, text.strip())
    if not places:
        raise BackendError(f"{UNHELD} of words: it answered {shortened(text)}; set server=… to what it is")
    spans = [Span(sentence.document, start, end) for start, end in places]
    yield from quoting.add(phrase_citation(quoting.evidence, quoting.prior, spans))


def _led(pattern: Pattern) -> Pattern:
    """``pattern``, behind a space or not: in many vocabularies the first word of an answer begins with one."""
    return Row((Maybe(Literal(" ")), pattern))


def answer_by_quote(asks: Sequence[Ask], quoting: Quoting) -> Policy:
    """The lines of the model's text that stand in the documents, each looked up before it is released.

    What is not found is left out and counted. Where nothing is found the next of ``asks`` is tried; the last time that
    is an AnswerFormatError, for a model that can't quote has not said that the documents lack the answer.
    """
    evidence, text, n_lost = quoting.evidence, "", 0
    for ask in asks:
        text, held, n_lost, finish = "", "", 0, ""
        yield ask
        while not quoting.is_full() and (delta := (yield NEXT)) is not None:
            finish = delta.finish_reason or finish
            text, held = text + delta.text, held + delta.text
            *lines, held = held.split("\n")
            for line in lines:
                n_lost += yield from _looked_up(line, quoting)
        if not quoting.citations and reads_like(text, evidence.options.refusal):
            yield from refuse(evidence, "verified")
            return
        lost = yield from _looked_up(held, quoting)
        if lost and finish == "length":  # cut off, perhaps within a word
            lost = yield from _looked_up(held.rstrip().rpartition(" ")[0], quoting)
        n_lost += lost
        if not quoting.citations:  # one quote over several lines
            n_lost = yield from _looked_up(text, quoting)
        if quoting.citations:
            if finish == "length":
                quoting.finish_reason = finish
            details = {"n_left_out_unverified": n_lost} if n_lost else {}
            yield quoting.outcome({"guarantee": "verified", **details})
            return
    raise AnswerFormatError(
        f"the model was asked to quote, and {shortened(text)} does not stand in the documents (it was asked "
        f"{len(asks)} times): try again, take grounding='free', or a server that can be held to a pattern"
    )


def _looked_up(line: str, quoting: Quoting) -> Generator[Any, Any, int]:
    """Release the quotes that a line is; returns how many lines were lost (0 or 1)."""
    if not any(map(str.isalnum, line)) or quoting.is_full():
        return 0
    citations = found_quote(quoting.evidence, quoting.prior, line)
    for citation in citations:
        yield from quoting.add(citation)
    return 0 if citations else 1


def answer_in_text(ask: Ask, stop: Sequence[str], lead: str = "") -> Policy:
    """The model's own words up to the first of ``stop``, without the ``lead`` that some formats begin with."""
    yield ask
    stop_filter, patience, begun = StopFilter(stop), EVENTS_BEHIND_A_STOP, False
    while patience and (delta := (yield NEXT)) is not None:
        text, begun = (delta.text if begun else delta.text.removeprefix(lead)), begun or bool(delta.text)
        if shown := stop_filter.feed(text):
            yield Piece(shown, 0)
        patience -= stop_filter.stopped
    if rest := stop_filter.flush():
        yield Piece(rest, 0)
    if stop_filter.stopped:
        yield Delta("", "stop")
