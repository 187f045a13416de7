"""Whether a sentence denies what its source denies, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fourcorners.grounding.alignment import Alignment, Partner
from fourcorners.grounding.claims import Clause, Token
from fourcorners.grounding.cues import cues
from fourcorners.grounding.rules import Broken


def broken_polarity(both: Alignment) -> Iterator[Broken]:
    """Negations, exceptions and permissions that were lost or added."""
    for mine in both.said.clauses:
        if any(token.fold in both.turned for token in mine.tokens):
            continue
        partners = both.partners(mine)
        yield from _exception_lost(both, mine, partners)
        yield from _negation_lost(mine, partners)
        yield from _negation_widened(mine, partners)
        yield from _negation_added(mine, partners)
    yield from _permissions(both)


def _permissions(both: Alignment) -> Iterator[Broken]:
    """What is said to be allowed must be said to be allowed, or in a negated clause not to be."""
    folds = both.place.core.folds
    for token in both.said.tokens:
        if token.fold in cues("permissions") and not folds & (cues("permissions") | cues("modals")):
            yield "quantity", token.text


def _exception_lost(both: Alignment, mine: Clause, partners: Sequence[Partner]) -> Iterator[Broken]:
    """ "open every day" for "open every day except Monday"."""
    clauses = both.place.core.clauses
    for clause, _ in partners:
        place = clauses.index(clause)
        following = clauses[place + 1] if place + 1 < len(clauses) else None
        if following is None or not following.excepts or any(c.excepts for c in both.said.clauses):
            continue
        without = following.tokens[0].fold in ("without", "ohne", "sans")
        if not without or clause.negations:
            yield "negation", following.tokens[0].text


def _negation_lost(mine: Clause, partners: Sequence[Partner]) -> Iterator[Broken]:
    for clause, tokens in partners:
        if clause.negations and not mine.negations and set(_scope(clause)) & set(tokens):
            yield "negation", clause.tokens[clause.negations[0]].text
        if clause.excepts and not mine.excepts:
            yield "negation", next(iter(clause.tokens)).text


def _negation_widened(mine: Clause, partners: Sequence[Partner]) -> Iterator[Broken]:
    """ "No side effects" for "No serious side effects"."""
    for clause, _ in partners:
        for place in clause.negations if mine.negations else ():
            following = clause.tokens[place + 1 : place + 4]
            if clause.tokens[place].fold not in cues("negating_determiners") or not following:
                continue
            first, *others = following
            lost = first.content and first.stem not in mine.stems
            if lost and any(t.content and t.stem in mine.stems for t in others):
                yield "negation", first.text


def _negation_added(mine: Clause, partners: Sequence[Partner]) -> Iterator[Broken]:
    if mine.negations and partners:
        scope = {token.stem for token in _scope(mine)}
        touched = [c for c, tokens in partners if not scope or any(t.stem in scope or t.fact >= 0 for t in tokens)] or [
            c for c, _ in partners
        ]
        if not all(len(c.negations) % 2 == len(mine.negations) % 2 and _manner(c) == _manner(mine) for c in touched):
            yield "negation", mine.tokens[mine.negations[0]].text
    if mine.excepts and partners and not any(clause.excepts for clause, _ in partners):
        yield "negation", mine.tokens[0].text


def _manner(clause: Clause) -> bool:
    """Whether what negates it only weakens: rarely, hardly."""
    weak = cues("weak_negations")
    return any(clause.tokens[i].fold in weak for i in clause.negations)


def _scope(clause: Clause) -> list[Token]:
    """The words that a clause's first negation is about: those after it, or all where it comes last."""
    after = [t for t in clause.tokens[clause.negations[0] + 1 :] if t.content or t.fact >= 0]
    return after or [t for t in clause.tokens if t.content or t.fact >= 0]
