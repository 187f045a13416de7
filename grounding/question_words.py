"""The words of a question by what they do in it: its frame, names, nouns, times, and what is said of them.

A sieve of word lists and places, no grammar: enough to tell what a follow-up leans on. English has lists of
verbs, German tells nouns by their capital, and both have lists of nouns that need an "of what"; in French, Spanish,
Italian, Portuguese and Dutch every content word is a noun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import regex

from fourcorners.grounding.words import fold, folded_words, function_words, guess_language, read_table, stem

Role = Literal["frame", "adjective", "ordinal", "verb", "time", "relational", "noun", "name", "number"]
NOUNS = frozenset[Role]({"noun", "name"})
CONTENT = frozenset[Role]({"adjective", "ordinal", "verb", "time", "relational", "noun", "name", "number"})

_TOKEN = regex.compile(r"\p{L}+n['’]t\b|[\p{L}\p{M}\p{N}]+(?:[\-‐‑.,:][\p{L}\p{M}\p{N}]+)*")
_CONTRACTED = regex.compile(r"['’](?:s|re|ve|ll|d|m)\b", regex.I)
_FRENCH_INVERSION = regex.compile(r"-(?:t-)?(?=(?:il|elle|on|ils|elles|je|tu|nous|vous|ce)\b)", regex.I)
_SENTENCE_BREAK = regex.compile(r"[.!?:;|\n\r]\s*[\"'“„*_\-]*\s*$")
_FRAME = ("opener", "pronoun", "possessive", "plural", "demonstrative", "place", "wh", "aux", "prep", "det", "other")


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text, ``text[start:end]``, compared with others by its ``stem``."""

    text: str
    start: int
    end: int
    folded: str
    stem: str
    role: Role

    @property
    def is_plural(self) -> bool:
        """Rough, and for English only."""
        return self.folded in _IRREGULAR_PLURALS or bool(regex.search(r"\w\w[^su]s$", self.folded))


_IRREGULAR_PLURALS = frozenset({"people", "children", "men", "women", "mice", "feet", "teeth"})

Lists = Mapping[str, frozenset[str]]


@cache
def word_lists(language: str) -> Lists:
    """The lists for ``language`` by kind; all kinds of it, empty where it has none."""
    lists = {kind: frozenset[str]() for kind in _KINDS}
    for name, kind, *words in read_table("follow_up_words.txt"):
        if name == language:
            kind = kind.rstrip(":")
            lists[kind] = frozenset(stem(word, language) for word in words) if kind in _STEMMED else frozenset(words)
    return lists


_STEMMED = frozenset({"adjective", "verb", "relational", "time"})
_KINDS = (
    *_FRAME,
    *_STEMMED,
    "existential",
    "set",
    "clause",
    "you",
    "polite",
    "tell",
    "ordinal",
    "why",
    "which",
    "who",
    "person",
    "placing",
    "degree",
    "be",
    "nearest",
    "subject",
    "else",
    "of",
)


def language_of(text: str, *others: str) -> str:
    """The language of ``text``, or where it has too few words of all texts, as a Snowball name; else English."""
    own, more = folded_words(text), [word for other in others for word in folded_words(other)]
    return guess_language(own) or guess_language(own + more) or "english"


def question_words(text: str, language: str) -> list[Word]:
    """The words of ``text`` in order with their roles."""
    lists, words = word_lists(language), list[Word]()
    plain = _CONTRACTED.sub(lambda match: " " * len(match.group()), text)
    plain = _FRENCH_INVERSION.sub(lambda match: " " * len(match.group()), plain)
    shouted = text.isupper()
    for match in _TOKEN.finditer(plain):
        token = match.group()
        folded = fold(token.replace("’", "'"))
        begins = not words or _SENTENCE_BREAK.search(plain, max(0, words[-1].end), match.start()) is not None
        capital = token[0].isupper() and not begins and not shouted
        root = stem(folded, language)
        role = _role(folded, root, capital, words, lists, language)
        if (
            folded in lists["aux"]
            and len(words) > 1
            and words[-1].role == "verb"
            and words[-2].folded in lists["which"]
        ):
            words[-1] = replace(words[-1], role="noun")  # which plans do you offer
        words.append(Word(token, match.start(), match.end(), folded, root, role))
    return words


def _role(folded: str, root: str, capital: bool, before: Sequence[Word], lists: Lists, language: str) -> Role:
    if folded in lists["ordinal"]:
        return "ordinal"
    if any(char.isdigit() for char in folded):
        return "number" if folded[0].isdigit() else "name"  # X3, E4
    if root in lists["time"] and not (folded == "may" and not capital):
        return "time"
    if capital and not (language == "german" and _is_frame(folded, root, lists, language)) and folded != "i":
        return "relational" if root in lists["relational"] else "name"
    return _small_role(folded, root, before, lists, language)


def _small_role(folded: str, root: str, before: Sequence[Word], lists: Lists, language: str) -> Role:
    """The role of a word that is no name, ordinal, number or time."""
    previous = before[-1] if before else None
    # how long, wie lange: what is asked for, not about whom
    if _is_frame(folded, root, lists, language) or (previous and previous.folded in lists["degree"]):
        return "frame"
    if _is_adjective(folded, root, lists):
        return "adjective"
    # German writes its nouns with a capital; who begins without one is taken not to care.
    if language == "german" and before and before[0].text[0].isupper():
        return "verb"
    if root in lists["verb"] and _stands_as_verb(previous, lists):
        return "verb"
    asks_what_one_does = len(before) > 1 and before[-1].folded in lists["subject"]
    if asks_what_one_does and before[-2].folded in lists["aux"] - lists["be"]:
        return "verb"  # how do I …, can they …
    if root in lists["relational"]:
        return "relational"
    if language == "english" and previous and regex.search(r"[^e]ed$", folded) and _stands_as_verb(previous, lists):
        return "verb"
    return "noun"


def _is_frame(folded: str, root: str, lists: Lists, language: str) -> bool:
    return any(folded in lists[kind] for kind in _FRAME) or root in function_words(language)


def _is_adjective(folded: str, root: str, lists: Lists) -> bool:
    if root in lists["adjective"] or folded in lists["adjective"] or folded.split("-")[0] in lists["adjective"]:
        return True
    base = regex.sub(r"(?:e?st(?:e[nrs]?)?|er(?:e[nrs]?)?)$", "", folded)
    if base == folded:
        return False
    forms = {base, base + "e", regex.sub(r"i$", "y", base), regex.sub(r"(.)\1$", r"\1", base)}
    return bool(forms & lists["adjective"])


def _stands_as_verb(previous: Word | None, lists: Lists) -> bool:
    """Behind a noun, a pronoun, a question word or "to"; behind an article or a preposition it is a noun."""
    if previous is None:
        return False
    if previous.role != "frame":
        return previous.role not in ("adjective", "ordinal")
    before_noun = (lists[kind] for kind in ("det", "prep", "set", "opener"))
    return previous.folded in ("to", "one", "ones") or not any(previous.folded in words for words in before_noun)


def noun_phrases(text: str, words: Sequence[Word]) -> list[list[Word]]:
    """Runs of neighbouring names, numbers, nouns and the adjectives before them, each with a noun, name or number."""
    runs: list[list[Word]] = []
    for index, word in enumerate(words):
        if word.role not in ("noun", "name", "number", "relational", "adjective", "ordinal"):
            continue
        joined = index > 0 and runs and runs[-1][-1] is words[index - 1]
        if joined and text[words[index - 1].end : word.start].isspace() and not _ends(runs[-1][-1], word):
            runs[-1].append(word)
        else:
            runs.append([word])
    return [run for run in runs if any(word.role in ("noun", "name", "number", "relational") for word in run)]


def _ends(last: Word, word: Word) -> bool:
    """An adjective behind a noun begins something new: "the ferry free"."""
    return word.role in ("adjective", "ordinal") and last.role not in ("adjective", "ordinal")


def same_words(words: Sequence[Word]) -> frozenset[str]:
    """The stems of the content words, for comparison."""
    return frozenset(word.stem for word in words if word.role in CONTENT)
