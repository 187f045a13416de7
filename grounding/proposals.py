"""Which runs of words in a sentence look like the value of a field: what stands behind a label, in a table's cell,
between commas; names, codes, addresses of the web. A rough sieve for models too small to choose among all runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from fourcorners.grounding.segmentation import Offsets, chunks

MAX_LABEL_WORDS = 6
MAX_CHUNK_CHARS = 256
MAX_PROPOSALS = 60
"""Of one sentence."""
_CLOSING = frozenset(")]}\"'”’»%°%€$£¥")
_HAS_WORD = regex.compile(r"[\p{L}\p{N}]")
_LABEL = regex.compile(rf"[^:=|\t]{{0,60}}?[:=](?=\s|\S)\s*|(?:\S+\s){{1,{MAX_LABEL_WORDS}}}\s*(?:[–—]|\.{{3,}})\s*")
_CELL = regex.compile(r"[^|\t]+?(?=\s*(?:[|\t]|\s{2,}\S|\Z))")
_SEGMENT = regex.compile(r"[^,;:|\t()\[\]•·\"“”«»\r\n]+")
_CLAUSE = regex.compile(
    r"\s+(?:and|or|by|between|to|from|at|on|in|is|are|was|were|for|with|as|of|the|a|an|[–—-])\s+", regex.I
)
_NAMED = regex.compile(
    r"(?:\p{Lu}[\p{L}\p{M}\p{N}.'’\-]*|\p{N}*\p{Lu}[\p{Lu}\p{N}\-]+)"
    r"(?:\s+(?:(?:of|de|la|le|du|van|von|der|den|di|da|and|the|für|&)\s+)*"
    r"(?:\p{Lu}[\p{L}\p{M}\p{N}.'’\-]*|&))*"
)
_CODE = regex.compile(r"(?=\S*\d)[\p{L}\p{N}][\p{L}\p{N}\-/._#]*[\p{L}\p{N}]")
_WEB = regex.compile(r"https?://[^\s<>\"]+|www\.[^\s<>\"]+|[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+")
_PHONE = regex.compile(r"\+?\(?\d[\d\s()/.\-]{5,}\d")
_AMOUNT = regex.compile(r"(?:[$€£¥]|[A-Z]{3})\s?\d[\d.,]*|\d[\d.,]*\s?(?:%|[$€£¥]|[\p{L}°]{1,8})")
_CURRENCY = regex.compile(r"[$€£¥₹]|\b(?:EUR|USD|GBP|CHF|JPY|SEK|NOK|DKK|PLN|CZK|INR|AUD|CAD)\b")


@dataclass(frozen=True, slots=True)
class Proposal:
    """Characters ``start`` to ``end`` of a sentence; ``weight`` says how natural its borders are."""

    start: int
    end: int
    weight: float


def proposals(text: str) -> list[Proposal]:
    """Runs of whole words of ``text``, the most natural first; at most MAX_PROPOSALS."""
    begins, ends = word_borders(text)
    best: dict[Offsets, float] = {}
    for start, end, weight in _runs(text):
        span = _snapped(text, start, end, begins, ends)
        if span is not None and weight > best.get(span, -1e9):
            best[span] = weight
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return [Proposal(*span, weight) for span, weight in ranked[:MAX_PROPOSALS]]


def word_borders(text: str) -> tuple[frozenset[int], frozenset[int]]:
    """Where a span may begin (a word) and where it may end (a word, or what closes one)."""
    begins, ends = set(), set()
    for start, end in chunks(text):
        piece = text[start:end]
        if len(piece) > MAX_CHUNK_CHARS:
            continue
        if _HAS_WORD.search(piece):
            begins.add(start)
            ends.add(end)
        elif piece in _CLOSING:
            ends.add(end)
    return frozenset(begins), frozenset(ends)


def cells(text: str) -> list[Offsets]:
    """The cells of a table's row (bars, tabs, or runs of spaces between them); a sentence is one cell."""
    return [match.span() for match in _CELL.finditer(text) if match.group().strip()]


def _runs(text: str) -> Iterator[tuple[int, int, float]]:
    yield 0, len(text), 0.3
    if text.endswith((".", "!", "?")):
        yield 0, len(text) - 1, 0.2
    if (label := _LABEL.match(text)) and label.end() < len(text):
        yield label.end(), len(text), 0.9
        if text.endswith("."):
            yield label.end(), len(text) - 1, 0.8
    row = cells(text)
    if len(row) > 1:
        for start, end in row:
            yield start, end, 0.9
    for match in _SEGMENT.finditer(text):
        yield *match.span(), 0.5
        yield from _clauses(text, *match.span())
    for pattern, weight in ((_WEB, 0.7), (_PHONE, 0.5), (_CODE, 0.4), (_NAMED, 0.4), (_AMOUNT, 0.3), (_CURRENCY, 0.3)):
        for match in pattern.finditer(text):
            yield *match.span(), weight


def _clauses(text: str, start: int, end: int) -> Iterator[tuple[int, int, float]]:
    """Pieces of a segment between small words: "sold by | Acme Ltd | in | Leeds"."""
    cuts = [match.span() for match in _CLAUSE.finditer(text, start, end, overlapped=True)]
    begins = [start, *(right for _, right in cuts)]
    for begin in begins:
        yield begin, next((left for left, _ in cuts if left > begin), end), 0.2
        if begin > start:
            yield begin, end, 0.2


def _snapped(text: str, start: int, end: int, begins: frozenset[int], ends: frozenset[int]) -> Offsets | None:
    """The largest span inside that begins and ends where words do; None where that leaves nothing."""
    while start < end and start not in begins:
        if text[start].isalnum():
            return None  # inside a word
        start += 1
    while end > start and end not in ends:
        if text[end - 1].isalnum():
            return None
        end -= 1
    # "Acme (Leeds" or a quote that was only closed: the sign belongs to what was left out.
    while end > start and text[end - 1] in ')]}"”»' and not _opens(text[start:end]):
        end -= 1
        while end > start and text[end - 1].isspace():
            end -= 1
    return (start, end) if start < end and end in ends else None


def _opens(span: str) -> bool:
    opening = {")": "(", "]": "[", "}": "{", '"': '"', "”": "“", "»": "«"}[span[-1]]
    return opening in span[:-1]
