"""Engines for tests: on a real model with a step cost that is the same everywhere, or on one that is made up; and ways
to look at what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from fourcorners.engine.cost import StepCost
from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.generation import Finish, Generation, Piece, Wish
from fourcorners.engine.program import Forward, Logits, Program
from fourcorners.engine.request import Request
from fourcorners.engine.runner import Runner
from fourcorners.models import reader_path
from tests.engine.made_up_lane import MadeUpLane

STEADY = StepCost({1: 0.001, 8: 0.0015, 512: 0.05})
"""Common batches always pay, so that what is batched does not depend on how busy the machine is."""


class SteadyRunner(Runner):
    """A runner that measures nothing."""

    def step_cost(self, budget_seconds: float = 0.8) -> StepCost:
        return STEADY


@contextmanager
def running(
    path: Any = None, limits: Limits | None = None, *, parked_mib: float = 64, **settings: Any
) -> Iterator[Engine]:
    """An engine on a GGUF, the bundled reader unless told otherwise."""
    engine = Engine(SteadyRunner(path or reader_path(), **settings), limits, parked_mib=parked_mib)
    try:
        yield engine
    finally:
        engine.close()


def watch(lane: Any, before: Callable[[Sequence[Any]], None] = lambda spans: None) -> list[list[Any]]:
    """The spans of all batches of ``lane`` from now on; ``before`` is called with those of the one that comes next."""
    batches: list[list[Any]] = []
    decode = lane.decode

    def watched(spans: Sequence[Any], n_padding: int = 0) -> Any:
        batches.append(list(spans))
        before(spans)
        return decode(spans, n_padding)

    lane.decode = watched
    return batches


@dataclass
class Record:
    """What one program was told: ``rows[n]`` are the logits behind the first ``n`` tokens of its sequence."""

    tokens: list[int] = field(default_factory=list)
    rows: dict[int, Logits] = field(default_factory=dict)

    def of(self, program: Program) -> Program:
        """``program``, with a copy of all that it is sent."""
        reply: Any = None
        try:
            while True:
                try:
                    step = program.send(reply)
                except StopIteration:
                    return
                reply = yield step
                if isinstance(step, Forward):
                    self.tokens[step.position :] = step.tokens
                    for back, row in enumerate(reply[::-1]):
                        self.rows[len(self.tokens) - back] = row.copy()
        finally:
            program.close()


def until(condition: Callable[[], Any], seconds: float = 10) -> bool:
    """Wait for something that another thread does; whether it came true."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return bool(condition())


def tokens_of(events: Iterable[Any]) -> list[int]:
    """The tokens of an answer whose wish has ``n_logprobs``."""
    return [one.token for event in events if isinstance(event, Piece) for one in event.logprobs]


def text_of(events: Iterable[Any]) -> str:
    """The text of an answer."""
    return "".join(event.text for event in events if isinstance(event, Piece))


def finish_of(events: Sequence[Any]) -> str:
    """How it ended."""
    assert isinstance(events[-1], Finish)
    return events[-1].reason


def submitted(engine: Engine, generation: Generation, **settings: Any) -> Request:
    """A generation on its way."""
    return engine.submit(generation.program(), counts=generation.counts, **settings)


def generated(engine: Engine, prompt: Sequence[int], wish: Wish, **parts: Any) -> list[Any]:
    """All events of one generation."""
    return list(submitted(engine, Generation(engine, prompt, wish, **parts)))


def greedy(start: int, count: int) -> Program:
    """Emit ``count`` tokens after ``start``."""
    return following((start,), count)


def following(prompt: Sequence[int], count: int) -> Program:
    """Emit the ``count`` most probable tokens behind ``prompt``."""
    position, tokens = 0, tuple(prompt)
    for _ in range(count):
        logits = yield Forward(position, tokens)
        position += len(tokens)
        tokens = (int(logits[-1].argmax()),)
        yield tokens[0]


class MadeUpVocabulary:
    """Tokens that are the ``pieces``; the one that stands for nothing ends an answer."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = (b"", *pieces)
        self.n_tokens, self.eos = len(self.pieces), 0
        self.end_tokens = frozenset({0})

    def text(self, tokens: Sequence[int]) -> str:
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", "replace")

    def close(self) -> None:
        pass


class MadeUpRunner:
    """What an engine asks of a runner, without a model: ``logits`` are a function of all tokens so far."""

    def __init__(
        self,
        vocabulary: MadeUpVocabulary,
        logits: Callable[[Sequence[int]], Any],
        *,
        n_context_tokens: int = 2048,
        cost: StepCost = STEADY,
    ) -> None:
        self.vocabulary, self.n_context_tokens = vocabulary, n_context_tokens
        self.can_share, self.n_threads = True, 1
        self.main = MadeUpLane(4 * n_context_tokens, 17, logits)
        self.apart = MadeUpLane(n_context_tokens + 1024, 3, logits)
        self._cost = cost

    def step_cost(self) -> StepCost:
        return self._cost

    def close(self) -> None:
        pass


@contextmanager
def made_up(vocabulary: MadeUpVocabulary, logits: Callable[[Sequence[int]], Any], **settings: Any) -> Iterator[Engine]:
    """An engine on a model that is made up."""
    engine = Engine(cast("Any", MadeUpRunner(vocabulary, logits, **settings)))
    try:
        yield engine
    finally:
        engine.close()


def script(answer: Sequence[int], n_prompt: int, n_tokens: int) -> Callable[[Sequence[int]], Any]:
    """A model that says ``answer`` behind any prompt of ``n_prompt`` tokens, and then for ever token 0."""

    def logits(tokens: Sequence[int]) -> Any:
        row = np.zeros(n_tokens, np.float32)
        at = len(tokens) - n_prompt
        row[answer[at] if 0 <= at < len(answer) else 0] = 20
        return row

    return logits
