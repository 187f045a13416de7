"""Put the questions to a chain, several at a time, and note what comes back and when."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import Runnable

from fourcorners.errors import EngineBusy
from fourcorners.evaluation.places import Quote
from fourcorners.evaluation.rows import Row
from fourcorners.grounding.evidence import Span
from fourcorners.grounding.segmentation import sentences as split_sentences

BUSY_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chain answered to one row. ``text`` is bare, without marks, and empty where it refused.

    ``score`` is None for an LLM that tells none; infinity where there is nothing to answer with. ``error`` says what
    went wrong; all else is then empty.
    """

    text: str = ""
    quotes: tuple[Quote, ...] = ()
    refused: bool = False
    score: float | None = None
    n_sentences: int = 0
    n_supported: int | None = None
    n_tokens: int | None = None
    first_s: float = 0.0
    total_s: float = 0.0
    error: str = ""


def put_questions(
    chain: Runnable[Any, dict[str, Any]],
    rows: Sequence[Row],
    *,
    concurrency: int,
    timeout_s: float | None,
    done: Callable[[int, Answer], None],
) -> None:
    """Ask ``chain`` (a ``grounded_chain``) all rows, so many at once; ``done`` gets each row's number and answer.

    An answer that fails is one with an ``error``, and the run goes on. KeyboardInterrupt calls off what is under way
    and is raised when that is done.
    """
    asyncio.run(_put_questions(chain, rows, concurrency, timeout_s, done))


async def _put_questions(
    chain: Runnable[Any, dict[str, Any]],
    rows: Sequence[Row],
    concurrency: int,
    timeout_s: float | None,
    done: Callable[[int, Answer], None],
) -> None:
    waiting = iter(enumerate(rows))

    async def work() -> None:
        for number, row in waiting:
            done(number, await _answer(chain, row, timeout_s))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(rows))):
            group.create_task(work())


async def _answer(chain: Runnable[Any, dict[str, Any]], row: Row, timeout_s: float | None) -> Answer:
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return await _streamed(chain, row)
                except EngineBusy:  # others use the engine too
                    await asyncio.sleep(BUSY_WAIT_S)
    except TimeoutError as error:
        return Answer(error=str(error) or f"not done after {timeout_s:g} s")
    except Exception as error:
        return Answer(error=f"{type(error).__name__}: {error}")


async def _streamed(chain: Runnable[Any, dict[str, Any]], row: Row) -> Answer:
    started = time.perf_counter()
    first = None
    reply: Any = None
    context = row.context[0] if len(row.context) == 1 else list(row.context)
    async for chunk in chain.astream({"question": row.question, "context": context}):
        reply = chunk if reply is None else reply + chunk
        if first is None and chunk.get("answer"):
            first = time.perf_counter() - started
    total = time.perf_counter() - started
    return answer_of(reply, first_s=total if first is None else first, total_s=total)


def answer_of(reply: dict[str, Any], *, first_s: float = 0.0, total_s: float = 0.0) -> Answer:
    """The ``Answer`` in a reply of ``grounded_chain``."""
    refused, score = bool(reply["refused"]), reply["score"]
    if score is None and reply["threshold"] is not None:  # an infinite one, which JSON does not have
        score = math.inf if refused else -math.inf
    sentences = reply["sentences"]
    text = " ".join(one["text"] for one in sentences) if sentences else reply["answer"]
    n_tokens = reply["usage"].get("completion_tokens", reply["usage"].get("output_tokens"))
    return Answer(
        text="" if refused else text,
        quotes=tuple(_quote(one) for one in reply["citations"]),
        refused=refused,
        score=score,
        n_sentences=0 if refused else len(sentences) or _n_sentences(text, reply),
        n_supported=sum(one["supported"] for one in sentences) if reply["guarantee"] == "verified" else None,
        n_tokens=n_tokens,
        first_s=first_s,
        total_s=total_s,
    )


def _n_sentences(text: str, reply: dict[str, Any]) -> int:
    """Spans, where the answer is made of them; a span may go over several lines."""
    return len(reply["citations"]) if reply["guarantee"] == "enforced" else len(split_sentences(text))


def _quote(citation: dict[str, Any]) -> Quote:
    places = [citation, *citation["also"]]
    return Quote(citation["quote"], tuple(Span(one["index"], one["start"], one["end"]) for one in places))


__all__ = ["Answer", "answer_of", "put_questions"]
