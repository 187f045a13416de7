import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from fourcorners.engine.program import Forward
from fourcorners.engine.request import Inbox, LoopReader, Request, wake_readers

pytestmark = pytest.mark.timeout(10)


def request_of(wake: Callable[[], None] = lambda: None) -> Request:
    return Request((_ for _ in ()), wake=wake)


def given(request: Request, *events: Any) -> None:
    """Hand over ``events`` as the engine does after a step."""
    for event in events:
        request.put(event)
    reader = request.hand_over()
    if reader is not None:
        wake_readers([reader])


def ended(*bunches: Iterable[Any], error: BaseException | None = None) -> Request:
    request = request_of()
    for bunch in bunches:
        given(request, *bunch)
    request.end(error)
    return request


async def collected(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


async def turn() -> None:
    """Let the loop's other tasks get on."""
    for _ in range(5):
        await asyncio.sleep(0)


class CountingLoop:
    """An event loop as far as a request knows one."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.n_calls, self._is_closed = 0, is_closed

    def call_soon_threadsafe(self, callback: Callable[..., None], *args: Any) -> None:
        self.n_calls += 1
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
        callback(*args)


def reader_in(loop: Any) -> LoopReader:
    return LoopReader(loop, asyncio.Event())


def test_events_come_in_order_one_by_one_or_in_bunches() -> None:
    assert list(ended("ab", "c")) == ["a", "b", "c"]
    assert list(ended("ab", "c").bunches()) == [["a", "b"], ["c"]]
    assert asyncio.run(collected(aiter(ended("ab", "c")))) == ["a", "b", "c"]
    assert asyncio.run(collected(ended("ab", "c").abunches())) == [["a", "b"], ["c"]]


def test_what_was_not_handed_over_comes_before_the_end() -> None:
    request = request_of()
    request.put("a")
    assert request._ready.empty()
    request.end()
    assert list(request) == ["a"]


def test_an_error_comes_after_the_events() -> None:
    bunches = ended("ab", error=ValueError("oh")).bunches()
    assert next(bunches) == ["a", "b"]
    with pytest.raises(ValueError, match="oh"):
        next(bunches)

    async def also() -> None:
        bunches = ended("ab", error=ValueError("oh")).abunches()
        assert await anext(bunches) == ["a", "b"]
        with pytest.raises(ValueError, match="oh"):
            await anext(bunches)

    asyncio.run(also())


def test_who_iterates_again_finds_the_end() -> None:
    request, broken = ended("ab"), ended("ab", error=ValueError("oh"))
    assert list(request) == ["a", "b"]
    assert list(request) == asyncio.run(collected(aiter(request))) == list(request) == []
    for _ in range(2):
        with pytest.raises(ValueError, match="oh"):
            list(broken)


def test_a_thread_waits_for_news() -> None:
    request = request_of()
    threading.Timer(0.02, given, (request, "a")).start()
    threading.Timer(0.04, request.end).start()
    assert list(request) == ["a"]


def test_leaving_in_whatever_way_cancels() -> None:
    done, left, closed = (ended("ab") for _ in range(3))
    assert list(done) == ["a", "b"]
    for _ in left:
        break
    bunches = closed.bunches()
    next(bunches)
    assert not closed.cancelled
    bunches.close()
    assert all(request.cancelled for request in (done, left, closed))


async def _break(request: Request) -> None:
    async for _ in request:
        break


async def _raise(request: Request) -> None:
    async for _ in request:
        raise ValueError("oh")


@pytest.mark.parametrize("leave", [_break, _raise, lambda request: collected(aiter(request))])
def test_leaving_in_an_event_loop_cancels(leave: Callable[[Request], Any]) -> None:
    async def run() -> None:
        request = request_of()
        task = asyncio.ensure_future(leave(request))
        await turn()
        assert not request.cancelled
        given(request, "a")
        await turn()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await turn()
        assert request.cancelled
        request.put("b")
        assert request.hand_over() is None, "there is nobody to wake"

    asyncio.run(run())


def test_who_waits_for_news_in_an_event_loop_costs_nothing() -> None:
    async def run() -> None:
        task = asyncio.ensure_future(collected(aiter(request_of())))
        started = time.thread_time()
        await asyncio.sleep(0.05)
        assert time.thread_time() - started < 0.02
        task.cancel()

    asyncio.run(run())


def test_cancelling_wakes_the_engine_once() -> None:
    woken: list[bool] = []
    request = request_of(lambda: woken.append(True))
    assert not request.cancelled
    request.cancel()
    request.cancel()
    assert request.cancelled
    assert len(woken) == 1


def test_with_nothing_to_hand_over_nobody_is_woken() -> None:
    request = request_of()
    request._reader = reader_in(CountingLoop())
    assert request.hand_over() is None
    request.put("a")
    assert request.hand_over() is request._reader
    assert request.hand_over() is None


def test_each_loop_is_woken_once_for_all_of_its_readers() -> None:
    loops = [CountingLoop(), CountingLoop(is_closed=True), CountingLoop()]
    readers = [reader_in(loops[i % 3]) for i in range(24)]
    wake_readers(readers)
    assert [loop.n_calls for loop in loops] == [1, 1, 1]
    assert [reader.news.is_set() for reader in readers] == [True, False, True] * 8


def test_eight_streams_of_one_loop_are_woken_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        requests = [request_of() for _ in range(8)]
        tasks = [asyncio.ensure_future(collected(aiter(request))) for request in requests]
        await turn()
        calls: list[Any] = []
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(*args: Any) -> None:
            calls.append(args)
            call(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        for request in requests:
            request.put("a")
        wake_readers([reader for request in requests if (reader := request.hand_over()) is not None])
        assert len(calls) == 1
        await turn()
        for request in requests:
            request.end()
        assert await asyncio.gather(*tasks) == [["a"]] * 8

    asyncio.run(run())


def test_a_loop_that_was_closed_meanwhile_is_no_error() -> None:
    request = request_of()

    async def begin() -> Any:
        events = request.abunches()
        given(request, "a")
        assert await anext(events) == ["a"]
        return events

    loop = asyncio.new_event_loop()
    events = loop.run_until_complete(begin())
    loop.close()
    given(request, "b")
    request.end()
    assert events is not None


@pytest.mark.parametrize("n_bunch", [1, 3])
def test_nothing_is_lost_between_threads(n_bunch: int) -> None:
    async def run() -> None:
        request = request_of()

        def engine() -> None:
            for start in range(0, 1_500, n_bunch):
                given(request, *range(start, start + n_bunch))
                if start % 7 == 0:
                    time.sleep(0.0001)
            request.end()

        thread = threading.Thread(target=engine)
        thread.start()
        assert await collected(aiter(request)) == list(range(1_500))
        thread.join()

    asyncio.run(run())


def test_an_inbox_gives_all_that_arrived_in_order() -> None:
    inbox, requests = Inbox(), [request_of() for _ in range(3)]
    assert inbox.take() == []
    for request in requests:
        inbox.put(request, Forward(0, (1,)))
    assert inbox.take(timeout=None) == [(request, Forward(0, (1,))) for request in requests]
    assert inbox.take() == []


def test_an_inbox_is_waited_for_no_longer_than_told() -> None:
    inbox = Inbox()
    inbox.wake()
    assert inbox.take(timeout=None) == []
    started = time.monotonic()
    assert inbox.take(timeout=0.02) == []
    assert 0.015 < time.monotonic() - started < 5


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_wake_up_ends_the_wait_and_is_not_lost_if_it_comes_before(is_empty: bool) -> None:
    inbox, request = Inbox(), request_of()
    expected = [] if is_empty else [(request, Forward(0, (1,)))]

    def call() -> None:
        inbox.wake() if is_empty else inbox.put(request, Forward(0, (1,)))

    threading.Timer(0.02, call).start()
    assert inbox.take(timeout=None) == expected
    call()
    assert inbox.take(timeout=None) == expected


def test_an_inbox_takes_from_many_threads() -> None:
    inbox, requests = Inbox(), [request_of() for _ in range(200)]

    def put(start: int) -> None:
        for request in requests[start::4]:
            inbox.put(request, Forward(0, (1,)))

    threads = [threading.Thread(target=put, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    arrived: list[Request] = []
    while len(arrived) < len(requests):
        arrived += [request for request, _ in inbox.take(timeout=None)]
    assert set(arrived) == set(requests)
