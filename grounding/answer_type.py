"""What kind of answer a question asks for, and whether a sentence holds one (English; other languages: unknown).

A rough sieve for the lexical prior: "when …" wants a time, "how many …" a number. It never decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import regex

from fourcorners.grounding.words import fold

_COUNT_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand"
    "|million|half|dozen|once|twice|single"
)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:[.,:]\d+)*")
_NUMBER = regex.compile(rf"\d|\b(?:{_COUNT_WORDS})\b", regex.I)
_TIME = regex.compile(
    r"\b(?:1\d\d\d|20\d\d)\b|\d{1,2}[:.]\d\d|\d ?[ap]\.?m|\b(?:january|february|march|april|may|june|july|august"
    r"|september|october|november|december|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|century|centuries|years?|days?|weeks?|months?"
    r"|hours?|daily|morning|noon|evening|night|midnight|spring|summer|autumn|winter|today|weekends?|weekdays?)\b",
    regex.I,
)
_NAME = regex.compile(r"(?<=[\p{Ll},;\)] )\p{Lu}\p{L}+|^\p{Lu}\p{L}+ \p{Lu}")
_MONEY = regex.compile(
    r"[$€£¥]|\b(?:usd|eur|euros?|dollars?|pounds?|cents?|free|price|fee|cost|chf|kr|charge)\b", regex.I
)
_FREE = regex.compile(r"\bfree\b", regex.I)
_PLACE = regex.compile(
    r"\b(?:in|at|on|from|near|to|behind|beside|next|opposite|under|inside|outside|above|below|between|along|floor|room"
    r"|street|road)\b",
    regex.I,
)
_REASON = regex.compile(
    r"\b(?:because|since|due|so that|as|to|therefore|reason|in order|prevent|avoid|for|cause)\b", regex.I
)
_DURATION = regex.compile(
    r"\b(?:seconds?|minutes?|min|hours?|days?|nights?|weeks?|fortnights?|months?|years?|decades?|centur\w+|overnight"
    r"|until)\b|\d ?(?:s|h|hrs?|mins?)\b",
    regex.I,
)
_LENGTH = regex.compile(
    r"\d ?(?:mm|cm|m|km)\b|\b(?:millimet|centimet|kilomet|met)(?:re|er)s?\b"
    r"|\b(?:miles?|feet|foot|ft|inch(?:es)?|yards?)\b",
    regex.I,
)
_WEIGHT = regex.compile(
    r"\d ?(?:m?g|kg|t)\b|\b(?:kilo)?gram(?:me)?s?\b|\b(?:kilos?|tons?|tonnes?|lbs?|pounds?|ounces?)\b", regex.I
)
_DEGREES = regex.compile(r"°|\bdegrees?\b", regex.I)
_FREQUENCY = regex.compile(
    r"\b(?:every|each|once|twice|times|daily|weekly|monthly|yearly|annually|hourly|per|always|never|regularly)\b",
    regex.I,
)
_SHARE = regex.compile(r"%|\b(?:per ?cent|half|third|quarter|fifth|tenth)\b", regex.I)
_PHONE = regex.compile(r"(?:\d[\s/().-]?){5,}|\bextension\b", regex.I)
_EMAIL = regex.compile(r"\S@\S")
_SITE = regex.compile(r"\bwww\.|https?:|\w\.(?:com|org|net|eu|de|fr|uk|io)\b", regex.I)

_QUESTION_KINDS: tuple[tuple[regex.Pattern[str], str], ...] = tuple(
    (regex.compile(pattern, regex.I), kind)
    for pattern, kind in (
        (r"\b(?:tele)?phone number\b|\bwhat number (?:do|can|should) i (?:call|ring|dial)", "phone"),
        (r"\be-?mail address\b|\bwhat is (?:the|your|his|her|their) e-?mail\b", "email"),
        (r"\bweb ?(?:site|page|address)\b|\burl\b", "site"),
        (r"\bhow (?:many|few)\b|\bwhat number\b", "number"),
        (r"\bhow much\b.*\b(?:weigh|heavy)|\bhow heavy\b|\bwhat (?:is|was) .*\bweight\b", "weight"),
        (r"\bhow much\b|\bprice\b|\bcost\b|\bfee\b", "money"),
        (r"\bhow (?:hot|cold|warm)\b|\btemperature\b", "degrees"),
        (r"\bhow often\b|\bhow frequently\b", "frequency"),
        (
            r"\bhow soon\b|\bhow long (?:do|does|did|is|are|was|were|will|can|must|should|may|have|has|before|after)\b",
            "extent",
        ),
        (r"\bhow (?:far|tall|high|deep|wide|big|large|long)\b|\bwhat (?:distance|height|depth|width)\b", "extent"),
        (r"\bpercent\w*\b|\bwhat (?:proportion|fraction|share)\b", "share"),
        (r"\bhow (?:old|late|early|fast|loud)\b|\bwhat (?:age|speed|size|voltage)\b", "number"),
        (
            r"\bwhen\b|\b(?:what|which) (?:year|day|date|time|month|century|decade)\b|\buntil what\b|\bby what\b",
            "time",
        ),
        (r"\bwho(?:m|se)?\b", "name"),
        (r"\bwhere\b|\b(?:what|which) (?:city|country|state|place|room|street|town|floor|building)\b", "place"),
        (r"\bwhy\b|\bwhat (?:reason|purpose|cause)", "reason"),
    )
)


def _holds_money(text: str) -> bool:
    return bool(_MONEY.search(text) and (_NUMBER.search(text) or _FREE.search(text)))


def _holds_extent(text: str) -> bool:
    return bool(_DURATION.search(text) or _LENGTH.search(text))


def _search(pattern: regex.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.search(text) is not None


_HOLDS: dict[str, Callable[[str], bool]] = {
    "degrees": _search(_DEGREES),
    "email": _search(_EMAIL),
    "extent": _holds_extent,
    "frequency": _search(_FREQUENCY),
    "money": _holds_money,
    "name": _search(_NAME),
    "number": _search(_NUMBER),
    "phone": _search(_PHONE),
    "place": lambda text: bool(_NAME.search(text) or _PLACE.search(text)),
    "reason": _search(_REASON),
    "share": _search(_SHARE),
    "site": _search(_SITE),
    "time": _search(_TIME),
    "weight": _search(_WEIGHT),
}


def answer_type(question: str) -> str | None:
    """What kind of thing is asked for (a key of the table above); None where the question does not tell."""
    for pattern, kind in _QUESTION_KINDS:
        if pattern.search(question):
            return kind
    return None


def holds(kind: str | None, text: str, asked: Collection[str]) -> float:
    """1.0 where ``text`` holds that kind of thing beside the ``asked`` words (folded), else -1.0; 0.0 for no kind."""
    if kind is None:
        return 0.0
    fresh = _WORD.sub(lambda match: "_" if fold(match.group()) in asked else match.group(), text)
    return 1.0 if _HOLDS[kind](fresh) else -1.0
