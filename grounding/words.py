"""Words as the lexical prior compares them: without case and accents, stemmed, function words set apart."""

from __future__ import annotations

import threading
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
    if language == "english":
        word = base_forms().get(word, word)
    stemmer = _stemmer(language)
    return str(stemmer.stemWord(word)) if stemmer else word


def alike(term: str, other: str) -> bool:
    """Whether two stems share most of their letters from the start, such as "valid" and "validation"."""
    if len(term) < 5 or len(other) < 4 or term == other:
        return False
    shared = next((i for i, (a, b) in enumerate(zip(term, other, strict=False)) if a != b), min(len(term), len(other)))
    return shared >= max(4, 0.7 * max(len(term), len(other)))


@cache
def base_forms() -> dict[str, str]:
    """English irregular forms to their base form, folded: "began" to "begin", "children" to "child"."""
    return {form: line[0] for line in read_table("word_forms.txt") for form in line[1:]}


@cache
def word_families() -> dict[str, frozenset[str]]:
    """English stems to the stems that ask for the same thing ("price": "cost", "fee", …); related, not equal."""
    families: dict[str, set[str]] = {}
    for line in read_table("word_families.txt"):
        stems = {stem(word, "english") for word in line}
        for one in stems:
            families.setdefault(one, set()).update(stems - {one})
    return {one: frozenset(others) for one, others in families.items()}


@cache
def function_words(language: str) -> frozenset[str]:
    """Stems of the function words of ``language`` (a Snowball name); empty where none are listed."""
    return frozenset(stem(word, language) for word in _function_word_table().get(language, frozenset()))


@cache
def word_class(name: str) -> frozenset[str]:
    """The words (folded) of a line of ``word_classes.txt``."""
    return {line[0].rstrip(":"): frozenset(line[1:]) for line in read_table("word_classes.txt")}[name]


def guess_language(words: list[str]) -> str | None:
    """The listed language with the most function words among ``words`` (folded); None where there is no lead."""
    sample = words[:MAX_LANGUAGE_SAMPLE]
    counts = Counter({name: sum(word in known for word in sample) for name, known in _function_word_table().items()})
    (best, lead), (_, second) = counts.most_common(2)
    return best if lead > second else None


@cache
def _function_word_table() -> dict[str, frozenset[str]]:
    return {line[0].rstrip(":"): frozenset(line[1:]) for line in read_table("function_words.txt")}


def read_table(name: str) -> list[list[str]]:
    """The words of each line of a data file beside this module; lines with "#" are comments."""
    lines = files(__package__).joinpath(name).read_text("utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def _stemmer(language: str) -> snowballstemmer.stemmer | None:
    """One for each thread: it works on the word in place, and two threads in it get each other's stems."""
    if language not in _stemmers.__dict__:
        known = language in snowballstemmer.algorithms()
        _stemmers.__dict__[language] = snowballstemmer.stemmer(language) if known else None
    return _stemmers.__dict__[language]


_stemmers = threading.local()
