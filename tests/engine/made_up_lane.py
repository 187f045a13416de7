"""A lane without a model: it holds token ids in its cells, refuses what llama.cpp would, and answers with logits that
are a function of the tokens before them, so that a program can tell whether it was given its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fourcorners.engine.lane import Aborted, DecodeFault, OutOfCells, Saved, Span

N_VOCAB = 12
BYTES_PER_CELL = 10


def logits_after(tokens: Sequence[int]) -> Any:
    """What the made-up model says after ``tokens``."""
    return np.random.default_rng(zlib.crc32(bytes(tokens))).standard_normal(N_VOCAB).astype(np.float32)


class MadeUpLane:
    """Cells are numbered; a slot maps positions to cells.

    ``faults`` makes the next decodes fail, ``n_without_room`` lets them find no cells, ``n_refused`` and
    ``n_bad_saves`` make the next loads and saves fail. ``batches`` and ``paddings`` tell what was evaluated.
    """

    def __init__(self, n_cells: int, n_slots: int, logits: Callable[[Sequence[int]], Any] = logits_after) -> None:
        self.n_cells, self.n_slots, self._logits = n_cells, n_slots, logits
        self.token_of: dict[int, int] = {}
        self.slots: list[dict[int, int]] = [{} for _ in range(n_slots)]
        self.batches: list[list[Span]] = []
        self.paddings: list[int] = []
        self.n_saves = self.n_loads = 0
        self.faults = self.n_without_room = self.n_refused = self.n_bad_saves = 0
        self.is_aborted = False
        self._next_cell = 0

    @property
    def n_used(self) -> int:
        return len({cell for slot in self.slots for cell in slot.values()})

    @property
    def n_evaluated(self) -> int:
        """Tokens of all batches."""
        return sum(len(span.tokens) for batch in self.batches for span in batch)

    def tokens_in(self, slot: int) -> list[int]:
        return [self.token_of[self.slots[slot][position]] for position in sorted(self.slots[slot])]

    def decode(self, spans: Sequence[Span], n_padding: int = 0) -> list[Any]:
        assert spans
        assert all(span.tokens and 0 <= span.n_logits <= len(span.tokens) for span in spans)
        assert len({span.slot for span in spans}) == len(spans), "a sequence is in a batch once"
        assert all(0 <= span.slot < self.n_slots - 1 for span in spans), "the last slot is for cells on their way"
        is_aborted, self.is_aborted = self.is_aborted, False
        if is_aborted:
            raise Aborted
        if self.faults:
            self.faults -= 1
            raise DecodeFault("made up")
        if self.n_without_room:
            self.n_without_room -= 1
            raise OutOfCells
        if self.n_used + sum(len(span.tokens) for span in spans) + n_padding > self.n_cells:
            raise OutOfCells
        self.batches.append(list(spans))
        self.paddings.append(n_padding)
        answers = []
        for span in spans:
            assert sorted(self.slots[span.slot]) == list(range(span.position)), (
                span.position,
                sorted(self.slots[span.slot]),
            )
            for offset, token in enumerate(span.tokens):
                self._fill(span.slot, span.position + offset, token)
            known = self.tokens_in(span.slot)
            ends = range(len(known) - span.n_logits + 1, len(known) + 1)
            rows = [self._logits(known[:end]) for end in ends]
            answers.append(np.stack(rows) if rows else np.zeros((0, len(self._logits([]))), np.float32))
        return answers

    def abort(self) -> None:
        self.is_aborted = True

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        for position in range(start, end):
            assert position in self.slots[source], "only what is there can be copied"
            assert position not in self.slots[target], "a position has one cell"
            self.slots[target][position] = self.slots[source][position]

    def remove(self, slot: int, start: int, end: int) -> None:
        gone = [p for p in self.slots[slot] if p >= start and (end < 0 or p < end)]
        for position in gone:
            del self.slots[slot][position]

    def save(self, slot: int, start: int, end: int) -> Saved:
        self.n_saves += 1
        if self.n_bad_saves:
            self.n_bad_saves -= 1
            raise DecodeFault("made up")
        tokens = [self.token_of[self.slots[slot][position]] for position in range(start, end)]
        return Saved((start, tokens), BYTES_PER_CELL * len(tokens))

    def load(self, slot: int, saved: Saved) -> bool:
        self.slots[slot] = {}
        start, tokens = saved.data
        self.n_loads += 1
        if self.n_refused:
            self.n_refused -= 1
            return False
        if self.n_used + len(tokens) > self.n_cells:
            return False
        for offset, token in enumerate(tokens):
            self._fill(slot, start + offset, token)
        return True

    def set_threads(self, n: int) -> None:
        self.n_threads = n

    def clear(self) -> None:
        self.slots = [{} for _ in range(self.n_slots)]

    def close(self) -> None:
        self.clear()

    def _fill(self, slot: int, position: int, token: int) -> None:
        self.token_of[self._next_cell] = token
        self.slots[slot][position] = self._next_cell
        self._next_cell += 1
