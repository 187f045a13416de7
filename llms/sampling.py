"""Free generation: choose a token from logits, and the policy that does so until it is told to stop."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from fourcorners.engine.program import Forward, Program
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.decoding import Piece
from fourcorners.grounding.stopping import StopFilter
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
        ids = self._kept(scores / self._settings.temperature)
        # Noise belongs to the token id, so that a tiny change of scores changes a draw only where it must.
        noise = self._chance.gumbel(size=len(scores))
        return int(ids[int((scores[ids] / self._settings.temperature + noise[ids]).argmax())])

    def _kept(self, scores: Floats) -> NDArray[np.int64]:
        """Token ids that may be drawn, most probable first."""
        n_kept = min(self._settings.top_k or len(scores), len(scores))
        ids = np.argpartition(-scores, n_kept - 1)[:n_kept]
        ids = ids[np.argsort(-scores[ids], kind="stable")]
        chances = np.exp(scores[ids] - scores[ids[0]])
        chances /= chances.sum()
        enough = int(np.searchsorted(np.cumsum(chances), self._settings.top_p)) + 1
        enough = min(enough, int((chances >= self._settings.min_p * chances[0]).sum()))
        return ids[: max(1, enough)]


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
