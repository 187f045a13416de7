import math

import pytest
from hypothesis import given

from fourcorners.grounding.values import values
from tests.support import texts


def read(text: str) -> list[tuple[str, str]]:
    return [(value.kind, text[value.start : value.end]) for value in values(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The ferry leaves at 6:40.", [("clock", "6:40")]),
        ("It opens at 7 pm and shuts at 11 p.m.", [("clock", "7 pm"), ("clock", "11 p.m")]),
        ("Ab 18 Uhr", [("clock", "18 Uhr")]),
        ("at noon", [("clock", "noon")]),
        ("on 12 March 2024", [("date", "12 March 2024")]),
        ("on March 14, 2024", [("date", "March 14, 2024")]),
        ("am 3. Oktober 1990", [("date", "3. Oktober 1990")]),
        ("in May 1932", [("date", "May 1932")]),
        ("on 2024-03-12 or 12.03.2024", [("date", "2024-03-12"), ("date", "12.03.2024")]),
        ("in 1987", [("date", "1987")]),
        ("Room 12 is free", [("number", "12")]),
        ("12 people may come", [("number", "12")]),
        ("two years", [("duration", "two years")]),
        ("a year", [("duration", "a year")]),
        ("one of them", []),
        ("$1,200.50 or 5 euros", [("money $", "$1,200.50"), ("money €", "5 euros")]),
        ("€89", [("money €", "€89")]),
        ("2.5 million dollars", [("money $", "2.5 million dollars")]),
        ("40 percent, 40%", [("percent", "40 percent"), ("percent", "40%")]),
        ("between 10 and 12 kg", [("mass", "10 and 12 kg")]),
        ("from 9:00 to 17:00", [("clock", "9:00"), ("clock", "17:00")]),
        ("80 °C", [("degrees c", "80 °C")]),
        ("on Monday", [("weekday", "Monday")]),
    ],
)
def test_values_are_found_with_their_units(text: str, found: list[tuple[str, str]]) -> None:
    assert read(text) == found


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("7 pm", "19:00", True),
        ("9 a.m.", "9:30", False),
        ("two years", "24 months", True),
        ("two years", "three years", False),
        ("18 kg", "18,000 g", True),
        ("1986", "12 March 1986", True),
        ("12.03.2024", "12 March 2024", True),
        ("March 1986", "April 1986", False),
        ("up to 40 kg", "36 kg", True),
        ("at least 40 kg", "36 kg", False),
        ("about 500 g", "523 g", True),
        ("1.200 kg", "1200 kg", True),
        ("five kg", "5 kg", True),
        ("2.5 million euros", "2,500,000 euros", True),
        ("Monday", "Montag", True),
    ],
)
def test_two_values_agree_where_both_may_be_true(one: str, other: str, agree: bool) -> None:
    (first,), (second,) = values(one), values(other)
    assert first.kind == second.kind
    assert first.agrees_with(second) is agree
    assert second.agrees_with(first) is agree


@given(texts)
def test_values_lie_in_the_text_in_order_and_agree_with_themselves(text: str) -> None:
    end = 0
    for value in values(text):
        assert end <= value.start < value.end <= len(text)
        end = value.end
        assert value.agrees_with(value)
        assert not any(math.isnan(border) for interval in value.intervals for border in interval)
