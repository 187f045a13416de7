"""Texts that a reader would take for something else: for the refusal, though they stand in a document."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_TWINS = str.maketrans(
    {
        **dict(zip("авгеіјкмнопрстухѕһԁԛԝ", "abreijkmhonpctyxshdqw", strict=True)),
        **dict(zip("αβεικοπρτυχ", "abeikonptux", strict=True)),
        **dict(zip("ɑɡıսոօ", "agiuno", strict=True)),
    }
)
"""Small Cyrillic, Greek and other letters that look like Latin ones."""


def reads_like(text: str, phrase: str) -> bool:
    """Whether ``text`` reads like ``phrase``: the same letters and digits, or twins of them in another script.

    Case, white space, punctuation, accents and what is invisible do not count. Ends at the first difference.
    """
    end = _end_of(text, phrase)
    return end is not None and not any(map(_shape, text[end:]))


def begins_like(text: str, phrase: str) -> bool:
    """Whether ``text`` begins with what reads like ``phrase``."""
    return _end_of(text, phrase) is not None


def _end_of(text: str, phrase: str) -> int | None:
    wanted = "".join(map(_shape, phrase))
    if not wanted:
        return len(phrase) if text.startswith(phrase) else None
    n_seen = 0
    for end, char in enumerate(text, start=1):
        shape = _shape(char)
        if not wanted.startswith(shape, n_seen):
            return None
        n_seen += len(shape)
        if n_seen == len(wanted):
            return end
    return None


def plain_shape(char: str) -> str:
    """What ``char`` looks like in plain small letters and signs: "Ａ" is "a", "ﬁ" is "fi", an accent stands apart."""
    return unicodedata.normalize("NFKD", char).casefold().translate(_TWINS)


@lru_cache(maxsize=4096)
def _shape(char: str) -> str:
    return "".join(c for c in plain_shape(char) if c.isalnum())
