"""Whether two sentences give different answers to a question: another number, date, time or name, or a negation.

By words alone (English and German), and careful: two sentences on different things are no contradiction, and where that
can't be told, none is seen. So sentences that are worded very differently are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import regex

from fourcorners.grounding.answer_type import answer_type
from fourcorners.grounding.statement import Statement, Token, language_of, read, related
from fourcorners.grounding.values import Value
from fourcorners.grounding.words import stem, word_class

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
_IMPLIED = {
    "time": "time date year month day hour start when zeit datum jahr uhr",
    "money": "cost price fee charge fare rate pay much kosten kostet preis gebuhr eintritt",
    "weight": "weigh weight heavy wiegt wiegen schwer gewicht",
    "extent": "long last take length far distance tall high height deep depth wide width dauert dauern lang lange",
    "degrees": "hot cold warm temperature degree heiss",
    "number": "number many size age old anzahl",
    "share": "percent percentage share proportion",
    "name": "name",
    "place": "place city town country street ort stadt",
}
"""Words of a question that a sentence with such a value need not repeat."""
_LISTED = regex.compile(
    r"\bwho (?:else|are|were|works?|worked|lives?|lived|plays?|played|attend\w*|visit\w*|speaks?|stud\w+"
    r"|votes?|can|may)\b|\b(?:an?|any|some) ",
    regex.I,
)
"""Questions that several people may be the answer to."""
_COPULAS = word_class("copulas")
_MAX_EXTRAS = 6


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
    if not _on_the_same_thing(kind, asked, a, b, around):
        return None
    if a.denies == b.denies and (found := _of_values(asked, kind, a, b)):
        return found
    if a.denies == b.denies and (found := _of_names(asked, kind, a, b)):
        return found
    return _of_polarity(a, b)


def _asked(question: str) -> str | None:
    german = (kind for pattern, kind in _GERMAN_KINDS if pattern.search(question))
    return answer_type(question) or next(german, None)


def _on_the_same_thing(
    kind: str | None, question: Statement, a: Statement, b: Statement, contexts: tuple[Statement, Statement]
) -> bool:
    """Whether both speak of what the question names, under the same conditions and at the same time."""
    implied = _implied(kind)
    content = [token for token in question.tokens if token.is_content]
    asked = [token for token in content if token.stem not in implied] or content
    own = [{token.stem for token in asked if _covered(token, one)} for one in (a, b)]
    whole = [
        mine | {token.stem for token in asked if _covered(token, context)}
        for mine, context in zip(own, contexts, strict=True)
    ]
    if whole[0] != whole[1] or not own[0] | own[1]:
        return False
    if a.conditional != b.conditional or (kind not in ("time", "name") and a.past != b.past):
        return False
    stems = {token.stem for token in asked}
    extras = [_extras(one, other, stems | implied, with_names=kind != "name") for one, other in ((a, b), (b, a))]
    for mine, missing, one in ((extras[0], own[1] - own[0], a), (extras[1], own[0] - own[1], b)):
        if missing and mine:
            return False  # it may be about something else than the other, which names it
        if len(mine) > _MAX_EXTRAS or _told_apart(one, mine, stems):
            return False
    return not (extras[0] and extras[1]) or (len(asked) > 1 and own[0] == own[1] == stems)


def _covered(asked: Token, one: Statement) -> bool:
    """Whether the sentence has that word, one like it, or its opposite."""
    return related(asked.stem, one.stems) or (
        asked.folded in _opposites() and _opposites()[asked.folded][0] in _members(one)
    )


def _extras(one: Statement, other: Statement, asked: Collection[str], *, with_names: bool) -> list[int]:
    """The tokens of ``one`` that neither the other sentence nor the question has; values and opposites aside."""
    return [
        index
        for index, token in enumerate(one.tokens)
        if token.is_content
        and (with_names or not token.is_name)
        and token.folded not in _opposites()
        and not related(token.stem, other.stems)
        and not related(token.stem, asked)
    ]


def _told_apart(one: Statement, extras: Sequence[int], asked: Collection[str]) -> bool:
    """Whether an extra word says *which* thing is meant: "night ferry", "ticket for children", "in Lyon the museum"."""
    subject = [i for i, token in enumerate(one.tokens) if token.is_content and related(token.stem, asked)]
    for index in extras:
        token = one.tokens[index]
        if token.is_harmless:
            continue
        if one.touching(index - 1, index) and index - 1 in subject and one.tokens[index - 1].is_noun_like:
            return True
        if one.touching(index, index + 1) and index + 1 in subject:
            return True
        lead = one.lead_in(index)
        if lead is not None and (lead in _CHOOSING or (lead in _PLACING and index < min(subject, default=0))):
            return True
        if lead in _PLACING and one.before_lead(index) in subject and one.tokens[one.before_lead(index)].is_noun_like:
            return True
    return False


_CHOOSING, _PLACING = word_class("choosing"), word_class("placing")


def _of_values(question: Statement, kind: str | None, a: Statement, b: Statement) -> Conflict | None:
    mine, theirs = _by_kind(a), _by_kind(b)
    wanted = _ASKED_VALUES.get(kind or "")
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
    said, denied = _members(a), _members(b)
    if any(not said[number] & denied[number] for number in said.keys() & denied.keys()):
        return False
    season = _opposites()["winter"][0]
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
    if kind != "name" and not all(_by_copula(one, run[0]) for one, run in ((a, here), (b, there))):
        return None
    return Conflict("name", _run_around(a, here[0]), _run_around(b, there[0]))


def _names_apart(question: Statement, a: Statement, b: Statement) -> tuple[list[Token], list[Token]]:
    """The names that only one of the two has, the question's aside."""
    known = {token.folded for token in question.tokens}
    words = [{token.folded for token in one.tokens} | known for one in (a, b)]
    here = [token for token in a.names() if token.folded not in words[1]]
    return here, [token for token in b.names() if token.folded not in words[0]]


def _by_copula(one: Statement, name: Token) -> bool:
    """Whether only a form of "be" (and little words) stands between the name and the rest: "the capital is Lyon"."""
    at = one.tokens.index(name)
    run = range(len(one.tokens))
    before, after = at - 1, at + 1
    while before in run and (one.tokens[before].is_name or not one.tokens[before].is_content):
        if one.tokens[before].folded in _COPULAS:
            return True
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
    mine, theirs = _members(a), _members(b)
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
    return [t for t in _unmatched(one, other) if t.folded not in _opposites() and not t.is_harmless]


def _agree(mine: Sequence[Value], theirs: Sequence[Value]) -> bool:
    return all(
        any(value.agrees_with(other) for other in theirs if other.kind == value.kind)
        for value in mine
        if any(other.kind == value.kind for other in theirs)
    )


def _members(one: Statement) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for token in one.tokens:
        if token.folded in _opposites():
            name, member = _opposites()[token.folded]
            found.setdefault(name, set()).add(member)
    return found


def _core(one: Statement) -> Offsets:
    """The sentence without its final mark."""
    return one.tokens[0].start, one.tokens[-1].end


def _implied(kind: str | None) -> frozenset[str]:
    words = _IMPLIED.get(kind or "", "").split()
    return frozenset(stem(word, language) for word in words for language in ("english", "german"))


@cache
def _opposites() -> dict[str, tuple[int, int]]:
    lines = files(__package__).joinpath("opposites.txt").read_text("utf-8").splitlines()
    classes: Iterable[str] = (line for line in lines if line and not line.startswith("#"))
    return {
        word: (number, member)
        for number, line in enumerate(classes)
        for member, words in enumerate(line.split("|"))
        for word in words.split()
    }
