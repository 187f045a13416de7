"""What kind of answer a question asks for, and whether a sentence holds one (English; other languages: unknown).

A rough sieve for the lexical prior: "when …" wants a time, "how many …" a number. It never decides alone.
"""

from __future__ import annotations

from collections.abc import Callable

import regex

_COUNT_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|thousand"
    "|million|half|dozen|once|twice|single"
)
_NUMBER = regex.compile(rf"\d|\b(?:{_COUNT_WORDS})\b", regex.I)
_TIME = regex.compile(
    r"\b(?:1\d\d\d|20\d\d)\b|\d{1,2}[:.]\d\d|\d ?[ap]\.?m|\b(?:january|february|march|april|may|june|july|august"
    r"|september|october|november|december|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|century|centuries|years?|days?|weeks?|months?"
    r"|hours?|daily|morning|noon|evening|night|midnight|spring|summer|autumn|winter|today|weekends?|weekdays?)\b",
    regex.I,
)
_NAME = regex.compile(r"(?<=[\p{Ll},;\)] )\p{Lu}\p{L}+|^\p{Lu}\p{L}+ \p{Lu}")
_MONEY = regex.compile(r"[$€£¥]|\b(?:usd|eur|euros?|dollars?|pounds?|cents?|free|price|fee|cost|chf|charge)\b", regex.I)
_FREE = regex.compile(r"\bfree\b", regex.I)
_PLACE = regex.compile(
    r"\b(?:in|at|on|from|near|to|behind|beside|next|opposite|under|inside|outside|above|below|between|along|floor|room"
    r"|street|road)\b",
    regex.I,
)
_REASON = regex.compile(
    r"\b(?:because|since|due|so that|as|to|therefore|reason|in order|prevent|avoid|for|cause)\b", regex.I
)

_QUESTION_KINDS: tuple[tuple[regex.Pattern[str], str], ...] = tuple(
    (regex.compile(pattern, regex.I), kind)
    for pattern, kind in (
        (r"\bhow (?:many|few)\b", "number"),
        (r"\bhow much\b|\bprice\b|\bcost\b|\bfee\b", "money"),
        (
            r"\bhow (?:long|old|often|soon|late|early|far|tall|high|deep|large|big|wide|heavy|fast|hot|cold|loud)\b"
            r"|\bpercent|\bwhat (?:temperature|age|speed|size|number|distance|weight|voltage|proportion|fraction)\b",
            "number",
        ),
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


_HOLDS: dict[str, Callable[[str], bool]] = {
    "number": lambda text: bool(_NUMBER.search(text)),
    "money": _holds_money,
    "time": lambda text: bool(_TIME.search(text)),
    "name": lambda text: bool(_NAME.search(text)),
    "place": lambda text: bool(_NAME.search(text) or _PLACE.search(text)),
    "reason": lambda text: bool(_REASON.search(text)),
}


def answer_type(question: str) -> str | None:
    """One of number, money, time, name, place, reason; None where the question does not tell (what, which, how …)."""
    for pattern, kind in _QUESTION_KINDS:
        if pattern.search(question):
            return kind
    return None


def holds(kind: str | None, text: str) -> float:
    """1.0 where ``text`` holds something of that kind, -1.0 where not, 0.0 where the kind is unknown."""
    if kind is None:
        return 0.0
    return 1.0 if _HOLDS[kind](text) else -1.0
