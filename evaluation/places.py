"""Where in the context the gold answer stands, and how much of what an answer cites lies there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from fourcorners.evaluation.rows import Row
from fourcorners.evaluation.scoring import pattern_of
from fourcorners.grounding.evidence import Evidence, Span, documents_from


@dataclass(frozen=True, slots=True)
class Quote:
    """A citation: its words, and all places where they stand, the cited one first."""

    text: str
    places: tuple[Span, ...]


def gold_places(row: Row, *, sentences: bool) -> tuple[Span, ...]:
    """Where the answer stands: the row's selected sentences, else its answers wherever their words stand.

    With ``sentences`` those of answers are widened to the sentences that they stand in. None where the gold answer is
    nobody's exact words.
    """
    if row.selected:
        return tuple(dict.fromkeys(span for text in row.selected for span in _found(row, text)))
    if row.answer_starts:
        pairs = zip(row.answers, row.answer_starts, strict=True)
        spans = [Span(0, start, start + len(answer)) for answer, start in pairs]
    else:
        spans = [span for answer in row.answers for span in _found(row, answer)]
    if sentences:
        spans = [one for one in _sentences(row.context) if any(_common(one, span) for span in spans)]
    return tuple(dict.fromkeys(spans))


def is_hit(row: Row, quotes: Sequence[Quote]) -> bool:
    """Whether one quote holds a gold answer, or is (for the greater part) one of the selected sentences."""
    patterns = [_pattern(row.context, answer) for answer in row.answers]
    if any(pattern.search(quote.text) for quote in quotes for pattern in patterns):
        return True
    chosen = [span for text in row.selected for span in _found(row, text)]
    return any(_mostly_one(place, span) for quote in quotes for place in quote.places for span in chosen)


def cited_shares(gold: Sequence[Span], quotes: Sequence[Quote]) -> tuple[float, float] | None:
    """The share of the characters cited that are gold, and of the gold ones that are cited; None without either.

    Of a quote that stands in several places the one that is gold counts.
    """
    if not gold or not quotes:
        return None
    cited = {one for quote in quotes for one in _characters([max(quote.places, key=lambda p: _gold_in(p, gold))])}
    wanted = set(_characters(gold))
    common = len(cited & wanted)
    return common / len(cited), common / len(wanted)


def _gold_in(place: Span, gold: Sequence[Span]) -> int:
    return sum(_common(place, span) for span in gold)


def _characters(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    return ((span.document, at) for span in spans for at in range(span.start, span.end))


def _common(one: Span, other: Span) -> int:
    if one.document != other.document:
        return 0
    return max(0, min(one.end, other.end) - max(one.start, other.start))


def _mostly_one(one: Span, other: Span) -> bool:
    return 2 * _common(one, other) >= min(one.end - one.start, other.end - other.start)


def _found(row: Row, text: str) -> list[Span]:
    if not text.split():
        return []
    pattern = _pattern(row.context, text)
    return [Span(n, m.start(), m.end()) for n, one in enumerate(row.context) for m in pattern.finditer(one)]


def _pattern(context: tuple[str, ...], gold: str) -> re.Pattern[str]:
    """What finds a gold answer; inside of words only where it stands nowhere else: some were cut so by their makers."""
    whole = pattern_of(gold)
    return whole if any(whole.search(text) for text in context) else pattern_of(gold, may_cut=True)


@lru_cache(maxsize=256)
def _sentences(context: tuple[str, ...]) -> tuple[Span, ...]:
    found = Evidence("", documents_from(context)).sentences
    return tuple(Span(sentence.document, sentence.start, sentence.end) for sentence in found)


__all__ = ["Quote", "cited_shares", "gold_places", "is_hit"]
