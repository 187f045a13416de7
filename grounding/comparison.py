"""Whether one place of the documents says what a sentence says: rule by rule, with the first that is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fourcorners.grounding.alignment import Alignment, Place
from fourcorners.grounding.binding import strayed
from fourcorners.grounding.claims import Claims, Token
from fourcorners.grounding.lexicon import negated_form
from fourcorners.grounding.negation import broken_polarity
from fourcorners.grounding.quantifying import bounds, opposites, quantifiers, restrictions
from fourcorners.grounding.rules import Broken, Rule
from fourcorners.grounding.word_order import turned_round


@dataclass(frozen=True, slots=True)
class Judgement:
    """The first rule broken (None: supported), what broke it, the share of words found, and which claims helped.

    ``only_words``: a rule is broken, but none that a model's opinion could not make good.
    """

    broken: Rule | None
    detail: str
    share: float
    helped: tuple[Claims, ...] = ()
    only_words: bool = False


def compare(said: Claims, place: Place, hints: frozenset[str] = frozenset()) -> Judgement:
    """Apply all rules; ``hints`` as in ``Alignment``."""
    both = Alignment(said, place, hints)
    missing = [token for token in said.content if not both.covered(token)]
    share = 1 - len(missing) / len(said.content) if said.content else 1.0
    broken = list(_broken(both, missing))
    helped = tuple(both.helped())
    if not broken:
        return Judgement(None, "", share, helped)
    return Judgement(*broken[0], share, helped, all(rule == "words" for rule, _ in broken))


def _broken(both: Alignment, missing: Sequence[Token]) -> Iterator[Broken]:
    said = both.said
    if not said.content and not said.facts:
        yield "nothing", ""
    yield from _unknown_facts(both)
    yield from _unknown_names(both)
    for token in missing:
        if any(negated_form(token.fold, other.fold) for other in both.place.core.tokens):
            yield "negation", token.text
    yield from opposites(both)
    yield from bounds(both)
    for token in missing:
        yield ("name" if token.capital else "words"), token.text
    yield from broken_polarity(both)
    yield from quantifiers(both)
    yield from restrictions(both)
    yield from strayed(both)
    yield from turned_round(both)


def _unknown_facts(both: Alignment) -> Iterator[Broken]:
    for fact in both.said.facts:
        if not any(both.states(claims, fact) for claims in both.place.everything):
            yield ("date" if fact.kind in ("date", "clock", "weekday") else "number"), fact.text


def _unknown_names(both: Alignment) -> Iterator[Broken]:
    for token in both.said.names:
        if not any(_named_in(both, token, claims) for claims in both.place.everything):
            yield "name", token.text
    yield from _mixed_names(both)


def _named_in(both: Alignment, token: Token, claims: Claims) -> bool:
    if token.fold in claims.folds:
        return True
    if both.said.language == "german":
        return both.found(token, claims)
    return any(other.stem == token.stem and not (other.capital and not other.opens) for other in claims.tokens)


def _mixed_names(both: Alignment) -> Iterator[Broken]:
    """ "Anna Falk" out of "Anna Berg" and "Tom Falk"."""
    pairs = {pair for claims in both.place.everything for pair in _name_pairs(claims)}
    after = dict(pairs)
    before = {b: a for a, b in pairs}
    for one, two in _name_pairs(both.said):
        if (one, two) not in pairs and (after.get(one, two) != two or before.get(two, one) != one):
            yield "name", f"{one} {two}"


def _name_pairs(claims: Claims) -> list[tuple[str, str]]:
    """Neighbouring words that are both written as names."""
    found = []
    for one, two in zip(claims.tokens, claims.tokens[1:], strict=False):
        both = one.capital and two.capital and one.content and two.content and not two.opens
        if both and claims.text[one.end : two.start] in (" ", "-", "\u00a0") and claims.language != "german":
            found.append((one.fold, two.fold))
    return found
