"""Numbers spelled out, in English, German and French: "twenty-five", "zweihundertfünfzig", "quatre-vingt-dix"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache

from fourcorners.grounding.words import fold

MAX_WORDS = 6
"""The longest run of words that is one number below a thousand: "quatre cent quatre vingt dix neuf"."""


def _words(text: str) -> list[str]:
    return text.split()


_ENGLISH_UNITS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_GERMAN_UNITS = _words(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_GERMAN_TENS = _words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_FRENCH_UNITS = _words(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf"
)
_FRENCH_TENS = _words("vingt trente quarante cinquante soixante")

SCALES: Mapping[str, Decimal] = {
    fold(word): Decimal(value)
    for value, names in {
        12: "dozen dutzend douzaine",
        1000: "thousand tausend mille",
        10**6: "million millions millionen mio",
        10**9: "billion billions milliarde milliarden milliard milliards mrd",
        10**12: "trillion trillions billionen",
    }.items()
    for word in names.split()
}
"""Words that multiply the number before them."""

ORDINALS: Mapping[str, int] = {
    fold(word): value
    for value, names in {
        1: "first erste ersten erster erstes premier première",
        2: "second zweite zweiten zweiter zweites deuxième seconde",
        3: "third dritte dritten dritter drittes troisième",
        4: "fourth vierte vierten vierter viertes quatrième",
        5: "fifth fünfte fünften fünfter fünftes cinquième",
        6: "sixth sechste sechsten sechster sechstes sixième",
        7: "seventh siebte siebten siebter siebtes septième",
        8: "eighth achte achten achter achtes huitième",
        9: "ninth neunte neunten neunter neuntes neuvième",
        10: "tenth zehnte zehnten zehnter zehntes dixième",
        11: "eleventh elfte elften",
        12: "twelfth zwölfte zwölften",
    }.items()
    for word in names.split()
}


def spelled_number(words: Sequence[str], language: str) -> tuple[Decimal, int] | None:
    """The number that ``words`` (folded) begin with, and how many of them it takes; None where there is none.

    "one" and its like are no number here, because they are articles and pronouns as well.
    """
    total, taken = Decimal(0), 0
    while taken < len(words):
        value, n = _below_thousand(words[taken:], language)
        scale = SCALES.get(words[taken + n]) if taken + n < len(words) else None
        if scale is not None and (n or scale < 10**6) and _is_scale(words[taken + n], language):
            total += (value if n else 1) * scale
            taken += n + 1
            if scale == 12:
                break
        elif n:
            total, taken = total + value, taken + n
            break
        else:
            break
        if taken < len(words) - 1 and words[taken] == "and" and _below_thousand(words[taken + 1 :], language)[1]:
            taken += 1
    if not taken or (taken == 1 and words[0] in {"one", "eins", "un", "ein"}):
        return None
    return total, taken


def _is_scale(word: str, language: str) -> bool:
    return word != "mille" or language == "french"


def _below_thousand(words: Sequence[str], language: str) -> tuple[Decimal, int]:
    table = _table(language if language in {"german", "french"} else "english")
    for n in range(min(MAX_WORDS, len(words)), 0, -1):
        value = table.get(" ".join(words[:n]))
        if value is not None:
            return Decimal(value), n
    return Decimal(0), 0


@cache
def _table(language: str) -> dict[str, int]:
    """All spellings of 0 to 999, folded, hyphens as spaces; in German to 999,999, which is one word there."""
    spellings = {"english": _english, "german": _german, "french": _french}[language]
    table = {fold(text.replace("-", " ")): value for value in range(1000) for text in spellings(value)}
    if language == "german":
        thousands = {"" if value == 1 else text: value for text, value in table.items() if 0 < value < 1000}
        hundreds = [*table.items(), ("", 0)]
        round_ones = {head + "tausend": value * 1000 for head, value in thousands.items() if head}
        table |= {
            head + "tausend" + tail: value * 1000 + rest
            for head, value in thousands.items()
            if head and value < 20
            for tail, rest in hundreds
        } | round_ones
    if language != "english":  # a model may answer in English about a German text, with single words
        table = _table("english") | table
    return table


def _english(value: int) -> list[str]:
    if value < 20:
        return [_ENGLISH_UNITS[value]]
    if value < 100:
        tens = _ENGLISH_TENS[value // 10 - 2]
        return [tens if value % 10 == 0 else f"{tens} {_ENGLISH_UNITS[value % 10]}"]
    heads = [f"{_ENGLISH_UNITS[value // 100]} hundred"] + (["a hundred", "hundred"] if value < 200 else [])
    if value % 100 == 0:
        return heads
    return [f"{head} {link}{tail}" for head in heads for tail in _english(value % 100) for link in ("and ", "")]


def _german(value: int) -> list[str]:
    if value < 20:
        return [_GERMAN_UNITS[value]]
    if value < 100:
        unit, tens = value % 10, _GERMAN_TENS[value // 10 - 2]
        return [tens if unit == 0 else f"{'ein' if unit == 1 else _GERMAN_UNITS[unit]}und{tens}"]
    unit = value // 100
    heads = ["einhundert", "hundert"] if unit == 1 else [f"{_GERMAN_UNITS[unit]}hundert"]
    tails = _german(value % 100) if value % 100 else [""]
    return [head + tail for head in heads for tail in tails]


def _french(value: int) -> list[str]:
    if value < 20:
        return [_FRENCH_UNITS[value]]
    if value < 100:
        return [_french_tens(value)]
    heads = ["cent"] if value < 200 else [f"{_FRENCH_UNITS[value // 100]} cent", f"{_FRENCH_UNITS[value // 100]} cents"]
    if value % 100 == 0:
        return heads
    return [f"{head} {tail}" for head in heads for tail in _french(value % 100)]


def _french_tens(value: int) -> str:
    if value == 80:
        return "quatre-vingts"
    if value > 80:
        return f"quatre-vingt {_FRENCH_UNITS[value - 80]}"
    base = min(value // 10, 6)
    rest = value - base * 10
    link = " et " if rest in (1, 11) else " "
    return _FRENCH_TENS[base - 2] + (f"{link}{_FRENCH_UNITS[rest]}" if rest else "")
