"""What a sentence says that must not be changed: its words, facts, names, negations, clause by clause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import regex

from fourcorners.grounding.cues import cues
from fourcorners.grounding.dates import date_words
from fourcorners.grounding.quantities import Fact, facts_in
from fourcorners.grounding.words import base_forms, fold, function_words, stem

_WORD = regex.compile(
    r"(?i:non|un|re|anti|pre|post|ex|dis)[-‐‑]\p{L}[\p{L}\p{M}]*|[\p{L}\p{N}][\p{L}\p{M}\p{N}\u200c\u200d]*(?:[-‐‑](?:in|out|off|up|down|on|over|away|back)(?![\p{L}\p{N}]))?"
)
_CUT = regex.compile(r"[,;()–—\n]|\s-\s")
_SENTENCE_BREAK = regex.compile(r"[.!?;\n]")
_CLITIC_NOT = regex.compile(r"(?<=n)['’]t(?!\p{L})", regex.I)
_OPENING = regex.compile(r"[.!?:;\n\"“„«(|*#>‘•]")


@dataclass(frozen=True, slots=True)
class Token:
    """A word at ``start`` to ``end`` of its text; ``fact`` is the index of the fact that it is part of, or -1.

    ``opens``: it begins a sentence, quote or item, so that its capital tells nothing.
    """

    text: str
    fold: str
    stem: str
    start: int
    end: int
    content: bool
    opens: bool
    fact: int = -1

    @property
    def capital(self) -> bool:
        """Whether it is written like a name."""
        return self.text[0].isupper() or any(char.isupper() for char in self.text[1:])


@dataclass(frozen=True)
class Clause:
    """Tokens and facts between two clause borders."""

    tokens: tuple[Token, ...]
    facts: tuple[Fact, ...]
    relative: bool = False

    @cached_property
    def stems(self) -> frozenset[str]:
        """Stems of the content words."""
        return frozenset(token.stem for token in self.tokens if token.content)

    @cached_property
    def negations(self) -> tuple[int, ...]:
        """Places in ``tokens`` of the words that negate; "not only" does not."""
        return tuple(_negations(self.tokens))

    @cached_property
    def excepts(self) -> bool:
        """Whether it is introduced by without, except, unless."""
        return any(token.fold in cues("exceptions") for token in self.tokens)

    @cached_property
    def own_subject(self) -> Token | None:
        """The first content word, where the clause begins like one that has a subject of its own."""
        first = next((t for t in self.tokens if t.fold not in cues("breaks") or t.fold in cues("determiners")), None)
        content = next((token for token in self.tokens if token.content), None)
        if first is None or content is None or (self.facts and self.facts[0].start < content.start):
            return None
        return content if first.fold in cues("determiners") or first.capital or content.opens else None


@dataclass(frozen=True)
class Claims:
    """A sentence taken apart. ``language`` is a Snowball name, "" where it is not known."""

    text: str
    language: str
    facts: tuple[Fact, ...] = field(default=())
    tokens: tuple[Token, ...] = field(default=())

    @cached_property
    def content(self) -> tuple[Token, ...]:
        """Its content words."""
        return tuple(token for token in self.tokens if token.content)

    @cached_property
    def stems(self) -> frozenset[str]:
        """Stems of all its words."""
        return frozenset(token.stem for token in self.tokens)

    @cached_property
    def folds(self) -> frozenset[str]:
        """All its words, folded."""
        return frozenset(token.fold for token in self.tokens)

    @cached_property
    def anaphoric(self) -> bool:
        """Whether its subject is said before it: a pronoun is among its first words."""
        first = self.tokens[:1] and self.tokens[0].fold in ("that", "das")
        return bool(first) or any(token.fold in cues("pronouns") for token in self.tokens[:4])

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """Its clauses in order; one without content words and facts is part of the next."""
        return tuple(_clauses(self))

    @cached_property
    def names(self) -> tuple[Token, ...]:
        """Words written like names where a capital tells something."""
        return tuple(
            t for t in self.content if t.capital and not t.opens and t.fold not in cues("titles") and t.fact < 0
        )

    @cached_property
    def first_word(self) -> Token | None:
        """The content word, if any, that stands where every word has a capital."""
        return next((token for token in self.content if token.opens and token.capital and token.fact < 0), None)


def claims_of(text: str, language: str) -> Claims:
    """Take ``text`` apart. About 0.2 ms for a sentence."""
    facts = tuple(facts_in(text, language))
    return Claims(text, language, facts, tuple(_tokens(text, language, facts)))


def _tokens(text: str, language: str, facts: Sequence[Fact]) -> Iterator[Token]:
    unimportant = function_words(language) | function_words("english") if language else function_words("english")
    place = 0
    previous, previous_end = "", 0
    for match in _WORD.finditer(text):
        while place < len(facts) and facts[place].end <= match.start():
            place += 1
        fact = place if place < len(facts) and facts[place].start < match.end() else -1
        folded = fold(regex.sub("[-‐‑]", "", match.group()))
        gap = text[previous_end : match.start()]
        opens = not previous or (
            _OPENING.search(gap) is not None
            and not (
                gap.rstrip() == "."
                and (previous in cues("titles") or previous in cues("abbreviations") or len(previous) == 1)
            )
        )
        stemmed = stem(folded, language or "english")
        light = folded in cues("light") or stemmed in _light_stems()
        content = fact < 0 and not light and stemmed not in unimportant and folded not in _special()
        content = content and not _CLITIC_NOT.match(text, match.end())  # "isn't", "doesn't"
        if len(folded) == 1 and fact < 0:
            content = match.group().isupper() and not opens and folded != "i"  # "Model M"
        yield Token(match.group(), folded, stemmed, match.start(), match.end(), content, opens, fact)
        previous, previous_end = folded, match.end()


def _clauses(claims: Claims) -> Iterator[Clause]:
    runs: list[list[Token]] = []
    previous: Token | None = None
    for place, token in enumerate(claims.tokens):
        gap = claims.text[previous.end : token.start] if previous else ""
        inside = token.fact >= 0 and previous is not None and previous.fact == token.fact
        comma = _CUT.search(gap) is not None
        breaks = token.fold in cues("breaks") and (comma or token.fold not in cues("unsure_breaks"))
        between = token.fold in cues("joining") and _between_facts(claims, place)
        if not runs or (
            not inside and not between and (comma or breaks or (token.opens and _SENTENCE_BREAK.search(gap)))
        ):
            runs.append([])
        runs[-1].append(token)
        previous = token
    merged: list[list[Token]] = [[]]
    for run in runs:
        merged[-1].extend(run)
        leading = run is runs[0] and not any(token.content for token in run)  # "In 2022, …"
        if any(token.content or token.fact >= 0 for token in merged[-1]) and run is not runs[-1] and not leading:
            merged.append([])
    if len(merged) > 1 and not any(token.content or token.fact >= 0 for token in merged[-1]):
        merged[-2].extend(merged.pop())
    for run in filter(None, merged):
        relative = run[0].fold in cues("relatives") or (
            run[0].fold in {"der", "die", "das", "that"} and run is not merged[0] and claims.language == "german"
        )
        yield Clause(tuple(run), tuple(claims.facts[i] for i in sorted({t.fact for t in run if t.fact >= 0})), relative)


def _between_facts(claims: Claims, place: int) -> bool:
    """ "1580 and 1602", "5 or 6 kg"."""
    tokens = claims.tokens
    return 0 < place < len(tokens) - 1 and tokens[place - 1].fact >= 0 and tokens[place + 1].fact >= 0


def _negations(tokens: Sequence[Token]) -> Iterator[int]:
    for place, token in enumerate(tokens):
        following = tokens[place + 1].fold if place + 1 < len(tokens) else ""
        clitic = token.fold == "t" and place > 0 and tokens[place - 1].fold.endswith("n")
        elided = token.fold == "n" and following and token.text == "n"
        cue = token.fold in cues("negations") or token.fold in cues("forbidding") or clitic or elided
        if not cue or (token.fold == "not" and following == "only") or (token.fold == "nicht" and following == "nur"):
            continue
        if token.fold in ("no", "not", "nicht") and following in ("more", "less", "fewer", "later", "mehr", "weniger"):
            continue  # "no more than 5" bounds, and is compared as a bound
        if token.fold in ("pas", "jamais", "rien", "aucun", "aucune", "guere") and any(
            t.fold in ("ne", "n") for t in tokens[:place]
        ):
            continue  # counted with "ne"
        if token.fold in ("nor", "ni") and any(t.fold in ("neither", "ni", "ne", "n") for t in tokens[:place]):
            continue  # "neither … nor" negates once
        if token.fold == "no" and following and tokens[place + 1].fact >= 0:
            continue  # "No. 5"
        yield place


@cache
def _special() -> frozenset[str]:
    """Words that rules of their own compare."""
    names = ("permissions", "negations", "exceptions", "forbidding", "titles")
    return date_words().union(*map(cues, names))


@cache
def _light_stems() -> frozenset[str]:
    light = cues("light")
    return frozenset(stem(word, name) for word in light for name in ("english", "german", "french")) | {
        stem(form, "english") for form, base in base_forms().items() if base in light
    }
