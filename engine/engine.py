"""The engine that many threads and event loops share: one thread of its own runs their requests in common batches."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fourcorners.engine.cache import Cache
from fourcorners.engine.metrics import Counts, Metrics
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Inbox, Request
from fourcorners.engine.runner import Runner
from fourcorners.engine.scheduler import Limits, Scheduler
from fourcorners.engine.worker import Worker, advance, failure
from fourcorners.errors import EngineBusy, EngineClosed, EngineError, FourCornersError

DEFAULT_PARKED_MIB = 1_024
IDLE_LOOK_SECONDS = 0.05
"""How often an engine that waits for a deadline looks at the clock."""


@dataclass(slots=True)
class _State:
    """What all threads look at."""

    lock: Any = field(default_factory=threading.RLock)
    n_open: int = 0
    closing: bool = False
    exiting: bool = False
    fault: BaseException | None = None
    pid: int = field(default_factory=os.getpid)


class Engine:
    """Runs programs on one model, side by side. All public methods are safe from any thread.

    ``parked_mib`` bounds the host memory for the cells of idle prefixes; 0 keeps none. A process that forks must not
    use it in the child: ``submit`` says so. It closes itself at the interpreter's exit.
    """

    def __init__(self, runner: Runner, limits: Limits | None = None, *, parked_mib: float = DEFAULT_PARKED_MIB) -> None:
        self.runner = runner
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="fourcorners-masks")
        self._state, self._inbox = _State(), Inbox()
        self._worker: Worker
        self._parked_bytes = int(parked_mib * 2**20)
        made: Future[Worker] = Future()
        self._thread = threading.Thread(target=self._work, args=(made,), name="fourcorners-engine", daemon=True)
        self._thread.start()
        self._worker = made.result()
        _alive.add(self)

    def submit(
        self,
        program: Program,
        *,
        client: str = "",
        timeout_s: float | None = None,
        keep_answer: bool = False,
        counts: Counts | None = None,
    ) -> Request:
        """Queue ``program``; its events come through the request that is returned.

        The program runs up to its first ``Forward`` at once, in the caller's thread. Clients with different names get
        equal shares. Raises EngineBusy where the queue is full, EngineClosed, EngineError where the engine is broken.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        request = Request(
            program,
            client=client,
            deadline=deadline,
            keep_answer=keep_answer,
            counts=counts,
            wake=self._look_up,
        )
        self._open()
        first = self._first_wish(request)
        if first is not None:
            self._inbox.put(request, first)
            if not self.healthy:  # it may have looked into its inbox for the last time
                self._refuse_arrived()
        return request

    @property
    def healthy(self) -> bool:
        """Whether requests can be served; False after a second fault of the engine itself, and when closed."""
        state = self._state
        return state.fault is None and not state.closing and state.pid == os.getpid()

    def ensure_usable(self) -> None:
        """Raises EngineClosed, or EngineError where it is broken or belongs to a process that this was forked from."""
        state = self._state
        if state.pid != os.getpid():
            raise EngineError("this engine belongs to the parent process: make one in the child, after the fork")
        if state.closing:
            raise EngineClosed("the engine was closed: make a new one")
        if state.fault is not None:
            raise EngineError(f"the engine is broken ({state.fault}): make a new one") from state.fault

    @property
    def step_seconds(self) -> float:
        """What a step of the present number of running requests takes."""
        return self._worker.cost.seconds(max(1, self.metrics.n_running))

    @property
    def can_draft(self) -> bool:
        """Whether drafts can pay at all on this model and machine."""
        return self.runner.can_share and self._worker.cost.draft(1, 8, 0.9) > 0

    def draft(self, n_possible: int, acceptance: float) -> int:
        """How many of ``n_possible`` drafted tokens are worth evaluating when each is right with ``acceptance``."""
        return self._worker.cost.draft(max(1, self.metrics.n_running), n_possible, acceptance)

    def close(self) -> None:
        """Break off the current model call, fail what runs and waits with EngineClosed, free the model. Idempotent."""
        self._close()

    def _close(self, *, exiting: bool = False) -> None:
        if self._state.pid != os.getpid():
            return  # a forked child has neither the thread nor the right to free what the parent uses
        self._state.exiting |= exiting
        self._state.closing = True
        self._inbox.wake()
        self._worker.interrupt(always=True)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # callers' threads

    def _look_up(self) -> None:
        """Have the engine see that somebody cancelled, also in the middle of a batch."""
        self._worker.interrupt()
        self._inbox.wake()

    def _open(self) -> None:
        state = self._state
        self.ensure_usable()  # a forked child may find the lock taken for ever
        with state.lock:
            self.ensure_usable()
            most = self.limits.max_running + self.limits.max_waiting
            if state.n_open >= most:
                self.metrics.n_refused += 1
                raise EngineBusy(f"{state.n_open} requests are running or waiting, and {most} are allowed: try later")
            state.n_open += 1

    def _first_wish(self, request: Request) -> Forward | None:
        """The program's first wish; None where it needs no model, or fails: then the request has ended."""
        error: EngineError | FourCornersError | None = None
        try:
            forward = advance(request, None)
            if forward is not None:
                return forward
        except FourCornersError as raised:
            error = raised
        except BaseException as raised:  # a program that asks the process to exit is not asked
            error = failure(raised)
        with self._state.lock:
            self._worker.end_request(request, error)
        return None

    # the engine's thread

    def _make_worker(self) -> Worker:
        """On the engine's thread, because it tries and measures. OpenMP keeps a team of threads for each thread that
        computes, and when there are more of them than cores they stop spinning, for good: a step then takes half as
        long again."""
        runner = self.runner
        return Worker(
            Cache(runner.main, runner.apart, self._parked_bytes, can_share=runner.can_share),
            Scheduler(self.limits),
            runner.step_cost(),
            self.metrics,
            window=runner.n_context_tokens,
            n_vocab=runner.vocabulary.n_tokens,
            n_threads=runner.n_threads,
            ended=self._count_end,
        )

    def _work(self, made: Future[Worker]) -> None:
        try:
            self._worker = self._make_worker()
        except BaseException as error:
            self.runner.close()
            made.set_exception(error)
            return
        made.set_result(self._worker)
        while not self._state.closing:
            try:
                self._serve()
            except BaseException as error:
                if not self._restart(error):
                    break
        if not self._state.exiting:
            self._worker.fail_all(self._state.fault or EngineClosed("the engine was closed while it worked on this"))
            self._refuse_arrived()
        self.executor.shutdown()
        self.runner.close()

    def _serve(self) -> None:
        worked = True
        while not self._state.closing:
            for request, forward in self._inbox.take(timeout=0.0 if worked else self._patience()):
                self._worker.add(request, forward)
            worked = self._worker.step()

    def _patience(self) -> float | None:
        return IDLE_LOOK_SECONDS if self.metrics.n_waiting + self.metrics.n_running else None

    def _restart(self, error: BaseException) -> bool:
        """Fail all requests with the cause and begin with an empty cache, once."""
        self.metrics.n_restarts += 1
        cause = failure(error)
        if self.metrics.n_restarts > 1:
            with self._state.lock:
                self._state.fault = cause
            return False
        self._worker.fail_all(cause)
        self._worker.cache.clear()
        return True

    def _refuse_arrived(self) -> None:
        error = self._state.fault or EngineClosed("the engine was closed before it came to this request")
        for request, _ in self._inbox.take():
            self._worker.end_request(request, error)

    def _count_end(self) -> None:
        with self._state.lock:
            self._state.n_open -= 1


_alive: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """The thread must be out of native code before the interpreter takes things apart.

    By now all threads but daemons have ended. Those that read are left to wait: a failure would only have each of them
    print a traceback in its last moment.
    """
    for engine in list(_alive):
        engine._close(exiting=True)


__all__ = ["Engine", "Forward", "Limits", "Request"]
