import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fourcorners.engine.engine import Engine
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.runner import Runner
from fourcorners.errors import ContextOverflow, EngineClosed, EngineError
from fourcorners.models import reader_path

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(Runner(reader_path()))
    yield made
    made.close()


def greedy(start: int, count: int, closed: threading.Event | None = None) -> Program:
    """Emit ``count`` tokens after ``start``; tell when it is closed."""
    tokens: tuple[int, ...] = (start,)
    try:
        for position in range(count):
            logits = yield Forward(position, tokens)
            tokens = (int(logits[-1].argmax()),)
            yield tokens[0]
    finally:
        if closed:
            closed.set()


def endless(closed: threading.Event | None = None) -> Program:
    while True:
        yield from greedy(20, 50, closed)


def drain(events: Any) -> list[Any]:
    return list(events)


def failing(error: BaseException) -> Program:
    yield "before"
    raise error


def test_events_come_in_order(engine: Engine) -> None:
    first = list(engine.submit(greedy(20, 10)))
    assert len(first) == 10
    assert list(engine.submit(greedy(20, 10))) == first


def test_many_threads_each_get_their_own_events(engine: Engine) -> None:
    alone = {start: list(engine.submit(greedy(start, 12))) for start in range(20, 36)}
    with ThreadPoolExecutor(16) as pool:
        together = dict(pool.map(lambda start: (start, list(engine.submit(greedy(start, 12)))), alone))
    assert together == alone


@pytest.mark.asyncio
async def test_gathered_tasks_each_get_their_own_events(engine: Engine) -> None:
    async def collect(start: int) -> list[Any]:
        return [event async for event in engine.submit(greedy(start, 12))]

    alone = [await collect(start) for start in range(20, 30)]
    assert await asyncio.gather(*(collect(start) for start in range(20, 30))) == alone


def test_an_abandoned_iterator_stops_its_program_and_blocks_nobody(engine: Engine) -> None:
    closed = threading.Event()
    iterator = iter(engine.submit(endless(closed)))
    next(iterator)
    del iterator
    gc.collect()
    assert closed.wait(10)
    assert len(list(engine.submit(greedy(20, 3)))) == 3


@pytest.mark.asyncio
async def test_an_async_stream_that_is_broken_off_stops_its_program(engine: Engine) -> None:
    closed = threading.Event()
    stream = aiter(engine.submit(endless(closed)))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(closed.wait, 10)


@pytest.mark.asyncio
async def test_a_cancelled_task_stops_its_program(engine: Engine) -> None:
    closed = threading.Event()

    async def consume() -> None:
        async for _ in engine.submit(endless(closed)):
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


def test_a_request_cancelled_while_it_waits_never_runs(engine: Engine) -> None:
    running = engine.submit(endless())
    started = threading.Event()
    waiting = engine.submit(greedy(20, 5, started))
    waiting.cancel()
    running.cancel()
    assert list(waiting) == []
    assert not started.is_set()


def test_a_program_that_raises_fails_alone(engine: Engine) -> None:
    others = [engine.submit(greedy(20, 5)) for _ in range(2)]
    broken = engine.submit(failing(ZeroDivisionError("by zero")))
    events = iter(broken)
    assert next(events) == "before"
    with pytest.raises(EngineError, match="ZeroDivisionError: by zero") as caught:
        next(events)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert [len(list(request)) for request in [*others, engine.submit(greedy(20, 5))]] == [5, 5, 5]


def test_errors_of_ours_come_through_as_they_are(engine: Engine) -> None:
    def too_long() -> Program:
        yield Forward(0, (20,) * 100_000)

    with pytest.raises(ContextOverflow, match="100000"):
        list(engine.submit(too_long()))
    assert len(list(engine.submit(greedy(20, 3)))) == 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_no_exception_of_a_program_ends_the_engine(engine: Engine, error: BaseException) -> None:
    with pytest.raises(EngineError, match=type(error).__name__):
        list(engine.submit(failing(error)))
    assert len(list(engine.submit(greedy(20, 3)))) == 3


def test_close_fails_what_runs_and_what_waits_and_refuses_what_comes() -> None:
    engine = Engine(Runner(reader_path()))
    running = engine.submit(endless())
    first = next(events := iter(running))
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


def test_close_from_many_threads_at_once() -> None:
    engine = Engine(Runner(reader_path()))
    request = engine.submit(endless())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: engine.close(), range(4)))
    with pytest.raises(EngineClosed):
        list(request)


@pytest.mark.asyncio
async def test_close_wakes_async_readers() -> None:
    engine = Engine(Runner(reader_path()))

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
        engine = Engine(Runner(reader_path()))
        refused = threading.Event()

        def press(engine: Engine = engine, refused: threading.Event = refused) -> None:
            try:
                while True:
                    list(engine.submit(greedy(20, 2)))
            except EngineClosed:
                refused.set()

        threads = [threading.Thread(target=press, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        next(iter(engine.submit(greedy(20, 2))))
        engine.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert refused.is_set()


def test_the_second_question_reuses_what_it_shares(engine: Engine) -> None:
    def prompt(*tokens: int) -> Program:
        yield Forward(0, tokens)

    first = engine.submit(prompt(*range(20, 60)))
    list(first)
    second = engine.submit(prompt(*range(20, 50), 7, 8))
    list(second)
    assert (first.n_cached_tokens, second.n_cached_tokens) == (0, 30)
