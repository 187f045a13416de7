"""Free generation: choose a token from logits, and the policy that does so until it is told to stop."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from fourcorners.engine.program import Forward, Program
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.decoding import Piece
from fourcorners.llms.settings import GenerationSettings

Floats = NDArray[np.float64]


class Sampler:
    """Chooses tokens with a random stream of its own. Order: penalty, temperature, top_k, top_p, min_p."""

    def __init__(self, settings: GenerationSettings) -> None:
        self._settings = settings
        self._chance = np.random.default_rng(settings.seed)

    def choose(self, logits: Floats, recent: Collection[int]) -> int:
        """One token id; ``recent`` are those that ``repetition_penalty`` makes less likely."""
        scores = logits.astype(np.float64)
        if self._settings.repetition_penalty != 1.0 and recent:
            index = np.fromiter(set(recent), dtype=np.int64)
            scores[index] = np.where(
                scores[index] > 0,
                scores[index] / self._settings.repetition_penalty,
                scores[index] * self._settings.repetition_penalty,
            )
        if self._settings.temperature <= 0:
            return int(scores.argmax())
        ids, chances = self._kept(scores / self._settings.temperature)
        return int(self._chance.choice(ids, p=chances))

    def _kept(self, scores: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Token ids that may be drawn, most probable first, and their probabilities."""
        n_kept = min(self._settings.top_k or len(scores), len(scores))
        ids = np.argpartition(-scores, n_kept - 1)[:n_kept]
        ids = ids[np.argsort(-scores[ids], kind="stable")]
        chances = np.exp(scores[ids] - scores[ids[0]])
        chances /= chances.sum()
        enough = int(np.searchsorted(np.cumsum(chances), self._settings.top_p)) + 1
        enough = min(enough, int((chances >= self._settings.min_p * chances[0]).sum()))
        kept = chances[: max(1, enough)]
        return ids[: len(kept)], kept / kept.sum()


class StopFilter:
    """Passes text on up to the first stop string; holds back what may still become one. Nothing of it gets out."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The part of the text so far that is safe to show."""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - self._longest_start())

    def flush(self) -> str:
        """What was held back, when the text has ended."""
        return "" if self.stopped else self._release(len(self._held))

    def _longest_start(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text


def generate_freely(prompt: Sequence[int], vocabulary: Vocabulary, settings: GenerationSettings, room: int) -> Program:
    """Emit Pieces, then the finish reason ("stop" or "length") as a ``str``. ``room`` is what the window leaves."""
    sampler, stops = Sampler(settings), StopFilter(settings.stop)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    recent: set[int] = set()
    position, tokens, reason = 0, tuple(prompt), "length"
    for _ in range(min(settings.max_new_tokens, room)):
        logits = (yield Forward(position, tokens))[-1]
        position += len(tokens)
        token = sampler.choose(logits, recent)
        if token in vocabulary.end_tokens:
            reason = "stop"
            break
        recent.add(token)
        tokens = (token,)
        yield Piece(stops.feed(decoder.decode(vocabulary.pieces[token])), 1)
        if stops.stopped:
            reason = "stop"
            break
    if not stops.stopped:
        yield Piece(stops.feed(decoder.decode(b"", final=True)) + stops.flush(), 0)
    yield reason
