import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.grounding.iso_dates import dates, times
from tests.support import texts


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-03-05", "2024-03-05"),
        ("on 5 March 2024.", "2024-03-05"),
        ("5th of March, 2024", "2024-03-05"),
        ("March 5, 2024", "2024-03-05"),
        ("Mar. 5th 2024", "2024-03-05"),
        ("05.03.2024", "2024-03-05"),
        ("5. März 2024", "2024-03-05"),
        ("le 1er août 2024", "2024-08-01"),
        ("5 de marzo de 2024", "2024-03-05"),
        ("2024/03/05", "2024-03-05"),
        ("25/03/2024", "2024-03-25"),
        ("03/25/2024", "2024-03-25"),
        ("05/05/2024", "2024-05-05"),
    ],
)
def test_dates_are_read_and_normalised(text: str, iso: str) -> None:
    (one,) = dates(text)
    assert one.iso == iso
    assert dates(f"Due: {text} at noon")[0].iso == iso


@pytest.mark.parametrize(
    "text",
    ["03/04/2024", "31.02.2024", "2024-13-01", "5 Marchy 2024", "March 2024", "1.2024-03-05", "12.3.4.2024", "5/3/24"],
)
def test_what_is_no_certain_date_is_not_read(text: str) -> None:
    assert dates(text) == []


def test_a_time_beside_the_date_belongs_to_it() -> None:
    assert dates("2024-03-05T10:30Z", with_time=True)[0].iso == "2024-03-05T10:30:00Z"
    assert dates("5 March 2024 at 2:15 pm", with_time=True)[0].iso == "2024-03-05T14:15:00"
    assert dates("5 March 2024, in the morning", with_time=True)[0].iso == "2024-03-05"
    assert [one.iso for one in times("from 6:40 to 12:05 am; 25:00, 1:2:3, 12:60")] == ["06:40:00", "00:05:00"]


@given(st.dates(), texts)
def test_a_date_is_found_at_its_place_in_any_text(day: object, text: str) -> None:
    whole = f"{text} . {day} . {text}"
    found = [one for one in dates(whole) if one.iso == str(day)]
    assert found
    assert any(whole[one.start : one.end] == str(day) for one in found)
