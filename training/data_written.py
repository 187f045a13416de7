"""Examples from the documents written for this project (``documents/*.txt``)."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from training.data_squad import Swapper
from training.rows import Example
from training.written import Asked, Written

HELD_BACK_SHARE = 20


def is_held_back(document: Written) -> bool:
    """About one document in twenty is never trained on."""
    return zlib.crc32(document.text.encode()) % HELD_BACK_SHARE == 0


class WrittenSource:
    """Draws examples: questions as they are, over two documents, over another, or with the gold sentence taken out."""

    def __init__(self, documents: Sequence[Written]) -> None:
        self.documents = list(documents)
        self.pairs = [(document, asked) for document in documents for asked in document.asked]
        self._swapper = Swapper([document.text for document in documents])

    def draw(self, rng: random.Random) -> Example:
        """One example; about 45 % without an answer."""
        document, asked = rng.choice(self.pairs)
        kind = rng.random()
        if asked.place is not None and kind < 0.1:
            example = example_of(document, asked, rng, removed=True)
        elif kind < 0.16:
            other = rng.choice(self.documents)
            question = rng.choice(asked.ways)
            example = Example(question, (other.text,), None, "")
            if other is document:
                example = example_of(document, asked, rng)
        else:
            example = example_of(document, asked, rng)
            if rng.random() < 0.15:
                example = _beside(example, rng.choice(self.documents), rng)
        example = self._swapper.swapped(rng, example) if rng.random() < 0.4 else example
        return _as_typed(example, rng)


def example_of(document: Written, asked: Asked, rng: random.Random, *, removed: bool = False) -> Example:
    """One way to ask it, over its document."""
    gold = None if asked.place is None else (0, asked.place[0])
    answer = "" if asked.place is None else document.text[slice(*asked.place)]
    return Example(rng.choice(asked.ways), (document.text,), gold, answer, removed)


def _beside(example: Example, other: Written, rng: random.Random) -> Example:
    if other.text == example.documents[0] or (example.answer and example.answer in other.text):
        return example
    if rng.random() < 0.5:
        return Example(example.question, (*example.documents, other.text), example.gold, example.answer)
    gold = None if example.gold is None else (1, example.gold[1])
    return Example(example.question, (other.text, *example.documents), gold, example.answer)


def _as_typed(example: Example, rng: random.Random) -> Example:
    """Sometimes the question as people type it: without capitals or question mark."""
    chance = rng.random()
    if chance > 0.12:
        return example
    question = example.question.lower() if chance < 0.07 else example.question
    question = question.rstrip(" ?.") if chance < 0.04 or chance > 0.07 else question
    return Example(question or example.question, example.documents, example.gold, example.answer, example.removed)
