"""One step after the other: let requests in, evaluate what their programs ask for in common batches, hand out results.

It has no thread of its own and no lock; ``Engine`` drives it, and tests do so with lanes that are made up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import numpy as np

from fourcorners.engine.cache import Cache
from fourcorners.engine.cost import StepCost
from fourcorners.engine.lane import Aborted, DecodeFault, Lane, OutOfCells, Span
from fourcorners.engine.metrics import Metrics
from fourcorners.engine.prefix_tree import common_length
from fourcorners.engine.program import Forward, Logits
from fourcorners.engine.request import Request, wake_readers
from fourcorners.engine.scheduler import Scheduler
from fourcorners.engine.sequence import Sequence, check
from fourcorners.engine.threads import ThreadGovernor
from fourcorners.errors import EngineError, EngineTimeout, FourCornersError

APART_TOKENS = 96
"""From so many new tokens on a prompt is prefilled apart; fewer go along with the others' decode steps."""
LEAST_CHUNK = 16
"""Tokens of a prompt; a chunk of fewer costs more in all."""
WHOLE_TILES = 64
"""Flash attention takes so many tokens at a time; what goes beyond a multiple of it costs as much as the next."""
WORTH_WAITING = 16
"""So many tokens in common with a prompt that is being prefilled are waited for rather than evaluated again."""
MIN_HAND_OVER_SECONDS = 0.02
"""A stream gets its tokens in bunches, if they come faster than this: to wake its reader for each takes the cores from
the next step. The first token never waits."""
RESERVED_CELLS = 64
"""Left free when a sequence is let in, so that it isn't sent away again at once."""


class Worker:
    """The requests and the cache of one model. All methods but ``interrupt`` are for one thread."""

    def __init__(
        self,
        cache: Cache,
        scheduler: Scheduler,
        cost: StepCost,
        metrics: Metrics,
        *,
        window: int,
        n_vocab: int,
        n_threads: int = 1,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.cache, self.scheduler, self.cost, self.metrics = cache, scheduler, cost, metrics
        self._window, self._n_vocab, self._ended = window, n_vocab, ended
        self._governor = ThreadGovernor(n_threads)
        self.metrics.n_threads = n_threads
        self._order = count()
        self._touched: list[Request] = []
        self._under_way: tuple[Lane, list[Request]] | None = None

    def add(self, request: Request, forward: Forward) -> None:
        """Queue a request whose program has asked for ``forward`` first."""
        sequence = Sequence(request, next(self._order))
        try:
            check(forward, sequence, self._window, self._n_vocab)
        except FourCornersError as error:
            self.end_request(request, error)
            return
        except Exception as error:  # a wish that can't even be checked is its own program's fault
            self.end_request(request, failure(error))
            return
        sequence.asks(forward)
        self.scheduler.add(sequence)

    def step(self) -> bool:
        """Do the next piece of work; False where there is none."""
        started = time.perf_counter()
        try:
            worked = self._work()
        except DecodeFault as fault:
            self._recover(fault)
            worked = True
        if worked:
            self.metrics.busy_seconds += time.perf_counter() - started
        self._gauge()
        return worked

    def _work(self) -> bool:
        self._sweep()
        self._admit()
        worked = self._decode()
        is_prefilling = bool(self._in_apart())
        self._hand_over(all_now=is_prefilling)  # a chunk takes long
        if is_prefilling:
            worked |= self._prefill_apart()
            self._hand_over(all_now=True)
        return worked

    def interrupt(self, *, always: bool = False) -> None:
        """Break off the batch that is under way, if nobody wants it any more or ``always``. From any thread."""
        under_way = self._under_way
        if under_way is not None and self.cache.can_share:  # a recurrent model could not go back to before the batch
            lane, requests = under_way
            if always or all(request.cancelled for request in requests):
                lane.abort()

    def fail_all(self, error: BaseException) -> None:
        """End every request with ``error``. The cache is left as it is: who calls this clears it."""
        for sequence in (*self.scheduler.running, *self.scheduler.waiting):
            self._drop(sequence, error)
        self._gauge()

    def end_request(self, request: Request, error: BaseException | None = None) -> None:
        """Close its program and tell its consumer."""
        self.metrics.n_requests += 1
        if error is not None:
            self.metrics.n_failed += 1
        elif request.cancelled:
            self.metrics.n_cancelled += 1
        else:
            self.metrics.n_finished += 1
        try:
            request.program.close()
        except BaseException as raised:  # a program that won't close must not end the engine's thread
            error = error or EngineError(f"the engine failed: {type(raised).__name__}: {raised}")
        self.metrics.tokens.add(request.counts)
        self._ended()  # first, so that who has seen the end finds the place free
        request.end(error)

    # who comes and goes

    def _sweep(self) -> None:
        now = time.monotonic()
        for sequence in (*self.scheduler.running, *self.scheduler.waiting):
            request = sequence.request
            if request.cancelled:
                self._end(sequence)
            elif request.deadline is not None and now > request.deadline:
                taken = now - request.submitted
                self._end(sequence, EngineTimeout(f"not done after {taken:.1f} s: allow more time, or ask for less"))

    def _admit(self) -> None:
        scheduler = self.scheduler
        if not scheduler.waiting or len(scheduler.running) >= scheduler.limits.max_running:
            return
        for sequence in scheduler.in_turn():
            if len(scheduler.running) >= scheduler.limits.max_running:
                return
            if self._leader_of(sequence):
                continue
            try:
                entered = self._enter(sequence)
            except DecodeFault as fault:
                self._drop(sequence, self._recover(fault))
                return
            if entered:
                scheduler.start(sequence)
                self._count_entry(sequence)
                if not sequence.n_pending:
                    self._complete(sequence, np.zeros((0, self._n_vocab), np.float32))
            elif entered is None:
                return

    def _enter(self, sequence: Sequence) -> bool | None:
        """Give it a place. False where only this one has to wait, None where all behind it have to as well."""
        cache, tokens = self.cache, sequence.reusable
        known = cache.tree.match(tokens) if cache.can_share else 0
        n_new = len(sequence.tokens) - known
        if n_new > APART_TOKENS and cache.apart is not None:
            promised = sum(len(other.tokens) for other in self._in_apart())
            if not cache.has_slot(apart=True) or promised + len(sequence.tokens) > cache.apart.n_cells:
                return False
            sequence.place = cache.enter_apart(tokens)
            return True
        needed = (cache.n_to_restore(tokens) if cache.can_share else 0) + n_new + RESERVED_CELLS
        # Who is prefilled and waits for room comes first, else small requests would take it for ever.
        promised = sum(cache.n_to_restore(s.array) for s in self._in_apart() if not s.n_pending)
        if promised + needed > cache.n_free_cells and self.scheduler.running:
            return None
        sequence.place = cache.enter(tokens)
        return True

    def _leader_of(self, sequence: Sequence) -> Sequence | None:
        """A sequence that is just prefilling what this one needs too, and is not there yet."""
        if not self.cache.can_share:
            return None
        tokens = sequence.reusable
        known = self.cache.tree.match(tokens)
        for other in self.scheduler.running:
            if other.is_shared or other.place is None:
                continue
            n = common_length(other.array, tokens)
            if n >= known + WORTH_WAITING:
                if other.n_done < n:
                    return other
                self.cache.share(other.place, other.array)
                known = self.cache.tree.match(tokens)
        return None

    def _count_entry(self, sequence: Sequence) -> None:
        if not sequence.is_counted:
            sequence.is_counted = True
            sequence.request.counts.cached = sequence.n_done

    def _preempt(self, sequence: Sequence) -> None:
        """Take its cells away; it will go on later where it was."""
        assert sequence.place is not None
        self.cache.share(sequence.place, sequence.array)
        self.cache.leave(sequence.place)
        sequence.place, sequence.rows = None, []
        self.scheduler.stop(sequence)
        self.scheduler.add(sequence)
        self.metrics.n_preempted += 1

    def _end(self, sequence: Sequence, error: BaseException | None = None) -> None:
        place, sequence.place = sequence.place, None
        self._drop(sequence, error)  # first: parking takes time, and a fault in it is not this request's
        if place is not None:
            if sequence.request.keep_answer or not sequence.is_shared:
                self.cache.share(place, sequence.array)
            self.cache.leave(place)

    def _drop(self, sequence: Sequence, error: BaseException | None) -> None:
        self.scheduler.stop(sequence)
        self.end_request(sequence.request, error)

    # the two lanes

    def _decode(self) -> bool:
        """One step of the main lane: a token or more for everybody there."""
        ready = self._in_main()
        limits = self.scheduler.limits
        room = self.cost.chunk(limits.chunk_seconds, limits.step_tokens)
        shares = self.scheduler.fill(ready, room)
        while shares and sum(n for _, n in shares) > self.cache.n_free_cells and self._make_room(ready):
            shares = self.scheduler.fill(ready, room)
        for part, n_padding in self._parts(shares):
            self._evaluate_main(part, n_padding)
        return bool(shares)

    def _in_main(self) -> list[Sequence]:
        return [s for s in self.scheduler.running if s.place is not None and not s.place.is_apart]

    def _in_apart(self) -> list[Sequence]:
        return [s for s in self.scheduler.running if s.place is not None and s.place.is_apart]

    def _make_room(self, ready: list[Sequence]) -> bool:
        """Send the youngest away; False where it is the last one, which then has all cells to itself."""
        if len(ready) == 1:
            return False
        youngest = self.scheduler.youngest(ready)
        ready.remove(youngest)
        self._preempt(youngest)
        return True

    def _parts(self, shares: list[tuple[Sequence, int]]) -> list[tuple[list[tuple[Sequence, int]], int]]:
        """The batches of one step: by the cost model where everybody has one token, else just one."""
        if not shares:
            return []
        if any(n > 1 for _, n in shares):
            return [(shares, 0)]
        parts, at = [], 0
        for part in self.cost.parts(len(shares)):
            n_padding = min(part.n_padding, max(0, self.cache.n_free_cells - len(shares)))
            parts.append((shares[at : at + part.n_tokens], n_padding))
            at += part.n_tokens
        return parts

    def _evaluate_main(self, shares: list[tuple[Sequence, int]], n_padding: int) -> None:
        shares = [(sequence, n) for sequence, n in shares if sequence.place is not None]
        if not shares:
            return
        try:
            rows = self._evaluate(self.cache.main, shares, n_padding)
        except Aborted:
            return
        except OutOfCells:
            ready = self._in_main()
            if not self._make_room(ready):
                self._end(ready[0], EngineError("the engine ran out of cells with one request running"))
            return
        except DecodeFault as fault:
            self._recover(fault)
            return
        for (sequence, n), its_rows in zip(shares, rows, strict=True):
            if sequence.place is not None:  # a fault on the way may have ended it
                self._took(sequence, n, its_rows)

    def _prefill_apart(self) -> bool:
        """One chunk of one prompt."""
        there = self._in_apart()
        prefilling = [s for s in there if s.n_pending]
        moved = [self._arrive(sequence) for sequence in there if not sequence.n_pending]
        if not prefilling:
            return any(moved)
        sequence = self.scheduler.chunk_of(prefilling)
        n = self._chunk_size(sequence)
        assert self.cache.apart is not None
        started = time.perf_counter()
        try:
            (rows,) = self._evaluate(self.cache.apart, [(sequence, n)])
        except Aborted:
            return True
        except (OutOfCells, DecodeFault) as fault:
            self._recover(fault)
            return True
        sequence.seconds_per_token = (time.perf_counter() - started) / n
        self._took(sequence, n, rows)
        return True

    def _chunk_size(self, sequence: Sequence) -> int:
        """Tokens of its next chunk. The deeper in a prompt, the dearer is a token; how much, its last chunk tells."""
        limits, deadline = self.scheduler.limits, sequence.request.deadline
        seconds = limits.chunk_seconds
        if deadline is not None:
            seconds = min(seconds, max(0.0, deadline - time.monotonic()))
        n = self.cost.chunk(seconds, limits.step_tokens)
        if sequence.seconds_per_token:
            affordable = int(seconds / sequence.seconds_per_token)
            unit = WHOLE_TILES if affordable >= WHOLE_TILES else LEAST_CHUNK
            n = min(n, max(LEAST_CHUNK, affordable // unit * unit))
        return min(sequence.n_pending, n)

    def _took(self, sequence: Sequence, n: int, rows: Logits) -> None:
        """``n`` more tokens of it are evaluated; ``rows`` are those of their logits that were asked for."""
        assert sequence.place is not None
        if not sequence.is_shared:
            sequence.request.counts.prefilled += n
        self.cache.grow(sequence.place, n)
        self.scheduler.serve(sequence, n)
        if sequence.place.is_apart:
            sequence.rows.append(rows.copy())
            if not sequence.n_pending:
                self._arrive(sequence)
        elif sequence.n_pending:
            if len(rows):
                sequence.rows.append(rows.copy())
        else:
            self._complete(sequence, sequence.reply(rows))

    def _arrive(self, sequence: Sequence) -> bool:
        """Move a prefilled sequence to the main lane, where there is room for it."""
        assert sequence.place is not None
        tokens = sequence.array
        self.cache.share(sequence.place, tokens)
        if self.cache.n_to_restore(tokens) > self.cache.n_free_cells:
            return False
        sequence.place = self.cache.move(sequence.place, tokens)
        sequence.is_shared = True
        if sequence.n_pending:  # what was saved did not fit after all: the rest is evaluated again
            sequence.rows = []
            self.cache.cut(sequence.place, len(sequence.reusable))
        else:
            self._complete(sequence, np.concatenate(sequence.rows))
        return True

    # programs

    def _complete(self, sequence: Sequence, logits: Logits) -> None:
        """Answer the program and take its next wish."""
        assert sequence.place is not None
        if not sequence.is_shared:
            self.cache.share(sequence.place, sequence.array)
            sequence.is_shared = True
        reply: Logits | None = logits
        try:
            while not sequence.n_pending:
                forward = advance(sequence.request, reply)
                if forward is None:
                    self._end(sequence)
                    return
                check(forward, sequence, self._window, self._n_vocab)
                self.cache.cut(sequence.place, sequence.asks(forward))
                reply = np.zeros((0, self._n_vocab), np.float32)
        except FourCornersError as error:
            self._end(sequence, error)
        except DecodeFault:
            raise
        except BaseException as error:  # a program that asks the process to exit must not end the engine's thread
            self._end(sequence, failure(error))
        if sequence.request not in self._touched:
            self._touched.append(sequence.request)

    def _recover(self, fault: BaseException) -> EngineError:
        """Nobody knows what the lanes hold now: who runs fails, who waits goes on with empty lanes."""
        error = EngineError(f"llama.cpp failed in the middle of a batch ({fault}): try the request again")
        error.__cause__ = fault
        for sequence in list(self.scheduler.running):
            sequence.place = None
            self._drop(sequence, error)
        self.cache.clear()
        return error

    def _evaluate(self, lane: Lane, shares: list[tuple[Sequence, int]], n_padding: int = 0) -> list[Logits]:
        """One batch. Raises what the lane does."""
        requests = [sequence.request for sequence, _ in shares]
        spans = [_span(sequence, n) for sequence, n in shares]
        self._under_way = lane, requests
        started, n_threads = time.perf_counter(), self._governor.n
        try:
            if all(request.cancelled for request in requests):  # since the sweep, so that nobody interrupted it
                raise Aborted
            rows = lane.decode(spans, n_padding)
        finally:
            self._under_way = None
        ended = time.perf_counter()
        self.metrics.step(sum(n for _, n in shares), ended - started)
        if self._governor.step(ended, ended - started) != n_threads:
            self._set_threads(self._governor.n)
        return rows

    def _set_threads(self, n: int) -> None:
        self.metrics.n_threads = n
        self.cache.main.set_threads(n)
        if self.cache.apart is not None:
            self.cache.apart.set_threads(n)

    def _hand_over(self, *, all_now: bool) -> None:
        now = time.monotonic()
        latest = now if all_now else now - MIN_HAND_OVER_SECONDS
        due = [request for request in self._touched if request.handed_over <= latest]
        if due:
            self._touched = [request for request in self._touched if request not in due]
            readers = [reader for request in due if (reader := request.hand_over(now)) is not None]
            if readers:
                wake_readers(readers)

    def _gauge(self) -> None:
        metrics, cache = self.metrics, self.cache
        metrics.n_waiting, metrics.n_running = len(self.scheduler.waiting), len(self.scheduler.running)
        metrics.n_cells, metrics.n_live_cells = cache.main.n_cells, cache.main.n_cells - cache.n_free_cells
        metrics.n_parked_bytes = cache.tree.n_parked_bytes
        metrics.n_parked, metrics.n_restored, metrics.n_forgotten = cache.n_parked, cache.n_restored, cache.n_forgotten


def advance(request: Request, reply: Logits | None) -> Forward | None:
    """Run the program to its next ``Forward``, keeping its events; None when it has ended. Raises what it raises."""
    while True:
        try:
            step = request.program.send(reply)
        except StopIteration:
            return None
        if isinstance(step, Forward):
            return step
        request.put(step)
        reply = None


def failure(error: BaseException) -> EngineError:
    """What a caller gets for something that nobody foresaw."""
    found = EngineError(f"the engine failed: {type(error).__name__}: {error}")
    found.__cause__ = error
    return found


def _span(sequence: Sequence, n: int) -> Span:
    assert sequence.place is not None
    start = sequence.n_done
    tokens = sequence.tokens[start : start + n]
    return Span(sequence.place.slot, start, tokens, sequence.n_rows_of(n))
