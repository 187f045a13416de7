"""The mixture of training rows: questions by people, and template documents; sentences and phrases."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.rows import Example, Row, Task, build_row, show
from training.tokenizer import SegmentTokenizer

PHRASE_SHARE = 0.3
MOST_SENTENCES = 6

ExampleSource = Callable[[random.Random], Example]


def row_source(
    tokenizer: SegmentTokenizer, sources: list[tuple[float, ExampleSource]], most_sentences: int = MOST_SENTENCES
) -> Callable[[random.Random], Row]:
    """A function that draws one row; ``sources`` are (share, source)."""
    shares = [share for share, _ in sources]
    draws = [draw for _, draw in sources]

    def draw(rng: random.Random) -> Row:
        example = rng.choices(draws, shares)[0](rng)
        limit = rng.randint(1, most_sentences)
        task: Task = "phrase" if rng.random() < PHRASE_SHARE else "sentence"
        return build_row(tokenizer, show(example, limit, rng), task)

    return draw
