"""The dates and times that stand in a text, in ISO notation, each with its exact place.

Only whole dates with a year of four digits are read. "03/04/2024" is read neither as March nor as April.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time

import regex

from fourcorners.grounding.words import fold

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar janvier enero gennaio januari janeiro",
            "feb february februar fevrier febrero febbraio februari fevereiro",
            "mar march marz maerz mars marzo maart marco",
            "apr april avril abril aprile",
            "may mai mayo maggio mei maio",
            "jun june juni juin junio giugno junho",
            "jul july juli juillet julio luglio julho",
            "aug august aout agosto augustus",
            "sep sept september septembre septiembre settembre setembro",
            "oct okt october oktober octobre octubre ottobre outubro",
            "nov november novembre noviembre novembro",
            "dec dez december dezember decembre diciembre dicembre dezembro",
        ),
        start=1,
    )
    for name in names.split()
}
_CLOCK = r"(?P<hour>\d{1,2})[:h](?P<minute>\d{2})(?::(?P<second>\d{2}))?(?!\d)(?:\s?(?P<half>[ap])\.?m\b\.?)?"
_ISO_CLOCK = r"T(?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?:\.\d+)?(?P<zone>Z|[+\-]\d{2}:\d{2})?"
_PATTERNS = tuple(
    regex.compile(rf"(?<![\d\p{{L}}.,/\-]){pattern}(?![\d/\-]|\.\d)", regex.I)
    for pattern in (
        rf"(?P<year>\d{{4}})-(?P<month>\d{{2}})-(?P<day>\d{{2}})(?:{_ISO_CLOCK})?",
        r"(?P<year>\d{4})/(?P<month>\d{2})/(?P<day>\d{2})",
        r"(?P<day>\d{1,2})\.[ ]?(?P<month>\d{1,2})\.[ ]?(?P<year>\d{4})",
        r"(?P<one>\d{1,2})(?P<mark>[/\-])(?P<two>\d{1,2})(?P=mark)(?P<year>\d{4})",
        r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|\.|º)?\s+(?:of\s+|de\s+)?(?P<name>\p{L}{3,10})\.?,?\s+(?:de\s+)?(?P<year>\d{4})",
        r"(?P<name>\p{L}{3,10})\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year>\d{4})",
    )
)
_THEN = regex.compile(rf"(?:,?\s+(?:at\s+|um\s+|à\s+)?){_CLOCK}", regex.I)
_TIME = regex.compile(rf"(?<![\d\p{{L}}:.,/\-]){_CLOCK.replace('[:h]', ':')}(?![\d:]|\.\d)", regex.I)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, with its time where one stands beside it, at characters ``start`` to ``end``."""

    iso: str
    start: int
    end: int


def dates(text: str, *, with_time: bool = False) -> list[Moment]:
    """All dates of ``text``, in order; ``with_time`` takes a time of day that follows along."""
    found: list[Moment] = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            day = _date(match.groupdict())
            if day is None or any(one.start < match.end() and match.start() < one.end for one in found):
                continue
            found.append(_with_time(text, match, day) if with_time else Moment(day.isoformat(), *match.span()))
    return sorted(found, key=lambda one: one.start)


def times(text: str) -> list[Moment]:
    """All times of day written with a colon, in order."""
    return list(_times(text))


def _times(text: str) -> Iterator[Moment]:
    for match in _TIME.finditer(text):
        if (clock := _clock(match.groupdict())) is not None:
            yield Moment(clock, *match.span())


def _date(parts: dict[str, str | None]) -> date | None:
    day, month = parts.get("day"), parts.get("month")
    if name := parts.get("name"):
        number = _MONTHS.get(fold(name))
        month = str(number) if number else None
    elif (one := parts.get("one")) and (two := parts.get("two")):
        if int(one) <= 12 and int(two) <= 12 and one != two:
            return None  # which of them is the month is anybody's guess
        month, day = (one, two) if int(two) > 12 else (two, one)
    try:
        return date(int(parts["year"] or 0), int(month or 0), int(day or 0))
    except ValueError:
        return None


def _with_time(text: str, match: regex.Match[str], day: date) -> Moment:
    parts = match.groupdict()
    start, end = match.span()
    if parts.get("hour") is None and (then := _THEN.match(text, end)):
        parts, end = then.groupdict(), then.end()
    clock = _clock(parts) if parts.get("hour") else None
    if clock is None:
        return Moment(day.isoformat(), *match.span())
    return Moment(f"{day.isoformat()}T{clock}{parts.get('zone') or ''}", start, end)


def _clock(parts: dict[str, str | None]) -> str | None:
    hour, half = int(parts["hour"] or 0), (parts.get("half") or "").lower()
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        return time(hour, int(parts["minute"] or 0), int(parts.get("second") or 0)).isoformat()
    except ValueError:
        return None
