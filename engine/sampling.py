"""Choosing the next token from a model's logits, without ever sorting a vocabulary.

What may be drawn is always "every token above some border". The border of ``top_p`` is never looked for: a token drawn
from all of them is inside exactly if those more probable hold less than ``top_p``. If they hold more, the next draw is
from those alone, so that the result is exact. That takes 1 + ln(1/top_p) looks at the vocabulary, or fewer, on average.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fourcorners.errors import EngineError

Floats = NDArray[np.float32]
Bounds = NDArray[np.float64]
Indices = NDArray[np.int32] | NDArray[np.int64]

_N_UNIFORMS = 32
"""Draws until the most probable token is taken instead, so that time is bounded: in practice none needs as many."""
_SMALL_TOP_P = 0.15
"""Up to here draws from the whole vocabulary are rejected so often that it pays to shrink it first."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose; the defaults take the most probable token, and 0 or 1 turns each of the others off.

    ``min_p`` is relative to the most probable token. The penalties count generated tokens only: ``repetition_penalty``
    divides a positive logit and multiplies a negative one, once per distinct token, as Hugging Face does; the other two
    are subtracted, once and once per occurrence, as OpenAI does. Without a ``seed`` no two samplers agree.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None


class TokenLogprob(NamedTuple):
    """A token and the natural logarithm of its probability."""

    token: int
    logprob: float


class Sampler:
    """Chooses the tokens of one request, with a random stream of its own; not for two threads at a time.

    Order: penalties, temperature, ``top_k``, ``top_p`` over what ``top_k`` left, ``min_p``. A token as probable as the
    last one kept, to a float32's precision, is kept too; greedy choice takes the lowest id among equals. Each choice at
    a temperature above 0 takes the same amount from the random stream. Up to 8 bytes per token of the vocabulary are
    held as scratch.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._chance = np.random.default_rng(None if sampling.seed is None else sampling.seed % 2**64)
        self._penalizes = bool(
            sampling.repetition_penalty != 1 or sampling.presence_penalty or sampling.frequency_penalty
        )
        self._slots: dict[int, int] = {}
        self._tokens, self._counts = array("q"), array("d")
        self._penalized_scores, self._weights = np.empty(0, np.float32), np.empty(0, np.float32)

    def choose(self, logits: Floats, allowed: Indices | None = None) -> int:
        """The next token, one of ``allowed`` if given; ``logits`` is neither written to nor kept.

        Every setting looks at the allowed tokens alone, and the cost follows their number. Among 50,000 tokens
        the best takes 3 µs, a draw 30 to 90. Raises EngineError if no token is possible or the logits hold a NaN.
        """
        scores, ids = self._penalized(logits), allowed
        if allowed is not None:
            scores = scores[allowed]
        best = _best(scores)
        if self._sampling.temperature > 0:
            uniforms = self._chance.random(_N_UNIFORMS)
            if 0 < self._sampling.top_k < len(scores):
                kept = _largest(scores, self._sampling.top_k)
                scores, ids = scores[kept], kept if ids is None else ids[kept]
                best = int(scores.argmax())
            best = self._drawn(scores, best, uniforms)
        return best if ids is None else int(ids[best])

    def accept(self, token: int) -> None:
        """From now on ``token`` is part of the output, and the penalties count it."""
        if not self._penalizes:
            return
        slot = self._slots.setdefault(token, len(self._tokens))
        if slot == len(self._tokens):
            self._tokens.append(token)
            self._counts.append(0)
        self._counts[slot] += 1

    def logprobs(self, logits: Floats, token: int, n_top: int) -> tuple[TokenLogprob, tuple[TokenLogprob, ...]]:
        """``token`` and the ``n_top`` most probable ones, best first and among equals the lowest id first.

        They are the model's own, over its whole vocabulary: no setting, penalty or mask changes them. 50 to 75 µs for
        50,000 tokens. Raises EngineError if the logits hold a NaN.
        """
        best = _best(logits)
        total = _bounds(self._exponentials(logits, best, 1.0))[-1]
        log_total = float(logits[best]) + math.log(total)
        top = _largest(logits, min(n_top, len(logits)))
        top = top[np.argsort(-logits[top], kind="stable")][:n_top]
        first, *others = (TokenLogprob(each, float(logits[each]) - log_total) for each in (token, *top.tolist()))
        return first, tuple(others)

    def _penalized(self, logits: Floats) -> Floats:
        if not self._tokens:
            return logits
        if len(self._penalized_scores) != len(logits):
            self._penalized_scores = np.empty(len(logits), np.float32)
        scores, settings = self._penalized_scores, self._sampling
        np.copyto(scores, logits)
        tokens = np.frombuffer(self._tokens, np.int64)
        old, penalty = scores[tokens].astype(np.float64), settings.repetition_penalty
        new = np.where(old > 0, old / penalty, old * penalty)
        new -= settings.presence_penalty + settings.frequency_penalty * np.frombuffer(self._counts, np.float64)
        scores[tokens] = new
        return scores

    def _drawn(self, scores: Floats, best: int, uniforms: NDArray[np.float64]) -> int:
        """An index into ``scores``, drawn from what ``top_p`` and ``min_p`` leave."""
        top_p, min_p = self._sampling.top_p, self._sampling.min_p
        weights, ids = self._exponentials(scores, best, self._sampling.temperature), None
        bounds = _bounds(weights)
        enough = max(top_p, 1e-9) * bounds[-1] if top_p < 1 else math.inf
        if top_p <= _SMALL_TOP_P and (few := _likely(weights.ravel(), top_p, enough)) is not None:
            ids, weights = few, _table(weights.ravel()[few])
            bounds = _bounds(weights)
        if min_p > 0:
            bounds = _raise_border(weights, np.nextafter(np.float32(min(min_p, 1.0)), np.float32(0)))
        for uniform in uniforms.tolist():
            index = _located(weights, bounds, uniform)
            if top_p < 1:
                bounds = _raise_border(weights, weights.flat[index])
            if top_p >= 1 or bounds[-1] < enough:
                return index if ids is None else int(ids[index])
        return best

    def _exponentials(self, scores: Floats, best: int, temperature: float) -> Floats:
        """A table (see ``_table``) of exp((score - best score) / temperature), in scratch memory."""
        size = math.prod(_shape(len(scores)))
        if len(self._weights) < size:
            self._weights = np.empty(size, np.float32)
        used, padding = self._weights[: len(scores)], self._weights[len(scores) : size]
        with np.errstate(over="ignore"):  # overflow only makes -inf, for what is hopelessly far below the best
            np.subtract(scores, scores[best], out=used)
            if temperature != 1:
                np.multiply(used, 1 / max(temperature, 1e-30), out=used)  # float32 holds no larger factor
        np.exp(used, out=used)
        padding.fill(0)
        return self._weights[:size].reshape(_shape(len(scores)))


def _best(scores: Floats) -> int:
    """The index of the highest score; numpy takes a NaN for higher than all, so it is found here."""
    if not len(scores):
        raise EngineError("no token can be chosen: none is allowed")
    best = int(scores.argmax())
    if not math.isfinite(scores[best]):
        raise EngineError(f"no token can be chosen: the best of {len(scores)} logits is {scores[best]}")
    return best


def _largest(scores: Floats, count: int) -> NDArray[np.int64]:
    """Indices, ascending, of the ``count`` highest scores and of all that equal the last of them."""
    if not count:
        return np.empty(0, np.int64)
    few, n_columns = None, 1024
    n_rows = len(scores) // n_columns
    if n_rows >= 4 and count <= n_columns // 2:
        # At least `count` scores reach the count-th highest of the columns' maxima, and few more do.
        maxima = scores[: n_rows * n_columns].reshape(n_rows, n_columns).max(axis=0)
        border = np.partition(maxima, -count)[-count]
        few = np.flatnonzero(scores >= border)
        scores = scores[few]
        if np.count_nonzero(scores > border) < count:
            return few  # also where thousands are equal, which numpy's selection is very slow at
    kept = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    return kept if few is None else few[kept]


def _likely(weights: Floats, top_p: float, enough: float) -> NDArray[np.int64] | None:
    """Indices of a few weights among which the heaviest, summing to ``enough``, surely are; None if it can't tell."""
    step = len(weights) // 1024
    if step < 4:
        return None
    sample = np.sort(weights[::step])[::-1]
    sums = sample.astype(np.float64).cumsum()
    n_above = int(sums.searchsorted(top_p * sums[-1]))
    border = sample[min(n_above + n_above // 4 + 8, len(sample) - 1)]  # a margin, as a sample is not exact
    few = np.flatnonzero(weights > border)
    return few if weights[few].sum() >= enough else None


def _shape(size: int) -> tuple[int, int]:
    """Rows and columns, nearly as many, of a table for ``size`` weights."""
    n_columns = 1 << (size.bit_length() + 2) // 2
    return -(-size // n_columns), n_columns


def _table(weights: Floats) -> Floats:
    """``weights`` row by row, zeros at the end: a draw adds up columns first, then searches one of them."""
    table = np.zeros(_shape(len(weights)), np.float32)
    table.ravel()[: len(weights)] = weights
    return table


def _bounds(table: Floats) -> Bounds:
    """Running sums of the columns' sums; the last is the sum of all weights."""
    return np.cumsum(table.sum(axis=0).astype(np.float64))


def _raise_border(table: Floats, border: np.float32) -> Bounds:
    """Set weights that are not above ``border`` to zero, and return the new bounds."""
    np.multiply(table, table > border, out=table)
    return _bounds(table)


def _located(table: Floats, bounds: Bounds, uniform: float) -> int:
    """The index at which the share ``uniform`` of all weight lies, column by column."""
    column, rest = _first_above(bounds, uniform * float(bounds[-1]))
    row, _ = _first_above(np.cumsum(table[:, column].astype(np.float64)), rest)
    return row * len(bounds) + column


def _first_above(sums: Bounds, target: float) -> tuple[int, float]:
    """The place of the first running sum above ``target``, and the target's distance from the sum before.

    Its own weight is never zero: sums grow only where there is weight, and a target that rounding moved past the last
    sum is taken back.
    """
    target = min(target, math.nextafter(float(sums[-1]), 0.0))
    place = int(sums.searchsorted(target, side="right"))
    return place, target - (float(sums[place - 1]) if place else 0.0)
