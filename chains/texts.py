"""The texts that an LLM or chat model streams, in a way that stops it when nobody reads on.

``llm | StrOutputParser()`` would do but for one thing: LangChain reads the stream of a sequence to its end when that is
closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig


def texts(llm: Runnable[Any, Any], value: Any, config: RunnableConfig) -> Iterator[str]:
    """The pieces of its answer; to close the iterator closes the LLM's own stream."""
    with closing(llm.stream(value, config)) as pieces:  # type: ignore[type-var]
        for piece in pieces:
            yield _text_of(piece)


async def atexts(llm: Runnable[Any, Any], value: Any, config: RunnableConfig) -> AsyncIterator[str]:
    """As ``texts``."""
    async with aclosing(llm.astream(value, config)) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            yield _text_of(piece)


def _text_of(piece: Any) -> str:
    return str(piece.text) if isinstance(piece, BaseMessage) else str(piece)
