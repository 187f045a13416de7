"""What the engine's policies know of a llama.cpp context: cells, slots, and what can be done with them.

A *cell* holds the keys and values of one token; a *slot* is a llama.cpp sequence id, a set of cells with positions.
Several slots may share cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from fourcorners.engine.program import Logits

BATCH_TOKENS = 512
"""The most tokens of one llama.cpp call; padding comes on top."""
MAX_PADDING = 64


class Span(NamedTuple):
    """Tokens to evaluate in ``slot`` from ``position`` on; the last ``n_logits`` of them are answered with logits."""

    slot: int
    position: int
    tokens: Sequence[int]
    n_logits: int


class OutOfCells(Exception):
    """A batch finds no free cells. Nothing was changed; internal to the engine."""


class DecodeFault(Exception):
    """llama.cpp failed in the middle of a batch; what the lane holds is unknown. Internal to the engine."""


class Aborted(Exception):
    """A batch was broken off by ``abort``. Nothing was changed; internal to the engine."""


class Saved(NamedTuple):
    """The content of some cells in host memory."""

    data: Any
    n_bytes: int


class Lane(Protocol):
    """What the engine asks of a context."""

    n_cells: int
    n_slots: int

    def decode(self, spans: Sequence[Span], n_padding: int = 0) -> list[Logits]:
        """Evaluate all spans in one batch; per span ``(n_logits, n_vocab)``, views that the next decode overwrites.

        Raises OutOfCells, Aborted, DecodeFault.
        """

    def abort(self) -> None:
        """Break off the decode that is under way, or else the next one. From any thread; takes one operation's time."""

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target`` share the cells of ``source`` at positions ``start`` to ``end``. Microseconds."""

    def remove(self, slot: int, start: int, end: int) -> None:
        """Take positions ``start`` to ``end`` (-1: all) out of a slot; cells that no slot holds are free."""

    def save(self, slot: int, start: int, end: int) -> Saved:
        """The cells of those positions, in host memory. About 1.5 ms for 1,000 tokens of a 135M model."""

    def load(self, slot: int, saved: Saved) -> bool:
        """Replace all that ``slot`` holds by what was saved; False, and an empty slot, where there is no room."""

    def set_threads(self, n: int) -> None:
        """Compute on ``n`` threads from now on."""

    def clear(self) -> None:
        """Free all cells of all slots."""

    def close(self) -> None:
        """Free the context. A second call does nothing."""
