"""Whether a value or a word belongs, in its source, to what the sentence says it of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fourcorners.grounding.alignment import Alignment
from fourcorners.grounding.claims import Claims, Clause, Token
from fourcorners.grounding.lexicon import among, related
from fourcorners.grounding.quantities import Fact, agrees, rivals
from fourcorners.grounding.rules import Broken

_OWN, _INHERITED = 1.0, 0.8
"""What a word counts in its own clause, and in a later one: "tickets cost 12 euros for adults and 8 for children"."""


def strayed(both: Alignment) -> Iterator[Broken]:
    """Values that stand in the place, but in a clause that is about something else."""
    for clause in both.said.clauses:
        for fact in clause.facts:
            if not _bound_here(both, clause, fact) or not _counts_the_same(both, fact):
                yield "elsewhere", fact.text
        for token in clause.tokens:
            if token in both.said.names and not _name_bound_here(both, clause, token):
                yield "elsewhere", token.text
        yield from _other_subject(both, clause)


def _bound_here(both: Alignment, mine: Clause, fact: Fact) -> bool:
    core = both.place.core
    if (name := _named_by(both.said, fact)) is not None:  # "Alba 90"
        named = [given for c in both.place.everything for given in c.facts if _named_by(c, given) == name]
        first = both.said.tokens[0]
        if named or not (first.fold == name and first.end <= fact.start):  # "Seit 2017" names nothing
            return any(agrees(fact, given) for given in named)
    if not both.states(core, fact) or len(core.facts) < 2:
        return True
    best = _best_clauses(both, mine, without=fact.text, fact=fact)
    if any(agrees(fact, given) for clause in best for given in clause.facts):
        return True
    return not any(rivals(fact, given) for clause in best for given in clause.facts)


def _counts_the_same(both: Alignment, fact: Fact) -> bool:
    """ "six rooms on 84 floors" for "84 rooms on six floors"."""
    counted = _counted(both.said, fact)
    given = [(g, _counted(c, g)) for c in both.place.everything for g in c.facts if g.kind == "number"]
    if counted is None or fact.kind != "number":
        return True
    own = [noun for g, noun in given if agrees(fact, g)]
    if any(noun is None or noun.stem == counted.stem or related(noun, counted) for noun in own):
        return True
    return not any(noun is not None and noun.stem == counted.stem for _, noun in given)


def _name_bound_here(both: Alignment, mine: Clause, token: Token) -> bool:
    if any(token.fold in claims.folds for claims in both.place.over):
        return True
    best = _best_clauses(both, mine, without=token.fold)
    if any(token.fold == other.fold or token.stem == other.stem for clause in best for other in clause.tokens):
        return True
    said = {t.fold for t in mine.tokens}
    strangers = (t for clause in best for t in clause.tokens if t.capital and t.content and t.fold not in said)
    if both.said.language == "german":
        return True
    if any(not t.opens or t is _first_of_several(t, both.place.core) for t in strangers):
        return False
    return any(
        token.fold in c.stems or any(token.fold == t.fold for t in c.tokens)
        for c in both.place.core.clauses
        if not c.relative
    ) or any(token.fold in claims.folds for claims in both.place.before)


def _best_clauses(both: Alignment, mine: Clause, without: str, fact: Fact | None = None) -> list[Clause]:
    """The clauses of the core that have most in common with ``mine``, the value itself left out."""
    wanted = {t.stem for t in mine.tokens if t.content and t.fold != without}
    if len(wanted) < 2:
        wanted |= {t.stem for t in both.said.content if t.fold != without}
    if not wanted:
        wanted = set(both.hints)
    others = [f for f in mine.facts if f is not fact]
    scores = [_score(both, wanted, others, place) for place in range(len(both.place.core.clauses))]
    best = max(scores, default=0.0)
    return [c for c, score in zip(both.place.core.clauses, scores, strict=True) if score >= best - 1e-9]


def _score(both: Alignment, wanted: set[str], facts: Sequence[Fact], place: int) -> float:
    clauses = both.place.core.clauses
    clause = clauses[place]
    own = {stem for stem in wanted if among(stem, clause.stems)}
    score = _OWN * len(own) + sum(any(agrees(f, given) for given in clause.facts) for f in facts)
    subject = clause.own_subject
    if subject is None or place == 0 or among(subject.stem, wanted):
        inherited = {s for c in clauses[:place] if not c.relative for s in c.stems}
        score += _INHERITED * sum(among(stem, inherited) for stem in wanted - own)
    return score


def _other_subject(both: Alignment, mine: Clause) -> Iterator[Broken]:
    """What the place says of a subject that the sentence leaves out, said of another one."""
    if mine.own_subject is None and mine is not both.said.clauses[0] and both.said.content:
        mine = replace(mine, tokens=(both.said.content[0], *mine.tokens))  # "… and closes at six"
    partners = both.partners(mine)
    words = [(clause, {t.stem for t in mine.tokens if t.content and both.holds(clause, t)}) for clause, _ in partners]
    for clause, own in words:
        subject = _subject_of(both, clause)
        if any(other.relative and _follows(both, clause, other) for other, _ in words):
            continue  # it supplies what the relative clause is about
        if (
            subject is None
            or not own
            or any(t.stem == subject.stem or related(t, subject) for t in both.said.tokens if t in mine.tokens)
        ):
            continue
        others = [held for other, held in words if other is not clause]
        lone = own - set().union(*others) if others else set()
        if lone and any(held - own for held in others):
            yield "words", next(t.text for t in mine.tokens if t.stem in lone)


def _follows(both: Alignment, clause: Clause, other: Clause) -> bool:
    return both.place.core.clauses.index(other) == both.place.core.clauses.index(clause) + 1


def _subject_of(both: Alignment, clause: Clause) -> Token | None:
    """The clause's own subject; of a relative clause what stands before it."""
    if not clause.relative:
        return clause.own_subject
    clauses = both.place.core.clauses
    place = clauses.index(clause)
    before = [t for c in clauses[:place] for t in c.tokens if t.content]
    return before[-1] if before else None


def _named_by(claims: Claims, fact: Fact) -> str | None:
    """The name that a bare number follows and belongs to: "Alba" in "Alba 90"."""
    before = next((t for t in reversed(claims.tokens) if t.end <= fact.start), None)
    if fact.kind != "number" or fact.unit is not None or before is None or not before.capital or not before.content:
        return None
    return before.fold if claims.text[before.end : fact.start] in (" ", "-", "\u00a0") else None


def _counted(claims: Claims, fact: Fact) -> Token | None:
    """The word right behind a number without a unit: "rooms" in "84 rooms"."""
    following = next((t for t in claims.tokens if t.start >= fact.end), None)
    if following is None or not following.content or fact.unit is not None:
        return None
    return following if claims.text[fact.end : following.start].strip() == "" else None


def _first_of_several(token: Token, claims: Claims) -> Token | None:
    """The token itself where it opens a clause of several capitals: "Anna Berg leads …"."""
    index = claims.tokens.index(token) if token in claims.tokens else -1
    following = claims.tokens[index + 1] if 0 <= index < len(claims.tokens) - 1 else None
    return token if following is not None and following.capital and following.content else None
