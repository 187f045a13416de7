"""The state of one request between its arrival and its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fourcorners.engine.cache import Place, token_array
from fourcorners.engine.prefix_tree import Tokens
from fourcorners.engine.program import Forward, Logits
from fourcorners.engine.request import Request
from fourcorners.errors import ContextOverflow, EngineError


@dataclass(eq=False, slots=True)
class Sequence:
    """``tokens`` are those that its program asked for so far; ``place`` holds the first of them that are evaluated.

    ``rows`` are logits of the present ``Forward`` that came in an earlier batch than its last. Once ``is_shared`` the
    prompt is in the prefix tree. ``order`` is the order of arrival, ``seconds_per_token`` what its last chunk took.
    """

    request: Request
    order: int
    tokens: list[int] = field(default_factory=list)
    n_logits: int = 0
    place: Place | None = None
    rows: list[Logits] = field(default_factory=list)
    is_shared: bool = False
    is_counted: bool = False
    seconds_per_token: float = 0.0
    _array: Tokens | None = None

    @property
    def n_done(self) -> int:
        """How many of its tokens are evaluated."""
        return self.place.n_cells if self.place is not None else 0

    @property
    def n_pending(self) -> int:
        """How many are still to be."""
        return len(self.tokens) - self.n_done

    @property
    def array(self) -> Tokens:
        """Its tokens as the prefix tree compares them. Those who wait are asked for it in every step."""
        if self._array is None:
            self._array = token_array(self.tokens)
        return self._array

    @property
    def reusable(self) -> Tokens:
        """Those that need not be evaluated where the prefix tree has them: logits need a fresh evaluation."""
        return self.array[: len(self.tokens) - self.n_logits]

    def asks(self, forward: Forward) -> int:
        """Take the program's next wish; returns up to where what is evaluated still holds."""
        before, position = self.tokens, forward.position
        kept = len(before)
        if position < kept:
            most = len(forward.tokens) - forward.n_logits
            pairs = zip(before[position : position + most], forward.tokens, strict=False)
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(most, kept - position))
            kept = position + same
            del before[position:]
        before.extend(forward.tokens)
        self._array = None
        self.n_logits = forward.n_logits
        self.rows = []
        return kept

    def n_rows_of(self, n_tokens: int) -> int:
        """How many of the next ``n_tokens`` pending ones are to be answered with logits."""
        return min(n_tokens, max(0, self.n_done + n_tokens - (len(self.tokens) - self.n_logits)))

    def reply(self, rows: Logits) -> Logits:
        """All rows of the present ``Forward``, ``rows`` being the last."""
        return np.concatenate([*self.rows, rows]) if self.rows else rows


def check(forward: Forward, sequence: Sequence, window: int, n_vocab: int) -> None:
    """Refuse what must not reach native code. Raises ContextOverflow, EngineError."""
    end = forward.position + len(forward.tokens)
    if end > window:
        raise ContextOverflow(f"the prompt needs {end} tokens, but the window holds {window}")
    n = len(forward.tokens)
    if not (0 <= forward.position <= len(sequence.tokens) and 0 <= forward.n_logits <= n and n):
        raise EngineError(f"a step at {forward.position} with {n} tokens does not follow {len(sequence.tokens)} tokens")
    if min(forward.tokens) < 0 or max(forward.tokens) >= n_vocab:
        bad: Any = next(token for token in forward.tokens if not 0 <= token < n_vocab)
        raise EngineError(f"there is no token {bad}: the vocabulary has {n_vocab}")
