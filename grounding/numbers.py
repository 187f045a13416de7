"""The numbers that stand in a text, whatever way of writing them: each with its value and its exact place.

A number is read only where it stands by itself or with a currency or unit that is known: not out of dates, times,
ranges, versions, telephone numbers or article codes, and not one with leading zeros.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from decimal import Decimal

import regex

from fourcorners.grounding.segmentation import chunks

MAX_DIGITS = 30

_CURRENCY = r"(?:[$€£¥₹₽₩]|USD|EUR|GBP|CHF|JPY|Rs\.?|euros?|dollars?|pounds?|cents?)"
_PARTS = regex.compile(
    rf"(?P<before>{_CURRENCY}[ \u00a0]?)?(?P<sign>[+\-−])?(?P<digits>\d+(?:[.,'’ \u00a0\u202f]\d+)*)(?P<rest>.*)",
    regex.S,
)
_MONEY = regex.compile(_CURRENCY)
_SCALE = regex.compile(r"[ \u00a0\u202f]?(?P<scale>hundred|thousand|million|billion|trillion|bn|[kKmM])(?![\p{L}])")
_SCALES = {
    "hundred": 2,
    "thousand": 3,
    "k": 3,
    "million": 6,
    "m": 6,
    "billion": 9,
    "bn": 9,
    "trillion": 12,
}
_UNIT = regex.compile(
    r"(?:[ \u00a0\u202f]?(?:%|‰|°[CFK]?|percent|per cent|x|×|[kcmµ]?[gmlLWVAΩJsN]|[kMGT]?Hz|[kMGT]i?B|m?Ah|k?Wh|k?VA"
    r"|bar|k?Pa|psi|rpm|km/h|mph|inch(?:es)?|in|ft|lbs?|oz|min|h|hrs?|d?B|px|dpi|ppi|fps|lm|cd|Nm|[ap]\.?m\.?"
    rf"|{_CURRENCY})|[\-‐‑]\p{{Ll}}{{3,}})*"
)
_CLOCK = regex.compile(r"[ap]\.?m\.?\s*\Z")
_COMMA_DECIMAL = regex.compile(r"\d\.\d{3},\d|(?<![\d.,])\d{1,6},\d{1,2}(?![\d,])")
_POINT_DECIMAL = regex.compile(r"\d,\d{3}\.\d|(?<![\d.,])\d{1,6}\.\d{1,2}(?![\d.])")


@dataclass(frozen=True, slots=True)
class Number:
    """A number at characters ``start`` to ``end``, its currency or unit included; ``unit`` is that text, stripped."""

    value: Decimal
    start: int
    end: int
    money: bool
    unit: str


def writes_decimal_comma(text: str) -> bool:
    """Whether ``text`` writes "12,50" rather than "12.50": what decides how "1.200" is read."""
    return len(_COMMA_DECIMAL.findall(text)) > len(_POINT_DECIMAL.findall(text))


def numbers(text: str, *, decimal_comma: bool = False) -> list[Number]:
    """All numbers of ``text``, in order. "1.200" and "1,200" are read as the rest of the document writes decimals."""
    found = []
    borders = chunks(text)
    for position, (start, end) in enumerate(borders):
        if not any(char.isdecimal() for char in text[start:end]):
            continue
        if _goes_on(text, start, end):
            continue
        number = _number(text, start, end, decimal_comma)
        if number is not None and position and text[start - 1] in "-−":
            begins = text[start] not in "+-−" and (position == 1 or text[borders[position - 2][1] - 1].isspace())
            number = Number(-number.value, start - 1, end, number.money, number.unit) if begins else None
        if number is not None:
            found.append(number)
    return found


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether the number is part of something longer: ".5", "1.5.x", "a/3"."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    return (before in (".", "/", "_") and start > 0) or regex.match(r"[._][\p{L}\p{N}]|/\d", after) is not None


def _number(text: str, start: int, end: int, decimal_comma: bool) -> Number | None:
    parts = _PARTS.fullmatch(text, start, end)
    if parts is None or _CLOCK.search(parts["rest"]):
        return None
    rest = parts["rest"]
    money = parts["before"] is not None or _MONEY.search(rest) is not None
    power = 0
    if scale := _SCALE.match(rest):
        if len(scale["scale"]) > 1 or money:
            power, rest = _SCALES[scale["scale"].lower()], rest[scale.end() :]
        elif scale["scale"] in "kK":
            return None  # 4K is a name, 5k a race
    if _UNIT.fullmatch(rest) is None:
        return None
    value = _value(_plain_digits(parts["digits"]), decimal_comma, money)
    if value is None:
        return None
    signed = -value if parts["sign"] in ("-", "−") else value
    unit = ((parts["before"] or "") + rest).strip()
    return Number(signed.scaleb(power) if power else signed, start, end, money, unit)


def _plain_digits(digits: str) -> str:
    """In ASCII: decimal digits of any script count."""
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in digits)


def _value(digits: str, decimal_comma: bool, money: bool) -> Decimal | None:
    if sum(char.isdigit() for char in digits) > MAX_DIGITS or regex.match(r"0\d", digits):
        return None
    if regex.search(r"[ \u00a0\u202f'’]", digits):
        if not regex.fullmatch(r"\d{1,3}(?:([ \u00a0\u202f'’])\d{3})(?:\1\d{3})*(?:[.,]\d+)?", digits):
            return None
        digits = regex.sub(r"[ \u00a0\u202f'’]", "", digits)
        return Decimal(digits.replace(",", "."))
    separators = [char for char in digits if char in ".,"]
    if not separators:
        return Decimal(digits)
    if len(set(separators)) == 2:
        return _grouped(digits, group=separators[0], decimal=separators[-1])
    mark = separators[0]
    if len(separators) > 1:
        return _grouped(digits, group=mark, decimal="")
    left, _, right = digits.partition(mark)
    could_group = len(right) == 3 and len(left) <= 3 and left != "0"
    groups = could_group and (money or (mark == ",") != decimal_comma)
    return Decimal(left + right) if groups else Decimal(f"{left}.{right}")


def _grouped(digits: str, *, group: str, decimal: str) -> Decimal | None:
    """ "1,200.50", "1.200,50", "1,20,000"; None for anything else with several marks, such as a version or a date."""
    tail = rf"(?:{regex.escape(decimal)}\d+)?" if decimal else ""
    mark = regex.escape(group)
    western, indian = rf"\d{{1,3}}(?:{mark}\d{{3}})+", rf"\d{{1,2}}(?:{mark}\d{{2}})+{mark}\d{{3}}"
    if not regex.fullmatch(rf"(?:{western}|{indian}){tail}", digits):
        return None
    plain = digits.replace(group, "")
    return Decimal(plain.replace(decimal, ".") if decimal else plain)
