"""Structured answers: a form filled in field by field, each value one that stands in the documents, or null.

The JSON around the values is given; a value is chosen token by token among those that may stand there. Nothing is shown
before the end, because only then is it known whether what is required was found.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fourcorners.grounding.decoding import Outcome, Piece, Policy, Rules, Tokens
from fourcorners.grounding.evidence import Evidence, Span
from fourcorners.grounding.field_options import literal, option, run_bodies, shifted, without
from fourcorners.grounding.fields import Form, Leaf, Node, Record, Series
from fourcorners.grounding.filled import Value, finish, form_details
from fourcorners.grounding.guide import Guide, best_sentences, placed
from fourcorners.grounding.pen import Option, Options, Pen, bounded
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.readings import Found, Readings, as_json, as_written
from fourcorners.grounding.records import Unit

NEAR_CHARS = 1_000
"""Places farther from the other fields of an object are not near them."""
GUIDED_SHARE = 0.2
"""Of the weight that the model has beside a prior: one that needs a prior was not taught to fill in forms either."""
_AFTER_VALUE = b",}]"
_OPENERS = b'{"-0123456789tfn'
_LIMITED = frozenset({"minLength", "maxLength", "pattern", "format"})

Asked = Generator[Any, Any, Any]


def answer_in_fields(
    prompt: Sequence[int],
    evidence: Evidence,
    shown: Sequence[int],
    prior: PriorScores,
    tokens: Tokens,
    rules: Rules,
) -> Policy:
    """Fill in the evidence's form; emit its JSON, or the refusal, then the ``Outcome`` with the details.

    With a prior weight above zero each field is offered the values that words and layout speak for; else the model
    chooses alone among all runs of words of the ``shown`` sentences. What can be looked up before the model is asked is
    looked up in this call; the policy that it returns is for the engine's thread.
    """
    assert evidence.form is not None
    if rules.prior_weight > 0:
        shown = best_sentences(prior)
        rules = replace(rules, model_weight=GUIDED_SHARE * rules.model_weight)
    return _Filler(evidence.form, prompt, evidence, shown, tokens, rules).run()


@dataclass(slots=True)
class _Place:
    """Where in the form we are: what the object's other fields were taken from, and what this item is taken from."""

    unit: Unit | None = None
    siblings: list[Span] = field(default_factory=list)


class _Filler:
    """One answer."""

    def __init__(
        self,
        form: Form,
        prompt: Sequence[int],
        evidence: Evidence,
        shown: Sequence[int],
        tokens: Tokens,
        rules: Rules,
    ) -> None:
        self._form, self._evidence, self._tokens, self._rules = form, evidence, tokens, rules
        self._readings = Readings(evidence, shown)
        self._guide = Guide(form, self._readings) if rules.prior_weight > 0 else None
        self._pen = Pen(prompt, tokens, rules)
        self._used: list[Span] = []
        self._null_prior = -bounded(rules.threshold)
        self._runs = list(run_bodies(evidence, shown)) if self._guide is None else []
        self._all_runs: dict[str, Options] = {}
        self._look_up(form.root)

    def _look_up(self, node: Node) -> None:
        """What stands in the documents, now rather than on the engine's thread."""
        match node:
            case Record():
                for entry in node.entries:
                    self._look_up(entry.node)
            case Series():
                self._look_up(node.item)
            case Leaf(kind="text") if self._guide is None:
                if _LIMITED.isdisjoint(node.limits):
                    self._pen.prepare(self._free_runs(" ", literal(" ", "null", self._null_prior, None), ()))
                else:
                    self._readings.runs(node)
            case Leaf():
                self._readings.warm(node)

    def run(self) -> Policy:
        """The policy itself."""
        tree = yield from self._fill(self._form.root, _Place(), "")
        filled = finish(self._form, tree, self._evidence)
        text = self._evidence.options.refusal if filled.refused else filled.text
        yield Piece(text, self._pen.n_tokens)
        reason = "length" if self._pen.full else "stop"
        details = form_details(filled, "enforced")
        yield Outcome(filled.refused, float("inf"), self._rules.threshold, filled.cited, reason, details)

    def _fill(self, node: Node, place: _Place, lead: str) -> Asked:
        match node:
            case Leaf():
                return (yield from self._leaf(node, place, lead))
            case Record():
                return (yield from self._record(node, place, lead))
            case Series():
                return (yield from self._series(node, place, lead))

    def _record(self, record: Record, place: _Place, lead: str) -> Asked:
        inner = _Place(place.unit, [])
        tree = {}
        for number, entry in enumerate(record.entries):
            self._pen.write(f"{', ' if number else lead + '{'}{json.dumps(entry.key, ensure_ascii=False)}:")
            tree[entry.key] = yield from self._fill(entry.node, inner, " ")
        self._pen.write("}")
        place.siblings.extend(inner.siblings)
        return tree

    def _series(self, series: Series, place: _Place, lead: str) -> Asked:
        self._pen.write(lead + "[")
        units = self._units(series, place)
        items: list[Any] = []
        while len(items) < series.most:
            more = b"," if items else _OPENERS
            if self._guide is not None:
                goes_on = len(items) < len(units) and not self._pen.full
            else:
                goes_on = len(items) < series.least or (yield from self._pen.goes_on(more, b"]"))
            if not goes_on:
                break
            if items:
                self._pen.write(",")
            unit = units[len(items)] if self._guide is not None else place.unit
            item = yield from self._item(series.item, unit, " " if items else "", items)
            if item is None or (self._guide is None and any(_same(item, one) for one in items)):
                break  # a model that repeats itself goes on doing so
            items.append(item)
        self._pen.write("]")
        return items

    def _units(self, series: Series, place: _Place) -> list[Unit]:
        if self._guide is None:
            return []
        inside = set(place.unit.sentences) if place.unit is not None else None
        return [one for one in self._guide.units(series) if inside is None or inside.issuperset(one.sentences)]

    def _item(self, node: Node, unit: Unit | None, lead: str, items: list[Any]) -> Asked:
        place = _Place(unit)
        if isinstance(node, Leaf):
            said = [one.value for one in items]
            value = yield from self._leaf(node, place, lead, said)
            return value if value.value is not None else None
        return (yield from self._fill(node, place, lead))

    def _leaf(self, leaf: Leaf, place: _Place, lead: str, said: Sequence[Any] = ()) -> Asked:
        options = self._options(leaf, place, lead, said)
        chosen, written = yield from self._pen.choose(options, b'"' if leaf.kind == "text" else _AFTER_VALUE)
        if chosen.value is None:
            return Value(leaf, None)
        if leaf.kind == "choice":
            return Value(leaf, chosen.value[0])
        if leaf.kind == "text":
            self._pen.write('"')
            quote = json.loads(written.decode().lstrip(" ") + '"')
            best = chosen.value if isinstance(chosen.value, Found) and self._guide is not None else None
            return self._cited(leaf, quote, best, place)
        return self._cited(leaf, chosen.value.value, chosen.value if self._guide is not None else None, place)

    def _cited(self, leaf: Leaf, value: Any, best: Found | None, place: _Place) -> Value:
        """With all its places: first the one it was chosen for, else the nearest to the fields beside it."""
        spans = list(dict.fromkeys(self._readings.places(value, leaf)))
        near = place.siblings
        first = self._readings.span(best) if best is not None else min(spans, key=lambda span: _rank(span, near))
        places = (first, *(span for span in spans if span != first))
        place.siblings.append(first)
        self._used.append(first)
        return Value(leaf, as_written(leaf, value), places)

    def _options(self, leaf: Leaf, place: _Place, lead: str, said: Sequence[Any]) -> Options:
        null = literal(lead, "null", self._null_prior, None)
        if leaf.kind == "choice":
            values = [literal(lead, as_json(value), self._choice_prior(value), (value,)) for value in leaf.choices]
            return Options(values + ([null] if leaf.nullable or not values else []))
        if self._guide is not None:
            return Options(self._guided(leaf, place, lead, said))
        if leaf.kind == "text" and _LIMITED.isdisjoint(leaf.limits):
            return self._free_runs(lead, null, said)
        found = self._readings.runs(leaf) if leaf.kind == "text" else self._readings.of(leaf)
        unique = {one.value: one for one in reversed(found) if one.value not in said}
        return Options([null, *(option(leaf, one, lead, 0.0) for one in unique.values())])

    def _choice_prior(self, value: Any) -> float:
        return 0.0 if self._guide is None else self._rules.prior_weight * self._guide.choice_score(value)

    def _guided(self, leaf: Leaf, place: _Place, lead: str, said: Sequence[Any]) -> list[Option]:
        """Values with what words and layout give each of them. These alone decide whether it is there at all: a model
        that was not taught to fill in forms knows least about that."""
        assert self._guide is not None
        if place.unit is not None and place.unit.value is not None:
            return [option(leaf, place.unit.value, lead, 0.0)]
        weight = self._rules.prior_weight
        null = bounded(weight * self._guide.null_score(place.unit)) + self._null_prior
        values = []
        for one in self._guide.values(leaf, place.unit):
            score = placed(one.score, self._readings.span(one.found), place.siblings, self._used, self._evidence)
            if one.found.value not in said and (prior := bounded(weight * score)) > null:
                values.append(option(leaf, one.found, lead, prior))
        return values or [literal(lead, "null", 0.0, None)]

    def _free_runs(self, lead: str, null: Option, said: Sequence[Any]) -> Options:
        """All runs of whole words; the model chooses alone."""
        if said or lead not in self._all_runs:
            barred = {(lead + json.dumps(value, ensure_ascii=False)[:-1]).encode() for value in said}
            quoted = (lead + '"').encode()
            runs = (
                without(Option(quoted + body, shifted(ends, len(quoted)), 0.0, True), barred)
                for body, ends in self._runs
            )
            options = Options([null, *(one for one in runs if one.ends)])
            if said:
                return options
            self._all_runs[lead] = options
        return self._all_runs[lead]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Value) and isinstance(other, Value):
        return bool(one.value == other.value)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(value, other.get(key)) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other


def _rank(span: Span, siblings: Sequence[Span]) -> tuple[float, int, int]:
    """The nearest to what the fields beside it were taken from comes first, else the best-ranked document."""
    near = [abs(one.start - span.start) for one in siblings if one.document == span.document]
    distance = min(near, default=NEAR_CHARS)
    return (min(distance, NEAR_CHARS), span.document, span.start)
