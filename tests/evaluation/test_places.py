import pytest

from fourcorners.evaluation.places import Quote, cited_shares, gold_places, is_hit
from fourcorners.evaluation.rows import Row
from fourcorners.grounding.evidence import Span

TEXT = "Bob won the race. It began at 9. Al, who began at 9 too, lost."


def row(**changes: object) -> Row:
    return Row(**{"question": "?", "context": (TEXT,), "answers": ("9",), **changes})  # type: ignore[arg-type]


def quote(text: str, *documents: str) -> Quote:
    context = documents or (TEXT,)
    places = [Span(n, one.index(text), one.index(text) + len(text)) for n, one in enumerate(context) if text in one]
    return Quote(text, tuple(places))


def test_gold_places_are_the_answers_wherever_they_stand_or_where_they_are_said_to() -> None:
    assert gold_places(row(), sentences=False) == (Span(0, 30, 31), Span(0, 50, 51))
    assert gold_places(row(answer_starts=(30,)), sentences=False) == (Span(0, 30, 31),)
    assert gold_places(row(answer_starts=(30,)), sentences=True) == (Span(0, 18, 32),)
    assert gold_places(row(selected=("Bob won the race.",)), sentences=False) == (Span(0, 0, 17),)
    assert gold_places(row(answers=("Zoe",)), sentences=True) == ()


def test_a_hit_is_one_quote_that_holds_an_answer() -> None:
    assert is_hit(row(), [quote("Bob won the race."), quote("It began at 9.")])
    both = [quote("Bob won the race."), quote("It began at 9.")]
    assert not is_hit(row(answers=("Bob won the race. It began",)), both)
    assert not is_hit(row(), [])


def test_an_answer_that_was_cut_out_of_a_word_is_found_there_and_only_then() -> None:
    assert is_hit(row(answers=("the rac",)), [quote("Bob won the race.")])
    elsewhere = row(answers=("race",), context=("A race or two races.",))
    assert not is_hit(elsewhere, [Quote("two races", (Span(0, 10, 19),))])


def test_a_hit_is_also_the_greater_part_of_a_selected_sentence() -> None:
    chosen = row(answers=(), selected=("Al, who began at 9 too, lost.",))
    assert is_hit(chosen, [quote("who began at 9")])
    assert not is_hit(chosen, [quote("Bob won the race.")])


def test_shares_of_characters() -> None:
    gold = [Span(0, 10, 20)]
    assert cited_shares(gold, [Quote("x", (Span(0, 15, 25),))]) == (0.5, 0.5)
    assert cited_shares(gold, [Quote("x", (Span(0, 10, 15),)), Quote("y", (Span(0, 30, 45),))]) == (0.25, 0.5)
    assert cited_shares(gold, [Quote("x", (Span(1, 10, 20),))]) == (0.0, 0.0)
    assert cited_shares(gold, []) is None
    assert cited_shares([], [Quote("x", (Span(0, 0, 1),))]) is None


def test_of_equal_words_in_several_places_the_gold_one_counts() -> None:
    assert cited_shares([Span(0, 10, 12)], [Quote("40", (Span(0, 0, 2), Span(0, 10, 12)))]) == (1.0, 1.0)


@pytest.mark.parametrize("sentences", [False, True])
def test_several_documents(sentences: bool) -> None:
    several = row(context=("Nothing here.", "It is 9."), answers=("9",))
    (span,) = gold_places(several, sentences=sentences)
    assert span == (Span(1, 0, 8) if sentences else Span(1, 6, 7))
