import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.metrics import Counts
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Request
from fourcorners.errors import ContextOverflow, EngineBusy, EngineClosed, EngineError
from tests.engine.engines import greedy, running, until, watch

pytestmark = pytest.mark.timeout(60)
PROMPT = tuple(range(20, 80))
NOISE = 0.1
"""See test_lane.py."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running() as made:
        yield made


def telling(program: Program, closed: threading.Event) -> Program:
    """``program``; tell when it is closed."""
    try:
        yield from program
    finally:
        closed.set()


def endless() -> Program:
    while True:
        yield from greedy(20, 50)


def one(*steps: Forward) -> Program:
    """Emit a copy of the logits of each step."""
    for step in steps:
        rows = yield step
        yield rows.copy()


def counting(start: int, count: int) -> Program:
    """Emit the logits behind ``start``, behind that and the next number, and so on: the same path for everybody."""
    for position in range(count):
        rows = yield Forward(position, (start + position,))
        yield rows[0].copy()


def assert_same(events: Any, others: Any) -> None:
    """Equal up to the noise that other batches bring."""
    assert np.abs(np.stack(events) - np.stack(others)).max() < NOISE


def rows_of(engine: Engine, *steps: Forward) -> Any:
    return list(engine.submit(one(*steps)))[-1]


def counts_of(engine: Engine, *steps: Forward) -> Counts:
    request = engine.submit(one(*steps))
    list(request)
    return request.counts


def drain(events: Any) -> list[Any]:
    return list(events)


def failing(error: BaseException) -> Program:
    yield "before"
    raise error


def failing_later(error: BaseException) -> Program:
    yield Forward(0, PROMPT)
    yield "before"
    raise error


def test_events_come_in_order(engine: Engine) -> None:
    def numbers() -> Program:
        for position in range(50):
            yield 2 * position
            yield Forward(position, (20,))
            yield 2 * position + 1

    assert list(engine.submit(numbers())) == list(range(100))


def test_many_threads_each_get_their_own_events(engine: Engine) -> None:
    alone = {start: list(engine.submit(counting(start, 12))) for start in range(20, 36)}
    with ThreadPoolExecutor(16) as pool:
        together = dict(pool.map(lambda start: (start, list(engine.submit(counting(start, 12)))), alone))
    for start in alone:
        assert_same(together[start], alone[start])
    assert np.abs(np.stack(alone[20]) - np.stack(alone[21])).max() > 10 * NOISE


@pytest.mark.asyncio
async def test_gathered_tasks_each_get_their_own_events(engine: Engine) -> None:
    async def collect(start: int) -> list[Any]:
        return [event async for event in engine.submit(counting(start, 12))]

    alone = [await collect(start) for start in range(20, 30)]
    together = await asyncio.gather(*(collect(start) for start in range(20, 30)))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


@pytest.mark.asyncio
async def test_threads_and_event_loops_share_it(engine: Engine) -> None:
    alone = list(engine.submit(counting(20, 12)))

    async def collect() -> list[Any]:
        return [event async for event in engine.submit(counting(20, 12))]

    threads = [asyncio.to_thread(lambda: asyncio.run(collect())) for _ in range(4)]
    for events in await asyncio.gather(collect(), *threads, collect()):
        assert_same(events, alone)


def test_requests_of_different_arrival_run_in_common_batches(engine: Engine) -> None:
    batches = watch(engine.runner.main)
    long = engine.submit(greedy(20, 300))
    events = iter(long)
    next(events)
    short = list(engine.submit(greedy(30, 5)))
    assert len(short) == 5
    assert not long.cancelled
    assert max(len(batch) for batch in batches) == 2
    assert len(list(events)) == 299


def test_a_newcomer_does_not_wait_for_those_who_run() -> None:
    with running(limits=Limits(max_running=16)) as engine:
        long = [engine.submit(endless()) for _ in range(8)]
        started = [iter(request) for request in long]
        for events in started:
            next(events)
        assert len(list(engine.submit(greedy(40, 3)))) == 3
        assert not any(request.cancelled for request in long)


def test_a_prompt_in_chunks_keeps_running_streams_flowing() -> None:
    """Between two tokens of a stream there is never more than one chunk of a prompt that arrives."""
    with running(limits=Limits(step_tokens=64), n_context_tokens=2048) as engine:
        order: list[str] = []
        assert engine.runner.apart is not None
        watch(engine.runner.main, lambda spans: order.append("step"))
        watch(engine.runner.apart, lambda spans: order.append("chunk"))
        stream = engine.submit(endless())
        events = iter(stream)
        next(events)
        list(engine.submit(one(Forward(0, tuple(20 + i % 900 for i in range(1500))))))
        stream.cancel()
    chunks = [i for i, kind in enumerate(order) if kind == "chunk"]
    assert len(chunks) >= 1500 // 64
    assert all(order[i + 1] == "step" for i in chunks[:-1])


def test_an_abandoned_iterator_stops_its_program_and_blocks_nobody(engine: Engine) -> None:
    closed = threading.Event()
    iterator = iter(engine.submit(telling(endless(), closed)))
    next(iterator)
    del iterator
    gc.collect()
    assert closed.wait(10)
    assert len(list(engine.submit(greedy(20, 3)))) == 3


@pytest.mark.asyncio
async def test_an_async_stream_that_is_broken_off_stops_its_program(engine: Engine) -> None:
    closed = threading.Event()
    stream = aiter(engine.submit(telling(endless(), closed)))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(closed.wait, 10)


@pytest.mark.asyncio
async def test_a_cancelled_task_stops_its_program(engine: Engine) -> None:
    closed = threading.Event()

    async def consume() -> None:
        async for _ in engine.submit(telling(endless(), closed)):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(closed.wait, 10)


def test_cancel_ends_the_stream_for_whoever_reads_it(engine: Engine) -> None:
    request = engine.submit(endless())
    seen = []
    for event in request:
        seen.append(event)
        request.cancel()
    assert seen
    assert request.cancelled


def test_a_request_cancelled_while_it_waits_never_reaches_the_model() -> None:
    with running(limits=Limits(max_running=1)) as engine:
        batches = watch(engine.runner.main)
        events = iter(engine.submit(endless()))
        next(events)
        closed = threading.Event()
        waiting = engine.submit(telling(one(Forward(0, (777,))), closed))
        waiting.cancel()
        assert list(waiting) == []
        assert closed.is_set()
        next(events)
        assert not any(777 in span.tokens for batch in batches for span in batch)


def test_a_program_that_raises_fails_alone(engine: Engine) -> None:
    for program in (failing, failing_later):
        others = [engine.submit(greedy(20, 5)) for _ in range(2)]
        broken = engine.submit(program(ZeroDivisionError("by zero")))
        events = iter(broken)
        assert next(events) == "before"
        with pytest.raises(EngineError, match="ZeroDivisionError: by zero") as caught:
            next(events)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert [len(list(request)) for request in [*others, engine.submit(greedy(20, 5))]] == [5, 5, 5]
    assert engine.healthy
    assert engine.metrics.n_restarts == 0


@pytest.mark.parametrize("program", [failing, failing_later])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_no_exception_of_a_program_ends_the_engine(engine: Engine, program: Any, error: BaseException) -> None:
    with pytest.raises(EngineError, match=type(error).__name__):
        list(engine.submit(program(error)))
    assert len(list(engine.submit(greedy(20, 3)))) == 3


def test_a_program_that_does_not_let_itself_be_closed_ends_nothing(engine: Engine) -> None:
    def stubborn() -> Program:
        try:
            yield from endless()
        finally:
            yield "still here"

    request = engine.submit(stubborn())
    events = iter(request)
    next(events)
    request.cancel()
    with pytest.raises(EngineError, match="GeneratorExit"):
        list(events)
    assert len(list(engine.submit(greedy(20, 3)))) == 3


def test_a_program_that_needs_no_model_is_answered_though_it_is_busy() -> None:
    def constant() -> Program:
        yield "at once"

    with running(limits=Limits(max_running=1)) as engine:
        events = iter(engine.submit(endless()))
        next(events)
        assert list(engine.submit(constant())) == ["at once"]
        with pytest.raises(EngineError, match="by zero"):
            list(engine.submit(failing(ZeroDivisionError("by zero"))))


# What reaches llama.cpp


def test_too_long_a_prompt_is_refused_before_it_reaches_llama_cpp(engine: Engine) -> None:
    assert engine.runner.apart is not None
    batches = [watch(engine.runner.main), watch(engine.runner.apart)]
    room = engine.runner.n_context_tokens
    with pytest.raises(ContextOverflow, match=f"{room + 1} tokens.*{room}"):
        rows_of(engine, Forward(0, (20,) * (room + 1)))
    assert batches == [[], []]
    with pytest.raises(ContextOverflow, match=f"{room + 1} tokens.*{room}"):
        rows_of(engine, Forward(0, PROMPT), Forward(60, (20,) * (room - 59)))
    assert sum(len(span.tokens) for lane in batches for batch in lane for span in batch) == len(PROMPT)
    assert rows_of(engine, Forward(0, (20,) * room)).shape == (1, engine.runner.vocabulary.n_tokens)


BAD = [
    Forward(1, (5,)),
    Forward(-1, (5,)),
    Forward(0, (), 1),
    Forward(0, (), 0),
    Forward(0, (5,), 2),
    Forward(0, (5,), -1),
    Forward(0, (5, -1)),
    Forward(0, (5, 10**6)),
    Forward(0, (2**31,)),
    Forward(0, (2**70,)),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_step_fails_alone_and_never_reaches_llama_cpp(engine: Engine, bad: Forward) -> None:
    batches = watch(engine.runner.main)
    with pytest.raises(EngineError):
        rows_of(engine, bad)
    assert not batches
    later = bad._replace(position=bad.position + len(PROMPT)) if bad.position > 0 else bad
    with pytest.raises(EngineError):
        rows_of(engine, Forward(0, PROMPT), later)
    assert len(batches) == 1
    assert np.isfinite(rows_of(engine, Forward(0, PROMPT))).all()
    assert engine.metrics.n_restarts == 0


@pytest.mark.parametrize("bad", [Forward(None, (5,)), Forward("0", (5,)), Forward(0, None), Forward(0, ("a",))])  # type: ignore[arg-type]
def test_a_step_of_other_types_fails_alone(engine: Engine, bad: Forward) -> None:
    others = [engine.submit(greedy(20, 200)) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for end in [pool.submit(drain, engine.submit(one(bad))) for _ in range(4)]:
            with pytest.raises(EngineError):
                end.result(10)
    with pytest.raises(EngineError):
        rows_of(engine, Forward(0, PROMPT), bad)
    assert [len(list(request)) for request in others] == [200, 200]
    assert engine.metrics.n_restarts == 0


def test_logits_do_not_depend_on_what_the_cache_held(engine: Engine) -> None:
    cold = rows_of(engine, Forward(0, PROMPT))
    rows_of(engine, Forward(0, tuple(range(500, 560))))
    rows_of(engine, Forward(0, (*PROMPT[:40], 7, 8, 9)))
    warm = rows_of(engine, Forward(0, (*PROMPT[:45], 9, 9)), Forward(40, PROMPT[40:50]), Forward(50, PROMPT[50:]))
    assert np.abs(cold - warm).max() < NOISE
    assert cold.argmax() == warm.argmax()


@pytest.mark.parametrize("n_before", [0, 30])
def test_logits_of_the_last_tokens_come_in_order(engine: Engine, n_before: int) -> None:
    long = tuple(20 + i * 7 % 300 for i in range(600))
    steps = [Forward(0, long[:n_before], 0)] if n_before else []
    many = rows_of(engine, *steps, Forward(n_before, long[n_before:], 120))
    assert many.shape == (120, engine.runner.vocabulary.n_tokens)
    for back in (0, 87, 88, 89, 119):  # batches are of 512 tokens, or 64
        row = rows_of(engine, Forward(0, long[: len(long) - back]))
        assert np.abs(row[0] - many[119 - back]).max() < NOISE


def test_no_logits_fill_the_cache(engine: Engine) -> None:
    assert rows_of(engine, Forward(0, PROMPT, 0)).shape == (0, engine.runner.vocabulary.n_tokens)
    assert counts_of(engine, Forward(0, (*PROMPT, 9))).cached == len(PROMPT)


def test_what_was_seen_is_not_evaluated_again(engine: Engine) -> None:
    batches = watch(engine.runner.main)
    first = counts_of(engine, Forward(0, PROMPT))
    assert (first.cached, first.prefilled) == (0, len(PROMPT))
    again = counts_of(engine, Forward(0, PROMPT))
    assert (again.cached, again.prefilled) == (len(PROMPT) - 1, 1)
    assert [len(span.tokens) for batch in batches for span in batch] == [len(PROMPT), 1]


def test_reuse_goes_by_token_ids_up_to_the_first_difference(engine: Engine) -> None:
    rows_of(engine, Forward(0, PROMPT))
    assert counts_of(engine, Forward(0, (*PROMPT[:30], 999, *PROMPT[31:]))).cached == 30
    assert counts_of(engine, Forward(0, (*range(20, 50), 7, 8))).cached == 30


def test_those_who_need_the_same_long_prompt_wait_for_the_first(engine: Engine) -> None:
    assert engine.runner.apart is not None
    batches = watch(engine.runner.apart)
    shared = tuple(20 + i * 7 % 900 for i in range(700))
    requests = [engine.submit(one(Forward(0, (*shared, 30 + i)))) for i in range(6)]
    rows = [next(iter(request)) for request in requests]
    assert sum(len(span.tokens) for batch in batches for span in batch) < 1.1 * len(shared)
    assert sum(request.counts.cached >= len(shared) - 1 for request in requests) == 5
    with running() as other:
        for i, row in enumerate(rows):
            assert np.abs(rows_of(other, Forward(0, (*shared, 30 + i))) - row).max() < NOISE


def test_parked_contexts_stay_within_their_memory() -> None:
    with running(parked_mib=4, n_context_tokens=1024) as engine:
        for i in range(12):
            rows_of(engine, Forward(0, (20 + i, *(20 + k * 7 % 900 for k in range(600)))))
        assert until(lambda: engine.metrics.n_live_cells == 0)
        assert 2**20 < engine.metrics.n_parked_bytes <= 4 * 2**20
        assert engine.metrics.n_forgotten > 0
    with running(parked_mib=0) as engine:
        assert counts_of(engine, Forward(0, PROMPT)).cached == 0
        assert counts_of(engine, Forward(0, PROMPT)).cached == 0


# The queue


def test_a_full_queue_refuses_at_once_and_all_that_was_taken_is_served() -> None:
    with running(limits=Limits(max_running=2, max_waiting=3)) as engine:
        requests = [engine.submit(greedy(20 + i, 400)) for i in range(5)]
        started = time.monotonic()
        with pytest.raises(EngineBusy, match=r"5 requests.*5 are allowed"):
            engine.submit(greedy(20, 1))
        assert time.monotonic() - started < 0.1
        assert [len(list(request)) for request in requests] == [400] * 5
        assert engine.metrics.n_refused == 1
        assert len(list(engine.submit(greedy(20, 1)))) == 1


def test_whoever_has_seen_the_end_can_come_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    end = Request.end

    def slow(request: Request, error: BaseException | None = None) -> None:
        end(request, error)
        time.sleep(0.05)  # as long as another thread may keep the GIL

    monkeypatch.setattr(Request, "end", slow)
    with running(limits=Limits(max_running=1, max_waiting=0)) as engine:
        for _ in range(3):
            assert len(list(engine.submit(greedy(20, 1)))) == 1


def test_whatever_becomes_of_a_request_it_is_counted_out_once() -> None:
    with running(limits=Limits(max_running=2, max_waiting=8)) as engine:

        def constant() -> Program:
            yield "no model"

        def cancelled() -> Program:
            yield from endless()

        for _ in range(5):
            requests = [
                engine.submit(greedy(20, 5)),
                engine.submit(constant()),
                engine.submit(failing(ValueError())),
                engine.submit(failing_later(ValueError())),
                engine.submit(one(BAD[0])),
                engine.submit(cancelled()),
                engine.submit(endless(), timeout_s=0.05),
            ]
            requests[5].cancel()
            requests[5].cancel()
            for request in requests:
                with contextlib.suppress(EngineError):
                    list(request)
        assert until(lambda: engine._state.n_open == 0)
        metrics = engine.metrics
        assert metrics.n_requests == 35
        assert (metrics.n_finished, metrics.n_cancelled, metrics.n_failed) == (10, 5, 20)


# Closing


def test_close_fails_what_runs_and_what_waits_and_refuses_what_comes() -> None:
    with running(limits=Limits(max_running=1)) as engine:
        current = engine.submit(endless())
        first = next(events := iter(current))
        assert isinstance(first, int)
        waiting = [engine.submit(greedy(20, 5)) for _ in range(3)]
        with ThreadPoolExecutor(4) as pool:
            ends = [pool.submit(drain, request) for request in (events, *waiting)]
            engine.close()
            for end in ends:
                with pytest.raises(EngineClosed):
                    end.result(10)
        engine.close()
        with pytest.raises(EngineClosed, match="make a new one"):
            engine.submit(greedy(20, 1))
        assert not engine.healthy
        assert engine._state.n_open == 0


def test_close_from_many_threads_at_once() -> None:
    with running() as engine:
        request = engine.submit(endless())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: engine.close(), range(4)))
        with pytest.raises(EngineClosed):
            list(request)


@pytest.mark.asyncio
async def test_close_wakes_async_readers() -> None:
    with running(limits=Limits(max_running=1)) as engine:

        async def read(program: Program) -> list[Any]:
            return [event async for event in engine.submit(program)]

        tasks = [asyncio.create_task(read(endless())), asyncio.create_task(read(greedy(20, 3)))]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.close)
        for task in tasks:
            with pytest.raises(EngineClosed):
                await asyncio.wait_for(task, 10)


def test_submitting_while_it_closes_never_hangs() -> None:
    for _ in range(5):
        with running() as engine:
            ends: list[bool] = []

            def press(engine: Engine = engine, ends: list[bool] = ends) -> None:
                try:
                    while True:
                        list(engine.submit(greedy(20, 2)))
                except EngineClosed:
                    ends.append(True)

            threads = [threading.Thread(target=press, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            next(iter(engine.submit(greedy(20, 2))))
            engine.close()
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()
            assert len(ends) == 3
            assert engine._state.n_open == 0


def test_what_arrives_after_the_last_look_is_refused() -> None:
    """``close`` comes while ``submit`` is between its check and the inbox."""
    with running() as engine:

        def closing() -> Program:
            engine.close()
            yield from greedy(20, 5)

        with pytest.raises(EngineClosed):
            list(engine.submit(closing()))
        assert engine._state.n_open == 0


def test_a_program_may_close_the_engine_that_runs_it() -> None:
    with running() as engine:

        def closing() -> Program:
            yield Forward(0, PROMPT)
            engine.close()
            yield from greedy(20, 5)

        with pytest.raises(EngineClosed):
            list(engine.submit(closing()))
