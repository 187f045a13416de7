"""Dates, times of day and weekdays in a text, whatever their notation, as values that can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import regex

from fourcorners.grounding.words import fold

Value = tuple[str, object]
Found = tuple[int, int, str, frozenset[Value]]
"""Start, end, kind and all that the notation may mean."""

_MONTHS = {
    1: "January Jan Januar Jänner janvier",
    2: "February Feb Februar février",
    3: "March Mar März mars",
    4: "April Apr avril",
    5: "May Mai mai",
    6: "June Jun Juni juin",
    7: "July Jul Juli juillet",
    8: "August Aug août",
    9: "September Sept Sep septembre",
    10: "October Oct Oktober Okt octobre",
    11: "November Nov novembre",
    12: "December Dec Dezember Dez décembre",
}
_WEEKDAYS = (
    "Monday Mon Montag lundi",
    "Tuesday Tue Tues Dienstag mardi",
    "Wednesday Wed Mittwoch mercredi",
    "Thursday Thu Thur Thurs Donnerstag jeudi",
    "Friday Fri Freitag vendredi",
    "Saturday Sat Samstag Sonnabend samedi",
    "Sunday Sun Sonntag dimanche",
)
_MONTH_OF = {fold(name): number for number, names in _MONTHS.items() for name in names.split()}
_WEEKDAY_OF = {fold(name): number for number, names in enumerate(_WEEKDAYS) for name in names.split()}
_LOWER_MONTHS = frozenset(fold(names.split()[-1]) for names in _MONTHS.values())
"""French ones, written small; English "march" and "may" are verbs."""


def _any_of(names: Iterator[str]) -> str:
    return "|".join(sorted({regex.escape(name) for name in names}, key=len, reverse=True))


_CAPITAL = _any_of(form for names in _MONTHS.values() for name in names.split() for form in (name, name.capitalize()))
_LONG = _any_of(n for names in _MONTHS.values() for n in names.split() if len(n) > 3 and n != "March")
_MONTH = rf"(?P<month>{_CAPITAL}|(?i:(?:{_LONG})))(?!\p{{L}})\.?"
_DAY = r"(?<![\d.,:/\-–])(?P<day>\d{1,2})(?:st|nd|rd|th|er|\.)?"
_YEAR = r"(?P<year>\d{4})(?!\d)"
_END = r"(?![\p{L}\p{N}])"
_DATE = regex.compile(
    rf"{_DAY}\s+(?:of\s+|de\s+)?{_MONTH}(?:,?\s+{_YEAR})?"
    rf"|(?<!\p{{L}}){_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?![\d:\p{{L}}]|[.,]\d)(?:,?\s+{_YEAR})?"
    rf"|(?<!\p{{L}}){_MONTH},?\s+{_YEAR}"
)
_FULL = _any_of(
    form
    for names in _MONTHS.values()
    for name in names.split()
    if len(name) > 3 or name in ("May", "Mai")
    for form in (name, name.capitalize())
    if name not in ("mars", "mai") or form != name
)
_MONTH_ALONE = regex.compile(rf"(?<![\p{{L}}\p{{N}}])(?P<month>{_FULL})(?!\p{{L}})")
_DIGITS = regex.compile(
    rf"(?<![\p{{L}}\p{{N}}.,:/\-])(?:(?P<y>\d{{4}})-(?P<m>\d{{1,2}})-(?P<d>\d{{1,2}})"
    rf"|(?P<a>\d{{1,2}})(?P<sep>[./\-])(?P<b>\d{{1,2}})(?P=sep)(?P<y>\d{{4}}|\d{{2}})){_END}"
)
_CLOCK = regex.compile(
    r"(?<![\p{L}\p{N}.,:/])(?P<hour>\d{1,2})(?:(?P<sep>[:.h])(?P<minute>[0-5]\d))?"
    r"(?:\s?(?P<half>[ap])\.?\s?m\b\.?|\s?(?P<word>Uhr|o['’]clock|h)(?![\p{L}\p{N}]))?(?![\p{N}])(?![.,:]\d)"
)
_NOON = regex.compile(r"\b(?:(?P<noon>noon|midday|mittags|midi)|(?P<midnight>midnight|mitternacht|minuit))\b", regex.I)
_WEEKDAY = regex.compile(
    rf"(?<!\p{{L}})(?P<name>{_any_of(n for names in _WEEKDAYS for n in names.split())})s?(?!\p{{L}})"
    rf"|(?<!\p{{L}})(?i:(?P<name>{_any_of(n for ns in _WEEKDAYS for n in ns.split() if len(n) > 4)})s?)(?!\p{{L}})"
)
_SENTENCE_START = regex.compile(r"(?:\A|[.!?:]\s)\s*\Z")


def dates_in(text: str) -> list[Found]:
    """Dates, times and weekdays of ``text`` in order; of several readings of one place the longest."""
    taken: list[Found] = []
    for found in (_dates, _digit_dates, _clocks, _month_names, _weekdays):
        taken.extend(one for one in found(text) if not any(one[0] < end and start < one[1] for start, end, *_ in taken))
    return sorted(taken)


def _dates(text: str) -> Iterator[Found]:
    for match in _DATE.finditer(text):
        year, day = match["year"], match["day"]
        value = (int(year) if year else None, _MONTH_OF[fold(match["month"])], int(day) if day else None)
        if value[2] is None or 1 <= value[2] <= 31:
            yield match.start(), match.end(), "date", frozenset({("date", value)})


def _digit_dates(text: str) -> Iterator[Found]:
    for match in _DIGITS.finditer(text):
        year = int(match["y"]) if len(match["y"]) == 4 else 2000 + int(match["y"])
        pairs = [(match["m"], match["d"])] if match["m"] else [(match["b"], match["a"])]
        if match["sep"] in ("/", "-"):
            pairs.append((match["a"], match["b"]))
        values = {("date", (year, int(m), int(d))) for m, d in pairs if 1 <= int(m) <= 12 and 1 <= int(d) <= 31}
        if values:
            yield match.start(), match.end(), "date", frozenset(values)


def _clocks(text: str) -> Iterator[Found]:
    for match in _CLOCK.finditer(text):
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        half, word, sep = match["half"], match["word"], match["sep"]
        said = half or (word and (word != "h" or sep == "h")) or (sep in (":", "h") and match["minute"])
        if not said or hour > 24 or (half and not 1 <= hour <= 12):
            continue
        yield match.start(), match.end(), "clock", frozenset(_clock_values(hour, minute, half))
    for match in _NOON.finditer(text):
        yield match.start(), match.end(), "clock", frozenset({("clock", 720 if match["noon"] else 0)})


def _clock_values(hour: int, minute: int, half: str | None) -> Iterator[Value]:
    """``bare`` is what a sentence may say that leaves out am or pm; the hour alone is among the bare numbers."""
    if half:
        yield "clock", (hour % 12 + (12 if half == "p" else 0)) * 60 + minute
    else:
        yield "clock", hour % 24 * 60 + minute
    if half:
        yield "clock without half", hour * 60 + minute
    if not minute:
        yield "hour", hour


def _month_names(text: str) -> Iterator[Found]:
    for match in _MONTH_ALONE.finditer(text):
        modal = fold(match["month"]) in ("may", "march", "mar") and (
            _SENTENCE_START.search(text, 0, match.start())
            or regex.match(r"\s+(?:be|have|not)\b", text, pos=match.end())
        )
        if not modal:
            yield (
                match.start(),
                match.end(),
                "date",
                frozenset({("date", (None, _MONTH_OF[fold(match["month"])], None))}),
            )


def _weekdays(text: str) -> Iterator[Found]:
    for match in _WEEKDAY.finditer(text):
        yield match.start(), match.end(), "weekday", frozenset({("weekday", _WEEKDAY_OF[fold(match["name"])])})


@cache
def date_words() -> frozenset[str]:
    """Folded names of months and weekdays."""
    return frozenset(_MONTH_OF) | frozenset(_WEEKDAY_OF)


def date_holds(claimed: tuple[int | None, ...], given: tuple[int | None, ...]) -> bool:
    """Whether ``given`` (year, month, day; None where not said) says all that ``claimed`` says."""
    return all(mine is None or mine == theirs for mine, theirs in zip(claimed, given, strict=True))
