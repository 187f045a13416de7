import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.evaluation import scoring
from tests.support import texts


def test_normalised_as_in_squads_official_script() -> None:
    assert scoring.normalized("  The Cat, an  a-b “sat”! ") == "cat ab “sat”"
    assert scoring.normalized("theatre another") == "theatre another"


@pytest.mark.parametrize(
    ("answer", "golds", "exact", "f1"),
    [
        ("The red button.", ["red button"], 1.0, 1.0),
        ("a red fox jumps", ["the red dog"], 0.0, 0.4),  # red of 3 and of 2: 2 * 1 / 5
        ("red", ["blue", "dark red"], 0.0, 2 / 3),
        ("no no yes", ["no yes yes"], 0.0, 2 / 3),  # each word as often as both have it
        ("", [], 1.0, 1.0),
        ("something", [], 0.0, 0.0),
        ("", ["Bob"], 0.0, 0.0),
        ("the", ["a"], 1.0, 1.0),  # nothing is left of the gold answer: as if there were none
    ],
)
def test_exact_match_and_f1(answer: str, golds: list[str], exact: float, f1: float) -> None:
    assert scoring.exact_match(answer, golds) == exact
    assert scoring.f1_score(answer, golds) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("1.2 kg", "1.2", True),
        ("1.2", "1.2 kilograms", True),
        ("1.2 kg", "1.2 kilograms", True),
        ("1.2 kg", "1.2 g", False),
        ("12", "1.2", False),
        ("€12.50", "12.50", True),
        ("€12.50", "$12.50", False),
        ("1,200 euros", "1200", True),
        ("the red button", "red button", True),
        ("red", "red button", False),
        ("kg", "", False),
        ("90 minutes long", "90", False),
    ],
)
def test_a_unit_that_only_one_has_is_forgiven(answer: str, gold: str, same: bool) -> None:
    assert scoring.lenient_match(answer, [gold]) == float(same)


@pytest.mark.parametrize(
    ("answer", "golds", "share"),
    [
        ("police kill the gunman", ["Police killed the gunman!"], 0.75),  # Lin's own example
        ("the gunman kill police", ["police killed the gunman"], 0.5),
        ("a b c", ["a b c d", "x"], 6 / 7),
        ("x", ["a b"], 0.0),
        ("", ["a"], 0.0),
        ("a", [], 0.0),
    ],
)
def test_rouge_l(answer: str, golds: list[str], share: float) -> None:
    assert scoring.rouge_l(answer, golds) == pytest.approx(share)


@given(st.text("abc", max_size=30), st.text("abc", max_size=30))
def test_the_longest_common_subsequence_is_that_of_the_textbook(one: str, other: str) -> None:
    row = [0] * (len(other) + 1)
    for letter in one:
        before = list(row)
        for place, opposite in enumerate(other, start=1):
            row[place] = before[place - 1] + 1 if letter == opposite else max(before[place], row[place - 1])
    assert scoring.longest_common_subsequence(one, other) == row[-1]


@pytest.mark.parametrize(
    ("text", "gold", "there"),
    [
        ("It costs 12 euros.", "12", True),
        ("It began in 2012.", "12", False),
        ("It weighs 1.2 kg.", "2", False),
        ("It weighs 1.2 kg.", "1", False),
        ("It weighs 1.2.", "1.2", True),
        ("The cat\n sat.", "CAT sat", True),
        ("concatenate", "cat", False),
        ("今日は晴れ", "日は", True),
        ("anything", " ", False),
    ],
)
def test_what_a_quote_holds(text: str, gold: str, there: bool) -> None:
    assert scoring.holds(text, gold) is there


def test_the_share_of_words_that_are_copied() -> None:
    context = ["The boiler holds 90 litres of water.", "Bob won."]
    assert scoring.copied_share("the boiler holds 90 litres", context) == 1.0
    assert scoring.copied_share("So the boiler holds 90 litres, indeed.", context) == 5 / 7
    assert scoring.copied_share("The boiler has 90 litres of", context) == 0.0
    assert scoring.copied_share("Bob won.\nWe lost", context) == 0.5
    assert scoring.copied_share("", context) == 0.0


def test_what_is_verbatim() -> None:
    context = ["Bob won.\nAl lost.", "It rained."]
    assert scoring.is_verbatim("Bob won.\nAl lost.", context)
    assert scoring.is_verbatim("It rained.\nBob won.", context)
    assert not scoring.is_verbatim("It rained. Bob won.", context)
    assert not scoring.is_verbatim("bob won.", context)
    assert not scoring.is_verbatim("", context)


@given(texts, texts)
def test_any_text_can_be_scored(one: str, other: str) -> None:
    for figure in (scoring.exact_match, scoring.f1_score, scoring.lenient_match, scoring.rouge_l):
        assert 0 <= figure(one, [other]) <= 1
        assert figure(one, [one]) == 1 or not scoring.normalized(one) or figure is scoring.rouge_l
    assert 0 <= scoring.copied_share(one, [other]) <= 1
    scoring.holds(one, other)


def test_a_long_text_is_no_trouble() -> None:
    words = random.Random(0).choices(["a", "b", "c"], k=4000)
    assert scoring.longest_common_subsequence(words, words) == 4000
