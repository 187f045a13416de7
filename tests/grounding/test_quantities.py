from decimal import Decimal

import pytest

from fourcorners.grounding.number_words import spelled_number
from fourcorners.grounding.quantities import Fact, agrees, facts_in
from fourcorners.grounding.words import fold

EQUAL = [
    ("3,000", "3000", "english"),
    ("3.000", "3000", "german"),
    ("3 000", "3000", "french"),
    ("1,5 Liter", "1.5 litres", "german"),
    ("5 %", "5 percent", "english"),
    ("5 per cent", "5%", "english"),
    ("three", "3", "english"),
    ("twenty-five", "25", "english"),
    ("two hundred and fifty", "250", "english"),
    ("three thousand five hundred", "3,500", "english"),
    ("48 million", "48,000,000", "english"),
    ("fünfundzwanzig", "25", "german"),
    ("zweihundertfünfzig", "250", "german"),
    ("quatre-vingt-dix", "90", "french"),
    ("1 March 2024", "March 1, 2024", "english"),
    ("1 March 2024", "2024-03-01", "english"),
    ("1. März 2024", "01.03.2024", "german"),
    ("le 1er mars 2024", "1 mars 2024", "french"),
    ("March 2024", "12 March 2024", "english"),
    ("2024", "12 March 2024", "english"),
    ("9:15 pm", "21:15", "english"),
    ("noon", "12:00", "english"),
    ("17 Uhr", "17:00", "german"),
    ("1.5 km", "1500 m", "english"),
    ("90 minutes", "1.5 hours", "english"),
    ("20 cents", "0.20 euros", "english"),
    ("€59", "59 euros", "english"),
    ("5kg", "5 kilograms", "english"),
    ("½ litre", "0.5 l", "english"),
    ("twice", "two times", "english"),
    ("third", "3rd", "english"),
    ("a dozen", "12", "english"),
    ("Mondays", "Monday", "english"),
    ("-5 °C", "−5 °C", "english"),
]
DIFFERENT = [
    ("3,000", "300", "english"),
    ("3.5", "3,500", "english"),
    ("1.05", "1.5", "english"),
    ("5 %", "5 kg", "english"),
    ("5 kg", "5 g", "english"),
    ("5 m", "5 km", "english"),
    ("5 weeks", "5 months", "english"),
    ("€59", "$59", "english"),
    ("1 March 2024", "3 January 2024", "english"),
    ("1 March 2024", "1 March 2023", "english"),
    ("12 March 2024", "March 2024", "english"),
    ("9:15 pm", "9:15 am", "english"),
    ("9 pm", "9 am", "english"),
    ("21:15", "21:51", "english"),
    ("Monday", "Tuesday", "english"),
    ("5 °C", "5 °F", "english"),
    ("5 °C", "-5 °C", "english"),
    ("fourteen", "forty", "english"),
    ("B12", "B13", "english"),
    ("info@a.de", "sales@a.de", "english"),
    ("1.2.3", "1.2.4", "english"),
    ("007", "7", "english"),
    ("first", "second", "english"),
    ("48 million", "48 billion", "english"),
]


def one(text: str, language: str) -> Fact:
    (fact,) = facts_in(f"It is {text} there", language)
    return fact


@pytest.mark.parametrize(("claimed", "given", "language"), EQUAL)
def test_equal_values_agree_however_they_are_written(claimed: str, given: str, language: str) -> None:
    assert agrees(one(claimed, language), one(given, "english" if language == "english" or "." in given else language))


@pytest.mark.parametrize(("claimed", "given", "language"), DIFFERENT)
def test_other_values_never_do(claimed: str, given: str, language: str) -> None:
    assert not agrees(one(claimed, language), one(given, language))


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("at least 5 kg", "≥"),
        ("5 kg or more", "≥"),
        ("no more than 5 kg", "≤"),
        ("up to 5 kg", "≤"),
        ("more than 5 kg", ">"),
        ("less than 5 kg", "<"),
        ("mindestens 5 kg", "≥"),
        ("5 kg", ""),
    ],
)
def test_bounds_are_seen(text: str, bound: str) -> None:
    assert one(text, "english").bound == bound


def test_a_range_shares_its_unit() -> None:
    assert [fact.unit for fact in facts_in("5 to 7 days", "english")] == [
        fact.unit for fact in facts_in("5 days, 7 days", "english")
    ]


def test_pronouns_and_articles_are_no_numbers() -> None:
    assert facts_in("One of them is a good one", "english") == []


@pytest.mark.parametrize("value", [0, 7, 12, 21, 80, 99, 100, 101, 342, 999])
def test_every_language_spells_what_it_reads(value: int) -> None:
    from fourcorners.grounding import number_words

    for language in ("english", "german", "french"):
        for text in getattr(number_words, f"_{language}")(value):
            words = fold(text.replace("-", " ")).split()
            assert spelled_number(words, language) == (Decimal(value), len(words))
