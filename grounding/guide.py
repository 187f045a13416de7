"""What a form asks of the documents, looked up beforehand: for models that can't find it themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fourcorners.grounding.evidence import Evidence, Span
from fourcorners.grounding.field_prior import (
    NEAR_WEIGHT,
    NULL_SCORE,
    USED_PENALTY,
    Ask,
    FieldPrior,
    ask_of,
    match_share,
    stems,
)
from fourcorners.grounding.fields import Form, Leaf, Node, Record, Series
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.readings import Found, Readings
from fourcorners.grounding.records import Unit, units_of

MAX_LOOKED_AT = 1_000
"""Sentences of one request."""
MAX_SENTENCES = 40
"""Of a whole context, looked at for one field."""
FIRST_SENTENCES = 6
"""Of each document, looked at for every field."""
MAX_VALUES = 60
CHOICE_WEIGHT = 3.0
UNIT_NULL_SCORE = 1.2
"""Inside a row or an entry a value needs less to be believed."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A value and how likely it is the one asked for; ``null`` is what "it is not there" scores beside it."""

    found: Found
    score: float


class Guide:
    """Scored values for each field of a form. Made once a request: about 1 ms a field and page."""

    def __init__(self, form: Form, readings: Readings) -> None:
        self._readings, self._prior = readings, FieldPrior(readings.evidence)
        self._scored: dict[int, list[Scored]] = {}
        self._units: dict[int, list[Unit]] = {}
        self._asks: dict[int, Ask] = {}
        self._look_up(form.root, ())

    def units(self, series: Series) -> list[Unit]:
        """What the items of ``series`` are taken from."""
        return self._units[id(series)]

    def values(self, leaf: Leaf, unit: Unit | None) -> list[Scored]:
        """The best values for ``leaf``, in ``unit`` or in the whole context, in no order."""
        if unit is None:
            return self._scored[id(leaf)]
        if unit.value is not None:
            return [Scored(unit.value, NULL_SCORE + 1.0)]
        return self._rated(leaf, unit.sentences)

    def choice_score(self, value: Any) -> float:
        """What the words of the documents say for a value that may be chosen freely."""
        words = stems(str(value)) if isinstance(value, str) else frozenset[str]()
        return CHOICE_WEIGHT * len(words & self._all_stems) / len(words) if words else 0.0

    @cached_property
    def _all_stems(self) -> frozenset[str]:
        return frozenset().union(*(self._prior.stems_of(index) for index in self._readings.usable))

    @staticmethod
    def null_score(unit: Unit | None) -> float:
        """What "it is not there" scores."""
        return NULL_SCORE if unit is None else UNIT_NULL_SCORE

    def _look_up(self, node: Node, parents: tuple[str, ...], *, repeated: bool = False) -> None:
        match node:
            case Record():
                for entry in node.entries:
                    self._look_up(entry.node, (*parents, node.label) if node.label else parents, repeated=repeated)
            case Series():
                self._units[id(node)] = units_of(node, self._readings, self._prior, node.most)
                self._look_up(node.item, (), repeated=True)
            case Leaf():
                self._asks[id(node)] = ask_of(node.label, node.hint, parents, node.kind)
                if not repeated and node.kind != "choice":
                    self._scored[id(node)] = self._rated(node, self._promising(self._asks[id(node)]))

    def _rated(self, leaf: Leaf, among: Sequence[int]) -> list[Scored]:
        ask = self._asks[id(leaf)]
        rated = [Scored(one, self._prior.score(ask, leaf, one)) for one in self._readings.of(leaf, among)]
        return sorted(rated, key=lambda one: -one.score)[:MAX_VALUES]

    def _promising(self, ask: Ask) -> list[int]:
        """Sentences whose words, or those of what stands above them, are asked for; and the first of each document."""
        usable, sentences = self._readings.usable, self._readings.evidence.sentences
        if len(usable) <= MAX_SENTENCES:
            return list(usable)
        shares = np.array([max(self._shares(ask, index)) for index in usable])
        best = {usable[i] for i in np.argsort(-shares, kind="stable")[:MAX_SENTENCES]}
        counts: dict[int, int] = {}
        for index in usable:
            document = sentences[index].document
            counts[document] = counts.get(document, 0) + 1
            if counts[document] <= FIRST_SENTENCES and document < 3:
                best.add(index)
        return sorted(best)

    def _shares(self, ask: Ask, index: int) -> Iterator[float]:
        sentence = self._readings.evidence.sentences[index]
        yield match_share(ask, self._prior.stems_of(index))
        if index and self._readings.evidence.sentences[index - 1].document == sentence.document:
            yield 0.6 * match_share(ask, self._prior.stems_of(index - 1))
        for above in sentence.under:
            yield 0.5 * match_share(ask, self._prior.stems_of(above))


def best_sentences(prior: PriorScores) -> list[int]:
    """The sentences that are looked at at all: the best by words, in order, where there are very many."""
    if len(prior.sentences) <= MAX_LOOKED_AT:
        return list(range(len(prior.sentences)))
    return sorted(int(index) for index in np.argsort(-prior.sentences, kind="stable")[:MAX_LOOKED_AT])


def placed(score: float, span: Span, siblings: Sequence[Span], used: Sequence[Span], evidence: Evidence) -> float:
    """``score``, less far from what other fields of the same object were taken from, and on what is already used."""
    if any(one.document == span.document and one.start < span.end and span.start < one.end for one in used):
        score -= USED_PENALTY
    near = [abs(one.start - span.start) for one in siblings if one.document == span.document]
    return score - (NEAR_WEIGHT * (1.0 - float(np.exp(-min(near) / 200))) if near else 0.0)
