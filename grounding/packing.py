"""Which sentences the model is shown when the documents do not fit in its window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fourcorners.errors import ContextOverflow
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.prior import PriorScores

MAX_CHARS_PER_TOKEN = 12
"""Longer texts are taken not to fit without counting their tokens."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What is shown: sentence indices in document order, and the text block of each document that has any."""

    shown: tuple[int, ...]
    blocks: tuple[str, ...]
    n_left_out: int


def pack(
    evidence: Evidence,
    prior: PriorScores,
    count_tokens: Callable[[str], int],
    budget_tokens: int,
    max_sentences: int | None = None,
) -> Packed:
    """The whole documents where they fit in ``budget_tokens``, else the best sentences by the prior, in document order.

    ``max_sentences`` always shows sentences, a line each, and at most so many. Raises ContextOverflow where not even
    one sentence fits.
    """
    texts = [document.text for document in evidence.documents]
    everything = tuple(range(len(evidence.sentences)))
    if max_sentences is None and sum(map(len, texts)) <= budget_tokens * MAX_CHARS_PER_TOKEN:
        used = sum(count_tokens(text) + 2 for text in texts)
        if used <= budget_tokens:
            return Packed(everything, tuple(text.strip("\r\n") for text in texts if text.strip()), 0)
    shown = _best(evidence, prior, count_tokens, budget_tokens, max_sentences or len(everything))
    blocks: dict[int, list[str]] = {}
    for index in shown:
        sentence = evidence.sentences[index]
        blocks.setdefault(sentence.document, []).append(sentence.text)
    return Packed(shown, tuple("\n".join(lines) for lines in blocks.values()), len(everything) - len(shown))


def _best(
    evidence: Evidence,
    prior: PriorScores,
    count_tokens: Callable[[str], int],
    budget_tokens: int,
    most: int,
) -> tuple[int, ...]:
    shown: list[int] = []
    left = budget_tokens
    for index in np.argsort(-prior.sentences, kind="stable"):
        cost = count_tokens(evidence.sentences[index].text) + 2
        if cost <= left:
            shown.append(int(index))
            left -= cost
        if len(shown) == most or left < 8:
            break
    if not shown:
        raise ContextOverflow(f"no sentence of the context fits in the {budget_tokens} tokens that the window leaves")
    return tuple(sorted(shown))
