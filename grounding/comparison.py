"""Whether one place of the documents says what a sentence says: rule by rule, with the first that is broken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import regex

from fourcorners.grounding.claims import (
    Claims,
    Clause,
    Token,
    negated_form,
    opposite_sides,
    permissions,
    same_meaning,
)
from fourcorners.grounding.quantities import Fact, agrees, rivals, unit_named
from fourcorners.grounding.words import fold

Rule = Literal["number", "date", "name", "negation", "opposite", "quantity", "order", "elsewhere", "words", "nothing"]
_OWN, _INHERITED = 1.0, 0.8
_SUFFIXES = (
    "ational", "ation", "ition", "ement", "ment", "ance", "ence", "ings", "ing", "ions", "ion", "able", "ible", "ally",
    "ery", "ity", "ness", "ive", "ant", "ent", "ful", "al", "er", "or", "ly", "ed", "es", "ist", "ung", "lich", "isch",
    "bar", "en", "e", "s", "y", "i",
)  # fmt: skip
MIN_ROOT = 4
_QUANTIFIERS: tuple[frozenset[str], ...] = tuple(
    frozenset(map(fold, words.split()))
    for words in (
        "all every any always everyone everybody alle allen sämtliche immer tous toutes toujours each jeder jede jedes chaque",
        "some several certain sometimes einige manche manchmal certains quelques parfois plusieurs",
        "most mostly usually normally generally majority meist meisten meistens plupart généralement",
        "many often frequently numerous viele oft häufig beaucoup souvent",
        "few rarely seldom wenige selten peu rarement",
        "only solely exclusively nur ausschließlich seulement uniquement",
        "might maybe perhaps possibly vielleicht möglicherweise peut-être",
        "may might could possibly könnte pourrait",
    )
)
_DISTRIBUTIVE = frozenset(map(fold, "each every any jeder jede jedes chaque".split()))
"""A plain plural says as much: "each tablet contains" for "the tablets contain"."""
_WEAKENING = (1, 2, 4, 7)
"""Those that a sentence may not drop."""
_STATED = (0, 1, 2, 3, 4, 5, 6)
"""Those that a sentence may not add."""
_COMPARING: dict[str, frozenset[str]] = {
    "≥": frozenset("minimum least mindestens minimal min moins".split()),
    "≤": frozenset("maximum most maximal höchstens max limit limited plus until bis".split()),
    ">": frozenset("over more exceed exceeds exceeding above mehr über plus".split()),
    "<": frozenset("less fewer under below weniger unter moins".split()),
}
_MODALS = frozenset(
    map(
        fold,
        "may can must cannot darf dürfen kann können peut peuvent doit forbidden prohibited banned verboten untersagt "
        "interdit interdite".split(),
    )
)
_PASSIVE = frozenset({"by", "von", "vom", "par", "durch"})


@dataclass(frozen=True)
class Place:
    """Where a sentence may be supported: the sentences themselves, and what stands over or before them.

    ``over``: headings and introductions; ``before``: what a pronoun of ``core`` refers to, nearest first.
    """

    core: Claims
    over: tuple[Claims, ...] = ()
    before: tuple[Claims, ...] = ()

    @cached_property
    def around(self) -> tuple[Claims, ...]:
        """All but the core."""
        return self.over + self.before

    @cached_property
    def everything(self) -> tuple[Claims, ...]:
        """The core first."""
        return (self.core, *self.around)


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


class Comparison:
    """One sentence beside one place; ``hints`` are stems that tell which fact is meant where the sentence has no words."""

    def __init__(self, said: Claims, place: Place, hints: frozenset[str] = frozenset()) -> None:
        self.said, self.place, self.hints = said, place, hints
        self._turned: set[str] = set()

    def judge(self) -> Judgement:
        """Apply all rules."""
        missing = [token for token in self.said.content if not self._covered(token)]
        n = len(self.said.content)
        share = 1.0 if not n else 1 - len(missing) / n
        broken = list(self._broken(missing))
        helped = tuple(self._helped())
        if not broken:
            return Judgement(None, "", share, helped)
        return Judgement(*broken[0], share, helped, all(rule == "words" for rule, _ in broken))

    def _broken(self, missing: Sequence[Token]) -> Iterator[tuple[Rule, str]]:
        said = self.said
        if not said.content and not said.facts:
            yield "nothing", ""
        yield from self._unknown_facts()
        yield from self._unknown_names()
        for token in missing:
            if any(negated_form(token.fold, other.fold) for other in self.place.core.tokens):
                yield "negation", token.text
        yield from self._opposites()
        yield from self._bounds()
        for token in missing:
            yield ("name" if token.capital else "words"), token.text
        yield from self._negations()
        yield from self._quantifiers()
        yield from self._restrictions()
        yield from self._strayed()
        yield from self._turned_round()

    # --- words

    def _covered(self, token: Token) -> bool:
        if token.fact >= 0:
            return True
        if any(self._found(token, claims) for claims in (self.place.core, *self.place.over)):
            return True
        return self._leans_little and any(self._found(token, c) for c in self.place.before) or self._by_opposite(token)

    @cached_property
    def _leans_little(self) -> bool:
        """Whether what a pronoun refers to supplies less than the place itself."""
        core = self.place.core
        own = sum(self._found(token, core) for token in self.said.content) + sum(
            any(agrees(fact, given) for given in core.facts) for fact in self.said.facts
        )
        return 2 * own >= len(self.said.content) + len(self.said.facts)

    def _found(self, token: Token, claims: Claims) -> bool:
        if token.stem in claims.stems or token.fold in claims.folds:
            return True
        if token in self.said.names and self.said.language != "german":
            return False
        return any(other.fact < 0 and _related(token, other) for other in claims.content)

    def _by_opposite(self, token: Token) -> bool:
        """ "not allowed" for "forbidden": the opposite word, in a clause of the other polarity."""
        sides = opposite_sides(token.fold)
        mine = self._clause_of(token, self.said.clauses)
        for clause in self.place.core.clauses:
            for other in clause.tokens:
                against = {(group, 1 - side) for group, side in opposite_sides(other.fold)}
                if sides & against and mine is not None and bool(mine.negations) != bool(clause.negations):
                    self._turned.add(token.fold)
                    return True
        return False

    @staticmethod
    def _clause_of(token: Token, clauses: Iterable[Clause]) -> Clause | None:
        return next((clause for clause in clauses if token in clause.tokens), None)

    def _helped(self) -> Iterator[Claims]:
        """What lies around the core and supplied something that the core lacks."""
        core = self.place.core
        for claims in self.place.around:
            words = any(not self._found(t, core) and self._found(t, claims) for t in self.said.content)
            facts = any(
                not any(agrees(f, g) for g in core.facts) and any(agrees(f, g) for g in claims.facts)
                for f in self.said.facts
            )
            if words or facts:
                yield claims

    # --- numbers, dates, names

    def _unknown_facts(self) -> Iterator[tuple[Rule, str]]:
        for fact in self.said.facts:
            if not any(self._states(claims, fact) for claims in self.place.everything):
                yield ("date" if fact.kind in ("date", "clock", "weekday") else "number"), fact.text

    def _states(self, claims: Claims, fact: Fact) -> bool:
        if any(agrees(fact, given) for given in claims.facts):
            return True
        if fact.kind == "code":
            return fold(fact.text) in claims.folds
        if fact.unit is None:
            return False
        # "Weight (kg): 7.2": the unit stands before the number.
        return any(
            given.unit is None
            and fact.amounts & given.amounts
            and any(unit_named(t.text) == fact.unit for t in clause.tokens)
            for clause in claims.clauses
            for given in clause.facts
        )

    def _unknown_names(self) -> Iterator[tuple[Rule, str]]:
        for token in self.said.names:
            if not any(self._named_in(token, claims) for claims in self.place.everything):
                yield "name", token.text
        yield from self._mixed_names()

    def _named_in(self, token: Token, claims: Claims) -> bool:
        if token.fold in claims.folds:
            return True
        if self.said.language == "german":
            return self._found(token, claims)
        return any(other.stem == token.stem and not (other.capital and not other.opens) for other in claims.tokens)

    def _mixed_names(self) -> Iterator[tuple[Rule, str]]:
        """ "Anna Falk" out of "Anna Berg" and "Tom Falk"."""
        pairs = {pair for claims in self.place.everything for pair in _name_pairs(claims)}
        after = {a: b for a, b in pairs}
        before = {b: a for a, b in pairs}
        for one, two in _name_pairs(self.said):
            if (one, two) not in pairs and (after.get(one, two) != two or before.get(two, one) != one):
                yield "name", f"{one} {two}"

    # --- which clause a value belongs to

    def _strayed(self) -> Iterator[tuple[Rule, str]]:
        """Values that stand in the place, but in a clause that is about something else."""
        for clause in self.said.clauses:
            for fact in clause.facts:
                if not self._bound_here(clause, fact) or not self._counts_the_same(fact):
                    yield "elsewhere", fact.text
            for token in clause.tokens:
                if token in self.said.names and not self._name_bound_here(clause, token):
                    yield "elsewhere", token.text
            yield from self._other_subject(clause)

    def _other_subject(self, mine: Clause) -> Iterator[tuple[Rule, str]]:
        """What the place says of a subject that the sentence leaves out, said of another one."""
        if mine.own_subject is None and mine is not self.said.clauses[0] and self.said.content:
            mine = replace(mine, tokens=(self.said.content[0], *mine.tokens))  # "… and closes at six"
        partners = self._partners(mine)
        words = [
            (clause, {t.stem for t in mine.tokens if t.content and self._holds(clause, t)}) for clause, _ in partners
        ]
        for clause, own in words:
            subject = self._subject_of(clause)
            if any(other.relative and self._follows(clause, other) for other, _ in words):
                continue  # it supplies what the relative clause is about
            if (
                subject is None
                or not own
                or any(t.stem == subject.stem or _related(t, subject) for t in self.said.tokens if t in mine.tokens)
            ):
                continue
            others = [held for other, held in words if other is not clause]
            lone = own - set().union(*others) if others else set()
            if lone and any(held - own for held in others):
                yield "words", next(t.text for t in mine.tokens if t.stem in lone)

    def _follows(self, clause: Clause, other: Clause) -> bool:
        return self.place.core.clauses.index(other) == self.place.core.clauses.index(clause) + 1

    def _subject_of(self, clause: Clause) -> Token | None:
        """The clause's own subject; of a relative clause what stands before it."""
        if not clause.relative:
            return clause.own_subject
        clauses = self.place.core.clauses
        place = clauses.index(clause)
        before = [t for c in clauses[:place] for t in c.tokens if t.content]
        return before[-1] if before else None

    def _bound_here(self, mine: Clause, fact: Fact) -> bool:
        core = self.place.core
        if (name := _named_by(self.said, fact)) is not None:  # "Alba 90"
            return any(
                _named_by(c, given) == name and agrees(fact, given) for c in self.place.everything for given in c.facts
            )
        if not self._states(core, fact) or len(core.facts) < 2:
            return True
        best = self._best_clauses(mine, without=fact.text, fact=fact)
        if any(agrees(fact, given) for clause in best for given in clause.facts):
            return True
        return not any(rivals(fact, given) for clause in best for given in clause.facts)

    def _counts_the_same(self, fact: Fact) -> bool:
        """ "six rooms on 84 floors" for "84 rooms on six floors"."""
        counted = _counted(self.said, fact)
        given = [(g, _counted(c, g)) for c in self.place.everything for g in c.facts if g.kind == "number"]
        if counted is None or fact.kind != "number":
            return True
        own = [noun for g, noun in given if agrees(fact, g)]
        if any(noun is None or noun.stem == counted.stem or _related(noun, counted) for noun in own):
            return True
        return not any(noun is not None and noun.stem == counted.stem for _, noun in given)

    def _name_bound_here(self, mine: Clause, token: Token) -> bool:
        if any(token.fold in claims.folds for claims in self.place.over):
            return True
        best = self._best_clauses(mine, without=token.fold)
        if any(token.fold == other.fold or token.stem == other.stem for clause in best for other in clause.tokens):
            return True
        said = self.said.folds
        strangers = (t for clause in best for t in clause.tokens if t.capital and t.content and t.fold not in said)
        if self.said.language == "german":
            return True
        if any(not t.opens or t is clause_first(t, self.place.core) for t in strangers):
            return False
        return any(
            token.fold in c.stems or any(token.fold == t.fold for t in c.tokens)
            for c in self.place.core.clauses
            if not c.relative
        ) or any(token.fold in claims.folds for claims in self.place.before)

    def _best_clauses(self, mine: Clause, without: str, fact: Fact | None = None) -> list[Clause]:
        """The clauses of the core that have most in common with ``mine``, the value itself left out."""
        wanted = {t.stem for t in mine.tokens if t.content and t.fold != without}
        if len(wanted) < 2:
            wanted |= {t.stem for t in self.said.content if t.fold != without}
        if not wanted:
            wanted = set(self.hints)
        others = [f for f in mine.facts if f is not fact]
        scores = [self._score(wanted, others, place) for place in range(len(self.place.core.clauses))]
        best = max(scores, default=0.0)
        return [c for c, score in zip(self.place.core.clauses, scores, strict=True) if score >= best - 1e-9]

    def _score(self, wanted: set[str], facts: Sequence[Fact], place: int) -> float:
        clauses = self.place.core.clauses
        clause = clauses[place]
        own = {stem for stem in wanted if _among(stem, clause.stems)}
        score = _OWN * len(own) + sum(any(agrees(f, given) for given in clause.facts) for f in facts)
        subject = clause.own_subject
        if subject is None or place == 0 or _among(subject.stem, wanted):
            inherited = {s for c in clauses[:place] if not c.relative for s in c.stems}
            score += _INHERITED * sum(_among(stem, inherited) for stem in wanted - own)
        return score

    # --- negation

    def _negations(self) -> Iterator[tuple[Rule, str]]:
        for mine in self.said.clauses:
            if any(token.fold in self._turned for token in mine.tokens):
                continue
            partners = self._partners(mine)
            yield from self._exception_lost(mine, partners)
            yield from _negation_lost(mine, partners)
            yield from _negation_added(mine, partners)
        yield from self._permissions()

    def _permissions(self) -> Iterator[tuple[Rule, str]]:
        """What is said to be allowed must be said to be allowed, or in a negated clause not to be."""
        folds = self.place.core.folds
        for token in self.said.tokens:
            if token.fold in permissions() and not folds & (permissions() | _MODALS):
                yield "quantity", token.text

    def _exception_lost(
        self, mine: Clause, partners: Sequence[tuple[Clause, list[Token]]]
    ) -> Iterator[tuple[Rule, str]]:
        """ "open every day" for "open every day except Monday"."""
        clauses = self.place.core.clauses
        for clause, _ in partners:
            place = clauses.index(clause)
            following = clauses[place + 1] if place + 1 < len(clauses) else None
            if following is None or not following.excepts or any(c.excepts for c in self.said.clauses):
                continue
            without = following.tokens[0].fold in ("without", "ohne", "sans")
            if not without or clause.negations:
                yield "negation", following.tokens[0].text

    def _partners(self, mine: Clause) -> list[tuple[Clause, list[Token]]]:
        """The clauses of the core where the words of ``mine`` stand, each with those words of its own."""
        clauses = self.place.core.clauses
        weights = [
            sum(_among(stem, c.stems) for stem in mine.stems)
            + sum(any(agrees(f, g) for g in c.facts) for f in mine.facts)
            for c in clauses
        ]
        chosen: dict[int, list[Token]] = {}
        for token in mine.tokens:
            if not token.content and token.fact < 0:
                continue
            holding = [(weights[i], -i) for i, c in enumerate(clauses) if self._holds(c, token)]
            if holding:
                index = -max(holding)[1]
                chosen.setdefault(index, []).extend(
                    t for t in clauses[index].tokens if t.stem == token.stem or _related(token, t) or t.fact >= 0
                )
        return [(clauses[i], tokens) for i, tokens in sorted(chosen.items())]

    def _holds(self, clause: Clause, token: Token) -> bool:
        if token.fact >= 0:
            return any(agrees(self.said.facts[token.fact], given) for given in clause.facts)
        return any(token.stem == other.stem or _related(token, other) for other in clause.tokens)

    # --- opposites, quantities, bounds

    def _opposites(self) -> Iterator[tuple[Rule, str]]:
        core = self.place.core
        for place, token in enumerate(self.said.tokens):
            sides = opposite_sides(token.fold)
            if not sides or token.fold in self._turned or token.fact >= 0:
                continue
            if token.fold in _MODALS and any(
                token in clause.tokens and clause.negations for clause in self.said.clauses
            ):
                continue  # "may not" and "must not" are one
            same = [
                i
                for i, t in enumerate(core.tokens)
                if t.fold == token.fold or t.stem == token.stem or sides & opposite_sides(t.fold)
            ]
            against = {(group, 1 - side) for group, side in sides}
            opposite = [
                i
                for i, t in enumerate(core.tokens)
                if against & opposite_sides(t.fold) and t.fold != token.fold and not sides & opposite_sides(t.fold)
            ]
            if not opposite:
                continue
            mine = self._neighbours(self.said, place)
            beside = max(self._common(mine, core, i) for i in opposite)
            if (not same and (token.content or beside)) or (
                same and beside > max(self._common(mine, core, i) for i in same)
            ):
                yield "opposite", token.text

    def _common(self, mine: tuple[set[str], list[Fact]], claims: Claims, place: int) -> int:
        stems, facts = self._neighbours(claims, place)
        token = claims.tokens[place]
        around = next((clause.facts for clause in claims.clauses if token in clause.tokens), ())
        return (
            len(mine[0] & stems)
            + sum(any(agrees(f, g) for g in facts) for f in mine[1])
            + 2 * sum(any(agrees(f, g) for g in around) for f in self.said.facts)
        )

    @staticmethod
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

    def _bounds(self) -> Iterator[tuple[Rule, str]]:
        everything = self.place.everything
        for fact in self.said.facts:
            given = [g for claims in everything for g in claims.facts if agrees(fact, g)]
            if not given or any(g.bound == fact.bound for g in given):
                continue
            cues = {fold(cue) for bound in (fact.bound, given[0].bound) if bound for cue in _COMPARING[bound]}
            if not fact.bound and not cues & self.said.folds:
                yield "quantity", fact.text
            elif fact.bound and given[0].bound and fact.bound != given[0].bound:
                yield "quantity", fact.text
            elif fact.bound and not any(
                {fold(c) for c in _COMPARING[fact.bound]} & claims.folds for claims in everything
            ):
                yield "quantity", fact.text

    def _quantifiers(self) -> Iterator[tuple[Rule, str]]:
        folds = {f for claims in self.place.everything for f in claims.folds}
        for number, words in enumerate(_QUANTIFIERS):
            mine = [t for i, t in enumerate(self.said.tokens) if t.fold in words and not _bounds(self.said, i)]
            theirs = [
                i for i, t in enumerate(self.place.core.tokens) if t.fold in words and not _bounds(self.place.core, i)
            ]
            mine = [t for t in mine if t.fold not in _DISTRIBUTIVE or number not in _STATED] if not theirs else mine
            if mine and number in _STATED and not folds & words:
                yield "quantity", mine[0].text
            if number in _WEAKENING and theirs and not mine:
                for i in theirs:
                    following = self.place.core.tokens[i + 1 : i + 4]
                    noun = next((t for t in following if t.content), None)
                    if noun is not None and noun.stem in self.said.stems and not self._negated_near(i):
                        yield "quantity", self.place.core.tokens[i].text

    def _restrictions(self) -> Iterator[tuple[Rule, str]]:
        """ "heated" for "heated only in winter"."""
        tokens = self.place.core.tokens
        only = _QUANTIFIERS[5]
        for i, token in enumerate(tokens):
            if token.fold not in only or self.said.folds & only or (i and tokens[i - 1].fold in ("not", "nicht")):
                continue
            clause = next((c for c in self.place.core.clauses if token in c.tokens), None)
            following = next((t for t in tokens[i + 1 :] if t.content or t.fact >= 0), None)
            used = clause is not None and any(t.content and t.stem in self.said.stems for t in clause.tokens)
            if used and following is not None and following.content and following.stem not in self.said.stems:
                yield "quantity", token.text

    def _negated_near(self, place: int) -> bool:
        """ "may not" forbids; that is a matter of negation."""
        return any(t.fold in ("not", "nicht", "pas", "no") for t in self.place.core.tokens[place + 1 : place + 3])

    # --- who does what to whom

    def _turned_round(self) -> Iterator[tuple[Rule, str]]:
        """ "The tenant pays the landlord" for "The landlord pays the tenant"."""
        where = self._unique_places()
        pairs = [(i, where[t.stem], t) for i, t in enumerate(self.said.tokens) if t.content and t.stem in where]
        core = self.place.core.tokens
        for a in range(len(pairs)):
            for b in range(a + 1, len(pairs)):
                for c in range(b + 1, min(len(pairs), b + 4)):
                    (i, x, one), (_, v, verb), (j, y, two) = pairs[a], pairs[b], pairs[c]
                    if (verb.capital and not verb.opens) or not _in_one_clause(self.said, one, two):
                        continue
                    mine, theirs = _agent(self.said.tokens, j), _agent(core, max(x, y))
                    if (x > v > y and mine == theirs) or (x < v < y and mine != theirs and c == b + 1 == a + 2):
                        yield "order", f"{one.text} … {two.text}"
        yield from self._swapped(pairs)

    def _swapped(self, pairs: Sequence[tuple[int, int, Token]]) -> Iterator[tuple[Rule, str]]:
        """ "from Lisbon to Porto" for "from Porto to Lisbon"."""
        core = self.place.core.tokens
        for a in range(len(pairs)):
            for b in range(a + 1, len(pairs)):
                one, two = _marker(self.said.tokens, pairs[a][0]), _marker(self.said.tokens, pairs[b][0])
                if (
                    one
                    and two
                    and one != two
                    and one == _marker(core, pairs[b][1])
                    and two == _marker(core, pairs[a][1])
                ):
                    yield "order", f"{pairs[a][2].text} … {pairs[b][2].text}"

    def _unique_places(self) -> dict[str, int]:
        places: dict[str, list[int]] = {}
        for i, token in enumerate(self.place.core.tokens):
            places.setdefault(token.stem, []).append(i)
        mine = [token.stem for token in self.said.tokens]
        return {stem: found[0] for stem, found in places.items() if len(found) == 1 and mine.count(stem) == 1}


def _in_one_clause(claims: Claims, one: Token, two: Token) -> bool:
    return any(one in clause.tokens and two in clause.tokens for clause in claims.clauses)


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


def clause_first(token: Token, claims: Claims) -> Token | None:
    """The token itself where it opens a clause of several capitals: "Anna Berg leads …"."""
    index = claims.tokens.index(token) if token in claims.tokens else -1
    following = claims.tokens[index + 1] if 0 <= index < len(claims.tokens) - 1 else None
    return token if following is not None and following.capital and following.content else None


def _bounds(claims: Claims, place: int) -> bool:
    """Whether a word belongs to a number: "at most three", or is part of one."""
    token = claims.tokens[place]
    before = claims.tokens[place - 1].fold if place else ""
    return token.fact >= 0 or (token.fold in ("most", "least") and before == "at")


def _negation_lost(mine: Clause, partners: Sequence[tuple[Clause, list[Token]]]) -> Iterator[tuple[Rule, str]]:
    for clause, tokens in partners:
        if clause.negations and not mine.negations and set(_scope(clause)) & set(tokens):
            yield "negation", clause.tokens[clause.negations[0]].text
        if clause.excepts and not mine.excepts:
            yield "negation", next(iter(clause.tokens)).text


def _negation_added(mine: Clause, partners: Sequence[tuple[Clause, list[Token]]]) -> Iterator[tuple[Rule, str]]:
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
    weak = {"hardly", "barely", "scarcely", "rarely", "seldom", "kaum", "selten", "guere", "rarement"}
    return any(clause.tokens[i].fold in weak for i in clause.negations)


def _scope(clause: Clause) -> list[Token]:
    """The words that a clause's first negation is about: those after it, or all where it comes last."""
    after = [t for t in clause.tokens[clause.negations[0] + 1 :] if t.content or t.fact >= 0]
    return after or [t for t in clause.tokens if t.content or t.fact >= 0]


def _marker(tokens: Sequence[Token], place: int) -> str:
    """The function words before a token, back to the last content word, without articles."""
    words = []
    for token in reversed(tokens[max(0, place - 3) : place]):
        if token.content or token.fact >= 0:
            break
        if token.fold not in ("the", "a", "an", "der", "die", "das", "den", "dem", "le", "la", "les", "l"):
            words.append(token.fold)
    return " ".join(reversed(words))


def _agent(tokens: Sequence[Token], place: int) -> bool:
    """Whether the token is what a passive verb is done by."""
    return any(token.fold in _PASSIVE for token in tokens[max(0, place - 3) : place])


def _name_pairs(claims: Claims) -> list[tuple[str, str]]:
    """Neighbouring words that are both written as names."""
    found = []
    for one, two in zip(claims.tokens, claims.tokens[1:], strict=False):
        both = one.capital and two.capital and one.content and two.content and not two.opens
        if both and claims.text[one.end : two.start] in (" ", "-", "\u00a0") and claims.language != "german":
            found.append((one.fold, two.fold))
    return found


def _among(stemmed: str, stems: Iterable[str]) -> bool:
    known = stems if isinstance(stems, set | frozenset) else set(stems)
    return stemmed in known or any(same_meaning(stemmed, other) or _same_root(stemmed, other) for other in known)


def _related(one: Token, other: Token) -> bool:
    """Words of one family or meaning. Names are related to nothing."""
    if opposite_sides(one.fold) & {(group, 1 - side) for group, side in opposite_sides(other.fold)}:
        return False
    if negated_form(one.fold, other.fold):
        return False
    if same_meaning(one.stem, other.stem):
        return True
    if one.capital and other.capital and not (one.opens or other.opens):
        return other.fold.endswith(one.fold) and len(one.fold) >= 5  # "Kaution" for "Mietkaution"
    return _same_root(one.stem, other.stem) or _same_root(one.fold, other.fold)


def _same_root(one: str, other: str) -> bool:
    return bool(_roots(one) & _roots(other))


@lru_cache(maxsize=65_536)
def _roots(word: str) -> set[str]:
    found = {word} if len(word) >= MIN_ROOT else set()
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= MIN_ROOT:
            found.add(regex.sub(r"(.)\1$", r"\1", word[: -len(suffix)]))
    return found
