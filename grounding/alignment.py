"""A sentence beside the place that may support it: which word, fact and clause corresponds to which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from fourcorners.grounding.claims import Claims, Clause, Token
from fourcorners.grounding.lexicon import among, opposite_sides, other_sides, related
from fourcorners.grounding.quantities import Fact, agrees, unit_named
from fourcorners.grounding.words import fold

Partner = tuple[Clause, list[Token]]
"""A clause of the place, with its words that a clause of the sentence has too."""


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


class Alignment:
    """``hints`` are stems that tell which fact is meant where the sentence has no words.

    ``turned``: words whose opposite stands in the place, in a clause of the other polarity.
    """

    def __init__(self, said: Claims, place: Place, hints: frozenset[str] = frozenset()) -> None:
        self.said, self.place, self.hints = said, place, hints
        self.turned: set[str] = set()

    def covered(self, token: Token) -> bool:
        """Whether the place has a counterpart of a word."""
        if token.fact >= 0:
            return True
        if any(self.found(token, claims) for claims in (self.place.core, *self.place.over)):
            return True
        return (self._leans_little and any(self.found(token, c) for c in self.place.before)) or self._by_opposite(token)

    def found(self, token: Token, claims: Claims) -> bool:
        """Whether ``claims`` have a word, or one of its meaning or family."""
        if token.stem in claims.stems or token.fold in claims.folds:
            return True
        if token in self.said.names and self.said.language != "german":
            return False
        return any(other.fact < 0 and related(token, other) for other in claims.content)

    def states(self, claims: Claims, fact: Fact) -> bool:
        """Whether ``claims`` state a fact."""
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

    def helped(self) -> Iterator[Claims]:
        """What lies around the core and supplied something that the core lacks."""
        core = self.place.core
        for claims in self.place.around:
            words = any(not self.found(t, core) and self.found(t, claims) for t in self.said.content)
            facts = any(
                not any(agrees(f, g) for g in core.facts) and any(agrees(f, g) for g in claims.facts)
                for f in self.said.facts
            )
            if words or facts:
                yield claims

    def partners(self, mine: Clause) -> list[tuple[Clause, list[Token]]]:
        """The clauses of the core where the words of ``mine`` stand, each with those words of its own."""
        clauses = self.place.core.clauses
        weights = [
            sum(among(stem, c.stems) for stem in mine.stems)
            + sum(any(agrees(f, g) for g in c.facts) for f in mine.facts)
            for c in clauses
        ]
        chosen: dict[int, list[Token]] = {}
        for token in mine.tokens:
            if not token.content and token.fact < 0:
                continue
            holding = [(weights[i], -i) for i, c in enumerate(clauses) if self.holds(c, token)]
            if holding:
                index = -max(holding)[1]
                chosen.setdefault(index, []).extend(
                    t for t in clauses[index].tokens if t.stem == token.stem or related(token, t) or t.fact >= 0
                )
        return [(clauses[i], tokens) for i, tokens in sorted(chosen.items())]

    def holds(self, clause: Clause, token: Token) -> bool:
        """Whether a clause of the place has a counterpart of a word or fact."""
        if token.fact >= 0:
            return any(agrees(self.said.facts[token.fact], given) for given in clause.facts)
        return any(token.stem == other.stem or related(token, other) for other in clause.tokens)

    @cached_property
    def _leans_little(self) -> bool:
        """Whether what a pronoun refers to supplies less than the place itself."""
        core = self.place.core
        own = sum(self.found(token, core) for token in self.said.content) + sum(
            any(agrees(fact, given) for given in core.facts) for fact in self.said.facts
        )
        return 2 * own >= len(self.said.content) + len(self.said.facts)

    def _by_opposite(self, token: Token) -> bool:
        """ "not allowed" for "forbidden": the opposite word, in a clause of the other polarity."""
        sides = opposite_sides(token.fold)
        mine = self._clause_of(token, self.said.clauses)
        for clause in self.place.core.clauses:
            for other in clause.tokens:
                if (
                    sides & other_sides(other.fold)
                    and mine is not None
                    and bool(mine.negations) != bool(clause.negations)
                ):
                    self.turned.add(token.fold)
                    return True
        return False

    @staticmethod
    def _clause_of(token: Token, clauses: Iterable[Clause]) -> Clause | None:
        return next((clause for clause in clauses if token in clause.tokens), None)
