"""What stands above a sentence and gives it its subject: headings, table headers, list introductions, FAQ questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from fourcorners.grounding.segmentation import Offsets

Kind = Literal["statement", "heading", "title", "header_row", "question"]

_HEADING_MARK = regex.compile(r"(?:^|[\r\n])[ \t]{0,3}#{1,6}[ \t]+$")
_UNDERLINED = regex.compile(r"[ \t]*\r?\n[ \t]*(?:={3,}|-{3,})[ \t]*(?:\r?\n|$)")
_TABLE_RULE = regex.compile(r"\s*\|?[\s:|\-]*-{3,}[\s:|\-]*")
_BOLD_LEAD = regex.compile(r"(?:\*\*|__)[^*_\r\n]{1,80}(?:(?:\*\*|__)[.:]?)?")
_BLANK_BEFORE = regex.compile(r"(?:\A|\n[ \t]*\r?\n)\s*\Z")
_BLANK_AFTER = regex.compile(r"[ \t]*(?:\r?\n[ \t]*(?:\r?\n|\Z)|\Z)")
_FINAL = regex.compile(r"[.!?;,…][\"'”’»)\]*_]*\Z")
_VERB = regex.compile(r"\b(?:is|are|was|were|am|has|have|had|can|may|must|will|do|does|did)\b", regex.I)
_NON_SPACE = regex.compile(r"\S")
_BLANK_LINE = regex.compile(r"\n\s*\n")
MAX_TITLE_WORDS = 10
_MAX_INTRO_REACH = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sentence stands: what it is, and the indices of the sentences above it that give it context."""

    kind: Kind
    under: tuple[int, ...]


def places(text: str, spans: Sequence[Offsets]) -> list[Place]:
    """One ``Place`` for each sentence of one document, in order. Linear in the length of the text."""
    found: list[Place] = []
    heading = header = intro = question = -1
    for index, (start, end) in enumerate(spans):
        kind = _kind(text, start, end)
        blank_before = index > 0 and _BLANK_LINE.search(text, spans[index - 1][1], start) is not None
        if kind in ("heading", "title"):
            heading, header, intro, question = index, -1, -1, -1
            found.append(Place(kind, ()))
            continue
        if kind == "question":
            question = index
        elif question >= 0 and blank_before and index > question + 1:
            question = -1
        if not text.startswith("|", start):
            header = -1
        if intro >= 0 and index - intro > _MAX_INTRO_REACH:
            intro = -1
        under = (heading, header, intro, question if question != index else -1)
        found.append(Place(kind, tuple(above for above in under if above >= 0)))
        if kind == "header_row":
            header = index
        if text[start:end].endswith(":"):
            intro = index
    return found


def _kind(text: str, start: int, end: int) -> Kind:
    before = text[max(0, start - 12) : start]
    if (
        _HEADING_MARK.search(before)
        or _UNDERLINED.match(text, end, end + 200)
        or _BOLD_LEAD.fullmatch(text, start, end)
    ):
        return "heading"
    if text[end - 1] == "?" or text.startswith(("?**", "?*", "?_"), end - 1):
        return "question"
    if text.startswith("|", start):
        newline = text.find("\n", end)
        if newline >= 0 and _TABLE_RULE.match(text, newline + 1, newline + 200):
            return "header_row"
    return "title" if _is_title(text, start, end) else "statement"


def _is_title(text: str, start: int, end: int) -> bool:
    """A few words above something else, alone as a paragraph, without a full stop and without a plain verb."""
    if end - start > 100 or _FINAL.search(text, max(start, end - 6), end):
        return False
    if not _NON_SPACE.search(text, end) or _VERB.search(text, start, end):
        return False
    if len(text[start:end].split()) > MAX_TITLE_WORDS:
        return False
    alone_above = _BLANK_BEFORE.search(text[max(0, start - 40) : start]) is not None
    return alone_above and _BLANK_AFTER.match(text, end, end + 40) is not None
