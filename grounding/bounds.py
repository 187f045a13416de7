"""Words that make a number a limit: "at least 5", "5 or more"."""

from __future__ import annotations

from typing import Literal

import regex

Bound = Literal["", "≥", "≤", ">", "<"]

_REACH = 40
"""How many characters on either side of a number are looked at."""
_CUES: dict[Bound, tuple[str, ...]] = {
    ">": ("more than", "mehr als", "plus de", "over", "exceeds?", "exceeding", "above", "über", "dépassant"),
    "≥": (
        *("at least", "no less than", "no fewer than", "not less than", "not fewer than", "minimum"),
        *("mindestens", "nicht weniger als", "au moins", "au minimum"),
    ),
    "≤": (
        *("at most", "no more than", "not more than", "up to", "maximum", "not exceed", "höchstens", "maximal"),
        *("bis zu", "nicht mehr als", "au plus", "au maximum", "jusqu['’]à"),
    ),
    "<": ("less than", "fewer than", "weniger als", "moins de", "under", "below", "unter"),
}
_CUES_BEHIND: dict[Bound, str] = {
    "≥": r"or (?:more|older|over|longer|above)|and (?:over|above|older)|oder mehr|ou plus|at least|minimum",
    "≤": r"or (?:less|fewer|under|younger|below)|oder weniger|ou moins|at most|maximum",
}
_BEFORE: dict[Bound, regex.Pattern[str]] = {
    bound: regex.compile(
        rf"(?:^|\W)(?<!\b(?:no|not|nicht)\W)(?:{'|'.join(words)})\s+(?:(?:of|from|von|de)\s+)?\p{{Sc}}?$", regex.I
    )
    for bound, words in _CUES.items()
}
_BEHIND: dict[Bound, regex.Pattern[str]] = {
    bound: regex.compile(rf"[\p{{L}}\s%°]{{0,16}}?\s?(?:{words})\b", regex.I) for bound, words in _CUES_BEHIND.items()
}


def bound_at(text: str, start: int, end: int) -> Bound:
    """What limit the number at ``start`` to ``end`` of ``text`` is, if any."""
    before, behind = text[max(0, start - _REACH) : start], text[end : end + _REACH]
    found = [bound for bound, pattern in _BEFORE.items() if pattern.search(before)]
    found += [bound for bound, pattern in _BEHIND.items() if pattern.match(behind)]
    return found[0] if found else ""
