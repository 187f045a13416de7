"""What the engine relies on in llama.cpp: slots that share cells, cells that come and go, and rows in their order."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fourcorners.engine.lane import Aborted, DecodeFault, OutOfCells, Span
from fourcorners.engine.llama_lane import LlamaLane
from fourcorners.engine.runner import MIN_CELLS, Runner

PROMPT = [20 + i * 7 % 900 for i in range(60)]
OTHER = [30 + i * 11 % 900 for i in range(60)]
NOISE = 0.1
"""Sizes of batches lead to other kernels; on this model they differ by 0.02. Logits of other tokens, by 5 and more."""


@pytest.fixture
def lane(runner: Runner) -> Iterator[LlamaLane]:
    made = LlamaLane(runner._model, n_cells=MIN_CELLS, n_slots=5, n_threads=1, n_vocab=runner.vocabulary.n_tokens)
    yield made
    made.close()


def rows_of(lane: LlamaLane, tokens: list[int], n_logits: int = 1, slot: int = 0, position: int = 0) -> Any:
    (rows,) = lane.decode([Span(slot, position, tokens, n_logits)])
    return rows.copy()


def alone(lane: LlamaLane, tokens: list[int], n_logits: int = 1) -> Any:
    lane.clear()
    return rows_of(lane, tokens, n_logits)


def fill(lane: LlamaLane, slot: int, n: int) -> None:
    for start in range(0, n, 512):
        rows_of(lane, [20] * min(512, n - start), 0, slot, start)


def assert_same(rows: Any, others: Any) -> None:
    assert rows.shape == others.shape
    assert np.abs(rows - others).max() < NOISE


def assert_empty(lane: LlamaLane) -> None:
    """All cells can be had."""
    fill(lane, 0, lane.n_cells)
    lane.remove(0, 0, -1)


def test_several_spans_at_once_get_the_rows_that_they_get_alone(lane: LlamaLane) -> None:
    wanted = [alone(lane, PROMPT, 5), alone(lane, OTHER[:20], 1), alone(lane, [*PROMPT[:10], 7, 8], 2)]
    lane.clear()
    rows_of(lane, PROMPT[:10], slot=3)
    spans = [Span(2, 0, PROMPT, 5), Span(0, 0, OTHER[:20], 1), Span(1, 0, OTHER, 0), Span(3, 10, (7, 8), 2)]
    first, second, none, last = lane.decode(spans)
    assert none.shape == (0, lane._n_vocab)
    for rows, others in zip((first, second, last), wanted, strict=True):
        assert_same(rows, others)
    assert np.abs(first[-1] - second[-1]).max() > 10 * NOISE


def test_rows_come_in_the_order_of_the_tokens(lane: LlamaLane) -> None:
    many = alone(lane, PROMPT, 9)
    for back in range(9):
        assert_same(many[8 - back], alone(lane, PROMPT[: len(PROMPT) - back])[0])


def test_rows_are_views_that_the_next_decode_overwrites(lane: LlamaLane) -> None:
    (rows,) = lane.decode([Span(0, 0, PROMPT, 1)])
    assert not rows.flags.owndata
    before = rows.copy()
    (others,) = lane.decode([Span(1, 0, OTHER, 1)])
    assert np.shares_memory(rows, others)
    assert np.abs(before - others).max() > 10 * NOISE


def test_a_slot_goes_on_where_it_was(lane: LlamaLane) -> None:
    whole = alone(lane, PROMPT)
    lane.clear()
    rows_of(lane, PROMPT[:25], 0)
    rows_of(lane, PROMPT[25:59], 0, position=25)
    assert_same(rows_of(lane, PROMPT[59:], position=59), whole)


def test_copied_cells_are_shared_and_neither_slot_sees_what_the_other_adds(lane: LlamaLane) -> None:
    wanted = [alone(lane, [*PROMPT, 7, 7]), alone(lane, [*PROMPT[:40], 9, 9])]
    lane.clear()
    rows_of(lane, PROMPT)
    lane.copy(0, 1, 0, 40)
    assert_same(rows_of(lane, [9, 9], slot=1, position=40), wanted[1])
    assert_same(rows_of(lane, [7, 7], slot=0, position=60), wanted[0])
    # 60 + 2 + 2 cells are in use, not 40 more.
    fill(lane, 2, lane.n_cells - 64)
    with pytest.raises(OutOfCells):
        rows_of(lane, [5], slot=3)


def test_shared_cells_are_free_when_nobody_holds_them_any_more(lane: LlamaLane) -> None:
    wanted = alone(lane, [*PROMPT, 7])
    lane.clear()
    rows_of(lane, PROMPT)
    lane.copy(0, 1, 0, 60)
    lane.remove(0, 0, -1)
    assert_same(rows_of(lane, [7], slot=1, position=60), wanted)
    lane.remove(1, 0, -1)
    assert_empty(lane)


def test_removed_positions_can_be_filled_anew(lane: LlamaLane) -> None:
    wanted = alone(lane, [*PROMPT[:30], *OTHER[:5]])
    lane.clear()
    rows_of(lane, PROMPT)
    lane.remove(0, 30, -1)
    assert_same(rows_of(lane, OTHER[:5], position=30), wanted)
    lane.remove(0, 0, -1)
    lane.remove(0, 0, -1)
    assert_empty(lane)


def test_what_was_saved_comes_back_as_it_was_in_any_slot(lane: LlamaLane) -> None:
    rows_of(lane, PROMPT[:59], 0)
    saved = lane.save(0, 0, 59)
    assert saved.n_bytes > 0
    kept = rows_of(lane, PROMPT[59:], position=59)
    lane.clear()
    rows_of(lane, OTHER, 0, slot=3)
    assert lane.load(3, saved)
    assert np.array_equal(rows_of(lane, PROMPT[59:], slot=3, position=59), kept)


def test_two_saved_runs_rejoin_to_what_they_were(lane: LlamaLane) -> None:
    rows_of(lane, PROMPT[:59], 0)
    upper, lower = lane.save(0, 0, 23), lane.save(0, 23, 59)
    kept = rows_of(lane, PROMPT[59:], position=59)
    lane.clear()
    for saved, start, end in ((upper, 0, 23), (lower, 23, 59)):
        assert lane.load(4, saved)
        lane.copy(4, 1, start, end)
    lane.remove(4, 0, -1)
    assert np.array_equal(rows_of(lane, PROMPT[59:], slot=1, position=59), kept)
    lane.remove(1, 0, -1)
    assert_empty(lane)


def test_saving_takes_no_cells_and_works_in_a_full_lane(lane: LlamaLane) -> None:
    fill(lane, 0, lane.n_cells)
    assert lane.save(0, 100, 400).n_bytes < lane.save(0, 0, lane.n_cells).n_bytes
    lane.remove(0, lane.n_cells - 1, -1)
    rows_of(lane, [5], slot=0, position=lane.n_cells - 1)


def test_loading_without_room_leaves_the_slot_empty_and_the_others_alone(lane: LlamaLane) -> None:
    wanted = alone(lane, [*OTHER, 7])
    lane.clear()
    rows_of(lane, PROMPT, 0)
    saved = lane.save(0, 0, 60)
    lane.clear()
    rows_of(lane, OTHER, 0, slot=1)
    fill(lane, 0, lane.n_cells - 60 - 59)
    assert not lane.load(2, saved)
    lane.remove(0, 0, -1)
    assert_same(rows_of(lane, [7], slot=1, position=60), wanted)
    lane.remove(1, 0, -1)
    assert_empty(lane)


def test_loading_replaces_what_the_slot_held(lane: LlamaLane) -> None:
    wanted = alone(lane, [*PROMPT, 7])
    lane.clear()
    rows_of(lane, PROMPT, 0)
    saved = lane.save(0, 0, 60)
    lane.clear()
    fill(lane, 0, 300)
    assert lane.load(0, saved)
    assert_same(rows_of(lane, [7], position=60), wanted)
    fill(lane, 1, lane.n_cells - 61)


@pytest.mark.parametrize("n_padding", [1, 7, 64])
def test_padding_changes_nothing_and_leaves_nothing_behind(lane: LlamaLane, n_padding: int) -> None:
    wanted = alone(lane, PROMPT, 3)
    lane.clear()
    (rows,) = lane.decode([Span(0, 0, PROMPT, 3)], n_padding)
    assert_same(rows, wanted)
    (more,) = lane.decode([Span(0, 60, [7], 1)], n_padding)
    assert_same(more, alone(lane, [*PROMPT, 7]))
    lane.clear()
    lane.decode([Span(0, 0, PROMPT, 1)], n_padding)
    fill(lane, 1, lane.n_cells - 60)


def test_a_batch_without_room_changes_nothing(lane: LlamaLane) -> None:
    wanted = alone(lane, [*PROMPT, 7])
    lane.clear()
    rows_of(lane, PROMPT, 0)
    fill(lane, 1, lane.n_cells - 80)
    for n_padding in (0, 10):
        with pytest.raises(OutOfCells):
            lane.decode([Span(0, 60, [7] * 11, 1), Span(2, 0, [5] * 10, 1)], n_padding)
    assert_same(rows_of(lane, [7], position=60), wanted)
    rows_of(lane, [5] * 19, slot=2)


def test_clearing_frees_all_slots(lane: LlamaLane) -> None:
    for slot in range(5):
        rows_of(lane, PROMPT, 0, slot)
    lane.clear()
    assert_empty(lane)


def test_what_does_not_follow_is_a_fault_and_the_lane_goes_on_when_cleared(lane: LlamaLane) -> None:
    wanted = alone(lane, PROMPT)
    for span in (Span(0, 61, [5], 1), Span(0, 60, [-1], 1), Span(0, 60, [10**6], 1)):
        with pytest.raises(DecodeFault):
            lane.decode([span])
    assert_same(alone(lane, PROMPT), wanted)


def test_closing_twice_is_harmless(lane: LlamaLane) -> None:
    lane.close()
    lane.close()


def test_a_batch_can_be_broken_off_from_another_thread_and_leaves_no_trace(lane: LlamaLane) -> None:
    wanted = alone(lane, PROMPT, 5)
    lane.clear()
    rows_of(lane, PROMPT[:10])
    started = time.perf_counter()
    rows_of(lane, [20] * 512, 0, slot=1)
    whole = time.perf_counter() - started
    lane.remove(1, 0, -1)
    threading.Timer(whole / 4, lane.abort).start()
    with pytest.raises(Aborted):
        lane.decode([Span(0, 10, [20] * 256, 0), Span(1, 0, [20] * 256, 1)], n_padding=3)
    assert_same(rows_of(lane, PROMPT[10:], 5, position=10), wanted)
    lane.clear()
    assert_empty(lane)


def test_breaking_off_hits_the_next_batch_where_none_is_under_way_and_only_that(lane: LlamaLane) -> None:
    lane.abort()
    with pytest.raises(Aborted):
        rows_of(lane, PROMPT)
    assert_same(rows_of(lane, PROMPT), alone(lane, PROMPT))
