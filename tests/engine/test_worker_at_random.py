"""The whole policy at random: requests come, go on, go back, fail, are called off and preempted, with hardly enough
cells."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fourcorners.engine.cache import Cache, Place
from fourcorners.engine.cost import StepCost
from fourcorners.engine.metrics import Metrics
from fourcorners.engine.prefix_tree import Node
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Request
from fourcorners.engine.scheduler import Limits, Scheduler
from fourcorners.engine.worker import Worker, advance
from fourcorners.errors import EngineTimeout
from tests.engine.made_up_lane import BYTES_PER_CELL, N_VOCAB, MadeUpLane, logits_after

WINDOW = 240
MAX_RUNNING = 4
BASES = [tuple(np.random.default_rng(seed).integers(0, N_VOCAB, 160).tolist()) for seed in range(3)]
COSTS = [
    StepCost({1: 0.001, 8: 0.004, 512: 0.1}),
    StepCost({1: 0.001, 2: 0.003, 4: 0.004, 512: 0.1}),
    StepCost({1: 0.001, 2: 0.01, 3: 0.01, 20: 0.002, 512: 0.1}),
]
"""Where all go in one batch, where two are run apart, where two are padded."""

DISTURBANCES = ["faults", "n_without_room", "n_refused", "n_bad_saves"]

kinds = st.sampled_from(["on", "on", "on", "on", "back", "again", "fill", "fail", "bad"])
moves = st.lists(st.tuples(kinds, st.integers(1, 9), st.integers(0, 30)), max_size=8)


def prompt_of(base: int, length: int, tail: Sequence[int]) -> tuple[int, ...]:
    return (*BASES[base][:length], *tail)


def expected(tokens: Sequence[int], n_logits: int) -> Any:
    rows = [logits_after(tokens[: len(tokens) - back]) for back in range(n_logits)][::-1]
    return np.stack(rows) if rows else np.zeros((0, N_VOCAB), np.float32)


def scripted(prompt: tuple[int, ...], n_logits: int, script: list[tuple[str, int, int]]) -> Program:
    """Ask for one thing after the other, and see that the logits are those of just the tokens asked for."""
    tokens, step = list(prompt), Forward(0, prompt, n_logits)
    for kind, n, back in [*script, ("on", 1, 0)]:
        reply = yield step
        assert np.array_equal(reply, expected(tokens, step.n_logits)), "logits of other tokens than were asked for"
        yield len(tokens)
        if kind == "fail":
            raise ValueError("made up")
        position = max(0, len(tokens) - back) if kind in ("back", "again") else len(tokens)
        fresh = tuple((position + i * n) % N_VOCAB for i in range(n))
        if kind == "again" and position < len(tokens):
            fresh = (*tokens[position:], *fresh)
        if kind == "bad":
            fresh = (*fresh, N_VOCAB)
        if position + len(fresh) > WINDOW:
            return
        n_logits = 0 if kind == "fill" else 1 + (back % len(fresh))
        tokens[position:] = fresh
        step = Forward(position, fresh, n_logits)
    yield "end"


def events_of(program: Program) -> tuple[list[Any], str]:
    """What ``program`` says where all goes well, and the error that it ends with."""
    events: list[Any] = []
    tokens: list[int] = []
    reply: Any = None
    try:
        while True:
            step = program.send(reply)
            reply = None
            if not isinstance(step, Forward):
                events.append(step)
            elif max(step.tokens) >= N_VOCAB:
                return events, f"there is no token {N_VOCAB}"
            else:
                tokens[step.position :] = step.tokens
                reply = expected(tokens, step.n_logits)
    except StopIteration:
        return events, ""
    except ValueError as error:
        return events, str(error)


class WorkerAtRandom(RuleBasedStateMachine):
    """Arrivals, cancels, faults, steps; the cells in the lanes must always be those of the books."""

    @initialize(
        n_cells=st.sampled_from([WINDOW, WINDOW + 80, 2 * WINDOW, 4 * WINDOW]),
        parked=st.sampled_from([0, 60, 400, 10_000]),
        can_share=st.sampled_from([True, True, True, False]),
        has_apart=st.booleans(),
        extra=st.sampled_from([0, 50]),
        chunk=st.sampled_from([24, 64, 512]),
        cost=st.sampled_from(COSTS),
    )
    def begin(
        self, n_cells: int, parked: int, can_share: bool, has_apart: bool, extra: int, chunk: int, cost: StepCost
    ) -> None:
        self.main = MadeUpLane(n_cells, MAX_RUNNING + 1)
        self.apart = MadeUpLane(WINDOW + extra, 3) if can_share and has_apart else None
        self.cache = Cache(self.main, self.apart, parked * BYTES_PER_CELL, can_share=can_share)
        self.scheduler = Scheduler(Limits(max_running=MAX_RUNNING, step_tokens=chunk))
        self.metrics = Metrics()
        self.worker = Worker(self.cache, self.scheduler, cost, self.metrics, window=WINDOW, n_vocab=N_VOCAB)
        self.open: list[Request] = []
        self.will_say: dict[Request, tuple[list[Any], str]] = {}
        self.n_prompt: dict[Request, int] = {}
        self.n_disturbed = 0

    @rule(
        base=st.integers(0, 2),
        length=st.integers(1, 150),
        tail=st.lists(st.integers(0, N_VOCAB - 1), max_size=20),
        n_logits=st.sampled_from([0, 1, 1, 1, 5, 80]),
        script=moves,
        keep=st.booleans(),
        client=st.sampled_from(["a", "b", "c"]),
    )
    def arrive(
        self, base: int, length: int, tail: list[int], n_logits: int, script: Any, keep: bool, client: str
    ) -> None:
        prompt = prompt_of(base, length, tail)
        n_logits = min(n_logits, len(prompt))
        request = Request(scripted(prompt, n_logits, script), client=client, keep_answer=keep)
        self.will_say[request] = events_of(scripted(prompt, n_logits, script))
        self.n_prompt[request] = len(prompt)
        first = advance(request, None)
        assert first is not None
        self.open.append(request)
        self.worker.add(request, first)

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        data.draw(st.sampled_from(self.open)).cancel()

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data())
    def run_out_of_time(self, data: Any) -> None:
        data.draw(st.sampled_from(self.open)).deadline = time.monotonic() - 1

    @rule(n=st.integers(1, 12))
    def work(self, n: int) -> None:
        for _ in range(n):
            self._step()
        self._collect()

    @precondition(lambda self: bool(self.scheduler.running))
    @rule(lane=st.sampled_from(["main", "apart"]), kind=st.sampled_from(DISTURBANCES))
    def disturb(self, lane: str, kind: str) -> None:
        chosen = self.apart if lane == "apart" and self.apart else self.main
        if kind != "n_without_room" or chosen is self.main:
            setattr(chosen, kind, 1)
            self.n_disturbed += 1

    @precondition(lambda self: bool(self.scheduler.running))
    @rule(lane=st.sampled_from(["main", "apart"]))
    def break_off(self, lane: str) -> None:
        """Somebody called a batch off that was over already: the next one of the lane is hit, and done again."""
        chosen = self.apart if lane == "apart" and self.apart else self.main
        chosen.abort()

    @invariant()
    def books_are_right(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert self.main.n_used == self.main.n_cells - self.cache.n_free_cells
        if self.apart:
            assert self.apart.n_used == self.apart.n_cells - self.cache.n_free_apart_cells
        places = [s.place for s in self.scheduler.running if s.place is not None]
        assert len(places) == len(self.scheduler.running) <= MAX_RUNNING
        assert len({(p.is_apart, p.slot) for p in places}) == len(places), "a slot belongs to one sequence"
        for sequence in self.scheduler.running:
            assert sequence.place is not None
            assert self._tokens_in(sequence.place) == sequence.tokens[: sequence.place.n_cells]
        for node in self.cache.tree:
            self._is_kept(node)
        copies = {id(n.parked): n.parked.saved.n_bytes for n in self.cache.tree if n.parked is not None}
        assert sum(copies.values()) == self.cache.tree.n_parked_bytes
        assert sum(len(n) for n in self.cache.tree if n.slots) == self.cache.tree.n_live_tokens

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for _ in range(1_000):
            if not self._step():
                break
        self._collect()
        assert not self.open, "every request ends"
        assert self.main.n_used == 0
        assert len(self.cache._free[False]) == MAX_RUNNING
        assert self.cache.tree.n_parked_bytes <= self.cache.tree.max_parked_bytes
        assert all(not node.n_pins and not node.slots for node in self.cache.tree)
        assert self.metrics.n_requests == len(self.will_say)
        assert (self.scheduler._served, self.scheduler._missed) == ({}, {})

    def _step(self) -> bool:
        """One step, in which everybody who decodes gets on, and nobody gets more than there is."""
        decoding = [s for s in self.scheduler.running if s.is_shared and s.n_pending]
        places = [(s, s.place) for s in decoding if s.place is not None and not s.place.is_apart]
        n_preempted, n_disturbed = self.metrics.n_preempted, self._n_pending_disturbances()
        n_main, n_apart = len(self.main.batches), len(self.apart.batches) if self.apart else 0
        worked = self.worker.step()
        batches = self.main.batches[n_main:]
        self.books_are_right()
        assert sum(len(span.tokens) for batch in batches for span in batch) <= self.scheduler.limits.step_tokens
        if self.apart:
            assert len(self.apart.batches) <= n_apart + 1
        if self.metrics.n_preempted == n_preempted and self._n_pending_disturbances() == n_disturbed:
            slots = {span.slot for batch in batches for span in batch}
            for sequence, place in places:
                assert sequence.place is not place or place.slot in slots, "nobody who decodes is left out"
        assert worked or not (self.scheduler.running or self.scheduler.waiting), "it does not stop before all is done"
        return worked

    def _n_pending_disturbances(self) -> int:
        lanes = [lane for lane in (self.main, self.apart) if lane is not None]
        return sum(lane.faults + lane.n_without_room + lane.n_bad_saves + lane.is_aborted for lane in lanes)

    def _tokens_in(self, place: Place) -> list[int]:
        lane = self.apart if place.is_apart and self.apart else self.main
        return lane.tokens_in(place.slot)

    def _is_kept(self, node: Node) -> None:
        """The cells of ``node`` are where the tree says."""
        assert node.slots or node.parked is not None, "a tree promises nothing that can't be had"
        for slot in node.slots:
            assert self.main.tokens_in(slot)[node.start : node.end] == node.tokens.tolist()
        if node.parked is not None:
            start, tokens = node.parked.saved.data
            assert tokens[node.start - start : node.end - start] == node.tokens.tolist()

    def _collect(self) -> None:
        there = {s.request for s in (*self.scheduler.running, *self.scheduler.waiting)}
        for request in [request for request in self.open if request not in there]:
            self.open.remove(request)
            self._check_end(request)

    def _check_end(self, request: Request) -> None:
        """It said all that it had to, or something came between."""
        events, error = [], ""
        was_cancelled, ran_out = request.cancelled, False
        try:
            for event in request:
                events.append(event)
        except Exception as raised:
            error, ran_out = str(raised), isinstance(raised, EngineTimeout)
        will_say, will_fail = self.will_say[request]
        assert events == will_say[: len(events)]
        if was_cancelled or (ran_out and request.deadline is not None):
            return
        if self.n_disturbed and ("made up" in error or "ran out of cells" in error):
            return
        assert events == will_say
        assert error.startswith(will_fail) if will_fail != "made up" else "ValueError: made up" in error
        counts = request.counts
        if not self.metrics.n_preempted and not self.n_disturbed:
            assert counts.cached + counts.prefilled == self.n_prompt[request]


TestWorkerAtRandom = pytest.mark.timeout(110)(WorkerAtRandom.TestCase)
TestWorkerAtRandom.settings = settings(
    max_examples=5 * settings().max_examples,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
