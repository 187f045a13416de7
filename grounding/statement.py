"""A sentence taken apart for comparison with another: its content words, values, names, and whether it denies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache

import regex

from fourcorners.grounding.values import NUMBER_WORDS, Value, values
from fourcorners.grounding.words import alike, fold, function_words, guess_language, stem, word_class, word_families

_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)?|\p{N}+")
_NEGATORS = word_class("negators")
_PRESENT, _PAST = word_class("present"), word_class("past")
_PREPOSITIONS = word_class("choosing") | word_class("placing")
_ARTICLES = word_class("articles")
_NO_DENIAL = regex.compile(
    r"\b(?:not only|nicht nur|no\.? ?\d|(?:no|not|nicht) (?:later|more|less|fewer|mehr|weniger|spater) (?:than|als))\b"
    r"|\bno\.(?= ?\d)|(?:\b(?:not|nicht)|n['’]t)\b(?=[^.;]{0,40}\b(?:until|before|vor)\b)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word with its characters ``start`` to ``end``. Function words, negators and parts of values are no content."""

    start: int
    end: int
    folded: str
    stem: str
    is_content: bool
    is_capital: bool
    is_name: bool
    is_noun_like: bool
    is_counting: bool

    @property
    def is_harmless(self) -> bool:
        """Whether it says nothing about which thing is meant."""
        return self.folded in word_class("harmless") or self.folded.endswith("ly")


@dataclass(frozen=True)
class Statement:
    """A sentence in its parts; ``read`` makes one."""

    text: str
    tokens: tuple[Token, ...]
    values: tuple[Value, ...]
    denies: bool

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of its content words, names too."""
        return frozenset(token.stem for token in self.tokens if token.is_content)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(token.folded for token in self.tokens)

    @property
    def conditional(self) -> bool:
        """Whether it holds only under a condition."""
        return bool(self._words & word_class("conditions"))

    @property
    def past(self) -> bool:
        """Whether it tells what was."""
        if self._words & _PRESENT:
            return False
        return bool(self._words & _PAST) or any(t.is_content and t.folded.endswith("ed") for t in self.tokens)

    def names(self) -> list[Token]:
        """The words that belong to names, as far as capital letters tell."""
        return [token for token in self.tokens if token.is_name]

    def touching(self, first: int, second: int) -> bool:
        """Whether two neighbouring tokens have nothing but a space or hyphen between them."""
        if not 0 <= first < second < len(self.tokens):
            return False
        between = self.text[self.tokens[first].end : self.tokens[second].start]
        return between in ("", " ", "-", "\u00a0", "\n", ". ") and (between != ". " or self.tokens[first].is_name)

    def lead_in(self, index: int) -> str | None:
        """The preposition of the phrase that token ``index`` stands in: "for" in "for all our members"."""
        at = self._lead_index(index)
        return self.tokens[at].folded if at >= 0 else None

    def before_lead(self, index: int) -> int:
        """The token before that preposition; -1 where there is none."""
        return self._lead_index(index) - 1 if self._lead_index(index) > 0 else -1

    def _lead_index(self, index: int) -> int:
        for at in range(index - 1, max(-1, index - 5), -1):
            if not self.touching(at, at + 1):
                return -1
            if self.tokens[at].folded in _PREPOSITIONS:
                return at
            if self.tokens[at].folded not in _ARTICLES and not self.tokens[at].is_counting:
                return -1
        return -1

    def counted(self, value: Value) -> str | None:
        """The stem of what a bare number counts: "bike" in "40 bikes"."""
        behind = next((token for token in self.tokens if token.start >= value.end), None)
        if behind is None or not behind.is_content or behind.is_harmless:
            return None
        return behind.stem if self.text[value.end : behind.start] in (" ", "-", "\u00a0") else None

    def recurs(self, value: Value) -> bool:
        """Whether a weekday comes round: "Mondays", "every Monday"."""
        word = fold(self.text[value.start : value.end])
        before = fold(self.text[max(0, value.start - 8) : value.start])
        return word.endswith("s") or regex.search(r"(?:every|each|jeden)\s*$", before) is not None


def language_of(*texts: str) -> str:
    """The language that they have together, English where that can't be told."""
    return guess_language([fold(match.group()) for text in texts for match in _WORD.finditer(text)]) or "english"


@lru_cache(maxsize=1024)
def read(text: str, language: str) -> Statement:
    """Take ``text`` apart; the last ones are kept."""
    found = tuple(values(text))
    matches = list(_WORD.finditer(text))
    inside = {at for value in found for at in range(value.start, value.end)}
    tokens: list[Token] = []
    for index, match in enumerate(matches):
        word = fold(match.group())
        stemmed, capital = stem(word, language), match.group()[0].isupper()
        content = (
            match.start() not in inside
            and stemmed not in function_words(language)
            and word not in _NEGATORS
            and word not in _PRESENT | _PAST
            and not word.endswith(("n't", "n’t"))
            and word not in NUMBER_WORDS
            and not word.isdecimal()
        )
        after = matches[index + 1] if index + 1 < len(matches) else None
        previous = tokens[-1] if tokens else None
        is_name = content and capital and _is_name(text, index, after, previous, language)
        noun_like = content and (previous is None or previous.folded in _ARTICLES | _PREPOSITIONS)
        tokens.append(
            Token(
                match.start(), match.end(), word, stemmed, content, capital, is_name, noun_like, match.start() in inside
            )
        )
    plain = _NO_DENIAL.sub(" ", fold_spaced(text))
    n_negators = sum(word in _NEGATORS or word.endswith(("n't", "n’t")) for word in regex.findall(r"[\w'’]+", plain))
    return Statement(text, tuple(tokens), found, n_negators % 2 == 1)


def fold_spaced(text: str) -> str:
    """``text`` folded, with single spaces."""
    return " ".join(fold(word) for word in text.split())


def related(one: str, others: Collection[str]) -> bool:
    """Whether a stem is among ``others``, or one much like it, or one of its family ("price", "fee")."""
    if one in others:
        return True
    family = word_families().get(one, frozenset())
    return any(other in family or alike(one, other) for other in others)


def _is_name(text: str, index: int, after: regex.Match[str] | None, previous: Token | None, language: str) -> bool:
    """By its capital letter; at the start of a sentence, and for German nouns, by its neighbours too."""
    if index == 0:
        if after is None:
            return False
        return after.group()[0].isupper() or fold(after.group()) in ("is", "was", "ist", "war")
    if language == "german" and previous is not None:
        return previous.is_name or previous.folded in word_class("before_names") or (index == 1 and previous.is_capital)
    return True
