import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fourcorners.engine import worker
from fourcorners.engine.cache import Cache
from fourcorners.engine.cost import StepCost
from fourcorners.engine.lane import DecodeFault
from fourcorners.engine.metrics import Metrics
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Request
from fourcorners.engine.scheduler import Limits, Scheduler
from fourcorners.engine.worker import APART_TOKENS, WORTH_WAITING, Worker, advance
from fourcorners.errors import ContextOverflow, EngineError, EngineTimeout, InputError
from tests.engine.made_up_lane import BYTES_PER_CELL, N_VOCAB, MadeUpLane, logits_after

WINDOW = 400
CHUNK = 64
CHEAP = StepCost({1: 0.001, 512: 0.1})
Q8 = StepCost({1: 0.0066, 2: 0.0172, 4: 0.0265, 8: 0.0325})
"""Two sequences are better run apart."""


class Bench:
    """A worker on lanes that are made up, driven by hand; ``now`` is the number of the step."""

    def __init__(
        self,
        *,
        n_cells: int = 4 * WINDOW,
        has_apart: bool = True,
        can_share: bool = True,
        max_running: int = 8,
        n_parked: int = 100_000,
        cost: StepCost = CHEAP,
        n_apart_cells: int = 2 * WINDOW,
    ) -> None:
        self.main = MadeUpLane(n_cells, max_running + 1)
        self.apart = MadeUpLane(n_apart_cells, 3)
        self.cache = Cache(self.main, self.apart if has_apart else None, n_parked * BYTES_PER_CELL, can_share=can_share)
        self.scheduler = Scheduler(Limits(max_running=max_running, step_tokens=CHUNK))
        self.metrics = Metrics()
        self.n_ended = self.now = 0
        self.worker = Worker(
            self.cache, self.scheduler, cost, self.metrics, window=WINDOW, n_vocab=N_VOCAB, ended=self._count_end
        )

    @property
    def n_evaluated(self) -> int:
        return self.main.n_evaluated + self.apart.n_evaluated

    def add(self, program: Program, **settings: Any) -> Request:
        request = Request(program, **settings)
        first = advance(request, None)
        assert first is not None
        self.worker.add(request, first)
        return request

    def step(self, n: int = 1) -> None:
        for _ in range(n):
            self.now += 1
            self.worker.step()
            assert len(self.scheduler.running) <= self.scheduler.limits.max_running

    def finish(self) -> None:
        """Go on until nobody is there; an engine that can't gets stuck here."""
        for _ in range(3_000):
            self.step()
            if not self.scheduler.running and not self.scheduler.waiting:
                assert not self.worker.step()
                assert (self.main.n_used, self.apart.n_used) == (0, 0)
                return
        raise AssertionError("it does not come to an end")

    def _count_end(self) -> None:
        self.n_ended += 1


def text(n: int, seed: int = 0) -> tuple[int, ...]:
    """Of two with one seed the shorter is the beginning of the longer; others differ from the first token on."""
    return (seed % N_VOCAB, *np.random.default_rng(seed).integers(0, N_VOCAB, n - 1).tolist())


def saying(bench: Bench, prompt: Sequence[int], n: int, closed: list[bool] | None = None) -> Program:
    """Emit the ``n`` most probable tokens behind ``prompt``, each with the number of the step."""
    known, tokens = list(prompt), tuple(prompt)
    try:
        for _ in range(n):
            rows = yield Forward(len(known) - len(tokens), tokens)
            assert np.array_equal(rows, [logits_after(known)]), "logits of other tokens than were asked for"
            tokens = (int(rows[-1].argmax()),)
            known += tokens
            yield bench.now, tokens[0]
    finally:
        if closed is not None:
            closed.append(True)


def asking(*forwards: Forward) -> Program:
    """Ask for one thing after the other, and see that the logits are those of just the tokens asked for."""
    known: list[int] = []
    for forward in forwards:
        rows = yield forward
        known[forward.position :] = forward.tokens
        n = forward.n_logits
        expected = [logits_after(known[: len(known) - back]) for back in range(n)][::-1]
        assert np.array_equal(rows, expected if n else np.zeros((0, N_VOCAB)))
        yield len(rows)


def answer_to(prompt: Sequence[int], n: int) -> list[int]:
    known = list(prompt)
    for _ in range(n):
        known.append(int(logits_after(known).argmax()))
    return known[len(prompt) :]


def said(request: Request) -> list[int]:
    return [token for _, token in request]


def steps_of(request: Request) -> list[int]:
    return [now for now, _ in request]


def gaps(steps: Sequence[int]) -> set[int]:
    return {later - earlier for earlier, later in pairwise(steps)}


def failed(request: Request) -> BaseException:
    with pytest.raises((EngineError, InputError)) as caught:
        list(request)
    return caught.value


# side by side


def test_what_is_said_in_company_is_what_is_said_alone() -> None:
    bench = Bench()
    prompts = [text(20 + 30 * i, i) for i in range(8)]
    requests = [bench.add(saying(bench, prompt, 10)) for prompt in prompts]
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(prompt, 10) for prompt in prompts]
    assert bench.n_evaluated == sum(len(prompt) + 9 for prompt in prompts)


@pytest.mark.parametrize("has_apart", [True, False])
@pytest.mark.parametrize("can_share", [True, False])
def test_a_long_prompt_is_answered_soon_while_the_others_decode_on(has_apart: bool, can_share: bool) -> None:
    bench = Bench(has_apart=has_apart and can_share, can_share=can_share)
    others = [bench.add(saying(bench, text(20, i), 40)) for i in range(3)]
    bench.step(10)
    late, arrived = bench.add(saying(bench, text(300, 9), 5)), bench.now
    bench.finish()
    assert steps_of(late)[0] - arrived <= 300 // (CHUNK - len(others)) + 2
    assert all(gaps(steps_of(other)) == {1} for other in others)


def test_a_prompt_that_arrives_gets_its_first_chunk_at_once() -> None:
    bench = Bench()
    bench.add(saying(bench, text(20), 40))
    bench.step(5)
    bench.add(saying(bench, text(300, 9), 5))
    bench.step()
    assert bench.apart.n_evaluated == CHUNK


def test_a_short_prompt_goes_along_with_the_others_steps() -> None:
    bench = Bench()
    bench.add(saying(bench, text(20), 40))
    bench.step(5)
    bench.add(saying(bench, text(30, 1), 5))
    bench.step()
    assert sorted(len(span.tokens) for span in bench.main.batches[-1]) == [1, 30]
    assert bench.apart.batches == []


def test_a_short_prompt_does_not_wait_for_the_end_of_a_long_one() -> None:
    bench = Bench()
    long = bench.add(saying(bench, text(390), 5))
    bench.step()
    short, arrived = bench.add(saying(bench, text(APART_TOKENS + 1, 1), 5)), bench.now
    bench.finish()
    assert steps_of(short)[0] == arrived + 2
    assert steps_of(long)[0] == 390 // CHUNK + 1 + 2


def test_events_are_handed_over_after_each_step_where_steps_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MIN_HAND_OVER_SECONDS", 0)
    bench = Bench()
    request = bench.add(saying(bench, text(20), 5))
    for n in range(1, 4):
        bench.step()
        assert request._ready.qsize() == n


def test_after_fast_steps_events_are_handed_over_in_bunches_and_before_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MIN_HAND_OVER_SECONDS", 1_000)
    bench = Bench()
    request = bench.add(saying(bench, text(20), 9))
    bench.step(4)
    assert request._ready.qsize() == 1, "the first token never waits"
    bench.add(saying(bench, text(300, 1), 1))
    bench.step()
    assert request._ready.qsize() == 2
    bench.finish()
    assert said(request) == answer_to(text(20), 9)


def test_no_more_run_than_may() -> None:
    bench = Bench(max_running=2)
    requests = [bench.add(saying(bench, text(20, i), 6)) for i in range(5)]
    bench.step()
    assert (bench.metrics.n_running, bench.metrics.n_waiting) == (2, 3)
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(text(20, i), 6) for i in range(5)]


def test_clients_take_turns() -> None:
    bench = Bench(max_running=1)
    requests = [bench.add(saying(bench, text(20, i), 6), client=client) for i, client in enumerate("aaaab")]
    bench.finish()
    firsts = [steps_of(request)[0] for request in requests]
    assert sorted(range(5), key=lambda i: firsts[i]) == [0, 4, 1, 2, 3]


# the prefix tree


@pytest.mark.parametrize("has_apart", [True, False])
@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_what_prompts_share_is_prefilled_once_also_while_the_first_is_at_it(has_apart: bool, n_before: int) -> None:
    bench = Bench(has_apart=has_apart)
    shared, tails = text(300), [text(20, 1 + i) for i in range(8)]
    requests = []
    for i, tail in enumerate(tails):
        requests.append(bench.add(saying(bench, shared + tail, 1)))
        if i == 0:
            bench.step(n_before)
    bench.finish()
    assert bench.n_evaluated == 300 + 8 * 20
    assert [request.counts.cached for request in requests] == [0] + [300] * 7
    assert [request.counts.prefilled for request in requests] == [320] + [20] * 7
    assert [said(request) for request in requests] == [answer_to(shared + tail, 1) for tail in tails]
    assert bench.metrics.hit_rate == 2100 / (2100 + bench.n_evaluated)


def test_of_eight_equal_prompts_only_the_last_token_is_evaluated_again() -> None:
    bench = Bench()
    requests = [bench.add(saying(bench, text(300), 1)) for _ in range(8)]
    bench.finish()
    assert bench.n_evaluated == 300 + 7
    assert len({tuple(said(request)) for request in requests}) == 1


def test_who_shares_a_part_goes_on_as_soon_as_that_is_there() -> None:
    bench = Bench()
    first = bench.add(saying(bench, text(390), 1))
    other = bench.add(saying(bench, text(390)[:100] + text(20, 1), 1))
    bench.finish()
    assert steps_of(other)[0] < steps_of(first)[0]
    assert bench.n_evaluated == 390 + 20


def test_hardly_anything_in_common_is_not_waited_for() -> None:
    bench = Bench()
    bench.add(saying(bench, text(300), 1))
    bench.add(saying(bench, text(300)[: WORTH_WAITING - 1] + text(30, 1), 1))
    bench.step()
    assert bench.metrics.n_waiting == 0


@pytest.mark.parametrize("has_apart", [True, False])
def test_what_a_cancelled_leader_has_done_is_not_lost(has_apart: bool) -> None:
    bench = Bench(has_apart=has_apart)
    shared = text(300)
    leader, *followers = [bench.add(saying(bench, shared + text(20, i), 1)) for i in range(3)]
    bench.step(3)
    assert bench.n_evaluated == 3 * CHUNK
    leader.cancel()
    bench.finish()
    assert bench.n_evaluated == 300 + 2 * 20
    assert [request.counts.cached for request in followers] == [3 * CHUNK, 300]
    assert said(leader) == []


def test_a_prompt_that_comes_back_is_restored() -> None:
    bench = Bench()
    bench.add(saying(bench, text(300), 5))
    bench.finish()
    assert (bench.metrics.n_parked, bench.metrics.n_parked_bytes) == (1, 300 * BYTES_PER_CELL)
    n_before = bench.metrics.n_restored
    request = bench.add(saying(bench, text(300), 5))
    bench.finish()
    assert request.counts.cached == 299
    assert bench.n_evaluated == 304 + 5
    assert bench.metrics.n_restored == n_before + 1


@pytest.mark.parametrize("keep_answer", [True, False])
def test_an_answer_is_kept_where_that_is_asked_for(keep_answer: bool) -> None:
    bench = Bench()
    bench.add(saying(bench, text(20), 31), keep_answer=keep_answer)
    bench.finish()
    turn = bench.add(saying(bench, (*text(20), *answer_to(text(20), 31), 1, 2, 3), 1))
    bench.finish()
    assert turn.counts.cached == (50 if keep_answer else 20)


def test_with_nothing_parked_what_nobody_runs_is_evaluated_again() -> None:
    bench = Bench(n_parked=0)
    for _ in range(2):
        bench.add(saying(bench, text(300), 1))
        bench.finish()
    assert bench.n_evaluated == 600
    assert bench.metrics.n_parked_bytes == 0


def test_where_nothing_can_be_shared_each_has_its_own() -> None:
    bench = Bench(has_apart=False, can_share=False)
    requests = [bench.add(saying(bench, text(100), 2)) for _ in range(3)]
    bench.finish()
    assert bench.n_evaluated == 3 * 101
    assert all(said(request) == answer_to(text(100), 2) for request in requests)
    assert all(request.counts.cached == 0 for request in requests)


# too few cells


def test_the_youngest_gives_way_and_goes_on_later_with_nothing_lost() -> None:
    bench = Bench(n_cells=WINDOW)
    prompts = [text(90, i) for i in range(4)]
    requests = [bench.add(saying(bench, prompt, 90)) for prompt in prompts]
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(prompt, 90) for prompt in prompts]
    assert bench.metrics.n_preempted > 0
    assert bench.n_evaluated == 4 * (90 + 89), "what was parked is not evaluated again"


def test_the_oldest_never_waits() -> None:
    bench = Bench(n_cells=WINDOW)
    requests = [bench.add(saying(bench, text(90, i), 90)) for i in range(4)]
    bench.finish()
    steps = [steps_of(request) for request in requests]
    assert gaps(steps[0]) == {1}
    assert [one[-1] for one in steps] == sorted(one[-1] for one in steps)


def test_with_nothing_parked_who_gave_way_is_evaluated_again() -> None:
    bench = Bench(n_cells=WINDOW, n_parked=0)
    prompts = [text(90, i) for i in range(4)]
    requests = [bench.add(saying(bench, prompt, 90)) for prompt in prompts]
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(prompt, 90) for prompt in prompts]
    assert bench.n_evaluated > 4 * (90 + 89)


def test_one_window_of_cells_is_enough_for_requests_of_a_window() -> None:
    bench = Bench(n_cells=WINDOW, n_apart_cells=2 * WINDOW)
    prompts = [text(WINDOW - 10, i) for i in range(4)]
    requests = [bench.add(saying(bench, prompt, 11)) for prompt in prompts]
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(prompt, 11) for prompt in prompts]


def test_a_lane_without_room_sends_the_youngest_away() -> None:
    bench = Bench()
    requests = [bench.add(saying(bench, text(20, i), 9)) for i in range(3)]
    bench.step(3)
    bench.main.n_without_room = 1
    bench.step()
    assert bench.metrics.n_preempted == 1
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(text(20, i), 9) for i in range(3)]


def test_who_needs_much_room_is_not_passed_by_those_who_need_little() -> None:
    bench = Bench(n_cells=WINDOW, has_apart=False)
    bench.add(saying(bench, text(200), 50))
    bench.step(10)
    large, small = bench.add(saying(bench, text(180, 1), 2)), bench.add(saying(bench, text(10, 2), 2))
    bench.finish()
    assert steps_of(large)[0] <= steps_of(small)[0]


def test_who_is_sent_away_with_some_of_its_logits_gets_each_of_them_once() -> None:
    bench = Bench(has_apart=False)
    bench.add(saying(bench, text(20, 1), 9))
    request = bench.add(asking(Forward(0, text(150), 100)))
    bench.step(2)
    bench.main.n_without_room = 1
    bench.finish()
    assert bench.metrics.n_preempted == 1
    assert list(request) == [100]


@pytest.mark.parametrize("n_logits", [1, 200])
def test_a_prompt_that_arrives_without_all_of_its_cells_is_evaluated_to_its_end(n_logits: int) -> None:
    bench = Bench()
    request = bench.add(asking(Forward(0, text(300), n_logits)))
    bench.add(saying(bench, (*text(300)[:110], 0), 20))
    bench.step(4)
    bench.main.n_refused = 1
    bench.finish()
    assert bench.main.n_refused == 0
    assert list(request) == [n_logits]


def test_one_request_for_which_a_lane_has_no_room_fails() -> None:
    bench = Bench()
    request = bench.add(saying(bench, text(20), 9))
    bench.main.n_without_room = 1
    bench.finish()
    assert "ran out of cells" in str(failed(request))


def test_two_long_prompts_of_which_the_other_lane_holds_one_come_one_after_the_other() -> None:
    bench = Bench(n_cells=WINDOW + 100, n_apart_cells=WINDOW + 100)
    others = [bench.add(saying(bench, text(90, i), 60)) for i in range(3)]
    prompts = [text(WINDOW - 10, 3 + i) for i in range(2)]
    requests = [bench.add(saying(bench, prompt, 2)) for prompt in prompts]
    bench.finish()
    assert [said(other) for other in others] == [answer_to(text(90, i), 60) for i in range(3)]
    assert [said(request) for request in requests] == [answer_to(prompt, 2) for prompt in prompts]


def test_a_lane_without_room_for_a_batch_of_one_sends_the_youngest_away() -> None:
    bench = Bench(cost=Q8)
    requests = [bench.add(saying(bench, text(20, i), 9)) for i in range(2)]
    bench.step(3)
    bench.main.n_without_room = 1
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(text(20, i), 9) for i in range(2)]


def test_a_prefilled_prompt_arrives_however_many_small_requests_come() -> None:
    bench = Bench(n_cells=WINDOW + 100, max_running=8)
    for i in range(6):
        bench.add(saying(bench, text(30, i), 30 + i))
    bench.step()
    long = bench.add(saying(bench, text(WINDOW - 10, 11), 2))
    for i in range(1_000):
        if len(bench.scheduler.running) < 8 and not bench.scheduler.waiting:
            bench.add(saying(bench, text(30, 100 + i), 30))
        bench.step()
        if not long._ready.empty():
            return
    raise AssertionError("it never came to its turn")


# what goes wrong


@pytest.mark.parametrize("lane", ["main", "apart"])
def test_a_fault_ends_those_who_run_and_the_others_go_on(lane: str) -> None:
    bench = Bench(max_running=3)
    running = [bench.add(saying(bench, text(n, n), 20)) for n in (20, 30, 300)]
    waiting = [bench.add(saying(bench, text(n, n), 5)) for n in (40, 200)]
    bench.step(2)
    getattr(bench, lane).faults = 1
    bench.finish()
    for request in running:
        error = failed(request)
        assert isinstance(error, EngineError)
        assert "made up" in str(error)
        assert isinstance(error.__cause__, DecodeFault)
    assert [said(request) for request in waiting] == [answer_to(text(n, n), 5) for n in (40, 200)]
    assert (bench.metrics.n_failed, bench.metrics.n_finished, bench.n_ended) == (3, 2, 5)


@pytest.mark.parametrize("error", [ValueError("oh"), InputError("oh"), SystemExit("oh")])
def test_a_program_that_fails_fails_alone(error: BaseException) -> None:
    def failing() -> Program:
        yield Forward(0, text(30, 1))
        yield "before"
        raise error

    bench = Bench()
    other, request = bench.add(saying(bench, text(20), 9)), bench.add(failing())
    bench.finish()
    events = request.bunches()
    assert next(events) == ["before"]
    with pytest.raises(InputError if isinstance(error, InputError) else EngineError, match="oh") as caught:
        next(events)
    assert error in (caught.value, caught.value.__cause__)
    assert said(other) == answer_to(text(20), 9)


@pytest.mark.parametrize("n_prompt", [20, 300])
def test_a_fault_while_cells_are_saved_ends_those_who_run_and_the_others_go_on(n_prompt: int) -> None:
    bench = Bench(max_running=1)
    running, waiting = bench.add(saying(bench, text(n_prompt), 9)), bench.add(saying(bench, text(20, 1), 5))
    bench.step(2)
    bench.main.n_bad_saves = bench.apart.n_bad_saves = 1
    running.cancel()
    bench.finish()
    assert said(waiting) == answer_to(text(20, 1), 5)


def test_a_first_wish_that_is_no_list_of_tokens_fails_alone() -> None:
    bench = Bench()
    request = bench.add(asking(Forward(0, ("a",))))  # type: ignore[arg-type]
    assert isinstance(failed(request), EngineError)


def test_a_program_that_will_not_close_fails_alone() -> None:
    def stubborn() -> Program:
        try:
            yield Forward(0, text(30, 1))
        finally:
            raise ValueError("no")

    bench = Bench()
    other, request = bench.add(saying(bench, text(20), 9)), bench.add(stubborn())
    request.cancel()
    bench.finish()
    assert "ValueError: no" in str(failed(request))
    assert said(other) == answer_to(text(20), 9)


@pytest.mark.parametrize("n_steps", [0, 1, 8])
def test_who_is_not_done_in_time_fails(n_steps: int) -> None:
    bench = Bench()
    closed: list[bool] = []
    other = bench.add(saying(bench, text(20, 1), 20))
    request = bench.add(saying(bench, text(300), 90, closed), deadline=time.monotonic() + 1_000)
    bench.step(n_steps)
    request.deadline = time.monotonic() - 0.001
    bench.step()
    assert closed
    bench.finish()
    with pytest.raises(EngineTimeout, match=r"not done after 0\.\d s"):
        list(request)
    assert gaps(steps_of(other)) == {1}


def test_time_runs_while_waiting_too() -> None:
    bench = Bench(max_running=1)
    bench.add(saying(bench, text(20), 20))
    request = bench.add(saying(bench, text(20, 1), 20), deadline=time.monotonic() - 0.001)
    bench.step()
    assert isinstance(failed(request), EngineTimeout)


@pytest.mark.parametrize(("n_steps", "where"), [(0, "new"), (2, "prefilling"), (9, "decoding")])
@pytest.mark.parametrize("has_apart", [True, False])
def test_who_is_called_off_is_gone_in_the_next_step(n_steps: int, where: str, has_apart: bool) -> None:
    bench = Bench(has_apart=has_apart)
    closed: list[bool] = []
    request = bench.add(saying(bench, text(300), 90, closed))
    bench.step(n_steps)
    done = bench.n_evaluated
    assert (done > 300, 0 < done < 300) == (where == "decoding", where == "prefilling")
    request.cancel()
    bench.step()
    assert (closed, bench.n_evaluated) == ([True], done)
    assert len(said(request)) == max(0, done - 299)
    bench.finish()
    assert (bench.metrics.n_cancelled, bench.n_ended) == (1, 1)


@pytest.mark.parametrize("lane", ["main", "apart"])
@pytest.mark.parametrize("n_others", [0, 1])
def test_a_batch_that_nobody_wants_any_more_is_broken_off(
    monkeypatch: pytest.MonkeyPatch, lane: str, n_others: int
) -> None:
    bench = Bench(has_apart=lane == "apart")
    chosen = bench.apart if lane == "apart" else bench.main
    others = [bench.add(saying(bench, text(20, i + 1), 12)) for i in range(n_others)]
    bench.step()
    request, decode = bench.add(saying(bench, text(300), 5)), chosen.decode

    def called_off_meanwhile(spans: Sequence[Any], n_padding: int = 0) -> list[Any]:
        if any(len(span.tokens) > 1 for span in spans):
            request.cancel()
            bench.worker.interrupt()
        return decode(spans, n_padding)

    monkeypatch.setattr(chosen, "decode", called_off_meanwhile)
    before = chosen.n_evaluated
    bench.step()
    is_alone = lane == "apart" or not others
    assert (chosen.n_evaluated == before) == is_alone
    bench.finish()
    assert said(request) == []
    assert [said(other) for other in others] == [answer_to(text(20, i + 1), 12) for i in range(n_others)]


def test_a_request_called_off_between_the_sweep_and_its_batch_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    request = bench.add(saying(bench, text(300), 5))
    admit = bench.worker._admit

    def admit_and_cancel() -> None:
        admit()
        request.cancel()

    monkeypatch.setattr(bench.worker, "_admit", admit_and_cancel)
    bench.step()
    assert bench.n_evaluated == 0
    bench.finish()


def test_a_recurrent_model_is_not_broken_off() -> None:
    bench = Bench(has_apart=False, can_share=False)
    request = bench.add(saying(bench, text(20), 5))
    bench.worker._under_way = bench.main, [request]
    request.cancel()
    bench.worker.interrupt()
    assert not bench.main.is_aborted


def test_the_less_time_a_request_has_the_smaller_are_its_chunks() -> None:
    bench = Bench(cost=StepCost({1: 0.01, 512: 5.12}))
    bench.scheduler.limits = Limits(step_tokens=512, chunk_seconds=10)
    request = bench.add(saying(bench, text(390), 5), deadline=time.monotonic() + 1.4)
    bench.step()
    assert 64 <= bench.n_evaluated <= 128
    request.deadline = time.monotonic() + 0.001
    before = bench.n_evaluated
    bench.worker.step()
    assert bench.n_evaluated - before <= 16
    request.cancel()
    bench.finish()


def test_who_waits_can_be_called_off() -> None:
    bench = Bench(max_running=1)
    first, second, third = (bench.add(saying(bench, text(20, i), 5)) for i in range(3))
    bench.step()
    second.cancel()
    bench.step()
    assert bench.metrics.n_waiting == 1
    bench.finish()
    assert said(second) == []
    assert [said(first), said(third)] == [answer_to(text(20, i), 5) for i in (0, 2)]


def test_all_can_be_failed_at_once() -> None:
    bench = Bench(max_running=2)
    requests = [bench.add(saying(bench, text(20, i), 5)) for i in range(4)]
    bench.step()
    error = EngineError("enough")
    bench.worker.fail_all(error)
    assert all(failed(request) is error for request in requests)
    assert (bench.metrics.n_running, bench.metrics.n_waiting, bench.n_ended) == (0, 0, 4)


# what programs may ask for


def test_a_first_wish_beyond_the_window_never_runs() -> None:
    bench = Bench()
    request = bench.add(asking(Forward(0, text(WINDOW + 1))))
    assert isinstance(failed(request), ContextOverflow)
    bench.finish()
    assert bench.n_evaluated == 0


@pytest.mark.parametrize(
    ("forward", "error", "message"),
    [
        (Forward(100, text(WINDOW - 99)), ContextOverflow, "needs 401 tokens, but the window holds 400"),
        (Forward(101, (0,)), EngineError, "does not follow"),
        (Forward(100, ()), EngineError, "with 0 tokens"),
        (Forward(100, (0,), 2), EngineError, "does not follow"),
        (Forward(100, (0, N_VOCAB)), EngineError, f"no token {N_VOCAB}"),
        (Forward(100, (-1, 0)), EngineError, "no token -1"),
    ],
)
def test_a_wish_that_can_not_be_granted_fails_before_a_lane_sees_it(
    forward: Forward, error: type[Exception], message: str
) -> None:
    bench = Bench()
    other = bench.add(saying(bench, text(20, 1), 20))
    request = bench.add(asking(Forward(0, text(100)), forward))
    bench.finish()
    with pytest.raises(error, match=message):
        list(request)
    assert said(other) == answer_to(text(20, 1), 20)
    assert bench.n_evaluated == 20 + 19 + 100


def test_programs_go_back_and_forth() -> None:
    bench = Bench()
    prompt = text(100)
    request = bench.add(
        asking(
            Forward(0, prompt),
            Forward(100, (1, 2, 3), 2),
            Forward(101, (4,)),
            Forward(50, prompt[50:]),
            Forward(100, (1, 2, 3)),
            Forward(0, (5, 6)),
            Forward(1, (6, 7, 8), 3),
        )
    )
    other = bench.add(saying(bench, prompt, 12))
    bench.finish()
    assert list(request) == [1, 2, 1, 1, 1, 1, 3]
    assert said(other) == answer_to(prompt, 12)


def test_of_what_is_asked_for_again_only_what_needs_logits_is_evaluated() -> None:
    bench = Bench()
    prompt = text(50)
    request = bench.add(asking(Forward(0, prompt), Forward(0, prompt, 3), Forward(20, (*prompt[20:], 1, 2))))
    bench.finish()
    assert list(request) == [1, 3, 1]
    assert [len(batch[0].tokens) for batch in bench.main.batches] == [50, 3, 2]


def test_a_wish_for_no_logits_fills_the_cache_and_costs_nothing_the_second_time() -> None:
    bench = Bench()
    for _ in range(2):
        request = bench.add(asking(Forward(0, text(300), 0), Forward(0, text(300), 0)))
        bench.finish()
        assert list(request) == [0, 0]
        assert bench.n_evaluated == 300
    request = bench.add(asking(Forward(0, text(310), 0)))
    bench.finish()
    assert (bench.n_evaluated, request.counts.cached) == (310, 300)


@pytest.mark.parametrize("has_apart", [True, False])
@pytest.mark.parametrize("n_logits", [2, CHUNK, 150, 300])
def test_logits_of_several_batches_come_together(has_apart: bool, n_logits: int) -> None:
    bench = Bench(has_apart=has_apart)
    request = bench.add(asking(Forward(0, text(300), n_logits)))
    other = bench.add(saying(bench, (*text(300)[:280], 1, 2), 9))
    bench.finish()
    assert list(request) == [n_logits]
    assert said(other) == answer_to((*text(300)[:280], 1, 2), 9)


def test_a_program_may_end_without_another_wish_or_event() -> None:
    bench = Bench()
    request = bench.add(asking(Forward(0, (1,), 0)))
    bench.finish()
    assert list(request) == [0]


# batches and numbers


@pytest.mark.parametrize(
    ("cost", "n", "batches", "paddings"),
    [
        (Q8, 2, [1, 1], [0, 0]),
        (Q8, 7, [7], [0]),
        (CHEAP, 2, [2], [0]),
        (StepCost({1: 1.0, 6: 8.0, 8: 2.0}), 6, [6], [2]),
    ],
)
def test_one_token_each_is_decoded_in_the_batches_that_cost_least(
    cost: StepCost, n: int, batches: list[int], paddings: list[int]
) -> None:
    bench = Bench(cost=cost)
    requests = [bench.add(saying(bench, text(5, i), 9)) for i in range(n)]
    bench.step()
    assert len(bench.main.batches) == 1, "prompts go together"
    bench.step(3)
    n_before = len(bench.main.batches)
    bench.step()
    assert [len(batch) for batch in bench.main.batches[n_before:]] == batches
    assert bench.main.paddings[n_before:] == paddings
    bench.finish()
    assert [said(request) for request in requests] == [answer_to(text(5, i), 9) for i in range(n)]


def test_a_step_of_prompts_takes_no_longer_than_a_chunk() -> None:
    bench = Bench(has_apart=False, cost=StepCost({1: 0.03, 64: 0.8}))
    requests = [bench.add(saying(bench, text(50, i), 3)) for i in range(3)]
    bench.finish()
    assert max(sum(len(span.tokens) for span in batch) for batch in bench.main.batches) == 24
    assert [said(request) for request in requests] == [answer_to(text(50, i), 3) for i in range(3)]


def test_padding_takes_no_cells_that_somebody_needs() -> None:
    bench = Bench(cost=StepCost({1: 1.0, 2: 9.0, 60: 1.5}), n_cells=WINDOW)
    requests = [bench.add(saying(bench, text(90, i), 111)) for i in range(2)]
    bench.finish()
    assert (max(bench.main.paddings), bench.main.paddings[-1]) == (58, 0)
    assert bench.metrics.n_preempted == 0
    assert [said(request) for request in requests] == [answer_to(text(90, i), 111) for i in range(2)]


def test_the_numbers_are_right() -> None:
    bench = Bench(max_running=2)
    closed = bench.add(saying(bench, text(300), 9))
    bench.add(saying(bench, text(20, 1), 9))
    bench.add(saying(bench, text(20, 1), 9))
    bench.step(2)
    now = bench.metrics.snapshot()
    assert (now["n_running"], now["n_waiting"]) == (2, 1)
    assert (now["n_cells"], now["n_live_cells"]) == (4 * WINDOW, bench.main.n_used)
    closed.cancel()
    bench.finish()
    end = bench.metrics.snapshot()
    assert (end["n_requests"], end["n_finished"], end["n_cancelled"], end["n_failed"]) == (3, 2, 1, 0)
    assert (end["n_running"], end["n_waiting"], end["n_live_cells"]) == (0, 0, 0)
    assert end["tokens"]["prefilled"] == 2 * CHUNK + 20 + 1
    assert end["tokens"]["cached"] == 19
    assert end["hit_rate"] == 19 / (19 + 2 * CHUNK + 21)
    sizes = [sum(len(span.tokens) for span in batch) for batch in bench.main.batches + bench.apart.batches]
    assert set(end["step_seconds"]) == set(sizes)
    assert sum(times.n_steps for times in bench.metrics.step_times.values()) == len(sizes)
    assert 0 < end["model_seconds"] <= end["busy_seconds"]
    assert 0 <= end["overhead_share"] < 1
    assert end["parked_mib"] == bench.cache.tree.n_parked_bytes / 2**20


def test_an_idle_worker_says_so() -> None:
    bench = Bench()
    assert not bench.worker.step()
    assert bench.metrics.busy_seconds == 0
    assert bench.metrics.snapshot()["overhead_share"] == bench.metrics.snapshot()["hit_rate"] == 0
