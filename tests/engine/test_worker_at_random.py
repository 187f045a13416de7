"""The whole policy at random: requests come, go on, go back, are called off and preempted, with hardly enough cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fourcorners.engine.cache import Cache
from fourcorners.engine.cost import StepCost
from fourcorners.engine.metrics import Metrics
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Request
from fourcorners.engine.scheduler import Limits, Scheduler
from fourcorners.engine.worker import Worker, advance
from tests.engine.made_up_lane import BYTES_PER_CELL, N_VOCAB, MadeUpLane, logits_after

WINDOW = 240
MAX_RUNNING = 4
BASES = [tuple(np.random.default_rng(seed).integers(0, N_VOCAB, 160).tolist()) for seed in range(3)]

moves = st.lists(
    st.tuples(st.sampled_from(["on", "on", "on", "back", "fill"]), st.integers(1, 9), st.integers(0, 30)), max_size=8
)


def prompt_of(base: int, length: int, tail: Sequence[int]) -> tuple[int, ...]:
    return (*BASES[base][:length], *tail)


def expected(tokens: Sequence[int], n_logits: int) -> Any:
    rows = [logits_after(tokens[: len(tokens) - back]) for back in range(n_logits)][::-1]
    return np.stack(rows) if rows else np.zeros((0, N_VOCAB), np.float32)


def scripted(prompt: tuple[int, ...], script: list[tuple[str, int, int]]) -> Program:
    """Ask for one thing after the other, and see that the logits are those of just the tokens asked for."""
    tokens, step, n_logits = list(prompt), Forward(0, prompt), 1
    for kind, n, back in [*script, ("on", 1, 0)]:
        reply = yield step
        assert np.array_equal(reply, expected(tokens, n_logits)), "logits of other tokens than were asked for"
        yield len(tokens)
        position = max(0, len(tokens) - back) if kind == "back" else len(tokens)
        fresh = tuple((position + i * n) % N_VOCAB for i in range(n))
        if position + n > WINDOW:
            return
        n_logits = 0 if kind == "fill" else 1 + (back % n)
        tokens[position:] = fresh
        step = Forward(position, fresh, n_logits)


class WorkerAtRandom(RuleBasedStateMachine):
    """Arrivals, cancels, steps; the cells in the lanes must always be those of the books."""

    @initialize(
        n_cells=st.sampled_from([WINDOW + 80, 2 * WINDOW, 4 * WINDOW]),
        parked=st.sampled_from([0, 60, 400, 10_000]),
        can_share=st.sampled_from([True, True, True, False]),
        has_apart=st.booleans(),
        chunk=st.sampled_from([24, 64, 512]),
    )
    def begin(self, n_cells: int, parked: int, can_share: bool, has_apart: bool, chunk: int) -> None:
        self.main = MadeUpLane(n_cells, MAX_RUNNING + 1)
        self.apart = MadeUpLane(WINDOW + 100, 3) if can_share and has_apart else None
        self.cache = Cache(self.main, self.apart, parked * BYTES_PER_CELL, can_share=can_share)
        self.scheduler = Scheduler(Limits(max_running=MAX_RUNNING, step_tokens=chunk))
        self.metrics = Metrics()
        cost = StepCost({1: 0.001, 8: 0.004, 512: 0.1})
        self.worker = Worker(self.cache, self.scheduler, cost, self.metrics, window=WINDOW, n_vocab=N_VOCAB)
        self.open: list[Request] = []
        self.done: list[Request] = []

    @rule(
        base=st.integers(0, 2),
        length=st.integers(1, 150),
        tail=st.lists(st.integers(0, N_VOCAB - 1), max_size=20),
        script=moves,
        keep=st.booleans(),
        client=st.sampled_from(["a", "b", "c"]),
    )
    def arrive(self, base: int, length: int, tail: list[int], script: Any, keep: bool, client: str) -> None:
        request = Request(scripted(prompt_of(base, length, tail), script), client=client, keep_answer=keep)
        first = advance(request, None)
        assert first is not None
        self.open.append(request)
        self.worker.add(request, first)

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        data.draw(st.sampled_from(self.open)).cancel()

    @rule(n=st.integers(1, 12))
    def work(self, n: int) -> None:
        for _ in range(n):
            self.worker.step()
            self.books_are_right()
        self._collect()

    @precondition(lambda self: bool(self.scheduler.running))
    @rule(lane=st.sampled_from(["main", "apart"]))
    def fault(self, lane: str) -> None:
        chosen = self.apart if lane == "apart" and self.apart else self.main
        chosen.faults = 1

    @invariant()
    def books_are_right(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert self.main.n_used == self.main.n_cells - self.cache.n_free_cells
        if self.apart:
            assert self.apart.n_used == self.apart.n_cells - self.cache.n_free_apart_cells
        places = [s.place for s in self.scheduler.running if s.place is not None]
        assert len({(p.is_apart, p.slot) for p in places}) == len(places), "a slot belongs to one sequence"
        for sequence in self.scheduler.running:
            place = sequence.place
            assert place is not None
            lane = self.apart if place.is_apart and self.apart else self.main
            assert lane.tokens_in(place.slot) == sequence.tokens[: place.n_cells]
        for node in self.cache.tree:
            assert node.slots or node.parked is not None, "a tree promises nothing that can't be had"
        copies = {id(n.parked): n.parked.saved.n_bytes for n in self.cache.tree if n.parked is not None}
        assert sum(copies.values()) == self.cache.tree.n_parked_bytes
        assert sum(len(n) for n in self.cache.tree if n.slots) == self.cache.tree.n_live_tokens

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        for _ in range(600):
            if not self.worker.step():
                break
            self.books_are_right()
        self._collect()
        assert not self.open, "every request ends"
        assert not self.scheduler.running
        assert self.main.n_used == 0
        assert len(self.cache._free[False]) == MAX_RUNNING
        assert self.cache.tree.n_parked_bytes <= self.cache.tree.max_parked_bytes
        assert self.metrics.n_requests == len(self.done)

    def _collect(self) -> None:
        for request in list(self.open):
            if not request._ready.empty() and self.has_ended(request):
                self.open.remove(request)
                self.done.append(request)

    def has_ended(self, request: Request) -> bool:
        if request not in {s.request for s in (*self.scheduler.running, *self.scheduler.waiting)}:
            try:
                list(request)
            except Exception as error:
                assert "made up" in str(error), error
            return True
        return False


TestWorkerAtRandom = pytest.mark.timeout(110)(WorkerAtRandom.TestCase)
TestWorkerAtRandom.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
