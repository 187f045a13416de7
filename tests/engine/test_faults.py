"""What goes wrong on the engine's own thread: whom it hits, and that the others go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.lane import DecodeFault, OutOfCells
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Request
from fourcorners.errors import EngineBusy, EngineError
from tests.engine.engines import following, greedy, running, until, watch

pytestmark = pytest.mark.timeout(60)
LONG = tuple(20 + i * 7 % 900 for i in range(700))


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running(limits=Limits(max_running=3, max_waiting=5)) as made:
        yield made


def closing(program: Program, closed: list[str]) -> Program:
    try:
        yield from program
    finally:
        closed.append("closed")


class Failing:
    """Calls ``function``, but raises ``error`` in the calls of these numbers, counted from 0."""

    def __init__(self, function: Any, error: BaseException, *numbers: int) -> None:
        self._function, self._error, self._numbers, self.n = function, error, numbers, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.n += 1
        if self.n - 1 in self._numbers:
            raise self._error
        return self._function(*arguments, **named)


def outcome(request: Request) -> Any:
    """All events, or the error."""
    try:
        return list(request)
    except EngineError as error:
        return error


def outcomes(requests: list[Request]) -> list[Any]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(outcome, requests))


def assert_well(engine: Engine) -> None:
    assert engine.healthy
    assert len(list(engine.submit(following(LONG, 5)))) == 5
    assert len(list(engine.submit(greedy(20, 5)))) == 5
    assert until(lambda: engine._state.n_open == engine.metrics.n_live_cells == engine.metrics.n_running == 0)


def test_a_fault_in_a_batch_fails_those_in_it_and_who_waits_is_served(engine: Engine) -> None:
    closed: list[str] = []
    engine.runner.main.decode = Failing(engine.runner.main.decode, DecodeFault("made up"), 20)  # type: ignore[method-assign]
    requests = [engine.submit(closing(greedy(20, 100), closed)) for _ in range(6)]
    first, *others = outcomes(requests)
    failed = [one for one in (first, *others) if isinstance(one, EngineError)]
    assert failed
    assert len(failed) <= 3
    assert isinstance(first, EngineError)
    for error in failed:
        assert "made up" in str(error)
        assert "try the request again" in str(error)
        assert isinstance(error.__cause__, DecodeFault)
    assert all(len(one) == 100 for one in others if not isinstance(one, EngineError))
    assert until(lambda: len(closed) == 6)
    assert engine.metrics.n_restarts == 0
    assert_well(engine)


def test_a_fault_in_a_prefill_too(engine: Engine) -> None:
    assert engine.runner.apart is not None
    engine.runner.apart.decode = Failing(engine.runner.apart.decode, DecodeFault("made up"), 1)  # type: ignore[method-assign]
    short, long = outcomes([engine.submit(greedy(20, 300)), engine.submit(following(LONG, 5))])
    assert isinstance(short, EngineError)
    assert isinstance(long, EngineError)
    assert_well(engine)


def test_faults_again_and_again_leave_nothing_behind(engine: Engine) -> None:
    numbers = range(0, 400, 7)
    engine.runner.main.decode = Failing(engine.runner.main.decode, DecodeFault("made up"), *numbers)  # type: ignore[method-assign]
    ends = [one for _ in range(20) for one in outcomes([engine.submit(greedy(20 + i, 4)) for i in range(6)])]
    assert any(isinstance(one, EngineError) for one in ends)
    assert any(not isinstance(one, EngineError) for one in ends)
    del engine.runner.main.decode
    assert engine.metrics.n_restarts == 0
    assert_well(engine)


def test_a_batch_that_finds_no_cells_after_all_sends_the_youngest_away(engine: Engine) -> None:
    """The books say that there is room; llama.cpp says no."""
    engine.runner.main.decode = Failing(engine.runner.main.decode, OutOfCells(), 5, 6, 17)  # type: ignore[method-assign]
    requests = [engine.submit(greedy(20 + i, 60)) for i in range(3)]
    assert [len(one) for one in outcomes(requests)] == [60, 60, 60]
    assert engine.metrics.n_preempted > 0
    assert_well(engine)


def test_an_exception_in_the_thread_fails_all_with_the_cause_and_it_goes_on(engine: Engine) -> None:
    closed: list[str] = []
    cause = ZeroDivisionError("made up")
    worker = engine._worker
    worker.step = Failing(worker.step, cause, 30)  # type: ignore[method-assign]
    requests = [engine.submit(closing(greedy(20, 500), closed)) for _ in range(6)]
    for error in outcomes(requests):
        assert isinstance(error, EngineError)
        assert "ZeroDivisionError: made up" in str(error)
        assert error.__cause__ is cause
    assert len(closed) == 6
    assert engine.metrics.n_restarts == 1
    assert_well(engine)


def test_after_a_second_exception_it_is_unhealthy_and_says_so(engine: Engine) -> None:
    worker = engine._worker
    worker.step = Failing(worker.step, ZeroDivisionError("made up"), 30, 60)  # type: ignore[method-assign]
    ends = [outcomes([engine.submit(greedy(20, 500)) for _ in range(4)]) for _ in range(2)]
    assert all(isinstance(error, EngineError) for some in ends for error in some)
    assert until(lambda: not engine.healthy)
    with pytest.raises(EngineError, match=r"broken.*made up.*make a new one") as caught:
        engine.submit(greedy(20, 1))
    assert not isinstance(caught.value, EngineBusy)
    assert engine._state.n_open == 0
    engine.close()
    engine.close()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), RecursionError()])
def test_whatever_is_raised_in_the_thread(engine: Engine, error: BaseException) -> None:
    worker = engine._worker
    worker.step = Failing(worker.step, error, 10)  # type: ignore[method-assign]
    assert isinstance(outcome(engine.submit(greedy(20, 500))), EngineError)
    assert_well(engine)


def test_an_exception_while_nothing_runs_is_seen_by_nobody(engine: Engine) -> None:
    worker = engine._worker
    worker.step = Failing(worker.step, ZeroDivisionError("made up"), 0)  # type: ignore[method-assign]
    engine._inbox.wake()
    assert until(lambda: engine.metrics.n_restarts == 1)
    assert_well(engine)


@pytest.mark.asyncio
async def test_event_loops_are_told_too(engine: Engine) -> None:
    async def read() -> list[Any]:
        return [event async for event in engine.submit(greedy(20, 500))]

    worker = engine._worker
    worker.step = Failing(worker.step, ZeroDivisionError("made up"), 30)  # type: ignore[method-assign]
    for end in await asyncio.gather(*(read() for _ in range(5)), return_exceptions=True):
        assert isinstance(end, EngineError)
    assert await asyncio.to_thread(until, lambda: engine._state.n_open == 0)


def test_requests_that_come_while_it_breaks_never_hang(engine: Engine) -> None:
    worker = engine._worker
    worker.step = Failing(worker.step, ZeroDivisionError("made up"), 40, 80)  # type: ignore[method-assign]
    n_served, errors = [], []

    def press() -> None:
        while True:
            try:
                n_served.append(len(list(engine.submit(greedy(20, 3)))))
            except EngineBusy:
                continue
            except EngineError as error:
                errors.append(str(error))
                if "broken" in errors[-1]:
                    return

    threads = [threading.Thread(target=press, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert n_served
    assert engine._state.n_open == 0


def test_what_was_computed_before_a_fault_is_not_used_after_it(engine: Engine) -> None:
    def asking() -> Program:
        yield Forward(0, LONG)

    list(engine.submit(asking()))
    worker = engine._worker
    worker.step = Failing(worker.step, ZeroDivisionError("made up"), 0)  # type: ignore[method-assign]
    engine._inbox.wake()
    assert until(lambda: engine.metrics.n_restarts == 1)
    assert engine.runner.apart is not None
    batches = watch(engine.runner.apart)
    again = engine.submit(asking())
    list(again)
    assert again.counts.cached == 0
    assert sum(len(span.tokens) for batch in batches for span in batch) == len(LONG)
