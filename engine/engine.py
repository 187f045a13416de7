"""One thread that owns a runner and serves requests from any thread or event loop, one after the other.

A request is a ``Program``. The consumer pulls its events; dropping the stream cancels the program between two model
calls, so an abandoned stream never blocks those that wait behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fourcorners.engine.program import Forward, Program
from fourcorners.engine.runner import Runner
from fourcorners.errors import EngineClosed, EngineError, FourCornersError

_END = object()


class Request:
    """One running program, iterated once, either as an iterator or as an async iterator."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.n_cached_tokens = 0
        self._cancelled = threading.Event()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._notify: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        """Stop the program before its next model call. Safe from any thread, at any time."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to stop."""
        return self._cancelled.is_set()

    def put(self, event: Any) -> None:
        """Hand an event to the consumer; for the engine thread."""
        self._events.put(event)
        self._notify()

    def __iter__(self) -> Iterator[Any]:
        try:
            while (event := self._events.get()) is not _END:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(ready.set)

        self._notify = notify
        try:
            while True:
                ready.clear()
                while not self._events.empty():
                    event = self._events.get_nowait()
                    if event is _END:
                        return
                    if isinstance(event, BaseException):
                        raise event
                    yield event
                    ready.clear()
                if self._events.empty():
                    await ready.wait()
        finally:
            self._notify = lambda: None
            self.cancel()


class Engine:
    """Runs programs on one model. All public methods are safe from any thread."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fourcorners-engine", daemon=True)
        self._thread.start()

    def submit(self, program: Program) -> Request:
        """Queue ``program``; its events come through the request that is returned. Raises EngineClosed."""
        if self._closing.is_set():
            raise EngineClosed("the engine was closed: make a new one")
        request = Request(program)
        self._waiting.put(request)
        if not self._thread.is_alive():
            self._refuse_waiting()
        return request

    def close(self) -> None:
        """Stop after the current model call, fail what waits with EngineClosed, free the model. Idempotent."""
        self._closing.set()
        self._waiting.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while not self._closing.is_set():
            request = self._waiting.get()
            if request is not None:
                self._run(request)
        self._refuse_waiting()
        self.runner.close()

    def _run(self, request: Request) -> None:
        try:
            self._drive(request)
        except FourCornersError as error:
            request.put(error)
        except BaseException as error:  # a program that asks the process to exit must not end the engine's thread
            failure = EngineError(f"the engine failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            request.put(failure)
        finally:
            request.program.close()
            request.put(_END)

    def _drive(self, request: Request) -> None:
        reply: Any = None
        while True:
            if self._closing.is_set():
                raise EngineClosed("the engine was closed while it worked on this request")
            if request.cancelled:
                return
            try:
                step = request.program.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(step, Forward):
                reply, n_reused = self.runner.forward(step, lambda: request.cancelled or self._closing.is_set())
                request.n_cached_tokens = request.n_cached_tokens or n_reused
            else:
                request.put(step)

    def _refuse_waiting(self) -> None:
        while not self._waiting.empty():
            request = self._waiting.get()
            if request is not None:
                request.put(EngineClosed("the engine was closed before it came to this request"))
                request.put(_END)
