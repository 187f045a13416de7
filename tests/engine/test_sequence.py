from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcorners.engine.cache import Place
from fourcorners.engine.program import Forward
from fourcorners.engine.request import Request
from fourcorners.engine.sequence import Sequence, check
from fourcorners.errors import ContextOverflow, EngineError

few_tokens = st.lists(st.integers(0, 1), max_size=8)


def sequence(tokens: list[int], n_done: int = 0, n_logits: int = 0) -> Sequence:
    made = Sequence(Request(_ for _ in ()), 0, tokens, n_logits)
    made.place = Place(0, n_cells=n_done)
    return made


@settings(max_examples=5 * settings().max_examples)
@given(few_tokens, few_tokens.filter(bool), st.data())
def test_what_is_evaluated_already_is_kept_as_far_as_no_logits_are_wanted(
    before: list[int], tokens: list[int], data: Any
) -> None:
    position, n_logits = data.draw(st.integers(0, len(before))), data.draw(st.integers(0, len(tokens)))
    made = sequence(list(before), len(before))
    assert made.array.tolist() == before
    kept = made.asks(Forward(position, tuple(tokens), n_logits))
    after = [*before[:position], *tokens]
    assert made.tokens == made.array.tolist() == after
    assert made.reusable.tolist() == after[: len(after) - n_logits]
    fits = [n for n in range(len(after) - n_logits + 1) if before[:n] == after[:n] and n <= len(before)]
    assert kept == max(fits)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_in_whatever_batches_just_the_rows_asked_for_come(n_tokens: int, n_logits: int, n_first: int) -> None:
    n_logits, n_first = min(n_logits, n_tokens), min(n_first, n_tokens)
    made = sequence([0] * n_tokens, 0, n_logits)
    rows = made.n_rows_of(n_first)
    assert made.place is not None
    made.place.n_cells = n_first
    assert rows + made.n_rows_of(n_tokens - n_first) == n_logits
    assert rows == max(0, n_first - (n_tokens - n_logits))


def test_rows_of_several_batches_are_put_together() -> None:
    made = sequence([0] * 3, 0, 3)
    first, last = np.ones((2, 5), np.float32), np.zeros((1, 5), np.float32)
    assert made.reply(last) is last
    made.rows = [first]
    assert made.reply(last).tolist() == [*first.tolist(), *last.tolist()]
    made.asks(Forward(3, (0,)))
    assert made.rows == []


def test_a_new_sequence_has_all_before_it() -> None:
    made = Sequence(Request(_ for _ in ()), 0)
    made.asks(Forward(0, (1, 2, 3)))
    assert (made.n_done, made.n_pending, made.n_logits) == (0, 3, 1)


def test_beyond_the_window_nothing_is_evaluated() -> None:
    made = sequence([0] * 8)
    check(Forward(8, (0, 0)), made, 10, 5)
    with pytest.raises(ContextOverflow, match="needs 11 tokens, but the window holds 10"):
        check(Forward(8, (0, 0, 0)), made, 10, 5)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (Forward(9, (0,)), "a step at 9 with 1 tokens does not follow 8 tokens"),
        (Forward(-1, (0,)), "at -1"),
        (Forward(8, ()), "with 0 tokens"),
        (Forward(8, (), 0), "with 0 tokens"),
        (Forward(8, (0,), 2), "does not follow"),
        (Forward(8, (0,), -1), "does not follow"),
        (Forward(0, (0, 5)), "no token 5: the vocabulary has 5"),
        (Forward(0, (0, -1)), "no token -1"),
    ],
)
def test_what_must_not_reach_native_code_does_not(forward: Forward, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check(forward, sequence([0] * 8), 100, 5)
