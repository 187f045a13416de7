"""Words as the lexical prior compares them: without case and accents, stemmed, function words set apart."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache, lru_cache
from importlib.resources import files

import regex
import snowballstemmer

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:[.,:]\d+)*")
_POSSESSIVE = regex.compile(r"['’]s\b")
MAX_LANGUAGE_SAMPLE = 400


def folded_words(text: str) -> list[str]:
    """The words of ``text`` in order, case-folded and without accents; "1,200.50" stays one word."""
    return [fold(word) for word in _WORD.findall(_POSSESSIVE.sub(" ", text))]


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """``word`` without case and combining marks, for comparison only."""
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


@lru_cache(maxsize=65_536)
def stem(word: str, language: str) -> str:
    """Snowball stem of a folded word; the word itself where the language has no stemmer. About 10 µs, then cached."""
    stemmer = _stemmer(language)
    return str(stemmer.stemWord(word)) if stemmer else word


@cache
def function_words(language: str) -> frozenset[str]:
    """Stems of the function words of ``language`` (a Snowball name); empty where none are listed."""
    return frozenset(stem(word, language) for word in _function_word_table().get(language, frozenset()))


def guess_language(words: list[str]) -> str | None:
    """The listed language with the most function words among ``words`` (folded); None where there is no lead."""
    sample = words[:MAX_LANGUAGE_SAMPLE]
    counts = Counter({name: sum(word in known for word in sample) for name, known in _function_word_table().items()})
    (best, lead), (_, second) = counts.most_common(2)
    return best if lead > second else None


@cache
def _function_word_table() -> dict[str, frozenset[str]]:
    lines = files(__package__).joinpath("function_words.txt").read_text("utf-8").splitlines()
    pairs = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name: frozenset(words.split()) for name, _, words in pairs}


@cache
def _stemmer(language: str) -> snowballstemmer.stemmer | None:
    return snowballstemmer.stemmer(language) if language in snowballstemmer.algorithms() else None
