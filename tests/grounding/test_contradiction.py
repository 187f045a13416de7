import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from fourcorners.grounding.contradiction import contradiction
from tests.support import questions, texts

DATA = Path(__file__).parents[2] / "benchmarks" / "data"


def pairs(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"contradictions_{name}.jsonl").read_text("utf-8").splitlines()]


def missed(name: str, *, contradict: bool) -> Iterator[dict[str, Any]]:
    for pair in pairs(name):
        if pair["contradiction"] is contradict:
            found = contradiction(pair["question"], pair["first"], pair["second"]) is not None
            if found is not contradict:
                yield pair


def test_the_sets_hold_what_they_say() -> None:
    for name, least in (("dev", 60), ("test", 75)):
        found = pairs(name)
        assert len(found) >= least
        assert least // 3 < sum(pair["contradiction"] for pair in found) < 2 * least // 3


@pytest.mark.parametrize(("name", "most"), [("dev", 2), ("test", 3)])
def test_contradictions_are_seen(name: str, most: int) -> None:
    assert len(list(missed(name, contradict=True))) <= most


@pytest.mark.parametrize(("name", "most"), [("dev", 1), ("test", 2)])
def test_sentences_on_different_things_raise_no_alarm(name: str, most: int) -> None:
    assert len(list(missed(name, contradict=False))) <= most


@pytest.mark.parametrize("name", ["dev", "test"])
def test_it_does_not_matter_which_comes_first(name: str) -> None:
    for pair in pairs(name):
        there = contradiction(pair["question"], pair["first"], pair["second"])
        back = contradiction(pair["question"], pair["second"], pair["first"])
        assert (there is None) == (back is None), pair


def test_it_says_where() -> None:
    first, second = "The ferry leaves at 6:40.", "The ferry leaves at 7:15 every morning."
    found = contradiction("When does the ferry leave?", first, second)
    assert found is not None
    assert (first[slice(*found.first)], second[slice(*found.second)]) == ("6:40", "7:15")


def test_what_the_context_is_about_counts() -> None:
    question, one, other = "When does the library open?", "It opens at 9:00.", "It opens at 10:00."
    library = "The library is in Main Street."
    assert contradiction(question, one, other, first_context=library, second_context="Our library is new.")
    assert not contradiction(question, one, other, first_context=library, second_context="The pool is new.")


@given(questions, texts, texts)
def test_any_text_is_borne(question: str, first: str, second: str) -> None:
    assert contradiction(question, first, first) is None
    found = contradiction(question, first, second)
    if found is not None:
        assert 0 <= found.first[0] < found.first[1] <= len(first)
        assert 0 <= found.second[0] < found.second[1] <= len(second)
