from collections import Counter
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcorners.engine.cache import Place
from fourcorners.engine.request import Request
from fourcorners.engine.scheduler import MAX_TURNS_MISSED, MIN_PROMPT_TOKENS, Limits, Scheduler
from fourcorners.engine.sequence import Sequence
from fourcorners.errors import SettingsError

numbers = count()


def sequence(client: str = "", n_tokens: int = 1, *, is_shared: bool = False) -> Sequence:
    """The next to arrive."""
    made = Sequence(Request((_ for _ in ()), client=client), next(numbers), is_shared=is_shared)
    made.tokens = [0] * n_tokens
    return made


def queued(scheduler: Scheduler, *clients: str, n_tokens: int = 1) -> list[Sequence]:
    made = [sequence(client, n_tokens) for client in clients]
    for one in made:
        scheduler.add(one)
    return made


def turns(scheduler: Scheduler) -> str:
    return "".join(s.request.client for s in scheduler.in_turn())


def run_next(scheduler: Scheduler) -> str:
    """Have whose turn it is served from beginning to end; returns its client."""
    first = scheduler.in_turn()[0]
    scheduler.start(first)
    scheduler.serve(first, first.n_pending)
    scheduler.stop(first)
    return first.request.client


@pytest.mark.parametrize("limits", [(0, 512), (17, 16), (16, 513)])
def test_a_step_holds_a_token_of_each_who_runs(limits: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match=f"max_running={limits[0]} and step_tokens={limits[1]}"):
        Limits(max_running=limits[0], step_tokens=limits[1])


def test_one_client_is_served_in_order_of_arrival() -> None:
    scheduler = Scheduler(Limits())
    first, second, third = queued(scheduler, "a", "a", "a", n_tokens=5)
    assert scheduler.in_turn() == [first, second, third]
    for one in (first, second):
        scheduler.start(one)
    scheduler.stop(first)
    scheduler.add(first)
    assert scheduler.in_turn() == [first, third], "who was sent away keeps its order"
    assert scheduler.running == [second]


def test_clients_take_turns_however_many_requests_one_has() -> None:
    scheduler = Scheduler(Limits())
    queued(scheduler, *"aaaabbc")
    assert turns(scheduler) == "abcabaa"


def test_short_requests_have_more_turns_than_long_ones() -> None:
    scheduler = Scheduler(Limits())
    queued(scheduler, *"aaa", n_tokens=30)
    queued(scheduler, *"bbbbbb", n_tokens=10)
    assert turns(scheduler) == "abbbabbba"


def test_who_was_served_least_comes_first() -> None:
    scheduler = Scheduler(Limits())
    running = queued(scheduler, "a", "b", "c")
    for one, n_tokens in zip(running, [50, 10, 30], strict=True):
        scheduler.start(one)
        scheduler.serve(one, n_tokens)
    queued(scheduler, *"abc")
    assert turns(scheduler) == "bca"


def test_what_a_running_prompt_still_needs_counts_as_served() -> None:
    scheduler = Scheduler(Limits())
    (long,) = queued(scheduler, "a", n_tokens=100)
    scheduler.start(long)
    queued(scheduler, *"ab", n_tokens=90)
    assert turns(scheduler) == "ba"


def test_a_newcomer_has_no_credit() -> None:
    scheduler = Scheduler(Limits())
    queued(scheduler, *["a"] * 40, n_tokens=10)
    assert {run_next(scheduler) for _ in range(20)} == {"a"}
    queued(scheduler, *["b"] * 20, n_tokens=10)
    assert Counter(run_next(scheduler) for _ in range(20)) == {"a": 10, "b": 10}


def test_who_comes_back_after_a_pause_has_no_credit_either() -> None:
    scheduler = Scheduler(Limits())
    queued(scheduler, *"ab", n_tokens=10)
    queued(scheduler, *["a"] * 40, n_tokens=10)
    assert Counter(run_next(scheduler) for _ in range(20)) == {"a": 19, "b": 1}
    queued(scheduler, *["b"] * 20, n_tokens=10)
    assert Counter(run_next(scheduler) for _ in range(20)) == {"a": 10, "b": 10}


def test_nobody_is_rid_of_what_was_served_by_leaving_for_a_moment() -> None:
    scheduler = Scheduler(Limits())
    (greedy,) = queued(scheduler, "a")
    queued(scheduler, *["b"] * 10, n_tokens=10)
    scheduler.start(greedy)
    scheduler.serve(greedy, 50)
    scheduler.stop(greedy)
    queued(scheduler, "a", n_tokens=10)
    assert turns(scheduler) == "bbbbbbabbbb"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), min_size=1, max_size=60), st.integers(1, 60))
def test_clients_who_always_have_more_are_served_equally(queue: list[tuple[str, int]], n_turns: int) -> None:
    scheduler = Scheduler(Limits())
    for client, n_tokens in queue:
        queued(scheduler, client, n_tokens=n_tokens)
    served: Counter[str] = Counter()
    clients = {client for client, _ in queue}
    for _ in range(n_turns):
        if {s.request.client for s in scheduler.waiting} != clients:
            break
        first = scheduler.in_turn()[0]
        served[first.request.client] += first.n_pending
        run_next(scheduler)
        assert max(served.values()) - min(served[client] for client in clients) <= 60


def test_the_shortest_prompt_gets_the_next_chunk() -> None:
    scheduler = Scheduler(Limits())
    long, short, other = sequence("", 100), sequence("", 10), sequence("", 10)
    assert scheduler.chunk_of([long, other, short]) is short, "of two as short the first to arrive"


@pytest.mark.parametrize("n_others", [1, 2, 7])
def test_a_long_prompt_gets_chunks_however_many_short_ones_come(n_others: int) -> None:
    scheduler = Scheduler(Limits())
    long, others = sequence("", 1_000), [sequence("", 10) for _ in range(n_others)]
    missed = longest = 0
    for _ in range(100):
        chosen = scheduler.chunk_of([long, *others])
        missed = 0 if chosen is long else missed + 1
        longest = max(longest, missed)
        if chosen is not long:
            others.remove(chosen)
            scheduler.stop(chosen)
            others.append(sequence("", 10))
    assert MAX_TURNS_MISSED <= longest <= MAX_TURNS_MISSED + n_others


def test_a_prompt_alone_misses_nothing() -> None:
    scheduler = Scheduler(Limits())
    alone = sequence("", 100)
    assert all(scheduler.chunk_of([alone]) is alone for _ in range(10))
    other = sequence("", 10)
    assert scheduler.chunk_of([alone, other]) is other


def test_decoding_comes_before_prompts_and_prompts_in_order() -> None:
    scheduler = Scheduler(Limits(max_running=4, step_tokens=100))
    first, second, third = sequence("", 80), sequence("", 80), sequence("", 1, is_shared=True)
    assert scheduler.fill([second, first, third]) == [(third, 1), (first, 80), (second, 19)]


def test_many_forced_tokens_leave_the_others_one_each_and_the_prompts_a_few() -> None:
    scheduler = Scheduler(Limits(max_running=4, step_tokens=100))
    greedy, modest, prompt = sequence("", 300, is_shared=True), sequence("", 2, is_shared=True), sequence("", 50)
    assert scheduler.fill([greedy, modest]) == [(greedy, 99), (modest, 1)]
    assert scheduler.fill([greedy, modest, prompt]) == [
        (greedy, 99 - MIN_PROMPT_TOKENS),
        (modest, 1),
        (prompt, MIN_PROMPT_TOKENS),
    ]


def test_on_a_slow_model_prompts_get_on_while_many_decode() -> None:
    scheduler = Scheduler(Limits(max_running=16, step_tokens=100))
    decoding, prompt = [sequence("", 1, is_shared=True) for _ in range(12)], sequence("", 50)
    assert scheduler.fill([*decoding, prompt], 8) == [*((one, 1) for one in decoding), (prompt, MIN_PROMPT_TOKENS)]
    assert scheduler.fill([*decoding, prompt], 30)[-1] == (prompt, 18)
    assert scheduler.fill([prompt], 30) == [(prompt, 30)]


wishes_of_all = st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 40)), max_size=8)


@settings(max_examples=5 * settings().max_examples)
@given(wishes_of_all, st.integers(8, 100), st.none() | st.integers(1, 150))
def test_a_step_keeps_to_its_budget_and_leaves_out_nobody_who_decodes(
    wishes: list[tuple[bool, int, int]], step_tokens: int, chunk_tokens: int | None
) -> None:
    scheduler = Scheduler(Limits(max_running=8, step_tokens=step_tokens))
    ready = []
    for is_shared, n_pending, n_done in wishes:
        one = sequence("", n_done + n_pending, is_shared=is_shared)
        one.place = Place(0, n_cells=n_done)
        ready.append(one)
    shares = scheduler.fill(ready, chunk_tokens)
    share_of = dict(shares)
    assert len(share_of) == len(shares)
    assert all(1 <= n <= one.n_pending for one, n in shares)
    assert all(one in share_of for one in ready if one.is_shared)
    n_given, n_wanted = sum(share_of.values()), sum(s.n_pending for s in ready)
    n_decoding = sum(one.is_shared for one in ready)
    most = step_tokens if chunk_tokens is None else min(step_tokens, chunk_tokens)
    assert min(n_wanted, most) <= n_given <= step_tokens, "nothing is left unused"
    assert n_given <= max(most, n_decoding + MIN_PROMPT_TOKENS)
    for_prompts = sum(n for one, n in shares if not one.is_shared)
    wanted_by_prompts = sum(one.n_pending for one in ready if not one.is_shared)
    assert for_prompts >= min(MIN_PROMPT_TOKENS, wanted_by_prompts, step_tokens - n_decoding)
    if for_prompts > MIN_PROMPT_TOKENS:
        assert all(share_of[one] == one.n_pending for one in ready if one.is_shared)


def test_the_last_to_arrive_gives_way() -> None:
    first, second, third = (sequence() for _ in range(3))
    assert Scheduler(Limits()).youngest([second, third, first]) is third


def test_who_waits_can_leave() -> None:
    scheduler = Scheduler(Limits())
    first, second = queued(scheduler, "a", "b")
    scheduler.stop(first)
    assert (scheduler.waiting, scheduler.running) == ([second], [])


def test_thousands_of_clients_leave_nothing_behind() -> None:
    scheduler = Scheduler(Limits())
    (endless,) = queued(scheduler, "endless", n_tokens=10)
    scheduler.start(endless)
    most = 0
    for number in range(5_000):
        here = queued(scheduler, f"client {number}", f"client {number // 7}", n_tokens=10)
        for one in here:
            scheduler.start(one)
        scheduler.chunk_of(here)
        for one in here:
            scheduler.serve(one, 10)
            scheduler.stop(one)
        most = max(most, len(scheduler._served))
        assert set(scheduler._missed) <= {endless.order}
    assert most <= 2 * 3 + 18
    scheduler.stop(endless)
    assert (scheduler._served, scheduler._missed) == ({}, {})
