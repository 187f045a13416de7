"""Who comes next: the waiting queue, fairness between clients, and how a step is filled. Policy only, no model."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

from fourcorners.engine.lane import BATCH_TOKENS
from fourcorners.engine.sequence import Sequence
from fourcorners.errors import SettingsError

MAX_TURNS_MISSED = 4
"""A prefill that later ones passed so often comes next."""
MIN_PROMPT_TOKENS = 8
"""So many tokens of prompts go along with every step, else they would wait for ever for those who decode."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_running`` requests decode or prefill at once, ``max_waiting`` more may queue. A step takes at most
    ``step_tokens`` tokens, and a chunk of a prompt at most about ``chunk_seconds``: so long others' streams may pause.

    Raises SettingsError where a step can't hold a token of each.
    """

    max_running: int = 16
    max_waiting: int = 256
    step_tokens: int = 512
    chunk_seconds: float = 0.4

    def __post_init__(self) -> None:
        if not 1 <= self.max_running <= self.step_tokens <= BATCH_TOKENS:
            raise SettingsError(
                f"max_running={self.max_running} and step_tokens={self.step_tokens} do not go together:"
                f" 1 <= max_running <= step_tokens <= {BATCH_TOKENS}"
            )


class Scheduler:
    """The queue and the running sequences.

    Clients get equal numbers of tokens: the one that was served least comes first (start-time fair queueing; a client
    that comes, or comes back after a pause, has no credit). Within a client the order is that of arrival.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._served: dict[str, float] = {}
        self._missed: dict[int, int] = {}

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence, or one that was preempted: it keeps its order of arrival."""
        client, active = sequence.request.client, self._clients()
        if client not in active:
            least = min((self._served[other] for other in active), default=0.0)
            self._served[client] = max(self._served.get(client, 0.0), least)
        self.waiting.append(sequence)

    def start(self, sequence: Sequence) -> None:
        """It has a place now."""
        self.waiting.remove(sequence)
        self.running.append(sequence)

    def stop(self, sequence: Sequence) -> None:
        """It has ended, or lost its place."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._missed.pop(sequence.order, None)
        n_here = len(self.waiting) + len(self.running)
        if not n_here or len(self._served) > 2 * n_here + 16:
            active = self._clients()
            self._served = {client: n for client, n in self._served.items() if client in active}

    def serve(self, sequence: Sequence, n_tokens: int) -> None:
        """Account for tokens that were evaluated for it."""
        self._served[sequence.request.client] += n_tokens

    def in_turn(self) -> list[Sequence]:
        """The waiting sequences, whose turn it is first. What a client has before them counts as if it were served."""
        served, turn = dict(self._served), {}
        for sequence in self.running:
            served[sequence.request.client] += sequence.n_pending
        for sequence in sorted(self.waiting, key=lambda s: s.order):
            turn[sequence] = served[sequence.request.client]
            served[sequence.request.client] += sequence.n_pending
        return sorted(turn, key=lambda s: (turn[s], s.order))

    def chunk_of(self, prefilling: Items[Sequence]) -> Sequence:
        """Which of several prompts gets the next chunk: the one with least to do, but none is passed for ever.

        Two of the same length are prefilled one after the other: by turns, each would pay for the other's cells.
        """
        missed = {s: self._missed.get(s.order, 0) for s in prefilling}
        chosen = max(prefilling, key=lambda s: (missed[s], -s.order))
        if missed[chosen] < MAX_TURNS_MISSED:
            chosen = min(prefilling, key=lambda s: (s.n_pending, s.order))
        for sequence in prefilling:
            is_passed = sequence.order < chosen.order
            self._missed[sequence.order] = 0 if sequence is chosen else missed[sequence] + is_passed
        return chosen

    def fill(self, ready: Items[Sequence], chunk_tokens: int | None = None) -> list[tuple[Sequence, int]]:
        """How many tokens each of ``ready`` gets in the next batch: one for each that decodes, then more for those,
        then prompts while there is room, which ``chunk_tokens`` may narrow.

        Nobody who decodes is ever left out, and prompts get on a little however much the others have to evaluate.
        """
        n_decoding = sum(s.is_shared for s in ready)
        most = self.limits.step_tokens - n_decoding
        kept = min(most, MIN_PROMPT_TOKENS, sum(s.n_pending for s in ready if not s.is_shared))
        room = most if chunk_tokens is None else min(most, chunk_tokens - n_decoding)
        room = max(0, room - kept)
        shares = []
        for sequence in sorted(ready, key=lambda s: (not s.is_shared, s.order)):
            if not sequence.is_shared:
                room, kept = room + kept, 0
            n = min(sequence.n_pending, room + sequence.is_shared)
            if n:
                shares.append((sequence, n))
                room -= n - sequence.is_shared
        return shares

    def youngest(self, ready: Items[Sequence]) -> Sequence:
        """Who gives way when cells run out."""
        return max(ready, key=lambda s: s.order)

    def _clients(self) -> set[str]:
        return {s.request.client for s in (*self.waiting, *self.running)}
