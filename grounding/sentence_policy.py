"""Verbatim answers in whole sentences: decide, then quote."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fourcorners.grounding.branches import Branch, BranchSearch
from fourcorners.grounding.decoding import SEPARATOR, Evaluate, Outcome, Piece, Policy, Rules, Tokens
from fourcorners.grounding.disagreement import disagreements, sentence_at, with_contradictions
from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.grammar import Constraint, sentence_grammar
from fourcorners.grounding.lookalike import reads_like
from fourcorners.grounding.prior import PriorScores

STOP_MARGIN = 1.5
"""A further sentence is worth adding while its prior is at most this far (in nats) behind the best one's."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A distinct sentence text, all places where it stands (best document first), and its weighted prior."""

    text: str
    spans: tuple[Span, ...]
    prior: float


def answer_in_sentences(
    prompt: Sequence[int],
    evidence: Evidence,
    shown: Sequence[int],
    prior: PriorScores,
    tokens: Tokens,
    rules: Rules,
) -> Policy:
    """Emit the refusal, or one to ``max_spans`` distinct sentences among ``shown``, then the ``Outcome``."""
    options = evidence.options
    candidates = _told_apart(_candidates(evidence, shown, prior, rules.prior_weight), tokens)
    refusal = Branch(_tokens(tokens, rules.answer_prefix + options.refusal), prior.refusal * rules.prior_weight)
    if not candidates:
        yield from _refuse(options.refusal, refusal, tokens, score=np.inf, rules=rules)
        return
    branches = [Branch(_tokens(tokens, rules.answer_prefix + c.text), c.prior) for c in candidates] + [refusal]
    texts = [rules.answer_prefix + text for text in (*(c.text for c in candidates), options.refusal)]
    search = _search(tokens, texts, branches, len(prompt), rules)  # compiled before anybody waits for its logits
    search.begin((yield Evaluate(0, tuple(prompt)))[-1])
    best, best_score = yield from search.best(range(len(candidates)))
    score = (yield from search.log_probability(len(candidates))) - best_score
    if score > rules.threshold:
        yield from _refuse(options.refusal, refusal, tokens, score=score, rules=rules)
        return
    if rules.temperature > 0:
        chance = np.random.default_rng(rules.seed)
        best, _ = yield from search.sample(range(len(candidates)), rules.temperature, chance)
    yield from _quote(prompt, candidates, best, tokens, evidence, prior, rules, score)


def _quote(
    prompt: Sequence[int],
    candidates: list[_Candidate],
    best: int,
    tokens: Tokens,
    evidence: Evidence,
    prior: PriorScores,
    rules: Rules,
    score: float,
) -> Policy:
    """Emit the best sentence, and further ones while the model and the budget ask for them.

    Behind each come the sentences that contradict it, which no budget of spans holds back.
    """
    citations: list[Citation] = []
    left, path, n_tokens, n_spans = list(candidates), list(prompt), 0, 0
    lead, reason = rules.answer_prefix, "stop"
    floor = candidates[best].prior - STOP_MARGIN * rules.prior_weight
    while True:
        chosen = left.pop(best)
        emitted = list(_tokens(tokens, lead + chosen.text)[:-1])
        n_tokens += len(emitted)
        if citations:
            yield Piece(SEPARATOR, 0)
        yield from _pieces(chosen.text, emitted, tokens, lead)
        citations.append(_citation(evidence, chosen.spans))
        n_spans += 1
        for spans in _contradicting(evidence, prior, citations):
            if n_tokens >= rules.max_new_tokens:
                reason = "length"
                break
            text = evidence.quote(spans[0])
            more = _tokens(tokens, SEPARATOR + text)[:-1]
            yield Piece(SEPARATOR, 0)
            yield from _pieces(text, more, tokens, SEPARATOR)
            citations.append(_citation(evidence, spans))
            emitted, n_tokens = [*emitted, *more], n_tokens + len(more)
            left = [candidate for candidate in left if candidate.text != text]
        if not left or n_spans == evidence.options.max_spans:
            break
        if n_tokens >= rules.max_new_tokens or len(path) + len(emitted) > rules.window_tokens:
            reason = "length"
            break
        start, path, lead = len(path), path + emitted, SEPARATOR
        further = [Branch(_tokens(tokens, SEPARATOR + c.text), c.prior) for c in left]
        stop = Branch((tokens.eos,), floor)
        texts = [SEPARATOR + c.text for c in left]
        search = _search(tokens, texts, [*further, stop], len(path), rules, may_end=True)
        search.begin((yield Evaluate(start, tuple(emitted)))[-1])
        best, _ = yield from search.best(range(len(further) + 1))
        if best == len(further):
            break
    yield Outcome(False, score, rules.threshold, with_contradictions(evidence, citations), reason)


def _contradicting(evidence: Evidence, prior: PriorScores, citations: Sequence[Citation]) -> list[tuple[Span, ...]]:
    """All places of each sentence that contradicts the last citation."""
    last = citations[-1]
    said = [citation.quote for citation in citations]
    found = disagreements(evidence, prior, sentence_at(evidence, last.document, last.start), said)
    return [_places(evidence, evidence.sentences[other.sentence].text) for other in found]


def _places(evidence: Evidence, text: str) -> tuple[Span, ...]:
    return tuple(Span(s.document, s.start, s.end) for s in evidence.sentences if s.text == text)


def _search(
    tokens: Tokens,
    texts: Sequence[str],
    branches: Sequence[Branch],
    base: int,
    rules: Rules,
    *,
    may_end: bool = False,
) -> BranchSearch:
    constraint = Constraint(tokens.constraint_tokenizer, sentence_grammar(texts, may_end=may_end))
    return BranchSearch(
        branches,
        constraint,
        base=base,
        model_weight=rules.model_weight,
        window_tokens=rules.window_tokens,
    )


def _candidates(evidence: Evidence, shown: Sequence[int], prior: PriorScores, prior_weight: float) -> list[_Candidate]:
    """Distinct texts among ``shown``, with all their places. One that reads like the refusal can't be told from it."""
    refusal = evidence.options.refusal
    texts = (evidence.sentences[index].text for index in shown)
    where: dict[str, list[int]] = {text: [] for text in texts if not reads_like(text, refusal)}
    for index, sentence in enumerate(evidence.sentences):
        if sentence.text in where:
            where[sentence.text].append(index)
    return [
        _Candidate(
            text,
            tuple(Span(s.document, s.start, s.end) for s in (evidence.sentences[i] for i in indices)),
            prior_weight * float(max(prior.sentences[i] for i in indices)),
        )
        for text, indices in where.items()
    ]


def _told_apart(candidates: list[_Candidate], tokens: Tokens) -> list[_Candidate]:
    """Of texts that a vocabulary spells alike (it lacks some of their characters) only the first can be chosen."""
    return list({_tokens(tokens, candidate.text): candidate for candidate in reversed(candidates)}.values())[::-1]


def _tokens(tokens: Tokens, text: str) -> tuple[int, ...]:
    return (*tokens.plain(text), tokens.eos)


def _refuse(text: str, branch: Branch, tokens: Tokens, *, score: float, rules: Rules) -> Policy:
    yield from _pieces(text, branch.tokens[:-1], tokens, rules.answer_prefix)
    yield Outcome(True, score, rules.threshold, (), "stop")


def _pieces(text: str, emitted: Sequence[int], tokens: Tokens, lead: str) -> Generator[Piece, Any, None]:
    """``text`` token by token; its pieces always join to exactly ``text``."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    whole = b"".join(tokens.pieces[token] for token in emitted).decode("utf-8", "replace")
    if whole != lead + text:
        # The vocabulary can't spell it: the text itself is what counts.
        yield Piece(text, len(emitted))
        return
    skip = len(lead)
    for token in emitted:
        piece = decoder.decode(tokens.pieces[token])
        kept, skip = piece[skip:], max(0, skip - len(piece))
        yield Piece(kept, 1)


def _citation(evidence: Evidence, spans: tuple[Span, ...]) -> Citation:
    first = spans[0]
    return Citation(
        evidence.documents[first.document].id,
        first.document,
        first.start,
        first.end,
        evidence.quote(first),
        spans[1:],
    )
