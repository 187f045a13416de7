"""One request as its caller sees it: events that are ready, an end, an error, and a way to call it off.

Events cross from the engine's thread to threads and event loops in bunches: one wake-up a loop and step, however many
requests of that loop have news.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from fourcorners.engine.metrics import Counts
from fourcorners.engine.program import Forward, Program


class _End:
    """The last thing in a request's queue."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Request:
    """One running program, iterated once: event by event, or in bunches of those that are ready (``bunches``). Who
    iterates again finds the end alone.

    ``client`` is whom it is fair to, ``deadline`` a time.monotonic() after which it fails; with ``keep_answer`` the
    evaluated answer goes to the prefix tree too, for a next turn. Leaving the iteration in whatever way cancels it.
    ``counts`` are complete when it has ended.
    """

    def __init__(
        self,
        program: Program,
        *,
        client: str = "",
        deadline: float | None = None,
        keep_answer: bool = False,
        counts: Counts | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.program, self.client, self.deadline, self.keep_answer = program, client, deadline, keep_answer
        self.counts = counts if counts is not None else Counts()
        self.submitted = time.monotonic()
        self._wake = wake
        self.handed_over = 0.0
        self._cancelled = False
        self._fresh: list[Any] = []
        self._ready: queue.SimpleQueue[list[Any] | _End] = queue.SimpleQueue()
        self._reader: LoopReader | None = None

    def cancel(self) -> None:
        """Stop the program: before its next model call, or in the middle of one that serves nobody else. Safe from any
        thread."""
        if not self._cancelled:
            self._cancelled = True
            self._wake()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._cancelled

    def put(self, event: Any) -> None:
        """Take an event of the program; ``hand_over`` gives it to the consumer. For the engine's thread."""
        self._fresh.append(event)

    def hand_over(self, now: float = 0.0) -> LoopReader | None:
        """Let the consumer have what was put; returns whom to wake, where that is an event loop. ``now`` is kept in
        ``handed_over``."""
        self.handed_over = now
        if self._fresh:
            self._ready.put(self._fresh)
            self._fresh = []
            return self._reader
        return None

    def end(self, error: BaseException | None = None) -> None:
        """There will be no more events. For the engine's thread; wakes the consumer."""
        self.hand_over()
        self._ready.put(_End(error))
        if self._reader is not None:
            wake_readers([self._reader])

    def bunches(self) -> Generator[list[Any], None, None]:
        """Lists of the events that were ready, for a thread that may block."""
        try:
            while not isinstance(bunch := self._ready.get(), _End):
                yield bunch
            self._ready.put(bunch)
            if bunch.error is not None:
                raise bunch.error
        finally:
            self.cancel()

    async def abunches(self) -> AsyncGenerator[list[Any], None]:
        """The same for an event loop."""
        reader = self._reader = LoopReader(asyncio.get_running_loop(), asyncio.Event())
        try:
            while True:
                reader.news.clear()
                while not self._ready.empty():
                    bunch = self._ready.get_nowait()
                    if not isinstance(bunch, _End):
                        yield bunch
                        continue
                    self._ready.put(bunch)
                    if bunch.error is not None:
                        raise bunch.error
                    return
                if self._ready.empty():
                    await reader.news.wait()
        finally:
            self._reader = None
            self.cancel()

    def __iter__(self) -> Iterator[Any]:
        with contextlib.closing(self.bunches()) as bunches:
            for bunch in bunches:
                yield from bunch

    async def __aiter__(self) -> AsyncIterator[Any]:
        async with contextlib.aclosing(self.abunches()) as bunches:
            async for bunch in bunches:
                for event in bunch:
                    yield event


class LoopReader:
    """A consumer in an event loop, and how it is told of news."""

    def __init__(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        self.loop, self.news = loop, news


def wake_readers(readers: list[LoopReader]) -> None:
    """Wake each loop once for all of its readers. From any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[LoopReader]] = {}
    for reader in readers:
        by_loop.setdefault(reader.loop, []).append(reader)
    for loop, of_loop in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_set_all, of_loop)


def _set_all(readers: list[LoopReader]) -> None:
    for reader in readers:
        reader.news.set()


class Inbox:
    """Where requests arrive, each with its program's first wish. ``put`` and ``wake`` are safe from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._arrived: list[tuple[Request, Forward]] = []
        self._woken = False

    def put(self, request: Request, first: Forward) -> None:
        """Add a request and wake the engine."""
        with self._condition:
            self._arrived.append((request, first))
            self._woken = True
            self._condition.notify()

    def wake(self) -> None:
        """Have the engine look around: somebody cancelled, or it is to close."""
        with self._condition:
            self._woken = True
            self._condition.notify()

    def take(self, *, timeout: float | None = 0.0) -> list[tuple[Request, Forward]]:
        """What has arrived; waits for a wake-up, at most ``timeout`` seconds (None: for ever)."""
        if timeout == 0.0 and not self._woken:
            return []
        with self._condition:
            if not self._woken:
                self._condition.wait(timeout)
            arrived, self._arrived, self._woken = self._arrived, [], False
            return arrived
