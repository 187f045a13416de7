"""One question set through one model: from rows to judged answers, whatever becomes of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from langchain_core.runnables import Runnable

from fourcorners.chains.answer import Llm, grounded_chain
from fourcorners.evaluation.answering import Answer, put_questions
from fourcorners.evaluation.judging import Judged, Span, judged
from fourcorners.evaluation.rows import Row
from fourcorners.grounding.evidence import GroundingOptions

Grounding = Literal["verbatim", "free", "none"]


@dataclass
class Measured:
    """The answers of one question set so far, and the seconds that they took together."""

    title: str
    answers: dict[int, Judged] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rows(self) -> list[Judged]:
        """What is done, in the order of the file."""
        return [self.answers[number] for number in sorted(self.answers)]

    def speed(self) -> dict[str, float | None]:
        """``tokens_per_s`` of all requests together; seconds to the first token of one."""
        sound = [one.answer for one in self.answers.values() if not one.answer.error]
        counts = [one.n_tokens for one in sound if one.n_tokens is not None]
        firsts = [one.first_s for one in sound]
        return {
            "seconds": self.seconds,
            "ms_per_row": 1000 * self.seconds / len(self.answers) if self.answers else None,
            "tokens_per_s": sum(counts) / self.seconds if counts and self.seconds else None,
            "first_token_s_median": float(np.median(firsts)) if firsts else None,
            "first_token_s_p95": float(np.percentile(firsts, 95)) if firsts else None,
        }


def together(measured: Sequence[Measured]) -> list[Judged]:
    """The rows of all question sets."""
    return [row for one in measured for row in one.rows]


def chain_to_measure(llm: Llm, grounding: Grounding, span: Span, max_spans: int) -> Runnable[Any, dict[str, Any]]:
    """A grounded chain that always gives its best answer, where it is a threshold that decides; that comes later."""
    threshold = math.inf if grounding == "verbatim" else None
    return grounded_chain(llm, grounding=grounding, span=span, max_spans=max_spans, threshold=threshold)


def own_threshold(llm: Llm, grounding: Grounding, span: Span) -> float | None:
    """The threshold that ``llm`` refuses by; None for one that decides otherwise."""
    told: Callable[[GroundingOptions], float] | None = getattr(llm, "refusal_threshold", None)
    return None if told is None or grounding != "verbatim" else told(GroundingOptions(span=span))


def measure(
    chain: Runnable[Any, dict[str, Any]],
    rows: Sequence[Row],
    into: Measured,
    *,
    span: Span,
    concurrency: int = 8,
    timeout_s: float | None = None,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Put all rows to ``chain`` and judge the answers as they come; what is done stays in ``into`` when this raises."""
    began = time.perf_counter()

    def done(number: int, answer: Answer) -> None:
        into.answers[number] = judged(rows[number], answer, span)
        progress()

    try:
        put_questions(chain, rows, concurrency=concurrency, timeout_s=timeout_s, done=done)
    finally:
        into.seconds += time.perf_counter() - began


__all__ = ["Grounding", "Measured", "chain_to_measure", "measure", "own_threshold", "together"]
