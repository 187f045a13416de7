"""Whether a value looks like what a field's name says: a telephone number, a company, an amount in kilograms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import regex

_EMAIL = regex.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PHONE = regex.compile(r"\+?[\d\s()/.\-]{7,}")
_SITE = regex.compile(r"(?:https?://|www\.)\S+|[\w\-]+(?:\.[\w\-]+)*\.\p{L}{2,6}(?:/\S*)?")
_CODE = regex.compile(r"(?=\S*\d)[\p{L}\p{N}][\p{L}\p{N}\-/._#]*|[A-Z]{1,3} ?\d+|[A-Z]{2}[ \d]{2,3}(?: ?[\dA-Z]{2,4})+")
_CLOCK = regex.compile(r"\d{1,2}[:.h]\d{2}(?:\s?[ap]\.?m\.?)?|\d{1,2}\s?[ap]\.?m\.?|noon|midnight")
_ARTICLE = regex.compile(
    r"(?:the|a|an|and|or|by|of|to|in|at|for|with|is|was|it|this|these|they|he|she|we|you)\s", regex.I
)
_PERSON = regex.compile(
    r"\p{Lu}[\p{L}\p{M}.'’\-]*(?:\s+(?:de|van|von|der|la|le|di|da|al|bin))*(?:\s+\p{Lu}[\p{L}\p{M}.'’\-]*){1,3}"
)
_FIRM = regex.compile(r"(?:\p{Lu}|\p{N})[^,;:]{1,60}")
_FIRM_ENDING = regex.compile(
    r"\b(?:Ltd|Limited|Inc|GmbH|AG|LLC|LLP|PLC|Corp|Co|SA|SARL|BV|Oy|AB|SpA|KG|University)\b\.?"
)
_MONEY = regex.compile(r"(?:[$€£¥]|[A-Z]{3})\s?[\d.,'’ ]+|[\d.,'’ ]+\s?(?:[$€£¥]|[A-Z]{3}|euros?|dollars?|pounds?)")
_CURRENCY = regex.compile(r"[$€£¥₹]|[A-Z]{3}|euros?|dollars?|pounds?", regex.I)
_DATE = regex.compile(r".*\b(?:1[89]|20)\d\d\b.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}", regex.S)
_PLACE = regex.compile(r"\p{Lu}[\p{L}\p{M}\-]*(?:[ \-]\p{L}+){0,2}")
_STREET = regex.compile(r"(?=.*\d)(?=.*\p{L}{3}).{8,}", regex.S)


def _full(pattern: regex.Pattern[str], best: float = 1.0) -> Callable[[str], float]:
    return lambda value: best if pattern.fullmatch(value) else -1.0


def _firm(value: str) -> float:
    if _FIRM_ENDING.search(value) and _n_words(value) <= 7:
        return 1.0
    return 0.5 if _FIRM.fullmatch(value) and _n_words(value) <= 5 and not value[-1].isdigit() else -0.7


def _person(value: str) -> float:
    if not _PERSON.fullmatch(value):
        return -0.7
    return 0.0 if _FIRM_ENDING.search(value) else 1.0


def _named(value: str) -> float:
    """The name of a thing or a person."""
    if _DATE.fullmatch(value):
        return -0.8
    return 0.7 if value[:1].isupper() and _n_words(value) <= 8 and not value.endswith(".") else -0.6


def _code(value: str) -> float:
    return 1.0 if _CODE.fullmatch(value) and not _MONEY.fullmatch(value) and not _DATE.fullmatch(value) else -1.0


def _long(value: str) -> float:
    return 0.8 if _n_words(value) >= 6 else -0.8


def _short(value: str) -> float:
    """Where nothing is known: a few words, and no label with them."""
    n_words = _n_words(value)
    return (0.3 if n_words <= 6 else 0.0 if n_words <= 12 else -0.4) - (0.5 if ":" in value[:-1] else 0.0)


_SHAPES: tuple[tuple[frozenset[str], Callable[[str], float]], ...] = tuple(
    (frozenset(words.split()), shape)
    for words, shape in (
        ("email mail", _full(_EMAIL, 2.0)),
        ("phone telephone tel mobile fax", _full(_PHONE, 1.8)),
        ("url website web site homepage link", _full(_SITE, 1.8)),
        ("currency", _full(_CURRENCY)),
        ("address street", _full(_STREET, 1.5)),
        ("description summary about profile overview details", _long),
        ("date deadline day due issued", _full(_DATE)),
        ("time clock", _full(_CLOCK, 1.5)),
        ("number no nr id code sku iban vat reference ref order serial", _code),
        ("price amount total cost fee sum", _full(_MONEY)),
        ("vendor seller supplier company customer buyer client employer manufacturer brand maker issuer", _firm),
        (
            "shop store carrier airline hotel",
            _firm,
        ),
        ("university school institution college organisation organization", _firm),
        ("person candidate author applicant contact patient physician teacher passenger landlord tenant", _person),
        ("city town country place location", _full(_PLACE, 0.8)),
        ("name title product item role position job degree model", _named),
    )
)
_UNITS = {
    "kg": "kg kilogram kilograms kilos",
    "g": "g gram grams",
    "mm": "mm millimetre millimetres millimeter",
    "inch": "inch inches",
    "cm": "cm centimetre centimetres centimeter",
    "m": "m metre metres meter",
    "km": "km kilometre kilometres kilometer",
    "w": "w watt watts wattage power",
    "kw": "kw",
    "v": "v volt volts voltage",
    "a": "amp amps ampere",
    "l": "l litre litres liter capacity",
    "ml": "ml",
    "bar": "bar pressure",
    "hz": "hz hertz",
    "gb": "gb gigabyte",
    "%": "percent percentage discount",
    "°c": "temperature celsius",
    "mah": "mah battery",
}
UNIT_NAMES = frozenset(_UNITS)
_MONEY_WORDS = frozenset(
    (
        "price",
        "amount",
        "total",
        "cost",
        "fee",
        "sum",
        "subtotal",
        "tax",
        "vat",
        "due",
        "net",
        "gross",
        "deposit",
        "balance",
    )
)
_COUNT_WORDS = frozenset(
    ("quantity", "qty", "count", "pieces", "pcs", "units", "years", "months", "weeks", "days", "hours", "age", "number")
)


def shape_fit(words: Sequence[str], value: str) -> float:
    """From -1 to 2: how well ``value`` looks like what a field with these words (folded) asks for."""
    shape = next((shape for names, shape in _SHAPES if not names.isdisjoint(words)), _short)
    if _ARTICLE.fullmatch(f"{value} "):
        return -1.5
    return shape(value) - (0.3 if _ARTICLE.match(value) and shape is not _long else 0.0)


def unit_fit(words: Sequence[str], unit: str, money: bool) -> float:
    """The same for a number with that unit."""
    asked = set(words)
    wanted = [name for name, said in _UNITS.items() if not asked.isdisjoint(said.split())]
    own = unit.lower().lstrip()
    if wanted:
        return 1.0 if own in wanted else -1.0 if own else 0.0
    if not asked.isdisjoint(_MONEY_WORDS):
        return 0.8 if money else -0.2 if not own else -0.8
    if not asked.isdisjoint(_COUNT_WORDS):
        return -0.8 if money or own == "%" else 0.3
    return 0.0


def _n_words(value: str) -> int:
    return len(value.split())
