"""Numbers with their units, dates, times and codes in a text, as facts that can be compared whatever their notation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Literal

import regex

from fourcorners.grounding.bounds import Bound, bound_at
from fourcorners.grounding.dates import dates_in
from fourcorners.grounding.number_words import MAX_WORDS, ORDINALS, SCALES, spelled_number
from fourcorners.grounding.words import fold

Kind = Literal["number", "date", "clock", "weekday", "code"]
Unit = tuple[str, Decimal]

_CURRENCY = r"[$€£¥]|(?:USD|EUR|GBP|CHF|JPY)\b"
_GROUPS = r"\d{1,3}(?:[ \u00a0\u202f'’]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*"
_NUMBER = regex.compile(
    rf"(?P<currency>(?:{_CURRENCY})[ \u00a0]?)?(?P<sign>(?<=^|[\s(\[])[\-−–])?(?P<digits>{_GROUPS})"
    rf"(?P<ordinal>(?:st|nd|rd|th|ème|er)(?!\p{{L}}))?(?P<fraction>[½¼¾]|/\d+(?![\d/]))?"
)
_FRACTIONS = {"½": Decimal("0.5"), "¼": Decimal("0.25"), "¾": Decimal("0.75")}
_FRACTION_SIGN = regex.compile(r"[½¼¾]")
_UNIT = regex.compile(
    r"[ \u00a0\u202f\-‐‑]?(?P<unit>[%‰]|°(?:[CFK](?!\p{L}))?|US\$|[$€£¥Ω]|[\p{L}µ]+[²³23]?(?:/[\p{L}]+[²³23]?)?)"
    r"(?![\p{L}\p{N}])"
)
_RANGE_TAIL = regex.compile(r"\s?(?:[-–—]|to|and|or|bis|und|oder|à|et|ou)\s?$", regex.I)
_CODE = regex.compile(
    r"(?<![\p{L}\p{N}])(?<!\d[.,'’ \u00a0\u202f])(?:\S+@[\p{L}\p{N}.\-]+\p{L}|(?:https?://|www\.)[^\s,;)]*[\p{L}\p{N}/]"
    r"|\d+(?:\.\d+){2,}(?![\p{L}\p{N}])|0\d+(?![\p{L}\p{N}.,:]|\s?\d)"
    r"|(?=[\p{L}\p{N}]*\p{L})(?=[\p{L}\p{N}]*\p{N})[\p{L}\p{N}]+(?![\p{L}\p{N}]))"
)
_WORD = regex.compile(r"[\p{L}\p{M}]+")
_HALVES = {fold(w): Decimal("0.5") for w in ("half", "halb", "halbe", "halben", "halber", "demi", "demie")}
_TIMES = {"once": 1, "twice": 2, "einmal": 1, "zweimal": 2, "dreimal": 3, "thrice": 3}
_ONES = {"one", "ein", "eine", "einen", "einem", "einer", "eines", "un", "une", "a", "an", "single"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One number, date, time, weekday or code at ``start`` to ``end`` of its text.

    ``values`` are all that its notation may mean; ``unit`` is a dimension and a factor, None for a bare number.
    """

    kind: Kind
    start: int
    end: int
    text: str
    values: frozenset[tuple[str, object]]
    unit: Unit | None = None
    bound: Bound = ""

    @property
    def amounts(self) -> frozenset[Decimal]:
        """The plain numbers among the values."""
        return frozenset(value for name, value in self.values if name == "amount" and isinstance(value, Decimal))


def facts_in(text: str, language: str) -> list[Fact]:
    """All facts of ``text`` in order, none overlapping; ``language`` (a Snowball name) tells 1.000 from 1,000."""
    facts = [Fact(kind, start, end, text[start:end], values) for start, end, kind, values in dates_in(text)]  # type: ignore[arg-type]
    facts = _joined(facts, _codes(text))
    facts = _joined(facts, _digits(text, language))
    facts = _joined(facts, _spelled(text, language))
    return sorted(facts, key=lambda fact: fact.start)


def agrees(claim: Fact, given: Fact) -> bool:
    """Whether ``given`` says what ``claim`` says: the same value in the same unit, or the same less exactly put."""
    if claim.kind == "number":
        return _number_agrees(claim, given)
    if claim.kind != given.kind:
        return False
    if claim.kind == "date":
        return any(_date_within(mine, theirs) for _, mine in claim.values for _, theirs in given.values)
    if claim.kind == "clock":
        mine = _named(claim, "clock")
        theirs = _named(given, "clock") | (
            set() if _named(claim, "clock without half") else _named(given, "clock without half")
        )
        return bool(mine & theirs)
    return bool(claim.values & given.values)


def rivals(claim: Fact, given: Fact) -> bool:
    """Whether ``given`` could stand where ``claim`` stands and say something else."""
    if agrees(claim, given):
        return False
    if claim.kind == given.kind == "number":
        if _like_years(claim) != _like_years(given):
            return False
        return claim.unit is None or given.unit is None or claim.unit[0] == given.unit[0]
    return claim.kind == given.kind


def _like_years(fact: Fact) -> bool:
    return fact.unit is None and len(fact.text) == 4 and fact.text.isdecimal() and 1500 <= int(fact.text) <= 2100


def _number_agrees(claim: Fact, given: Fact) -> bool:
    if given.kind == "clock":
        return claim.unit is None and any(Decimal(h) in claim.amounts for h in _named(given, "hour"))  # type: ignore[arg-type]
    if given.kind == "date":
        parts = {part for _, value in given.values for part in (value[0], value[2]) if part is not None}  # type: ignore[index]
        return claim.unit in (None, ("ordinal", Decimal(1))) and any(Decimal(part) in claim.amounts for part in parts)
    if given.kind != "number":
        return False
    if claim.unit is None:
        return bool(claim.amounts & given.amounts)
    if given.unit is None or claim.unit[0] != given.unit[0]:
        return False
    mine = {amount * claim.unit[1] for amount in claim.amounts}
    return bool(mine & {amount * given.unit[1] for amount in given.amounts})


def _date_within(claimed: object, given: object) -> bool:
    assert isinstance(claimed, tuple)
    assert isinstance(given, tuple)
    return all(mine is None or mine == theirs for mine, theirs in zip(claimed, given, strict=True))


def _named(fact: Fact, name: str) -> set[object]:
    return {value for key, value in fact.values if key == name}


def _joined(facts: list[Fact], more: Sequence[Fact]) -> list[Fact]:
    return facts + [one for one in more if not any(one.start < f.end and f.start < one.end for f in facts)]


def _codes(text: str) -> list[Fact]:
    found = []
    for match in _CODE.finditer(text):
        literal = fold(match.group())
        number = _NUMBER.match(text, match.start())
        if number and number["ordinal"] and number.end() == match.end():
            continue
        if number and number.end() < match.end():
            tail = text[number.end() : match.end()]
            if tail in _unit_table() or fold(tail) in _unit_table():
                continue  # "5kg"
        found.append(Fact("code", match.start(), match.end(), match.group(), frozenset({("code", literal)})))
    return found


def _digits(text: str, language: str) -> list[Fact]:
    found: list[Fact] = []
    for match in _NUMBER.finditer(text):
        amounts = _amounts(match["digits"], language)
        if match["fraction"] in _FRACTIONS:
            amounts = {amount + _FRACTIONS[match["fraction"]] for amount in amounts}
        elif match["fraction"] and (below := int(match["fraction"][1:])):
            amounts = {amount / below for amount in amounts}
        if match["sign"]:
            amounts = {-amount for amount in amounts}
        end, scale = _scale_after(text, match.end())
        unit_end, unit = _unit_after(text, end)
        if match["ordinal"]:
            unit_end, unit = end, ("ordinal", Decimal(1))
        elif match["currency"]:
            unit_end, unit = end, _unit_table()[match["currency"].strip()]
        found.append(_number(text, match.start(), unit_end, {amount * scale for amount in amounts}, unit))
    for match in _FRACTION_SIGN.finditer(text):
        end, unit = _unit_after(text, match.end())
        found = _joined(found, [_number(text, match.start(), end, {_FRACTIONS[match.group()]}, unit)])
    return _with_shared_units(text, found)


def _amounts(digits: str, language: str) -> set[Decimal]:
    """What digits with separators may mean: "1.234,5" tells by itself, "1.234" by the language."""
    plain = regex.sub(r"[ \u00a0\u202f'’]", "", digits)
    separators = [char for char in plain if char in ".,"]
    if not separators:
        return {Decimal(plain)}
    last = separators[-1]
    whole, _, rest = plain.rpartition(last)
    if len(set(separators)) == 2:
        return {Decimal(regex.sub(r"[.,]", "", whole) + "." + rest)}
    if len(separators) > 1:
        return {Decimal(plain.replace(last, ""))}
    grouped = len(rest) == 3 and 1 <= len(whole) <= 3 and whole != "0"
    if grouped and (last == ",") == (language in ("english", "")):
        return {Decimal(whole + rest)}
    return {Decimal(f"{whole}.{rest}")}


def _spelled(text: str, language: str) -> list[Fact]:
    words = [(match.start(), match.end(), fold(match.group())) for match in _WORD.finditer(text)]
    found: list[Fact] = []
    place = 0
    while place < len(words):
        fact, taken = _spelled_at(text, words[place : place + 3 * MAX_WORDS], language)
        if fact is not None:
            found.append(fact)
        place += taken
    return _with_shared_units(text, found)


def _spelled_at(text: str, words: Sequence[tuple[int, int, str]], language: str) -> tuple[Fact | None, int]:
    start, end, word = words[0]
    if word in _HALVES and not (len(words) > 1 and words[1][2] in ("past", "board")):
        tail = regex.match(r"\s+(?:an?|of an?|of the|une?|de)\b", text, pos=end)
        unit_end, unit = _unit_after(text, tail.end() if tail else end)
        return _number(text, start, unit_end, {_HALVES[word]}, unit), 1
    if word in _TIMES:
        return _number(text, start, end, {Decimal(_TIMES[word])}, ("times", Decimal(1))), 1
    run = [words[0]]
    for one in words[1:]:
        if regex.fullmatch(r"[ \u00a0\-‐‑]", text[run[-1][1] : one[0]]) is None:
            break
        run.append(one)
    spelled = spelled_number([w for *_, w in run], language)
    if spelled is not None:
        value, n = spelled
        unit_end, unit = _unit_after(text, run[n - 1][1])
        return _number(text, start, unit_end, {value}, unit), n
    if word in ORDINALS:
        return _number(text, start, end, {Decimal(ORDINALS[word])}, ("ordinal", Decimal(1))), 1
    if word in _ONES:
        unit_end, unit = _unit_after(text, end)
        if unit is not None and unit[0] not in ("degree", "in") and unit_end - end > 3:
            return _number(text, start, unit_end, {Decimal(1)}, unit), 1
    return None, 1


def _number(text: str, start: int, end: int, amounts: set[Decimal], unit: Unit | None) -> Fact:
    values = frozenset(("amount", amount.normalize()) for amount in amounts)
    return Fact("number", start, end, text[start:end], values, unit, bound_at(text, start, end))


def _scale_after(text: str, end: int) -> tuple[int, Decimal]:
    match = regex.match(r"[ \u00a0\-]?([\p{L}]+)\.?", text, pos=end)
    scale = SCALES.get(fold(match[1])) if match else None
    if match is None or scale is None or (scale < 1000 and scale != 12):
        return end, Decimal(1)
    return match.end(1), scale


def _unit_after(text: str, end: int) -> tuple[int, Unit | None]:
    """The unit that follows a number; "square metres" and "per cent" are two words."""
    match = _UNIT.match(text, end)
    if match is None:
        return end, None
    table, name = _unit_table(), match["unit"]
    two = regex.match(r"[ \u00a0]([\p{L}]+)", text, pos=match.end())
    if two and (pair := table.get(fold(f"{name}_{two[1]}"))):
        return two.end(), pair
    unit = table.get(name) or (table.get(fold(name)) if len(name) > 2 else None)
    if name in ("in", "an") and text[end : end + 1] in (" ", "\u00a0"):
        unit = None  # words first, units second
    return (match.end(), unit) if unit else (end, None)


def _with_shared_units(text: str, facts: list[Fact]) -> list[Fact]:
    """In "5 to 7 days" and "5-7 days" the first number has the unit of the second."""
    for place in range(len(facts) - 2, -1, -1):
        this, following = facts[place], facts[place + 1]
        if this.unit is None and following.unit and _RANGE_TAIL.fullmatch(text, this.end, following.start):
            facts[place] = Fact("number", this.start, this.end, this.text, this.values, following.unit, this.bound)
    return facts


@cache
def _unit_table() -> dict[str, Unit]:
    table: dict[str, Unit] = {}
    for line in files(__package__).joinpath("units.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            dimension, factor, *names = line.split()
            for name in names:
                table[name] = (dimension, Decimal(factor))
                if len(name) > 3:
                    table[fold(name)] = table[name]
    return table


def unit_named(word: str) -> Unit | None:
    """The unit that a word names, if any."""
    table = _unit_table()
    return table.get(word) or (table.get(fold(word)) if len(word) > 2 else None)
