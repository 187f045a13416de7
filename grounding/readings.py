"""Every value that the documents hold for a field of a given kind, each with the place where it stands."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any

from fourcorners.grounding.evidence import Evidence, Span
from fourcorners.grounding.fields import Leaf
from fourcorners.grounding.iso_dates import Moment, dates, times
from fourcorners.grounding.numbers import Number, numbers, writes_decimal_comma
from fourcorners.grounding.proposals import proposals, word_borders

MAX_READ_SENTENCES = 2_000
"""In longer contexts equal numbers and dates are listed from the sentences looked at alone."""
MAX_RUN_WORDS = 10
MAX_RUNS = 20_000
MAX_FLOAT = Decimal("1e300")
_FORMATS = {
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "uri": re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*:\S+"),
    "uuid": re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"),
    "ipv4": re.compile(r"\d{1,3}(?:\.\d{1,3}){3}"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A value at characters ``start`` to ``end`` of the sentence with that index; ``weight`` is what its form is worth
    as a value, ``unit`` the currency or unit of a number."""

    value: Any
    sentence: int
    start: int
    end: int
    weight: float = 0.0
    unit: str = ""
    money: bool = False


class Readings:
    """What stands in the sentences ``usable``. Each sentence is read once for each kind, when it is asked for."""

    def __init__(self, evidence: Evidence, usable: Sequence[int]) -> None:
        self.evidence, self.usable = evidence, tuple(usable)
        self._numbers: dict[int, list[Number]] = {}
        self._texts: dict[int, list[Found]] = {}
        self._moments: dict[tuple[int, str], list[Moment]] = {}
        self._runs: dict[int, list[Found]] = {}

    def of(self, leaf: Leaf, among: Iterable[int] | None = None) -> list[Found]:
        """The values for ``leaf`` in the sentences ``among`` (None: all usable), in order, within its limits."""
        found = [one for index in (self.usable if among is None else among) for one in self._in(leaf, index)]
        return [one for one in found if within_limits(one.value, leaf)]

    def runs(self, leaf: Leaf) -> list[Found]:
        """All runs of up to MAX_RUN_WORDS words within the limits of ``leaf``: for those of which few can be right."""
        if id(leaf) not in self._runs:
            every = (one for index in self.usable for one in self._runs_in(index))
            self._runs[id(leaf)] = [one for one in islice(every, MAX_RUNS) if within_limits(one.value, leaf)]
        return self._runs[id(leaf)]

    def warm(self, leaf: Leaf) -> None:
        """Read all sentences for ``leaf`` now."""
        if leaf.kind not in ("text", "choice"):
            self.places(None, leaf)

    def places(self, value: Any, leaf: Leaf) -> list[Span]:
        """All places of ``value`` in the documents, the best-ranked document first."""
        if leaf.kind == "text":
            return text_places(self.evidence, value)
        every = range(n) if (n := len(self.evidence.sentences)) <= MAX_READ_SENTENCES else self.usable
        return [self.span(one) for index in every for one in self._in(leaf, index) if one.value == value]

    def as_it_stands(self, value: Any, leaf: Leaf, place: Span) -> Any:
        """``value`` with the digits that it has at ``place``: 1200.50 for 1200.5."""
        if leaf.kind != "number":
            return value
        here = (one for index in range(len(self.evidence.sentences)) for one in self._in(leaf, index))
        return next((one.value for one in here if self.span(one) == place), value)

    def span(self, one: Found) -> Span:
        """The place of ``one`` in its document."""
        sentence = self.evidence.sentences[one.sentence]
        return Span(sentence.document, sentence.start + one.start, sentence.start + one.end)

    @cached_property
    def _decimal_commas(self) -> tuple[bool, ...]:
        return tuple(writes_decimal_comma(document.text) for document in self.evidence.documents)

    def _in(self, leaf: Leaf, index: int) -> list[Found]:
        match leaf.kind:
            case "text":
                return self._text(index)
            case "number" | "integer":
                return [
                    Found(one.value, index, one.start, one.end, unit=one.unit, money=one.money)
                    for one in self._number(index)
                    if fits(one.value, leaf.kind)
                ]
            case "date" | "datetime" | "time":
                return [Found(one.iso, index, one.start, one.end) for one in self._moment(index, leaf.kind)]
        return []

    def _runs_in(self, index: int) -> Iterator[Found]:
        text = self.evidence.sentences[index].text
        begins, ends = (sorted(borders) for borders in word_borders(text))
        for begin in begins:
            first = bisect_right(ends, begin)
            for end in ends[first : first + MAX_RUN_WORDS]:
                yield Found(text[begin:end], index, begin, end)

    def _number(self, index: int) -> list[Number]:
        if index not in self._numbers:
            sentence = self.evidence.sentences[index]
            comma = self._decimal_commas[sentence.document]
            self._numbers[index] = numbers(sentence.text, decimal_comma=comma)
        return self._numbers[index]

    def _moment(self, index: int, kind: str) -> list[Moment]:
        if (index, kind) not in self._moments:
            text = self.evidence.sentences[index].text
            found = times(text) if kind == "time" else dates(text, with_time=kind == "datetime")
            self._moments[index, kind] = found
        return self._moments[index, kind]

    def _text(self, index: int) -> list[Found]:
        if index not in self._texts:
            text = self.evidence.sentences[index].text
            self._texts[index] = [
                Found(text[one.start : one.end], index, one.start, one.end, one.weight) for one in proposals(text)
            ]
        return self._texts[index]


def fits(value: Decimal, kind: str) -> bool:
    """Whether ``value`` is one that a field of that kind ("number", "integer") can hold."""
    return value == value.to_integral_value() if kind == "integer" else abs(value) < MAX_FLOAT


def within_limits(value: Any, leaf: Leaf) -> bool:
    """Whether ``value`` keeps to the limits that the JSON schema states; pydantic checks it again at the end."""
    limits = leaf.limits
    if isinstance(value, Decimal):
        return (
            value >= Decimal(str(limits.get("minimum", value)))
            and value <= Decimal(str(limits.get("maximum", value)))
            and ("exclusiveMinimum" not in limits or value > Decimal(str(limits["exclusiveMinimum"])))
            and ("exclusiveMaximum" not in limits or value < Decimal(str(limits["exclusiveMaximum"])))
            and ("multipleOf" not in limits or value % Decimal(str(limits["multipleOf"])) == 0)
        )
    if leaf.kind != "text":
        return True
    if not limits.get("minLength", 0) <= len(value) <= limits.get("maxLength", len(value)):
        return False
    shape = _FORMATS.get(limits.get("format", ""))
    return (shape is None or shape.fullmatch(value) is not None) and _matches(limits.get("pattern"), value)


def _matches(pattern: str | None, value: str) -> bool:
    try:
        return pattern is None or re.search(pattern, value) is not None
    except re.error:
        return True  # Rust's syntax: pydantic will say


def text_places(evidence: Evidence, quote: str) -> list[Span]:
    """Where ``quote`` stands as whole words of one sentence, the best-ranked document first."""
    found = []
    for sentence in evidence.sentences:
        start = sentence.text.find(quote) if quote else -1
        if start < 0:
            continue
        begins, ends = word_borders(sentence.text)
        while start >= 0:
            if start in begins and start + len(quote) in ends:
                begin = sentence.start + start
                found.append(Span(sentence.document, begin, begin + len(quote)))
            start = sentence.text.find(quote, start + 1)
    return found


def as_written(leaf: Leaf, value: Any) -> Any:
    """``value`` as it goes into the JSON."""
    if leaf.kind == "integer":
        return int(value)
    return format(value, "f") if leaf.kind == "number" and leaf.exact else value


def as_json(value: Any) -> str:
    """``value`` as compact JSON that keeps the digits of a Decimal and any Unicode as it is."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_json(key)}: {as_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
