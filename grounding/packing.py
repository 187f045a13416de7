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
    one sentence fits. A sentence of more than half the budget is shown in part; it can still be quoted whole.
    """
    texts = [document.text for document in evidence.documents]
    everything = tuple(range(len(evidence.sentences)))
    if max_sentences is None and sum(map(len, texts)) <= budget_tokens * MAX_CHARS_PER_TOKEN:
        used = sum(count_tokens(text) + 2 for text in texts)
        if used <= budget_tokens:
            return Packed(everything, tuple(text.strip("\r\n") for text in texts if text.strip()), 0)
    views = _best(evidence, prior, count_tokens, budget_tokens, max_sentences or len(everything))
    blocks: dict[int, list[str]] = {}
    for index in sorted(views):
        blocks.setdefault(evidence.sentences[index].document, []).append(views[index])
    shown = tuple(sorted(views))
    return Packed(shown, tuple("\n".join(lines) for lines in blocks.values()), len(everything) - len(shown))


def _best(
    evidence: Evidence,
    prior: PriorScores,
    count_tokens: Callable[[str], int],
    budget_tokens: int,
    most: int,
) -> dict[int, str]:
    """The distinct sentences to show, best first, each with as much of its text as is shown."""
    views: dict[int, str] = {}
    seen: set[str] = set()
    left, limit = budget_tokens, budget_tokens // 2
    for index in np.argsort(-prior.sentences, kind="stable"):
        text = evidence.sentences[index].text
        if text in seen:
            continue
        seen.add(text)
        cost = count_tokens(text) + 2
        while cost > limit and len(text) > 1:
            text = text[: max(1, len(text) * limit // cost - 1)]
            cost = count_tokens(text) + 2
        if cost <= left:
            views[int(index)] = text
            left -= cost
        if len(views) == most or left < 8:
            break
    if not views:
        raise ContextOverflow(f"no sentence of the context fits in the {budget_tokens} tokens that the window leaves")
    return views
