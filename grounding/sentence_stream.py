"""Cuts a text that comes in pieces into sentences, each as soon as it is certain where it ends.

However the text is cut into pieces the sentences are the same, and joined they are the text.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from fourcorners.grounding.dates import date_words
from fourcorners.grounding.words import fold

MAX_PENDING_CHARS = 4_096
"""A stretch without a border is cut here, so that a model that never ends a sentence holds back no more than this."""

_ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "sr",
        "jr",
        "st",
        "no",
        "nr",
        "nos",
        "vs",
        "etc",
        "e.g",
        "i.e",
        "eg",
        "ie",
        "ca",
        "approx",
        "fig",
        "figs",
        "art",
        "abs",
        "vol",
        "pp",
        "p",
        "ch",
        "sec",
        "inc",
        "ltd",
        "co",
        "corp",
        "dept",
        "est",
        "min",
        "max",
        "bzw",
        "z.b",
        "d.h",
        "u.a",
        "usw",
        "evtl",
        "ggf",
        "inkl",
        "bd",
        "hr",
        "fr",
        "str",
        "mio",
        "mrd",
        "tel",
        "m",
        "mme",
        "mlle",
        "av",
        "bd",
        "cf",
        "ex",
        "al",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "okt",
        "nov",
        "dec",
        "dez",
        "u.s",
        "u.k",
    ]
)
_HAS_WORD = regex.compile(r"[\p{L}\p{N}]")
_BORDER = regex.compile(
    r"(?P<stop>[.!?…]+[\"'”’»)\]*_]*(?P<gap>[ \t\u00a0]+)(?=\S))"
    r"|(?P<cjk>[。！？]+[」』”）]*)"
    r"|(?P<line>[ \t]*(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])\s*)"
)
_NEXT_WORD = regex.compile(r"[\"'“„«(\[*_¿¡]*(?P<word>[\p{L}\p{N}\p{M}]+|[^\s\p{L}\p{N}])")
_LAST_WORD = regex.compile(r"(?:\p{L}\.)*[\p{L}\p{N}\p{M}]+(?=[.]\Z)")
_LINE_START = regex.compile(r"(?:\A|[\r\n])[ \t]*(?:\(?\d{1,3}|\p{L})[.]\Z")
_TAIL_CHARS = 64


class SentenceStream:
    """Feed pieces of text, get sentences with the white space behind them. For one text, in one thread."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, piece: str) -> Iterator[str]:
        """Sentences that ``piece`` has made certain. Take all of them before the next call."""
        self._pending += piece
        while (end := _first_border(self._pending, final=False)) is not None:
            sentence, self._pending = self._pending[:end], self._pending[end:]
            yield sentence

    def end(self) -> Iterator[str]:
        """What is left, now that no more text comes."""
        while self._pending:
            end = _first_border(self._pending, final=True) or len(self._pending)
            sentence, self._pending = self._pending[:end], self._pending[end:]
            yield sentence


def _first_border(text: str, *, final: bool) -> int | None:
    """Where the first sentence of ``text`` ends, the gap behind it included; None where more text may yet tell."""
    too_long = len(text) > MAX_PENDING_CHARS
    view, decided = text[:MAX_PENDING_CHARS], final or too_long
    for match in _BORDER.finditer(view):
        end = match.end()
        if end == len(view) and not decided:
            return None  # the gap or the closing quotes may go on
        if not _HAS_WORD.search(view, 0, end):
            continue
        following = _NEXT_WORD.match(view, end)
        if match["stop"] and not decided and (following is None or following.end() == len(view)):
            return None  # the next word may go on
        if match["cjk"] or _is_border(match, view, following["word"] if following else ""):
            return end
    return MAX_PENDING_CHARS if too_long else None


def _is_border(match: regex.Match[str], text: str, following: str) -> bool:
    """Whether a sentence ends at ``match``, seen what stands before it and the word behind it."""
    if match["line"] is not None:
        wrapped = match["line"].strip(" \t") in ("\n", "\r\n", "\r") and following[:1].islower()
        return not (wrapped and text[match.start() - 1] not in ".!?:;…")
    end = match.start("gap")
    tail = (text, max(0, end - _TAIL_CHARS), end)
    if text[end - 1] != ".":
        return not following[:1].islower()
    last = _LAST_WORD.search(*tail)
    word = fold(last.group()) if last else ""
    initial = last is not None and len(word) == 1 and last.group().isupper()
    day = word.isdigit() and len(word) <= 2 and fold(following) in date_words()
    return not (following[:1].islower() or word in _ABBREVIATIONS or initial or day or _LINE_START.search(*tail))
