"""Takes out of a model's text what would pass for our own marks: "[1]", "[2, 3]", "[unsupported]"."""

from __future__ import annotations

import regex

MAX_MARK_CHARS = 40

_MARK = regex.compile(
    r"[ \t]{0,2}[\[【［][\p{Cf}\s]{0,4}"
    r"(?:\p{Nd}[\p{Nd}\p{Cf}\s,;:†\-–]{0,20}\p{L}?|(?i:un\p{Cf}?supported))"
    r"[\p{Cf}\s]{0,4}[\]】］]"
)
_OPENING = regex.compile(r"[ \t]{0,2}(?:[\[【［][^\[\]【】［］\n]{0,34})?\Z")


class MarkFilter:
    """Feed pieces of text, get the text without marks. Holds back at most MAX_MARK_CHARS; for one text."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, piece: str) -> str:
        """The text that is certain now."""
        text = without_marks(self._pending + piece)
        held = _OPENING.search(text, max(0, len(text) - MAX_MARK_CHARS))
        cut = held.start() if held else len(text)
        self._pending = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """What was held back."""
        text, self._pending = self._pending, ""
        return text


def without_marks(text: str) -> str:
    """``text`` without marks, also those that only appear when one inside them is taken out: "[1[2]]"."""
    while (shorter := _MARK.sub("", text)) != text:
        text = shorter
    return text
