"""The numbers, amounts, times and dates of a sentence, so that two of them can be compared (English, German).

For telling whether two sentences say different things, not for calculating: what is not understood is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from fourcorners.grounding.words import fold, word_class

_SMALL = (
    "zero|null one|ein|eine|einen|einer|eines two|zwei three|drei four|vier five|funf six|sechs seven|sieben eight|acht"
    " nine|neun ten|zehn eleven|elf twelve|zwolf|dozen|dutzend thirteen|dreizehn fourteen|vierzehn fifteen|funfzehn"
    " sixteen|sechzehn seventeen|siebzehn eighteen|achtzehn nineteen|neunzehn"
)
_TENS = (
    "twenty|zwanzig thirty|dreissig forty|vierzig fifty|funfzig sixty|sechzig seventy|siebzig eighty|achtzig"
    " ninety|neunzig"
)
NUMBER_WORDS: dict[str, float] = {
    **{word: float(n) for n, words in enumerate(_SMALL.split()) for word in words.split("|")},
    **{word: 10.0 * n for n, words in enumerate(_TENS.split(), start=2) for word in words.split("|")},
    "half": 0.5,
    "halbe": 0.5,
    "hundred": 1e2,
    "hundert": 1e2,
    "thousand": 1e3,
    "tausend": 1e3,
}
_ONES = word_class("articles_or_one")
"""Also articles, or, in German, "care": a number only where a unit follows."""
_SCALES = {
    **dict.fromkeys(("hundred", "hundert"), 1e2),
    **dict.fromkeys(("thousand", "tausend", "k"), 1e3),
    **dict.fromkeys(("million", "millions", "millionen", "mio", "mn"), 1e6),
    **dict.fromkeys(("billion", "billions", "milliarde", "milliarden", "bn"), 1e9),
}
_UNITS = {
    "money $": ("$ usd dollar dollars", 1.0),
    "money €": ("€ eur euro euros", 1.0),
    "money £": ("£ gbp pound pounds", 1.0),
    "money ¥": ("¥ jpy yen", 1.0),
    "money chf": ("chf franken francs franc", 1.0),
    "cent": ("cent cents", 1.0),
    "percent": ("% percent prozent", 1.0),
    "duration s": ("s sec second seconds sekunde sekunden", 1.0),
    "duration min": ("min mins minute minutes minuten", 60.0),
    "duration h": ("h hr hrs hour hours stunde stunden", 3_600.0),
    "duration d": ("day days tag tage tagen night nights", 86_400.0),
    "duration w": ("week weeks woche wochen", 604_800.0),
    "duration m": ("month months monat monate monaten", 2_629_800.0),
    "duration y": ("year years jahr jahre jahren yr yrs", 31_557_600.0),
    "mass mg": ("mg milligram milligrams milligramm", 0.001),
    "mass g": ("g gram grams gramme grammes gramm", 1.0),
    "mass kg": ("kg kilo kilos kilogram kilograms kilogramm", 1_000.0),
    "mass t": ("t ton tons tonne tonnes tonnen", 1e6),
    "mass lb": ("lb lbs", 453.592),
    "length mm": ("mm millimetre millimetres millimeter millimeters", 0.001),
    "length cm": ("cm centimetre centimetres centimeter centimeters zentimeter", 0.01),
    "length m": ("m metre metres meter meters metern", 1.0),
    "length km": ("km kilometre kilometres kilometer kilometers kilometern", 1_000.0),
    "length mile": ("mile miles meile meilen", 1_609.34),
    "length ft": ("ft foot feet", 0.3048),
    "length in": ("inch inches", 0.0254),
    "volume ml": ("ml millilitre millilitres milliliter", 0.001),
    "volume l": ("l litre litres liter liters", 1.0),
    "speed": ("km/h kph", 1.0),
    "speed mph": ("mph", 1.60934),
    "power w": ("w watt watts", 1.0),
    "power kw": ("kw kilowatt", 1_000.0),
    "volt": ("v volt volts", 1.0),
    "bytes mb": ("mb mib megabyte megabytes", 1.0),
    "bytes gb": ("gb gib gigabyte gigabytes", 1_000.0),
    "pressure bar": ("bar", 1.0),
}
_UNIT_OF = {
    word: (name if name.startswith("money") else name.split()[0], factor)
    for name, (words, factor) in _UNITS.items()
    for word in words.split()
}
_MONTHS = (
    "jan|january|januar feb|february|februar mar|march|marz apr|april may|mai jun|june|juni jul|july|juli"
    " aug|august sep|sept|september oct|october|okt|oktober nov|november dec|december|dez|dezember"
)
MONTHS = {word: n for n, words in enumerate(_MONTHS.split(), start=1) for word in words.split("|")}
_WEEKDAYS = (
    "monday|mondays|montag|montags tuesday|tuesdays|dienstag|dienstags wednesday|wednesdays|mittwoch|mittwochs"
    " thursday|thursdays|donnerstag|donnerstags friday|fridays|freitag|freitags"
    " saturday|saturdays|samstag|samstags|sonnabend sunday|sundays|sonntag|sonntags"
)
WEEKDAYS = {word: n for n, words in enumerate(_WEEKDAYS.split()) for word in words.split("|")}
_NAMED_MINUTES = {"noon": 720, "midday": 720, "mittag": 720, "mittags": 720, "midnight": 0, "mitternacht": 0}

_MONTH = r"(?P<month>\p{Lu}\p{L}{2,8})\.?"
_TOKEN = regex.compile(
    r"(?P<iso>\b\d{4}-\d{2}-\d{2}\b)"
    r"|(?P<dots>\b\d{1,2}[./]\d{1,2}[./]\d{4}\b)"
    r"|(?P<clock>\b(?P<hour>[01]?\d|2[0-4])(?::(?P<minute>[0-5]\d)(?!\d)(?:\s?(?P<half>[ap]\.?m\b|Uhr\b))?"
    r"|(?:\.(?P<minute>[0-5]\d))?\s?(?P<half>[ap]\.?m\b|Uhr\b|o['’]clock\b)))"
    rf"|(?P<dmy>\b(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of)? {_MONTH}(?:,? (?P<year>\d{{4}}))?\b)"
    rf"|(?P<mdy>\b{_MONTH} (?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<year>\d{{4}}))?|(?P<year>\d{{4}}))\b)"
    r"|(?P<number>(?P<sign>[$€£¥]\s?)?(?<![\p{L}\p{N}])[-−]?\d+(?:[.,'’\u202f]\d+|[ \u00a0]\d{3}(?!\d))*)"
    r"|(?P<word>[\p{L}\p{M}]+)",
    regex.I,
)
_UNIT_BEHIND = regex.compile(
    r"[ \u00a0\u202f-]?(?:(?P<scale>[\p{L}]+)\.?[ \u00a0])?(?P<unit>km/h|per cent|[%$€£¥]|°\s?[CF]?|\p{L}+)", regex.I
)
_LEAST = regex.compile(r"(?:at least|minimum(?: of)?|more than|over|from|mindestens|uber|mehr als|ab)\s*$")
_MOST = regex.compile(
    r"(?:at most|maximum(?: of)?|no more than|not more than|less than|fewer than|under|below|up to|within|no later than"
    r"|hochstens|maximal|bis zu|weniger als|unter)\s*$"
)
_ABOUT = regex.compile(
    r"(?:about|around|approximately|approx\.?|roughly|nearly|almost|some|circa|ca\.|etwa|rund|ungefahr|fast|~)\s*$"
)
_RANGE = regex.compile(r"\s*(?:-|–|—|to|and|bis|und)\s*", regex.I)


@dataclass(frozen=True, slots=True)
class Value:
    """Characters ``start`` to ``end`` of a text, and what they stand for.

    ``kind`` is a dimension ("duration", "money $" …), or "clock", "date", "weekday", "number", "ordinal". Of two
    values of a kind one is as good as the other where their intervals meet; a date's are year, month and day.
    """

    kind: str
    start: int
    end: int
    intervals: tuple[tuple[float, float], ...]

    def agrees_with(self, other: Value) -> bool:
        """Whether both may be true of the same thing."""
        slack = 1e-6 if self.kind in ("clock", "date", "weekday", "number") else 0.02
        return all(
            low <= other_high + slack * abs(other_high) and other_low <= high + slack * abs(high)
            for (low, high), (other_low, other_high) in zip(self.intervals, other.intervals, strict=True)
        )


def values(text: str) -> list[Value]:
    """The values in ``text``, in order; they do not overlap."""
    found: list[Value] = []
    position = 0
    while match := _TOKEN.search(text, position):
        value = _value(text, match)
        position = max(match.end() if value is None else value.end, match.start() + 1)
        if value is None:
            if match["word"] is None:
                position = _past_first_word(text, match.start(), match.end())
            continue
        found.append(value)
    return list(_ranges_joined(text, found))


def _past_first_word(text: str, start: int, end: int) -> int:
    """What was no date after all may hold a number: only its first word is left behind."""
    inside = regex.compile(r"\p{L}+|\d+").match(text, start, end)
    return inside.end() if inside else end


def _value(text: str, match: regex.Match[str]) -> Value | None:
    start, end = match.span()
    if match["iso"]:
        year, month, day = map(int, match["iso"].split("-"))
        return _date(start, end, year, month, day)
    if match["dots"]:
        day, month, year = (int(part) for part in regex.split(r"[./]", match["dots"]))
        return _date(start, end, year, month, day) if month <= 12 else _date(start, end, year, day, month)
    if match["dmy"] or match["mdy"]:
        name = match.captures("month")[0]
        month = MONTHS.get(fold(name), 0) if name[0].isupper() else 0
        years, days = ([*map(int, match.captures(part)), None] for part in ("year", "day"))
        return _date(start, end, years[0], month, days[0]) if month else _number_at(text, start)
    if match["clock"]:
        return _clock(match)
    if match["number"]:
        return _amount(text, start, end, match["number"], match["sign"])
    return _word_value(text, match)


def _number_at(text: str, start: int) -> Value | None:
    match = regex.compile(r"\d+").match(text, start)
    return _amount(text, start, match.end(), match.group(), None) if match else None


def _date(start: int, end: int, year: int | None, month: int | None, day: int | None) -> Value:
    parts = ((-math.inf, math.inf) if part is None else (float(part), float(part)) for part in (year, month, day))
    return Value("date", start, end, tuple(parts))


def _clock(match: regex.Match[str]) -> Value:
    hour, half = int(match.captures("hour")[0]), (match.captures("half") or [""])[0].lower().replace(".", "")
    minute = int((match.captures("minute") or ["0"])[0])
    if half in ("am", "pm") and hour <= 12:
        hour = hour % 12 + (12 if half == "pm" else 0)
    at = float(hour * 60 + minute) % 1440
    return Value("clock", match.start(), match.end(), ((at, at),))


def _word_value(text: str, match: regex.Match[str]) -> Value | None:
    word, (start, end) = fold(match.group()), match.span()
    if word in WEEKDAYS:
        return Value("weekday", start, end, ((float(WEEKDAYS[word]),) * 2,))
    if word in _NAMED_MINUTES:
        return Value("clock", start, end, ((float(_NAMED_MINUTES[word]),) * 2,))
    if word in MONTHS and len(word) > 3 and match.group()[0].isupper():
        return _date(start, end, None, MONTHS[word], None)
    if word in NUMBER_WORDS or word in _ONES:
        return _amount(text, start, end, word, None)
    return None


def _amount(text: str, start: int, end: int, said: str, sign: str | None) -> Value | None:
    """A number with the unit that stands behind or before it; a bare one of four digits is a year."""
    readings = _readings(said)
    if not readings:
        return None
    unit, factor, end = _unit(text, end, sign)
    if unit is None and fold(said) in _ONES:
        return None
    number = said.strip("-−")
    if unit is None and len(number) == 4 and number.isdecimal() and 1000 <= int(number) <= 2100:
        return _date(start, end, int(number), None, None)
    low, high = min(readings) * factor, max(readings) * factor
    before = fold(text[max(0, start - 24) : start])
    if _LEAST.search(before):
        high = math.inf
    elif _MOST.search(before):
        low = -math.inf
    elif _ABOUT.search(before):
        low, high = low - 0.1 * abs(low), high + 0.1 * abs(high)
    return Value(unit or "number", start, end, ((low, high),))


def _readings(said: str) -> list[float]:
    """What a number may mean: "1.200" is 1.2 in one country and 1,200 in the next."""
    word = fold(said)
    if word in NUMBER_WORDS or word in _ONES:
        return [NUMBER_WORDS.get(word, 1.0)]
    digits = regex.sub(r"[^\d.,\-−]", "", said).replace("−", "-")
    if regex.fullmatch(r"-?\d{1,3}(?:[.,]\d{3}){2,}", digits) or regex.fullmatch(r"-?\d{1,3},\d{3}", digits):
        return [float(regex.sub(r"[.,]", "", digits))]
    if regex.fullmatch(r"-?\d{1,3}\.\d{3}", digits):
        return [float(digits), float(digits.replace(".", ""))]
    last = max(digits.rfind("."), digits.rfind(","))
    whole = regex.sub(r"[.,]", "", digits[:last]) if last >= 0 else digits
    try:
        return [float(f"{whole}.{digits[last + 1 :]}" if last >= 0 else whole)]
    except ValueError:
        return []


def _unit(text: str, end: int, sign: str | None) -> tuple[str | None, float, int]:
    """The dimension behind a number, the factor to its base unit, and where number and unit end."""
    factor = 1.0
    while match := _UNIT_BEHIND.match(text, end):
        said = fold(match["unit"].replace(" ", "")) if not match["scale"] else fold(match["scale"])
        if said in _SCALES:
            factor *= _SCALES[said]
            end = match.end("scale") if match["scale"] else match.end()
            continue
        if match["scale"]:
            unit = fold(match["scale"])
            if unit in _UNIT_OF:
                return _UNIT_OF[unit][0], factor * _UNIT_OF[unit][1], match.end("scale")
            if unit not in NUMBER_WORDS:  # "twenty-five": the second half counts too little to be worth more code
                break
        unit = fold(match["unit"].replace(" ", ""))
        if unit.startswith("°"):
            return "degrees " + unit[1:].strip().lower(), factor, match.end()
        if unit in _UNIT_OF:
            return _UNIT_OF[unit][0], factor * _UNIT_OF[unit][1], match.end()
        break
    if sign:
        return f"money {sign.strip()}", factor, end
    return None, factor, end


def _ranges_joined(text: str, found: list[Value]) -> Iterator[Value]:
    """ "10 to 12 kg" is one value; a range of times stays two, because both borders count."""
    held: Value | None = None
    for value in found:
        if held is not None and held.kind in ("number", value.kind) and value.kind not in ("clock", "date", "weekday"):
            between, before = text[held.end : value.start], fold(text[max(0, held.start - 10) : held.start])
            listed = between.strip().lower() in ("and", "und")
            if _RANGE.fullmatch(between) and (not listed or regex.search(r"(?:between|zwischen)\s*$", before)):
                (low, _), (_, high) = held.intervals[0], value.intervals[0]
                held = Value(value.kind, held.start, value.end, ((min(low, high), high),))
                continue
        if held is not None:
            yield held
        held = value
    if held is not None:
        yield held
