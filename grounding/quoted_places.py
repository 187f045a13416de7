"""All places where the words of a phrase stand, whole words only, the one to cite first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fourcorners.grounding.evidence import Evidence, Span
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.segmentation import chunks

MARGIN = 2.0
"""A place in a sentence this much worse (in nats of the prior) than the best one is no source, only a like wording."""


def quoted_places(evidence: Evidence, prior: PriorScores, quote: str, known: Iterable[Span]) -> list[Span]:
    """The places of ``quote`` in all documents, best document first, and then those in sentences on other things.

    ``known`` are places that the decoder went through: their best sentence is what the others are measured by.
    """
    offsets: dict[str, list[int]] = {}
    found: list[tuple[Span, float]] = []
    for sentence, score in zip(evidence.sentences, prior.sentences, strict=True):
        if quote not in sentence.text:
            continue
        if sentence.text not in offsets:
            offsets[sentence.text] = list(_offsets(sentence.text, quote))
        for start in (sentence.start + offset for offset in offsets[sentence.text]):
            found.append((Span(sentence.document, start, start + len(quote)), float(score)))
    through = set(known)
    best = max((score for span, score in found if span in through), default=None)
    if best is None:
        return sorted(through, key=lambda span: (span.document, span.start))
    return [span for span, score in found if score >= best - MARGIN] + [
        span for span, score in found if score < best - MARGIN
    ]


def snapped(text: str, start: int, end: int) -> tuple[int, int]:
    """``start`` and ``end`` moved outwards to the borders of the words, numbers or prices that they stand in."""
    borders = chunks(text)
    return (
        max(s for s, e in borders if s <= start < e),
        min(e for s, e in borders if s < end <= e),
    )


def _offsets(text: str, quote: str) -> Iterator[int]:
    borders = chunks(text)
    starts, ends = {start for start, _ in borders}, {end for _, end in borders}
    at = text.find(quote)
    while at >= 0:
        if at in starts and at + len(quote) in ends:
            yield at
        at = text.find(quote, at + 1)
