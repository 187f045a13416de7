"""However a request is called off, its model calls end with the one under way, and nobody else notices."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fourcorners.engine.cost import StepCost
from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.program import Forward, Program
from fourcorners.errors import EngineTimeout
from tests.engine.engines import MadeUpVocabulary, made_up, running, until, watch

pytestmark = pytest.mark.timeout(60)
LONG = tuple(np.random.default_rng(0).integers(20, 1000, 8_000).tolist())
N_CHUNKS = 16
SHORTER = LONG[:3_000]
N_SHORT_CHUNKS = 6
AT = 3
"""The chunk during which the request is called off."""
NOISE = 0.3
"""After thousands of tokens it is 0.1; see test_lane.py."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running(limits=Limits(chunk_seconds=10), n_context_tokens=9_000, n_cache_tokens=12_000) as made:
        yield made


def long_prompt(closed: threading.Event | None = None, tokens: tuple[int, ...] = LONG) -> Program:
    """``tokens`` at once."""
    try:
        rows = yield Forward(0, tokens)
        yield rows.copy()
    finally:
        if closed:
            closed.set()


def later_prompt(closed: threading.Event | None = None) -> Program:
    """One event, and then eight thousand tokens."""
    try:
        yield Forward(0, (20,))
        yield "ready"
        yield Forward(1, LONG)
        yield "done"
    finally:
        if closed:
            closed.set()


def steady(start: int, count: int) -> Program:
    """Emit the logits behind a path that is the same each time."""
    for position in range(count):
        rows = yield Forward(position, (start + position % 500,))
        yield rows[0].copy()


class Chunks:
    """The chunks of the long prompt, whichever lane; ``act`` is called when the one numbered AT is about to run."""

    def __init__(self, engine: Engine, *, seconds: float = 0.0) -> None:
        self.times: list[float] = []
        self.act: Callable[[], Any] = lambda: None
        self._seconds = seconds
        assert engine.runner.apart is not None
        for lane in (engine.runner.main, engine.runner.apart):
            watch(lane, self._before)

    @property
    def n(self) -> int:
        return len(self.times)

    def _before(self, spans: Sequence[Any]) -> None:
        if any(len(span.tokens) > 100 for span in spans):
            self.times.append(time.monotonic())
            time.sleep(self._seconds)
            if self.n == AT:
                self.act()


def company(engine: Engine, stop: Callable[[], Any]) -> Any:
    """What others get meanwhile: until ``stop``, at least 100 steps."""
    request, rows = engine.submit(steady(30, 4_000)), []
    for row in request:
        rows.append(row)
        if len(rows) >= 100 and stop():
            break
    return np.stack(rows)


def assert_undisturbed(rows: Any) -> None:
    with running(n_context_tokens=9_000) as alone:
        wanted = np.stack(list(alone.submit(steady(30, len(rows)))))
    assert np.abs(rows - wanted).max() < NOISE


def called_off(engine: Engine, read: Callable[[], Any], closed: threading.Event) -> None:
    """``read`` a request to its end while others run; see that they don't notice and that nothing is left."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(company, engine, closed.is_set)
        read()
        assert closed.wait(10)
        rows = other.result(30)
    assert_undisturbed(rows)
    metrics = engine.metrics
    assert until(lambda: metrics.n_running == metrics.n_waiting == metrics.n_live_cells == engine._state.n_open == 0)


def test_the_whole_prompt_takes_so_many_chunks(engine: Engine) -> None:
    chunks = Chunks(engine)
    assert len(list(engine.submit(long_prompt(tokens=SHORTER)))) == 1
    assert chunks.n == N_SHORT_CHUNKS


@pytest.mark.parametrize("program", [long_prompt, later_prompt])
def test_cancel_in_the_middle_of_a_prefill(engine: Engine, program: Any) -> None:
    closed, chunks = threading.Event(), Chunks(engine)

    def read() -> None:
        request = engine.submit(program(closed))
        chunks.act = request.cancel
        assert list(request) in ([], ["ready"])

    called_off(engine, read, closed)
    assert chunks.n == AT


@pytest.mark.parametrize("program", [long_prompt, later_prompt])
def test_a_task_cancelled_in_the_middle_of_a_prefill(engine: Engine, program: Any) -> None:
    closed, chunks = threading.Event(), Chunks(engine)

    async def read() -> None:
        async def consume() -> None:
            async for _ in engine.submit(program(closed)):
                pass

        loop, gone = asyncio.get_running_loop(), threading.Event()
        task = asyncio.create_task(consume())

        def act() -> None:
            loop.call_soon_threadsafe(task.cancel)
            assert gone.wait(5)

        chunks.act = act
        with pytest.raises(asyncio.CancelledError):
            await task
        gone.set()

    called_off(engine, lambda: asyncio.run(read()), closed)
    assert chunks.n == AT


def test_a_generator_closed_in_the_middle_of_a_prefill(engine: Engine) -> None:
    closed, chunks = threading.Event(), Chunks(engine)

    def read() -> None:
        reached, gone = threading.Event(), threading.Event()

        def act() -> None:
            reached.set()
            assert gone.wait(5)

        chunks.act = act
        events = iter(engine.submit(later_prompt(closed)))
        assert next(events) == "ready"
        assert reached.wait(10)
        events.close()  # type: ignore[attr-defined]
        gone.set()

    called_off(engine, read, closed)
    assert chunks.n == AT


def test_an_async_generator_closed_in_the_middle_of_a_prefill(engine: Engine) -> None:
    closed, chunks = threading.Event(), Chunks(engine)

    async def read() -> None:
        reached, gone = threading.Event(), threading.Event()

        def act() -> None:
            reached.set()
            assert gone.wait(5)

        chunks.act = act
        events = aiter(engine.submit(later_prompt(closed)))
        assert await anext(events) == "ready"
        assert await asyncio.to_thread(reached.wait, 10)
        await events.aclose()  # type: ignore[attr-defined]
        gone.set()

    called_off(engine, lambda: asyncio.run(read()), closed)
    assert chunks.n == AT


@pytest.mark.parametrize("program", [long_prompt, later_prompt])
def test_a_deadline_in_the_middle_of_a_prefill(engine: Engine, program: Any) -> None:
    closed, chunks = threading.Event(), Chunks(engine, seconds=0.03)
    ends: list[float] = []

    def read() -> None:
        ends.append(time.monotonic() + 0.2)
        with pytest.raises(EngineTimeout, match="not done after 0"):
            list(engine.submit(program(closed), timeout_s=0.2))

    called_off(engine, read, closed)
    assert 1 <= chunks.n < N_CHUNKS
    assert chunks.times[-1] < ends[0] + 0.1, "no chunk begins after the deadline"


def test_a_deadline_while_it_waits_in_the_queue() -> None:
    with running(limits=Limits(max_running=1)) as engine:
        long = engine.submit(steady(30, 1_000))
        started = time.monotonic()
        with pytest.raises(EngineTimeout):
            list(engine.submit(steady(30, 1), timeout_s=0.05))
        assert time.monotonic() - started < 2
        long.cancel()


def test_what_a_cancelled_prefill_did_is_kept_for_the_next(engine: Engine) -> None:
    chunks = Chunks(engine)
    request = engine.submit(long_prompt(tokens=SHORTER))
    chunks.act = request.cancel
    assert list(request) == []
    again = engine.submit(long_prompt(tokens=SHORTER))
    (rows,) = list(again)
    assert again.counts.cached == (AT - 1) * 512, "all chunks but the one that was broken off"
    with running(n_context_tokens=9_000) as alone:
        assert np.abs(next(iter(alone.submit(long_prompt(tokens=SHORTER)))) - rows).max() < NOISE


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_chunk_under_way_is_broken_off(engine: Engine, how: str) -> None:
    request = engine.submit(long_prompt())
    assert until(lambda: engine.metrics.n_steps == AT)
    assert until(lambda: engine._worker._under_way is not None)
    if how == "cancel":
        request.cancel()
        assert until(lambda: engine.metrics.n_running == 0)
    else:
        engine.close()
    assert engine.metrics.n_steps == AT
    assert request.counts.prefilled == AT * 512


def test_many_at_once_called_off_in_all_ways(engine: Engine) -> None:
    """Those that wait for a common beginning go on when the one that prefills it is called off."""
    chunks = Chunks(engine)
    requests = [engine.submit(long_prompt(tokens=SHORTER)) for _ in range(6)]

    def act() -> None:
        for request in requests[::2]:
            request.cancel()

    chunks.act = act
    assert [len(list(request)) for request in requests] == [0, 1, 0, 1, 0, 1]
    assert chunks.n <= N_SHORT_CHUNKS + 1
    assert until(lambda: engine._state.n_open == 0)


SLOW = StepCost({1: 0.001, 8: 0.002, 512: 1.0})
TOKENS = MadeUpVocabulary([bytes([code]) for code in range(97, 123)])


def chunk_sizes(*forwards: Forward) -> list[int]:
    """Of what a slow model evaluates for one request."""

    def program() -> Program:
        for forward in forwards:
            _ = yield forward

    with made_up(TOKENS, lambda tokens: np.zeros(TOKENS.n_tokens, np.float32), cost=SLOW) as engine:
        assert engine.runner.apart is not None
        batches = [watch(lane) for lane in (engine.runner.main, engine.runner.apart)]
        list(engine.submit(program()))
        return [len(span.tokens) for lane in batches for batch in lane for span in batch]


def test_no_chunk_takes_longer_than_its_time() -> None:
    sizes = chunk_sizes(Forward(0, (1,) * 500))
    assert sum(sizes) == 500
    assert max(SLOW.seconds(size) for size in sizes) <= Limits().chunk_seconds


def test_no_chunk_of_a_later_step_takes_longer_than_its_time() -> None:
    sizes = chunk_sizes(Forward(0, (1,) * 10), Forward(10, (1,) * 500))
    assert max(SLOW.seconds(size) for size in sizes) <= Limits().chunk_seconds


# The process


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


BEGINNING = """
import asyncio, os, sys, threading, time
from fourcorners.engine.engine import Engine
from fourcorners.engine.program import Forward
from fourcorners.engine.runner import Runner
from fourcorners.errors import EngineClosed, EngineError
from fourcorners.models import reader_path

engine = Engine(Runner(reader_path()))

def endless():
    while True:
        for position in range(900):
            yield Forward(position, (20 + position % 50,))
            yield position

def read(seen):
    for event in engine.submit(endless()):
        seen.append(event)

async def aread(seen):
    async for event in engine.submit(endless()):
        seen.append(event)
"""
ENDINGS = {
    "a thread": """
seen = []
threading.Thread(target=read, args=(seen,), daemon=True).start()
""",
    "a loop in a thread": """
seen = []
threading.Thread(target=lambda: asyncio.run(aread(seen)), daemon=True).start()
""",
    "both, and more of them than can run": """
seen = []
for _ in range(20):
    threading.Thread(target=lambda: asyncio.run(aread(seen)), daemon=True).start()
    threading.Thread(target=read, args=(seen,), daemon=True).start()
""",
    "a task that nobody awaits": """
seen = []
async def main():
    global task
    task = asyncio.create_task(aread(seen))
    while not seen:
        await asyncio.sleep(0.01)
asyncio.run(main())
""",
    "a generator in the middle": """
seen = []
events = iter(engine.submit(endless()))
seen.append(next(events))
""",
    "a request that nobody reads": """
seen = [0]
request = engine.submit(endless())
""",
    "a prefill": """
seen = [0]
def long():
    yield Forward(0, tuple(20 + i % 900 for i in range(1000)))
    yield from endless()
requests = [engine.submit(long()) for _ in range(8)]
""",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_interpreter_exits_with_requests_running(how: str) -> None:
    started = time.monotonic()
    done = run(BEGINNING + ENDINGS[how] + "\nwhile not seen:\n    time.sleep(0.01)\ntime.sleep(0.1)\nprint('end')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
    assert time.monotonic() - started < 10


def test_an_exception_in_the_main_thread_ends_the_process_as_usual() -> None:
    done = run(BEGINNING + ENDINGS["a thread"] + "time.sleep(0.2)\nraise SystemExit(7)")
    assert (done.returncode, done.stderr) == (7, "")


FORK = """
request = engine.submit(endless())
events = iter(request)
next(events)
child = os.fork()
if child == 0:
    try:
        engine.submit(endless())
        print("no error")
    except EngineError as error:
        print(error)
    engine.close()
    engine.close()
    print(engine.healthy)
    sys.stdout.flush()
    HOW
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
print(next(events) > 0, engine.healthy)
engine.close()
"""


@pytest.mark.parametrize("how", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_is_told_so_and_the_parent_goes_on(how: str) -> None:
    done = run(BEGINNING + FORK.replace("HOW", how))
    assert done.returncode == 0, done.stderr
    told, healthy, *rest = done.stdout.splitlines()
    assert "parent process" in told
    assert "fork" in told
    assert (healthy, rest) == ("False", ["0", "True True"])
    assert done.stderr == ""
