"""Words that say the same, and words that say the opposite."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache, lru_cache

import regex

from fourcorners.grounding.claims import Token
from fourcorners.grounding.cues import data_lines
from fourcorners.grounding.words import fold, stem

MIN_ROOT = 4
_PREFIXES = ("un", "in", "im", "ir", "il", "non", "dis", "de", "mis", "anti", "miss", "wider", "mal")
_SUFFIXES = (
    "ational", "ation", "ition", "ement", "ment", "ance", "ence", "ings", "ing", "ions", "ion", "able", "ible", "ally",
    "ery", "ity", "ness", "ive", "ant", "ent", "ful", "al", "er", "or", "ly", "ed", "es", "ist", "ung", "lich", "isch",
    "bar", "en", "e", "s", "y", "i",
)  # fmt: skip


def opposite_sides(word: str) -> frozenset[tuple[int, int]]:
    """The groups of ``opposites.txt`` that a folded word is in, each with its side, 0 or 1."""
    return _opposites().get(word, frozenset())


def other_sides(word: str) -> frozenset[tuple[int, int]]:
    """The same groups with the opposite side."""
    return frozenset((group, 1 - side) for group, side in opposite_sides(word))


def same_meaning(one: str, other: str) -> bool:
    """Whether two stems are in one group of ``synonyms.txt``."""
    groups = _synonyms()
    return not groups.get(one, frozenset()).isdisjoint(groups.get(other, frozenset()))


def negated_form(one: str, other: str) -> bool:
    """Whether one of two folded words is the other with a negating prefix or "less": "safe", "unsafe"."""
    short, long = sorted((one, other), key=len)
    if len(short) < 3 or short == long:
        return False
    if long == short + "less" or any(long == prefix + short for prefix in _PREFIXES):
        return True
    ful, less = (one, other) if one.endswith("ful") else (other, one)
    return ful.endswith("ful") and less == ful[:-3] + "less"


def related(one: Token, other: Token) -> bool:
    """Whether two words are of one family or meaning. Names are related to nothing."""
    if opposite_sides(one.fold) & other_sides(other.fold) or negated_form(one.fold, other.fold):
        return False
    if same_meaning(one.stem, other.stem):
        return True
    if one.capital and other.capital and not (one.opens or other.opens):
        return other.fold.endswith(one.fold) and len(one.fold) >= 5  # "Kaution" for "Mietkaution"
    return _same_root(one.stem, other.stem) or _same_root(one.fold, other.fold)


def among(stemmed: str, stems: Collection[str]) -> bool:
    """Whether a stem, or one of its meaning or family, is among ``stems``."""
    return stemmed in stems or any(same_meaning(stemmed, other) or _same_root(stemmed, other) for other in stems)


def _same_root(one: str, other: str) -> bool:
    return not _roots(one).isdisjoint(_roots(other))


@lru_cache(maxsize=65_536)
def _roots(word: str) -> frozenset[str]:
    found = {word} if len(word) >= MIN_ROOT else set()
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= MIN_ROOT:
            found.add(regex.sub(r"(.)\1$", r"\1", word[: -len(suffix)]))
    return frozenset(found)


@cache
def _opposites() -> dict[str, frozenset[tuple[int, int]]]:
    table: dict[str, set[tuple[int, int]]] = {}
    for group, line in enumerate(data_lines("opposites.txt")):
        for side, words in enumerate(line.split("|")):
            for word in words.split():
                table.setdefault(fold(word), set()).add((group, side))
    return {word: frozenset(sides) for word, sides in table.items()}


@cache
def _synonyms() -> dict[str, frozenset[int]]:
    table: dict[str, set[int]] = {}
    for group, line in enumerate(data_lines("synonyms.txt")):
        for word in line.split():
            for language in ("english", "german", "french"):
                table.setdefault(stem(fold(word), language), set()).add(group)
    return {word: frozenset(groups) for word, groups in table.items()}
