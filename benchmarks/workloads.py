"""The workloads that are sent over HTTP, and what is measured in each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.load import Answer, Ask, Asker, spread
from benchmarks.prompts import SHORT_PROMPT_TOKENS, Texts

ANSWER_TOKENS = 48
STREAM_TOKENS = 128
STREAMS = 3
"""Streams of W1 in a round, one after the other: a single one is over in less than a second."""

NewClient = Callable[[], Asker]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a workload; ``higher`` is better or lower."""

    key: str
    workload: str
    title: str
    unit: str
    higher: bool = True


METRICS = (
    Metric("W1 decode", "W1", "one stream, decode", "tokens/s"),
    Metric("W1 first", "W1", "one stream, first token", "ms", higher=False),
    Metric("W2", "W2", "one context, 16 questions, 8 clients", "answers/s"),
    Metric("W2b", "W2b", "one context, 32 questions, 16 clients", "answers/s"),
    Metric("W3", "W3", "8 contexts x 4 questions in turn, one client", "answers/s"),
    Metric("W3 cold", "W3", "first token, new context", "ms", higher=False),
    Metric("W3 again", "W3", "first token, context that comes back", "ms", higher=False),
    Metric("W4", "W4", "16 contexts, 8 clients", "answers/s"),
)


@dataclass(slots=True)
class Outcome:
    """One run of a workload. Where an answer is not complete, no figure stands."""

    figures: dict[str, float] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


async def warm_up(new_client: NewClient, texts: Texts, key: str) -> list[str]:
    """Let the server touch all of its memory and code, alone and in company; the faults met."""
    asks = [Ask(prompt, 16) for prompt in texts.prompts(f"{key}/warm-up", 9)]
    alone, _ = await spread(new_client, asks[:1], 1)
    company, _ = await spread(new_client, asks[1:], 8)
    return [answer.fault for answer in alone + company if answer.fault]


async def _w1(new_client: NewClient, texts: Texts, key: str) -> Outcome:
    asks = [Ask(texts.context(f"{key}/{n}", SHORT_PROMPT_TOKENS), STREAM_TOKENS) for n in range(STREAMS)]
    answers, _ = await spread(new_client, asks, 1)
    return _outcome(
        answers,
        lambda: {
            "W1 decode": (STREAM_TOKENS - 1) / median(answer.last_s - answer.first_s for answer in answers),
            "W1 first": 1000 * median(answer.first_s for answer in answers),
        },
    )


async def _w2(new_client: NewClient, texts: Texts, key: str) -> Outcome:
    asks = [Ask(prompt, ANSWER_TOKENS) for prompt in texts.prompts(key, 16)]
    answers, taken = await spread(new_client, asks, 8)
    return _outcome(answers, lambda: {"W2": len(asks) / taken})


async def _w2b(new_client: NewClient, texts: Texts, key: str) -> Outcome:
    asks = [Ask(prompt, ANSWER_TOKENS) for prompt in texts.prompts(key, 32)]
    answers, taken = await spread(new_client, asks, 16)
    return _outcome(answers, lambda: {"W2b": len(asks) / taken})


async def _w3(new_client: NewClient, texts: Texts, key: str) -> Outcome:
    contexts = [texts.prompts(f"{key}/{n}", 4) for n in range(8)]
    asks = [Ask(prompts[turn], ANSWER_TOKENS) for turn in range(4) for prompts in contexts]
    answers, taken = await spread(new_client, asks, 1)
    return _outcome(
        answers,
        lambda: {
            "W3": len(asks) / taken,
            "W3 cold": 1000 * median(answer.first_s for answer in answers[:8]),
            "W3 again": 1000 * median(answer.first_s for answer in answers[8:]),
        },
    )


async def _w4(new_client: NewClient, texts: Texts, key: str) -> Outcome:
    asks = [Ask(texts.prompts(f"{key}/{n}", 1)[0], ANSWER_TOKENS) for n in range(16)]
    answers, taken = await spread(new_client, asks, 8)
    return _outcome(answers, lambda: {"W4": len(asks) / taken})


def _outcome(answers: Sequence[Answer], figures: Callable[[], dict[str, float]]) -> Outcome:
    faults = [answer.fault for answer in answers if answer.fault]
    return Outcome({} if faults else figures(), [answer.text for answer in answers], faults)


WORKLOADS: dict[str, Callable[[NewClient, Texts, str], Coroutine[Any, Any, Outcome]]] = {
    "W1": _w1,
    "W2": _w2,
    "W2b": _w2b,
    "W3": _w3,
    "W4": _w4,
}
"""Each takes a maker of clients, the texts and the key of the round."""
