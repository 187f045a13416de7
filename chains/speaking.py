"""Keeping a model without turn tokens from going on as the user."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator

from fourcorners.chains.texts import atexts, texts
from fourcorners.engine.stopping import StopFilter
from fourcorners.prompts.chat_format import SPEAKERS


def base_of(llm: Any) -> Any:
    """The model behind ``bind``, ``with_config``, ``with_retry`` and ``with_fallbacks``."""
    while inner := getattr(llm, "bound", None) or getattr(llm, "runnable", None):
        llm = inner
    return llm


def without_speakers(llm: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """``llm``, its answer ended before a line such as "User:" with which it would speak for somebody else.

    A chat model is left as it is: it has turn tokens. So is an in-process model, which sees to that itself. Others are
    given stop strings, and what they write behind one all the same is left out.
    """
    base = base_of(llm)
    if isinstance(base, BaseChatModel) or hasattr(base, "follows_instructions"):
        return llm
    if isinstance(llm, BaseLLM):
        llm = llm.bind(stop=[*(getattr(llm, "stop", None) or ()), *SPEAKERS])

    def speak(values: Iterator[Any], config: RunnableConfig) -> Iterator[str]:
        for value in values:
            yield from _own_words(texts(llm, value, config))

    async def aspeak(values: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[str]:
        async for value in values:
            async for piece in _aown_words(atexts(llm, value, config)):
                yield piece

    made: Any = RunnableGenerator[Any, str]
    kept: Runnable[Any, str] = made(speak, aspeak, name="without_speakers")
    return kept


def _own_words(pieces: Iterator[str]) -> Iterator[str]:
    stop_filter = StopFilter(SPEAKERS)
    # To the end, also behind a stop string: only then the model tells what it used.
    for piece in pieces:
        if text := stop_filter.feed(piece):
            yield text
    yield stop_filter.flush()


async def _aown_words(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    stop_filter = StopFilter(SPEAKERS)
    async for piece in pieces:
        if text := stop_filter.feed(piece):
            yield text
    yield stop_filter.flush()
