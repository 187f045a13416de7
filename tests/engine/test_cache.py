from collections.abc import Sequence
from typing import Any

import pytest

from fourcorners.engine.cache import Cache, Place, token_array
from fourcorners.engine.lane import Span
from tests.engine.made_up_lane import BYTES_PER_CELL, MadeUpLane

CONTEXT = [1, 2, 3, 4, 5, 6, 7, 8]


def lanes_of(cache: Cache) -> tuple[MadeUpLane, MadeUpLane]:
    assert isinstance(cache.main, MadeUpLane)
    return cache.main, cache.apart if isinstance(cache.apart, MadeUpLane) else cache.main


def cache_of(
    n_cells: int = 100, *, has_apart: bool = False, n_parked: int = 1_000, can_share: bool = True, n_slots: int = 5
) -> Cache:
    """``n_parked`` is how many cells may be parked."""
    apart = MadeUpLane(n_cells, 3) if has_apart else None
    return Cache(MadeUpLane(n_cells, n_slots), apart, n_parked * BYTES_PER_CELL, can_share=can_share)


def evaluated(cache: Cache, place: Place, tokens: Sequence[int]) -> None:
    """Have the rest of ``tokens`` evaluated in ``place``."""
    rest = tokens[place.n_cells :]
    lane = lanes_of(cache)[place.is_apart]
    lane.decode([Span(place.slot, place.n_cells, rest, 0)])
    cache.grow(place, len(rest))
    assert lane.tokens_in(place.slot) == list(tokens)


def entered(cache: Cache, tokens: Sequence[int], *, apart: bool = False, shares: bool = True) -> Place:
    """A sequence that has all of ``tokens``."""
    place = (cache.enter_apart if apart else cache.enter)(token_array(list(tokens)))
    if place.n_cells < len(tokens):
        evaluated(cache, place, tokens)
    if shares:
        cache.share(place, token_array(list(tokens)))
    return place


def known(cache: Cache, tokens: Sequence[int]) -> int:
    return cache.tree.match(token_array(list(tokens)))


def check(cache: Cache) -> None:
    """The books say what is in the lanes."""
    main, apart = lanes_of(cache)
    assert cache.n_free_cells == main.n_cells - main.n_used
    if cache.apart is not None:
        assert cache.n_free_apart_cells == apart.n_cells - apart.n_used


def test_an_empty_cache_gives_an_empty_place() -> None:
    cache = cache_of()
    place = cache.enter(token_array(CONTEXT))
    assert (place.n_cells, place.n_shared, place.is_apart) == (0, 0, False)
    assert cache.n_free_cells == 100


def test_cells_that_two_share_are_counted_once() -> None:
    cache = cache_of()
    first = entered(cache, [*CONTEXT, 9])
    second = cache.enter(token_array([*CONTEXT, 10, 11]))
    assert second.n_cells == second.n_shared == len(CONTEXT)
    evaluated(cache, second, [*CONTEXT, 10, 11])
    assert cache.n_free_cells == 100 - len(CONTEXT) - 1 - 2
    check(cache)
    assert lanes_of(cache)[0].tokens_in(first.slot) == [*CONTEXT, 9], "sharing takes nothing from the first"


def test_only_what_was_shared_is_found() -> None:
    cache = cache_of()
    place = entered(cache, CONTEXT, shares=False)
    assert known(cache, CONTEXT) == 0
    cache.share(place, token_array([*CONTEXT, 9, 9, 9]))
    assert known(cache, [*CONTEXT, 9]) == len(CONTEXT), "not what is only asked for yet"
    assert place.n_shared == len(CONTEXT)
    check(cache)


def test_the_same_computed_twice_is_kept_once() -> None:
    cache = cache_of()
    first = entered(cache, CONTEXT, shares=False)
    second = entered(cache, [*CONTEXT, 9], shares=False)
    assert lanes_of(cache)[0].n_used == 17
    cache.share(first, token_array(CONTEXT))
    cache.share(second, token_array([*CONTEXT, 9]))
    assert lanes_of(cache)[0].n_used == 9
    assert lanes_of(cache)[0].tokens_in(second.slot) == [*CONTEXT, 9]
    check(cache)


def test_sharing_goes_on_where_it_was() -> None:
    cache = cache_of()
    place = entered(cache, CONTEXT)
    evaluated(cache, place, [*CONTEXT, 9, 10])
    cache.share(place, token_array([*CONTEXT, 9, 10]))
    cache.share(place, token_array([*CONTEXT, 9, 10]))
    assert place.n_shared == 10
    check(cache)


def test_what_is_cut_is_gone_for_the_one_but_not_for_the_other() -> None:
    cache = cache_of()
    first, second = entered(cache, [*CONTEXT, 9]), entered(cache, [*CONTEXT, 10])
    assert cache.cut(second, 4) == 4
    assert (second.n_cells, second.n_shared) == (4, 4)
    assert [lanes_of(cache)[0].tokens_in(place.slot) for place in [first, second]] == [[*CONTEXT, 9], CONTEXT[:4]]
    check(cache)
    evaluated(cache, second, [*CONTEXT[:4], 0, 0])
    assert lanes_of(cache)[0].tokens_in(first.slot) == [*CONTEXT, 9]
    check(cache)


def test_what_is_cut_within_private_cells_costs_no_copy() -> None:
    cache = cache_of()
    place = entered(cache, CONTEXT)
    evaluated(cache, place, [*CONTEXT, 9, 10, 11])
    assert cache.cut(place, 9) == 9
    assert cache.cut(place, 12) == 9, "there is nothing to cut"
    assert (place.n_cells, place.n_shared, cache.n_parked) == (9, 8, 0)
    check(cache)


def test_what_nobody_else_holds_is_parked_before_it_is_cut() -> None:
    cache = cache_of()
    place = entered(cache, CONTEXT)
    cache.cut(place, 0)
    assert (place.n_cells, place.leaf, lanes_of(cache)[0].n_used) == (0, None, 0)
    assert known(cache, CONTEXT) == 8
    assert entered(cache, CONTEXT).n_shared == 8
    assert lanes_of(cache)[0].n_evaluated == 8


def test_cutting_keeps_to_the_budget() -> None:
    cache = cache_of(n_parked=5)
    place = entered(cache, CONTEXT)
    cache.cut(place, 2)
    assert cache.tree.n_parked_bytes == 0
    assert known(cache, CONTEXT) == 2


def test_what_is_left_is_parked_and_restored_on_demand() -> None:
    cache = cache_of()
    main, _ = lanes_of(cache)
    cache.leave(entered(cache, [*CONTEXT, 9]))
    assert (main.n_used, cache.n_free_cells, cache.n_parked) == (0, 100, 1)
    assert cache.n_to_restore(token_array([*CONTEXT, 9])) == 9
    place = entered(cache, [*CONTEXT, 9])
    assert place.n_shared == 9
    assert main.tokens_in(place.slot) == [*CONTEXT, 9]
    assert (main.n_evaluated, cache.n_restored) == (9, 1)
    assert cache.n_to_restore(token_array([*CONTEXT, 9])) == 0, "it is there now"
    check(cache)
    cache.leave(place)
    assert main.n_saves == 1, "the copy was kept"


def test_private_cells_are_not_parked() -> None:
    cache = cache_of()
    place = entered(cache, CONTEXT)
    evaluated(cache, place, [*CONTEXT, 9, 9])
    cache.leave(place)
    assert known(cache, [*CONTEXT, 9, 9]) == 8
    assert cache.tree.n_parked_bytes == 80


def test_what_somebody_else_holds_is_not_parked() -> None:
    cache = cache_of()
    first, second = entered(cache, CONTEXT), entered(cache, CONTEXT)
    cache.leave(first)
    assert cache.n_parked == 0
    assert known(cache, CONTEXT) == 8
    cache.leave(second)
    assert cache.n_parked == 1
    check(cache)


def test_a_copy_is_loaded_once_for_all_of_its_parts() -> None:
    cache = cache_of()
    cache.leave(entered(cache, CONTEXT))
    assert len(cache.tree.path(token_array(CONTEXT[:3]))) == 1
    place = entered(cache, CONTEXT)
    assert (place.n_shared, cache.n_restored, lanes_of(cache)[0].n_loads) == (8, 1, 1)
    check(cache)


def test_the_room_for_a_whole_copy_is_asked_for_where_a_part_is_wanted() -> None:
    cache = cache_of(20)
    cache.leave(entered(cache, CONTEXT))
    assert cache.n_to_restore(token_array(CONTEXT[:2])) == 8
    cache.tree.path(token_array(CONTEXT[:2]))
    assert cache.n_to_restore(token_array(CONTEXT[:2])) == 8
    assert cache.n_to_restore(token_array(CONTEXT)) == 8
    entered(cache, CONTEXT[:2])
    assert cache.n_to_restore(token_array(CONTEXT)) == 8, "its first part is there, but is loaded again"


def test_without_room_to_restore_it_is_evaluated_again() -> None:
    cache = cache_of(20)
    cache.leave(entered(cache, CONTEXT))
    other = entered(cache, [0] * 14)
    place = cache.enter(token_array(CONTEXT))
    assert place.n_cells == 0
    check(cache)
    cache.leave(other)
    evaluated(cache, place, CONTEXT)
    cache.share(place, token_array(CONTEXT))
    check(cache)


def test_a_copy_that_does_not_load_is_forgotten_and_what_came_before_it_holds() -> None:
    cache = cache_of()
    main, _ = lanes_of(cache)
    first = entered(cache, CONTEXT[:4])
    cache.leave(entered(cache, CONTEXT))
    main.n_refused = 1
    place = cache.enter(token_array(CONTEXT))
    assert (place.n_cells, known(cache, CONTEXT)) == (4, 4)
    assert main.tokens_in(place.slot) == CONTEXT[:4]
    check(cache)
    cache.leave(first)
    cache.leave(place)
    assert main.n_used == 0


def test_of_what_is_parked_the_oldest_goes_when_the_budget_is_spent() -> None:
    cache = cache_of(n_parked=20)
    for first in range(3):
        cache.leave(entered(cache, [first] * 8))
    assert [known(cache, [first] * 8) for first in range(3)] == [0, 8, 8]
    assert (cache.n_forgotten, cache.tree.n_parked_bytes) == (1, 160)


def test_with_no_budget_only_running_sequences_share() -> None:
    cache = cache_of(n_parked=0)
    first = entered(cache, CONTEXT)
    second = entered(cache, CONTEXT)
    assert second.n_shared == 8
    cache.leave(first)
    assert known(cache, CONTEXT) == 8
    cache.leave(second)
    assert known(cache, CONTEXT) == 0
    assert lanes_of(cache)[0].n_saves == 0
    check(cache)


def test_slots_are_given_and_taken_back() -> None:
    cache = cache_of(n_slots=3)
    places = [cache.enter(token_array([])), cache.enter(token_array([]))]
    assert {place.slot for place in places} == {0, 1}, "the last one is for cells on their way"
    assert not cache.has_slot()
    cache.leave(places[0])
    assert cache.enter(token_array([])).slot == places[0].slot


def test_where_nothing_can_be_shared_nothing_is() -> None:
    cache = cache_of(can_share=False)
    first, second = entered(cache, CONTEXT), entered(cache, CONTEXT)
    assert (first.n_shared, second.n_shared, cache.n_free_cells) == (0, 0, 84)
    assert cache.cut(second, 8) == 8
    assert cache.cut(second, 5) == 0, "a part can't be taken out"
    check(cache)
    cache.leave(first)
    cache.leave(second)
    assert (lanes_of(cache)[0].n_used, cache.n_parked) == (0, 0)


def test_a_prompt_that_was_prefilled_apart_moves() -> None:
    cache = cache_of(has_apart=True)
    main, apart = lanes_of(cache)
    place = entered(cache, CONTEXT, apart=True, shares=False)
    assert (place.is_apart, main.n_used, apart.n_used) == (True, 0, 8)
    check(cache)
    arrived = cache.move(place, token_array(CONTEXT))
    assert (arrived.is_apart, arrived.n_cells, arrived.n_shared) == (False, 8, 8)
    assert main.tokens_in(arrived.slot) == CONTEXT
    assert (apart.n_used, main.n_evaluated) == (0, 0)
    assert cache.has_slot(apart=True)
    check(cache)


@pytest.mark.parametrize("n_parked", [0, 1_000])
def test_what_runs_or_is_parked_is_copied_to_the_other_lane(n_parked: int) -> None:
    cache = cache_of(has_apart=True, n_parked=n_parked)
    main, apart = lanes_of(cache)
    live = entered(cache, CONTEXT)
    place = entered(cache, [*CONTEXT, 9], apart=True, shares=False)
    assert (place.n_shared, place.n_cells, apart.n_evaluated) == (8, 9, 1)
    assert apart.tokens_in(place.slot) == [*CONTEXT, 9]
    check(cache)
    cache.leave(live)
    assert known(cache, CONTEXT) == 8, "what is pinned stays, whatever the budget"
    arrived = cache.move(place, token_array([*CONTEXT, 9]))
    assert main.tokens_in(arrived.slot) == [*CONTEXT, 9]
    cache.leave(arrived)
    assert known(cache, [*CONTEXT, 9]) == (9 if n_parked else 0)
    assert cache.tree.n_parked_bytes == (90 if n_parked else 0)
    assert all(node.n_pins == 0 for node in cache.tree)
    check(cache)


def test_others_use_what_is_prefilled_apart_before_it_is_done() -> None:
    cache = cache_of(has_apart=True)
    main, _ = lanes_of(cache)
    place = entered(cache, CONTEXT, apart=True)
    follower = entered(cache, CONTEXT)
    assert (follower.n_shared, main.n_evaluated) == (8, 0)
    evaluated(cache, place, [*CONTEXT, 9])
    arrived = cache.move(place, token_array([*CONTEXT, 9]))
    assert main.n_used == 9, "what the other holds is shared, not loaded again"
    assert main.tokens_in(arrived.slot) == [*CONTEXT, 9]
    check(cache)


def test_what_two_computed_in_both_lanes_is_kept_once() -> None:
    cache = cache_of(has_apart=True, n_parked=0)
    main, apart = lanes_of(cache)
    place = entered(cache, CONTEXT, apart=True, shares=False)
    first = entered(cache, CONTEXT)
    cache.share(place, token_array(CONTEXT))
    assert (main.n_saves, apart.n_saves) == (0, 0)
    cache.leave(first)
    assert known(cache, CONTEXT) == 8, "the other still needs it"
    arrived = cache.move(place, token_array(CONTEXT))
    assert (main.n_used, arrived.n_shared) == (8, 8)
    check(cache)


def test_who_leaves_the_other_lane_loses_nothing_that_was_shared() -> None:
    cache = cache_of(has_apart=True)
    place = entered(cache, CONTEXT, apart=True)
    evaluated(cache, place, [*CONTEXT, 9])
    cache.leave(place)
    assert known(cache, [*CONTEXT, 9]) == 8
    check(cache)
    assert all(node.n_pins == 0 for node in cache.tree)


def test_where_it_does_not_fit_the_mover_arrives_with_less() -> None:
    cache = cache_of(has_apart=True)
    main, _ = lanes_of(cache)
    place = entered(cache, CONTEXT, apart=True)
    main.n_refused = 1
    arrived = cache.move(place, token_array(CONTEXT))
    assert (arrived.n_cells, main.n_used) == (0, 0)
    check(cache)


def test_a_cleared_cache_is_as_new() -> None:
    cache = cache_of(has_apart=True, n_slots=3)
    for apart in [False, True]:
        entered(cache, CONTEXT, apart=apart)
        entered(cache, [9, 9], apart=apart)
    cache.clear()
    assert [lane.n_used for lane in lanes_of(cache)] == [0, 0]
    assert (cache.n_free_cells, cache.n_free_apart_cells, known(cache, CONTEXT)) == (100, 100, 0)
    assert cache.has_slot()
    assert cache.has_slot(apart=True)
    check(cache)


def test_without_the_other_lane_it_has_neither_slots_nor_cells() -> None:
    cache: Any = cache_of()
    assert not cache.has_slot(apart=True)
    assert cache.n_free_apart_cells == 0
