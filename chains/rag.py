"""A retriever in front of the answer step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Literal, Unpack

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel

from fourcorners.chains.answer import GroundedStream, Llm, MoreSettings, as_chain, grounded_stream, prompt_for
from fourcorners.errors import InputError, shortened
from fourcorners.grounding.evidence import DEFAULT_REFUSAL
from fourcorners.grounding.support import SupportCheck


class RagQuestion(BaseModel):
    """What ``rag_chain`` takes, beside a plain text."""

    question: str


def rag_chain(
    retriever: Runnable[str, Any],
    llm: Llm,
    grounding: Literal["verbatim", "free", "none"] = "verbatim",
    span: Literal["sentence", "phrase"] = "sentence",
    max_spans: int = 1,
    refusal: str = DEFAULT_REFUSAL,
    *,
    support_check: SupportCheck | None = None,
    schema: type[BaseModel] | None = None,
    **more: Unpack[MoreSettings],
) -> Runnable[Any, dict[str, Any]]:
    """A question (a text, or ``{"question"}``) to the whole ``Reply``; settings as in ``answer_chain``.

    ``retriever`` is any LangChain retriever, or any runnable from a text to a list of Documents. Streamed with the
    sources first, so that a page can show them before the answer. What the retriever raises comes through as it is.
    """
    prompt = prompt_for(
        llm, schema=schema, grounding=grounding, span=span, max_spans=max_spans, refusal=refusal, **more
    )
    stream = _RagStream(retriever, grounded_stream(prompt, llm, support_check))
    return as_chain(stream, "rag_chain", RagQuestion)


class _RagStream:
    def __init__(self, retriever: Runnable[str, Any], answer: GroundedStream) -> None:
        self._retriever, self._answer = retriever, answer
        self.reply_type = answer.reply_type

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        question = _question(list(inputs))
        documents = self._retriever.invoke(question, config)
        yield from self._answer.reply({"question": question, "context": as_list(documents)}, config)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        question = _question([chunk async for chunk in inputs])
        documents = await self._retriever.ainvoke(question, config)
        async for chunk in self._answer.areply({"question": question, "context": as_list(documents)}, config):
            yield chunk


def as_list(found: Any) -> Any:
    """What a retriever returned; one text or Document counts as one, anything odd is left for the prompt to refuse."""
    if isinstance(found, Iterable) and not isinstance(found, str | Document | Mapping):
        return list(found)
    return found


def _question(chunks: list[Any]) -> str:
    if not chunks:
        raise InputError("the input is empty: give a question")
    given = chunks[0]
    for chunk in chunks[1:]:
        given = given + chunk
    if isinstance(given, BaseModel):
        given = dict(given)
    if isinstance(given, dict):
        given = given.get("question")
    if not isinstance(given, str):
        raise InputError(f"the input must be a question, a text or {{'question': text}}, not {shortened(given)}")
    return given
