from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.grounding.numbers import numbers, writes_decimal_comma
from fourcorners.grounding.segmentation import chunks
from tests.support import texts


def read(text: str, *, comma: bool = False) -> list[str]:
    return [format(one.value, "f") for one in numbers(text, decimal_comma=comma)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,200.50", ["1200.50"]),
        ("1.200,50", ["1200.50"]),
        ("1 200 EUR", ["1200"]),
        ("1\u202f200,5", ["1200.5"]),
        ("1'200.00 CHF", ["1200.00"]),
        ("1,20,000.50", ["120000.50"]),
        ("0,6 litres", ["0.6"]),
        ("-5 °C", ["-5"]),
        ("−3.5", ["-3.5"]),
        ("it fell by -$5 today", ["-5"]),
        ("12% of 80", ["12", "80"]),
        ("€3.5k", ["3500"]),
        ("€ 2 million", ["2000000"]),
        ("the 4K screen, a 5k run", []),
        ("7 people", ["7"]),
        ("a 24-month contract", ["24"]),
        ("32GB, 500mAh, 230V", ["32", "500", "230"]),
        ("٣٫ ١٢", ["3", "12"]),
        ("(42)", ["42"]),
        ("13.4 g/dl, €5/kg", ["13.4", "5"]),
    ],
)
def test_numbers_are_read_in_any_notation(text: str, values: list[str]) -> None:
    assert read(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-05",
        "12 March 2024",
        "6:40",
        "7 pm",
        "10-12",
        "1/2",
        "192.168.0.1",
        "3.2.1",
        "007",
        "0171",
        "1st",
        "HQ-2024-0917",
        "A4",
        ".5",
        "9" * 31,
        "1,2,3",
        "1 20",
        "abc",
        "",
    ],
)
def test_what_is_no_number_by_itself_is_not_read(text: str) -> None:
    found = read(text)
    assert found == [] or text == "1 20"  # two numbers
    assert "120" not in found


def test_three_digits_behind_a_mark_are_read_as_the_document_writes() -> None:
    assert read("1.200 kg") == ["1.200"]
    assert read("1.200 kg", comma=True) == ["1200"]
    assert read("1,200 kg") == ["1200"]
    assert read("1,200 kg", comma=True) == ["1.200"]
    assert read("1.200 €") == read("€1,200", comma=True) == ["1200"], "money has no three decimals"
    assert writes_decimal_comma("49,90 € and 0,6 l")
    assert not writes_decimal_comma("49.90 and 1,200.50, on 12.03.2024")


@given(texts)
def test_every_number_stands_where_it_says_at_the_borders_of_words(text: str) -> None:
    begins = {start for start, _ in chunks(text)}
    ends = {end for _, end in chunks(text)}
    for one in numbers(text):
        assert one.start in begins
        assert one.end in ends
        assert any(char.isdecimal() for char in text[one.start : one.end])


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=2), st.sampled_from([",.", ".,"]))
def test_what_was_written_with_groups_is_read_back(value: Decimal, marks: str) -> None:
    group, point = marks[0], marks[1]
    text = f"{value:,.2f}".replace(",", "_").replace(".", point).replace("_", group)
    comma = point == ","
    assert [one.value for one in numbers(f"x {text} y", decimal_comma=comma)] == [value]
