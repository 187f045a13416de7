"""Generation as a program: choose a token from logits, again and again, until something says stop.

Tokens that need no choosing are not waited for: those that a mask leaves no alternative to are evaluated together with
the token before them, and so are drafts, guesses that are checked against what would have been chosen anyway.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fourcorners.engine.draft import Drafter
from fourcorners.engine.engine import Engine
from fourcorners.engine.mask import Mask
from fourcorners.engine.metrics import Counts
from fourcorners.engine.program import Forward, Logits, Program
from fourcorners.engine.sampling import Sampler, Sampling
from fourcorners.engine.stopping import StopFilter


class Logprob(NamedTuple):
    """A generated token with its log-probability, and the most probable ones at its place, best first."""

    token: int
    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


class Piece(NamedTuple):
    """A piece of the answer that will not be taken back; ``n_tokens`` is what it counts for in the usage."""

    text: str
    n_tokens: int
    logprobs: tuple[Logprob, ...] = ()


class Finish(NamedTuple):
    """The last event: ``reason`` is "stop" (end of text, stop string, nothing more allowed) or "length"."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be generated. ``n_logprobs`` None gives none, 0 those of the chosen tokens alone."""

    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    n_logprobs: int | None = None
    ignore_eos: bool = False


class Generation:
    """One answer in the making. ``program`` is what the engine runs; ``counts`` tells what it did."""

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        wish: Wish,
        *,
        mask: Mask | None = None,
        drafter: Drafter | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.counts = counts if counts is not None else Counts()
        self._engine, self._vocabulary = engine, engine.runner.vocabulary
        # Made here, once a model, and not on the engine's thread: half a second for 150,000 tokens.
        self._pieces, self._ends = self._vocabulary.pieces, self._vocabulary.end_tokens
        self._prompt, self._wish, self._mask, self._drafter = tuple(prompt), wish, mask, drafter
        self._sampler = Sampler(wish.sampling)
        self._stops = StopFilter(wish.stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = min(wish.max_new_tokens, engine.runner.n_context_tokens - len(self._prompt))
        self._reason = ""

    def program(self) -> Program:
        """Emit Pieces, then the Finish."""
        position, tokens = 0, self._prompt
        drafts: tuple[int, ...] = ()
        while not self._reason:
            self._prepare_mask()
            rows = yield Forward(position, tokens, 1 + len(drafts))
            position += len(tokens) - len(drafts)
            pieces, token, n_accepted = self._choose(rows, drafts)
            yield from pieces
            position += n_accepted
            forced = self._forced()
            for one in forced:
                yield self._said(one, None)
                if self._stops.stopped:
                    break
            drafts = () if forced or self._reason else self._drafts()
            tokens = (token, *forced, *drafts)
        if rest := self._rest():
            yield Piece(rest, 0)
        yield Finish(self._reason)

    def _choose(self, rows: Logits, drafts: tuple[int, ...]) -> tuple[list[Piece], int, int]:
        """Choose from one row after the other while the choices agree with the drafts. Returns what to show, the last
        token, which is not evaluated yet, and how many drafts hold."""
        pieces: list[Piece] = []
        token, n_accepted = -1, 0
        for row in rows:
            token = self._choose_one(row)
            if token in self._ends:
                self._reason = "stop"
                break
            pieces.append(self._said(token, row))
            self.counts.decoded += 1
            if self._reason or n_accepted == len(drafts) or token != drafts[n_accepted]:
                break
            n_accepted += 1
        if drafts and self._drafter is not None:
            self.counts.drafted += len(drafts)
            self.counts.accepted += n_accepted
            self._drafter.result(len(drafts), n_accepted)
        return pieces, token, n_accepted

    def _choose_one(self, row: Logits) -> int:
        allowed = self._mask.allowed() if self._mask is not None else None
        token = self._sampler.choose(row, allowed)
        if self._wish.ignore_eos and allowed is None and token in self._ends:
            without = row.copy()
            without[list(self._ends)] = -np.inf
            token = self._sampler.choose(without)
        return token

    def _said(self, token: int, row: Logits | None) -> Piece:
        """Account for a token of the answer; forced ones come without logits."""
        self._sampler.accept(token)
        if self._mask is not None and row is not None:
            self._mask.consume(token)
        if self._drafter is not None:
            self._drafter.observe(token)
        text = self._stops.feed(self._decoder.decode(self._pieces[token]))
        self._left -= 1
        if self._stops.stopped or (self._mask is not None and self._mask.finished):
            self._reason = "stop"
        elif self._left <= 0:
            self._reason = "length"
        return Piece(text, 1, self._logprobs(token, row))

    def _forced(self) -> list[int]:
        """Tokens that the mask leaves no alternative to."""
        if self._mask is None or self._reason:
            return []
        forced = self._mask.forced()[: self._left]
        for token in forced:
            self._mask.consume(token)
        self.counts.forced += len(forced)
        return forced

    def _drafts(self) -> tuple[int, ...]:
        if self._drafter is None:
            return ()
        drafts = self._drafter.propose()[: self._left - 1]
        if self._mask is not None:
            drafts = drafts[: self._mask.accepts(drafts)]
        return drafts

    def _prepare_mask(self) -> None:
        if self._mask is not None and self._mask.worth_preparing(self._engine.step_seconds):
            self._mask.prepare(self._engine.executor)

    def _rest(self) -> str:
        """What was held back because it might have become a stop string or a character."""
        if self._stops.stopped:
            return ""
        return self._stops.feed(self._decoder.decode(b"", final=True)) + self._stops.flush()

    def _logprobs(self, token: int, row: Logits | None) -> tuple[Logprob, ...]:
        if self._wish.n_logprobs is None:
            return ()
        text = self._vocabulary.text([token])
        if row is None:
            return (Logprob(token, text, 0.0, ((text, 0.0),) if self._wish.n_logprobs else ()),)
        chosen, top = self._sampler.logprobs(row, token, self._wish.n_logprobs)
        pairs = tuple((self._vocabulary.text([one.token]), one.logprob) for one in top)
        return (Logprob(token, text, chosen.logprob, pairs),)


def prefill(tokens: Sequence[int]) -> Program:
    """Evaluate ``tokens`` and say nothing: their cells are in the prefix tree afterwards."""
    yield Forward(0, tuple(tokens), 0)
