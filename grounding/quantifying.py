"""How many, how much, and which of two opposites: words that change what a copied sentence says."""

from __future__ import annotations

from collections.abc import Iterator

from fourcorners.grounding.alignment import Alignment
from fourcorners.grounding.claims import Claims
from fourcorners.grounding.cues import cues
from fourcorners.grounding.lexicon import opposite_sides, other_sides
from fourcorners.grounding.quantities import Fact, agrees
from fourcorners.grounding.rules import Broken

_STATED = ("all", "some", "most", "many", "few", "only", "perhaps")
"""Those that a sentence may not add."""
_WEAKENING = ("some", "most", "few", "might")
"""Those that a sentence may not drop."""
_KINDS = (*_STATED, "might")
_COMPARING = {"≥": "at_least", "≤": "at_most", ">": "over", "<": "under"}


def opposites(both: Alignment) -> Iterator[Broken]:
    """Words exchanged for their opposite."""
    core = both.place.core
    for place, token in enumerate(both.said.tokens):
        sides = opposite_sides(token.fold)
        if not sides or token.fold in both.turned or token.fact >= 0:
            continue
        if token.fold in cues("modals") and any(
            token in clause.tokens and clause.negations for clause in both.said.clauses
        ):
            continue  # "may not" and "must not" are one
        same = [
            i
            for i, t in enumerate(core.tokens)
            if t.fold == token.fold or t.stem == token.stem or sides & opposite_sides(t.fold)
        ]
        against = other_sides(token.fold)
        opposite = [
            i
            for i, t in enumerate(core.tokens)
            if against & opposite_sides(t.fold) and t.fold != token.fold and not sides & opposite_sides(t.fold)
        ]
        following = both.said.tokens[place + 1 : place + 2]
        if token.fold in cues("time_relations") and not same and any(t.fact >= 0 for t in following):
            yield "words", token.text  # "before 2006" for "in 2006"
        if not opposite:
            continue
        mine = _neighbours(both.said, place)
        beside = max(_common(both, mine, core, i) for i in opposite)
        if (not same and (token.content or beside)) or (
            same and beside > max(_common(both, mine, core, i) for i in same)
        ):
            yield "opposite", token.text


def bounds(both: Alignment) -> Iterator[Broken]:
    """ "At least five" for "five", or the reverse."""
    everything = both.place.everything
    for fact in both.said.facts:
        given = [g for claims in everything for g in claims.facts if agrees(fact, g)]
        if not given or any(g.bound == fact.bound for g in given):
            continue
        theirs = given[0].bound
        if fact.bound:
            said = not theirs and any(cues(_COMPARING[fact.bound]) & claims.folds for claims in everything)
        else:
            said = bool(cues(_COMPARING[theirs]) & both.said.folds)
        if not said:
            yield "quantity", fact.text


def quantifiers(both: Alignment) -> Iterator[Broken]:
    """ "All", "some", "most" and their like, lost or added."""
    folds = {f for claims in both.place.everything for f in claims.folds}
    for name in _KINDS:
        words = cues(name)
        mine = [t for i, t in enumerate(both.said.tokens) if t.fold in words and not _of_a_number(both.said, i)]
        theirs = [
            i for i, t in enumerate(both.place.core.tokens) if t.fold in words and not _of_a_number(both.place.core, i)
        ]
        mine = [t for t in mine if t.fold not in cues("distributive") or name not in _STATED] if not theirs else mine
        if mine and name in _STATED and not folds & words:
            yield "quantity", mine[0].text
        if name in _WEAKENING and theirs and not mine:
            for i in theirs:
                following = both.place.core.tokens[i + 1 : i + 4]
                noun = next((t for t in following if t.content), None)
                if noun is not None and noun.stem in both.said.stems and not _negated_near(both, i):
                    yield "quantity", both.place.core.tokens[i].text


def restrictions(both: Alignment) -> Iterator[Broken]:
    """ "heated" for "heated only in winter"."""
    tokens = both.place.core.tokens
    only = cues("only")
    for i, token in enumerate(tokens):
        if token.fold not in only or both.said.folds & only or (i and tokens[i - 1].fold in ("not", "nicht")):
            continue
        clause = next((c for c in both.place.core.clauses if token in c.tokens), None)
        following = next((t for t in tokens[i + 1 :] if t.content or t.fact >= 0), None)
        used = clause is not None and any(t.content and t.stem in both.said.stems for t in clause.tokens)
        if used and following is not None and following.content and following.stem not in both.said.stems:
            yield "quantity", token.text


def _common(both: Alignment, mine: tuple[set[str], list[Fact]], claims: Claims, place: int) -> int:
    stems, facts = _neighbours(claims, place)
    token = claims.tokens[place]
    around = next((clause.facts for clause in claims.clauses if token in clause.tokens), ())
    return (
        len(mine[0] & stems)
        + sum(any(agrees(f, g) for g in facts) for f in mine[1])
        + 2 * sum(any(agrees(f, g) for g in around) for f in both.said.facts)
    )


def _neighbours(claims: Claims, place: int) -> tuple[set[str], list[Fact]]:
    """The content word and the fact next to a token, on each side, within four words."""
    stems: set[str] = set()
    facts: list[Fact] = []
    for run in (claims.tokens[place + 1 : place + 5], claims.tokens[max(0, place - 4) : place][::-1]):
        for token in run:
            if token.fact >= 0:
                facts.append(claims.facts[token.fact])
                break
            if token.content:
                stems.add(token.stem)
                break
    return stems, facts


def _negated_near(both: Alignment, place: int) -> bool:
    """ "may not" forbids; that is a matter of negation."""
    return any(t.fold in ("not", "nicht", "pas", "no") for t in both.place.core.tokens[place + 1 : place + 3])


def _of_a_number(claims: Claims, place: int) -> bool:
    """Whether a word belongs to a number: "at most three", or is part of one."""
    token = claims.tokens[place]
    before = claims.tokens[place - 1].fold if place else ""
    return token.fact >= 0 or (token.fold in ("most", "least") and before == "at")
