"""Whether two sentences give different answers to a question: another number, date, time or name, or a negation.

By words alone (English and German), and careful: two sentences on different things are no contradiction, and where that
can't be told, none is seen. So sentences that are worded very differently are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import regex

from fourcorners.grounding.answer_type import answer_type
from fourcorners.grounding.same_thing import members, on_the_same_thing, opposites
from fourcorners.grounding.statement import Statement, Token, language_of, read, related
from fourcorners.grounding.values import Value
from fourcorners.grounding.words import word_class

Offsets = tuple[int, int]

_GERMAN_KINDS = (
    (regex.compile(r"\bwie (?:viele|oft)\b", regex.I), "number"),
    (regex.compile(r"\bwas kostet\b|\bwie (?:viel|teuer)\b|\bpreis\b|\bgebühr\b", regex.I), "money"),
    (regex.compile(r"\bwie (?:lange|weit|hoch|tief|breit|groß)\b", regex.I), "extent"),
    (regex.compile(r"\bwie schwer\b", regex.I), "weight"),
    (regex.compile(r"\bwann\b|\bseit wann\b|\bin welchem jahr\b|\bum wie viel uhr\b", regex.I), "time"),
    (regex.compile(r"\bwer\b|\bwem\b|\bwen\b|\bwessen\b", regex.I), "name"),
    (regex.compile(r"\bwo\b|\bwelche stadt\b|\bin welche[rm] (?:stadt|land|ort)\b", regex.I), "place"),
)
_ASKED_VALUES = {
    "time": ("clock", "date", "weekday", "weekdays", "duration"),
    "money": ("money", "cent", "number", "percent", "volume", "mass"),
    "number": ("number", "percent", "clock", "duration", "length", "mass", "speed", "volt", "power", "bytes"),
    "weight": ("mass",),
    "extent": ("duration", "length"),
    "degrees": ("degrees",),
    "share": ("percent", "number"),
    "frequency": ("duration", "number"),
}
_LISTED = regex.compile(
    r"\bwho (?:else|are|were|works?|worked|lives?|lived|plays?|played|attend\w*|visit\w*|speaks?|stud\w+"
    r"|votes?|can|may)\b|\b(?:an?|any|some) ",
    regex.I,
)
"""Questions that several people may be the answer to."""
_RECURRING = regex.compile(r"\bdid\b.*\b(?:visit|travel|play|win|speak|meet|perform|attend|stay|go)\b", regex.I)
"""What somebody may have done at several times."""
_COPULAS = word_class("copulas")


@dataclass(frozen=True, slots=True)
class Conflict:
    """The characters in which each of two sentences says what the other denies."""

    kind: str
    first: Offsets
    second: Offsets


def contradiction(
    question: str, first: str, second: str, *, first_context: str = "", second_context: str = ""
) -> Conflict | None:
    """Where ``first`` and ``second`` answer ``question`` differently; None where they agree or speak of other things.

    The contexts are what gives the sentences their subject: headings, the document's first sentence. About 0.2 ms.
    """
    if first == second or first.rstrip().endswith("?") or second.rstrip().endswith("?"):
        return None
    language = language_of(question, first, second)
    asked, a, b = read(question, language), read(first, language), read(second, language)
    kind = _asked(question)
    around = read(first_context, language), read(second_context, language)
    if not on_the_same_thing(kind, asked, a, b, around):
        return None
    if a.denies == b.denies and (found := _of_values(asked, kind, a, b)):
        return found
    if a.denies == b.denies and (found := _of_names(asked, kind, a, b)):
        return found
    return _of_polarity(a, b)


def _asked(question: str) -> str | None:
    german = (kind for pattern, kind in _GERMAN_KINDS if pattern.search(question))
    return answer_type(question) or next(german, None)


def _of_values(question: Statement, kind: str | None, a: Statement, b: Statement) -> Conflict | None:
    mine, theirs = _by_kind(a), _by_kind(b)
    wanted = _ASKED_VALUES.get(kind or "")
    if kind == "time" and _RECURRING.search(question.text):
        return None
    for name in mine:
        if name not in theirs or kind in ("name", "place", "reason"):
            continue
        if (wanted is not None and name.split()[0] not in wanted) or (name == "weekdays" and "clock" in mine):
            continue
        pair = _differing(mine[name], theirs[name])
        if pair is not None and _same_circumstances(name, a, b) and not all(_names_apart(question, a, b)):
            return Conflict(name, *((value.start, value.end) for value in pair))
    return _free_or_not(kind, a, b)


def _by_kind(one: Statement) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for value in one.values:
        name = value.kind
        if name == "number" and (counted := one.counted(value)):
            name = f"number {counted}"
        elif name == "weekday" and one.recurs(value):
            name = "weekdays"
        found.setdefault(name, []).append(value)
    return found


def _differing(mine: Sequence[Value], theirs: Sequence[Value]) -> tuple[Value, Value] | None:
    """The first two that can't both hold; where both name several, each must have its like."""
    lonely = [value for value in mine if not any(map(value.agrees_with, theirs))]
    others = [value for value in theirs if not any(map(value.agrees_with, mine))]
    if not lonely or not others:
        return None
    in_part = len(lonely) < len(mine) or len(others) < len(theirs)
    if in_part and not (lonely[0].kind == "clock" and len(mine) == len(theirs) == 2):
        return None  # which of them is asked for can't be told; but of two opening hours one may be enough
    return lonely[0], others[0]


def _same_circumstances(name: str, a: Statement, b: Statement) -> bool:
    """What holds on Sundays, since May or in winter does not contradict what holds else."""
    said, denied = members(a), members(b)
    if any(not said[number] & denied[number] for number in said.keys() & denied.keys()):
        return False
    season = opposites()["winter"][0]
    if (season in said) != (season in denied):
        return False
    if name in ("date", "weekday"):
        return True
    mine, theirs = _by_kind(a), _by_kind(b)
    for qualifier in ("date", "weekday", "weekdays"):
        here, there = mine.get(qualifier, []), theirs.get(qualifier, [])
        if qualifier == name:
            continue
        if bool(here) != bool(there) or (here and _differing(here, there) is not None):
            return False
    return True


_FREE = regex.compile(r"\b(?:free|gratis|kostenlos|kostenfrei)\b(?! of (?!charge))", regex.I)


def _free_or_not(kind: str | None, a: Statement, b: Statement) -> Conflict | None:
    if kind not in ("money", None):
        return None
    spans: list[Offsets] = []
    free: list[bool] = []
    for one in (a, b):
        price = next((v for v in one.values if v.kind.startswith("money") and v.intervals[0][0] > 0), None)
        match = _FREE.search(one.text)
        if (price is None) == (match is None):
            return None
        spans.append((price.start, price.end) if price else match.span() if match else (0, 0))
        free.append(price is None)
    return Conflict("money", *spans) if free[0] != free[1] else None


def _of_names(question: Statement, kind: str | None, a: Statement, b: Statement) -> Conflict | None:
    """Another name in the same place: only where there can be but one."""
    if kind not in ("name", "place", None) or _LISTED.search(question.text):
        return None
    here, there = _names_apart(question, a, b)
    if not here or not there:
        return None
    asked = question.stems
    if kind != "name" and not all(_by_copula(one, run[0], asked) for one, run in ((a, here), (b, there))):
        return None
    return Conflict("name", _run_around(a, here[0]), _run_around(b, there[0]))


def _names_apart(question: Statement, a: Statement, b: Statement) -> tuple[list[Token], list[Token]]:
    """The names that only one of the two has, the question's aside."""
    known = {token.folded for token in question.tokens}
    words = [{token.folded for token in one.tokens} | known for one in (a, b)]
    here = [token for token in a.names() if token.folded not in words[1]]
    return here, [token for token in b.names() if token.folded not in words[0]]


def _by_copula(one: Statement, name: Token, asked: Collection[str]) -> bool:
    """Whether only a form of "be", little words or the question's own tie the name to the rest: "the seat is Lyon"."""
    at = one.tokens.index(name)
    run = range(len(one.tokens))
    before, after = at - 1, at + 1
    while before in run:
        token = one.tokens[before]
        if token.folded in _COPULAS:
            return True
        if token.is_content and not token.is_name and not related(token.stem, asked):
            break
        before -= 1
    while after in run and one.tokens[after].is_name:
        after += 1
    return after in run and one.tokens[after].folded in _COPULAS


def _run_around(one: Statement, token: Token) -> Offsets:
    """The whole name that ``token`` is part of."""
    first = last = one.tokens.index(token)
    while first > 0 and one.tokens[first - 1].is_name and one.touching(first - 1, first):
        first -= 1
    while last + 1 < len(one.tokens) and one.tokens[last + 1].is_name and one.touching(last, last + 1):
        last += 1
    return one.tokens[first].start, one.tokens[last].end


def _of_polarity(a: Statement, b: Statement) -> Conflict | None:
    """A negation that the other lacks, or an opposite; nothing else may be different."""
    mine, theirs = members(a), members(b)
    shared = [name for name in mine if name in theirs]
    opposed = [name for name in shared if not mine[name] & theirs[name]]
    if len(opposed) > 1 or bool(opposed) == (a.denies != b.denies):
        return None
    if not opposed and set(mine) != set(theirs):
        return None
    if any(token.is_content and token.is_name for one in (a, b) for token in _unmatched(one, b if one is a else a)):
        return None
    if not _agree(a.values, b.values) or _loose(a, b) or _loose(b, a):
        return None
    return Conflict("negation" if not opposed else "opposite", _core(a), _core(b))


def _unmatched(one: Statement, other: Statement) -> list[Token]:
    return [t for t in one.tokens if t.is_content and not related(t.stem, other.stems)]


def _loose(one: Statement, other: Statement) -> list[Token]:
    return [t for t in _unmatched(one, other) if t.folded not in opposites() and not t.is_harmless]


def _agree(mine: Sequence[Value], theirs: Sequence[Value]) -> bool:
    return all(
        any(value.agrees_with(other) for other in theirs if other.kind == value.kind)
        for value in mine
        if any(other.kind == value.kind for other in theirs)
    )


def _core(one: Statement) -> Offsets:
    """The sentence without its final mark."""
    return one.tokens[0].start, one.tokens[-1].end
