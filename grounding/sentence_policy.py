"""Verbatim answers in whole sentences: decide, then quote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fourcorners.grounding.branches import Branch, BranchSearch
from fourcorners.grounding.decoding import SEPARATOR, Evaluate, Outcome, Piece, Policy, Rules, Tokens
from fourcorners.grounding.disagreement import with_contradictions
from fourcorners.grounding.evidence import Citation, Evidence
from fourcorners.grounding.grammar import Constraint, sentence_grammar
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.quoting import Candidate, candidates_of, citation_of, contradicting, pieces_of

STOP_MARGIN = 1.5
"""A further sentence is worth adding while its prior is at most this far (in nats) behind the best one's."""


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
    candidates = _told_apart(candidates_of(evidence, shown, prior, rules.prior_weight), tokens)
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
    candidates: list[Candidate],
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
        yield from pieces_of(chosen.text, emitted, tokens, lead)
        citations.append(citation_of(evidence, chosen.spans))
        n_spans += 1
        for spans in contradicting(evidence, prior, citations):
            if n_tokens >= rules.max_new_tokens:
                reason = "length"
                break
            text = evidence.quote(spans[0])
            more = _tokens(tokens, SEPARATOR + text)[:-1]
            yield Piece(SEPARATOR, 0)
            yield from pieces_of(text, more, tokens, SEPARATOR)
            citations.append(citation_of(evidence, spans))
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


def _told_apart(candidates: list[Candidate], tokens: Tokens) -> list[Candidate]:
    """Of texts that a vocabulary spells alike (it lacks some of their characters) only the first can be chosen."""
    return list({_tokens(tokens, candidate.text): candidate for candidate in reversed(candidates)}.values())[::-1]


def _tokens(tokens: Tokens, text: str) -> tuple[int, ...]:
    return (*tokens.plain(text), tokens.eos)


def _refuse(text: str, branch: Branch, tokens: Tokens, *, score: float, rules: Rules) -> Policy:
    yield from pieces_of(text, branch.tokens[:-1], tokens, rules.answer_prefix)
    yield Outcome(True, score, rules.threshold, (), "stop")
