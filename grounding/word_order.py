"""Who does what to whom: words that have changed places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fourcorners.grounding.alignment import Alignment
from fourcorners.grounding.claims import Claims, Token
from fourcorners.grounding.cues import cues
from fourcorners.grounding.rules import Broken


def turned_round(both: Alignment) -> Iterator[Broken]:
    """ "The tenant pays the landlord" for "The landlord pays the tenant"."""
    where = _unique_places(both)
    pairs = [(i, where[t.stem], t) for i, t in enumerate(both.said.tokens) if t.content and t.stem in where]
    core = both.place.core.tokens
    for a in range(len(pairs)):
        for b in range(a + 1, len(pairs)):
            for c in range(b + 1, min(len(pairs), b + 4)):
                (_, x, one), (_, v, verb), (j, y, two) = pairs[a], pairs[b], pairs[c]
                if (verb.capital and not verb.opens) or not _in_one_clause(both.said, one, two):
                    continue
                mine, theirs = _agent(both.said.tokens, j), _agent(core, max(x, y))
                if (x > v > y and mine == theirs) or (x < v < y and mine != theirs and c == b + 1 == a + 2):
                    yield "order", f"{one.text} … {two.text}"
    yield from _swapped(both, pairs)


def _swapped(both: Alignment, pairs: Sequence[tuple[int, int, Token]]) -> Iterator[Broken]:
    """ "from Lisbon to Porto" for "from Porto to Lisbon"."""
    core = both.place.core.tokens
    for a in range(len(pairs)):
        for b in range(a + 1, len(pairs)):
            one, two = _marker(both.said.tokens, pairs[a][0]), _marker(both.said.tokens, pairs[b][0])
            if one and two and one != two and one == _marker(core, pairs[b][1]) and two == _marker(core, pairs[a][1]):
                yield "order", f"{pairs[a][2].text} … {pairs[b][2].text}"


def _unique_places(both: Alignment) -> dict[str, int]:
    places: dict[str, list[int]] = {}
    for i, token in enumerate(both.place.core.tokens):
        places.setdefault(token.stem, []).append(i)
    mine = [token.stem for token in both.said.tokens]
    return {stem: found[0] for stem, found in places.items() if len(found) == 1 and mine.count(stem) == 1}


def _in_one_clause(claims: Claims, one: Token, two: Token) -> bool:
    return any(one in clause.tokens and two in clause.tokens for clause in claims.clauses)


def _marker(tokens: Sequence[Token], place: int) -> str:
    """The function words before a token, back to the last content word, without articles."""
    words = []
    for token in reversed(tokens[max(0, place - 3) : place]):
        if token.content or token.fact >= 0:
            break
        if token.fold not in cues("articles"):
            words.append(token.fold)
    return " ".join(reversed(words))


def _agent(tokens: Sequence[Token], place: int) -> bool:
    """Whether the token is what a passive verb is done by."""
    for token in reversed(tokens[max(0, place - 3) : place]):
        if token.fact >= 0:  # "by 62 % among people"
            return False
        if token.fold in cues("agents"):
            return True
    return False
