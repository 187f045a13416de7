"""What a question and a passage are compared by: word stems, and pairs of letters in scripts that set no spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import regex

from fourcorners.grounding.words import stem

DEFAULT_LANGUAGE = "english"
"""Whose stems a text gets that is too short to tell its language."""
_RUNS = regex.compile(
    r"(?P<unspaced>[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]+)"
    r"|[^\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]+"
)
_HAN = regex.compile(r"\p{Han}")


def terms_of(words: Iterable[str], language: str) -> list[str]:
    """The terms of ``words`` (folded), in order; stems are those of ``language``, a Snowball name."""
    return [term for word in words for term in _terms(word, language)]


@lru_cache(maxsize=65_536)
def _terms(word: str, language: str) -> tuple[str, ...]:
    if word.isascii():
        return (stem(word, language),)
    found: list[str] = []
    for run in _RUNS.finditer(unicodedata.normalize("NFC", word)):  # folding takes Hangul apart
        if run["unspaced"] is None:
            found.append(stem(run.group(), language))
        else:
            found += _pairs(run.group())
    return tuple(found)


def _pairs(run: str) -> list[str]:
    """Neighbouring letters two by two; Chinese ones alone too, because one of them is often a word."""
    pairs = [run[at : at + 2] for at in range(len(run) - 1)]
    return pairs + _HAN.findall(run) if pairs else [run]
