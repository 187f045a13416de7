"""Writes an answer of which most is given: forced text in between, and at each gap one of several options.

An option is a byte string that may end at one or more places. Which tokens may come next follows from the options that
are still possible, so the answer can be nothing else, whatever the model's logits say.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourcorners.grounding.decoding import Evaluate, Rules, Scores, Tokens, log_mass, log_softmax

MAX_GAP_TOKENS = 64
"""An option with several ends stops at the next of them past so many tokens."""
MAX_TOKEN_BYTES = 32
"""Longer tokens, of which vocabularies have a few, are never chosen."""
_BOUND = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """``body`` up to one of ``ends``; ``prior`` is its log prior, ``value`` whatever the caller wants back."""

    body: bytes
    ends: frozenset[int]
    prior: float
    value: Any


class Options:
    """Options for one gap; the first step over many of them is worked out once."""

    def __init__(self, options: Iterable[Option]) -> None:
        self.all = list(options)
        self.first: dict[int, float] | None = None


@dataclass(frozen=True, slots=True)
class _Spelling:
    """The tokens of a vocabulary by their bytes, and by their first byte."""

    token_of: dict[bytes, int]
    lengths: tuple[int, ...]
    by_first: dict[int, NDArray[np.int64]] = field(repr=False)


class Pen:
    """Writes behind ``prompt``. ``n_tokens`` is what the answer has come to; ``full`` that the window is: then the
    model is asked no more, and the priors decide."""

    def __init__(self, prompt: Sequence[int], tokens: Tokens, rules: Rules) -> None:
        self._tokens, self._rules = tokens, rules
        self._spelling = _spelling(tuple(tokens.pieces))
        self._unevaluated, self._position = list(prompt), 0
        self._forced = rules.answer_prefix
        self._logits: Scores = np.zeros(len(tokens.pieces))
        self._chance = np.random.default_rng(rules.seed)
        self.n_tokens, self.full = 0, False

    def write(self, text: str) -> None:
        """Forced text."""
        self._forced += text

    def prepare(self, options: Options) -> None:
        """Work out the first step over ``options`` now."""
        self._steps(options, options.all, b"")

    def choose(self, options: Options, closers: bytes) -> Generator[Any, Any, tuple[Option, bytes]]:
        """One of ``options``, and the part of its body that was written. ``closers`` are the bytes of which one comes
        next where a value has ended: how probable the model finds that end."""
        alive, written, n_steps = options.all, b"", 0
        while True:
            ending = [one for one in alive if len(written) in one.ends]
            if ending and n_steps >= MAX_GAP_TOKENS:
                return _best(ending), written
            steps = self._steps(options, alive, written)
            if not steps and ending:
                return _best(ending), written
            rest = _only_rest(alive, written) if not ending else None
            if not steps and rest is None:  # the vocabulary can't spell what comes: it is written all the same
                one = _best(alive)
                rest = one.body[len(written) : min(end for end in one.ends if end > len(written))]
                alive = [one]
            if rest is not None:
                self._spell(rest)
                return _best(alive), written + rest
            token = yield from self._choose_token(steps, ending, closers)
            if token < 0:
                return _best(ending), written
            self._put(token)
            written += self._tokens.pieces[token]
            alive = [one for one in alive if one.body.startswith(written)]
            n_steps += 1

    def goes_on(self, more: bytes, end: bytes) -> Generator[Any, Any, bool]:
        """Whether the model would rather write one of the bytes ``more`` than one of ``end``; nothing is written."""
        logits = yield from self._evaluated()
        if self.full:
            return False
        return self._mass(logits, more) > self._mass(logits, end)

    def _choose_token(self, steps: dict[int, float], ending: list[Option], closers: bytes) -> Generator[Any, Any, int]:
        """A token of ``steps``, or -1 for the end."""
        tokens = list(steps)
        logits = yield from self._evaluated()
        scores = [float(logits[token]) for token in tokens]
        priors = [steps[token] for token in tokens]
        if ending:
            tokens.append(-1)
            scores.append(self._mass(logits, closers))
            priors.append(max(one.prior for one in ending))
        joint = self._rules.model_weight * log_softmax(np.array(scores, np.float64)) + np.array(priors)
        if self._rules.temperature <= 0:
            return tokens[int(joint.argmax())]
        chances = np.exp(log_softmax(joint / self._rules.temperature))
        return tokens[int(self._chance.choice(len(tokens), p=chances / chances.sum()))]

    def _steps(self, options: Options, alive: list[Option], written: bytes) -> dict[int, float]:
        """The tokens that some option goes on with, each with the best prior behind it."""
        if not written and options.first is not None:
            return options.first
        best: dict[bytes, float] = {}
        at, token_of = len(written), self._spelling.token_of
        for one in alive:
            body, prior = one.body, one.prior
            for length in self._spelling.lengths:
                if at + length > len(body):
                    break
                piece = body[at : at + length]
                if prior > best.get(piece, -np.inf):
                    best[piece] = prior
        steps = {token_of[piece]: prior for piece, prior in best.items() if piece in token_of}
        if not written:
            options.first = steps
        return steps

    def _evaluated(self) -> Generator[Any, Any, Scores]:
        """The logits behind all that was written."""
        if self._forced:
            forced, self._forced = self._tokens.plain(self._forced), ""
            self.n_tokens += len(forced)
            self._unevaluated += forced
        if self._position + len(self._unevaluated) > self._rules.window_tokens:
            self.full = True
        if self.full:
            return np.zeros(len(self._tokens.pieces))
        if self._unevaluated:
            self._logits = (yield Evaluate(self._position, tuple(self._unevaluated)))[-1]
            self._position += len(self._unevaluated)
            self._unevaluated = []
        return self._logits

    def _put(self, token: int) -> None:
        self._unevaluated.append(token)
        self.n_tokens += 1

    def _spell(self, rest: bytes) -> None:
        """Write bytes that may begin inside a character."""
        n_loose = next((i for i, byte in enumerate(rest) if byte & 0xC0 != 0x80), len(rest))
        for byte in rest[:n_loose]:
            if (token := self._spelling.token_of.get(bytes([byte]))) is not None:
                self._put(token)
        self.write(rest[n_loose:].decode())

    def _mass(self, logits: Scores, first: bytes) -> float:
        groups = [self._spelling.by_first[byte] for byte in first if byte in self._spelling.by_first]
        return log_mass(logits[np.concatenate(groups)].astype(np.float64)) if groups else -np.inf


def bounded(value: float) -> float:
    """``value`` with infinity made a number that sums can take."""
    return float(np.clip(value, -_BOUND, _BOUND))


def _best(options: list[Option]) -> Option:
    return max(options, key=lambda one: one.prior)


def _only_rest(alive: list[Option], written: bytes) -> bytes | None:
    """What is left where all that is possible is one and the same."""
    one = alive[0]
    if len(one.ends) > 1 or any(other.body != one.body or other.ends != one.ends for other in alive[1:]):
        return None
    return one.body[len(written) : next(iter(one.ends))]


@lru_cache(maxsize=4)
def _spelling(pieces: tuple[bytes, ...]) -> _Spelling:
    token_of: dict[bytes, int] = {}
    by_first: dict[int, list[int]] = {}
    for token, piece in enumerate(pieces):
        if piece:
            token_of.setdefault(piece, token)
            lead = piece.lstrip(b" ")[:1] or b" "
            by_first.setdefault(lead[0], []).append(token)
    lengths = tuple(sorted({len(piece) for piece in token_of if len(piece) <= MAX_TOKEN_BYTES}))
    return _Spelling(token_of, lengths, {first: np.array(ids) for first, ids in by_first.items()})
