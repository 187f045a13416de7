"""The answer step as a node of a LangGraph graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    merge_configs,
)

from fourcorners.chains.sources import sources_text
from fourcorners.errors import InputError, shortened

_NOT_SHOWN = "nostream"
"""LangGraph's tag for models whose tokens it keeps to itself: those of the chain's model are shown once, by us."""


def answer_node(
    chain: Runnable[Any, Any],
    *,
    question_key: str | None = None,
    messages_key: str = "messages",
    reply_key: str = "reply",
    name: str = "answer",
) -> Runnable[Any, dict[str, Any]]:
    """A node that answers with ``chain`` (``{"question"}`` to a ``Reply``, such as ``rag_chain``).

    The question is ``state[question_key]``. Where no key is given it is the last message if that is a person's, else
    ``state["question"]``, else the last message of a person. The update holds an AIMessage (the answer, then its
    sources) under ``messages_key`` and the whole reply under ``reply_key``; LangGraph drops what the graph's state has
    no place for. In ``stream_mode="messages"`` the answer comes in pieces. Faults are raised, InputError for a state
    without a question.
    """
    node = _Node(chain, question_key, messages_key, reply_key, name)
    made: Runnable[Any, dict[str, Any]] = RunnableLambda(node.run, afunc=node.arun, name=name)
    return made


class _Node:
    def __init__(
        self, chain: Runnable[Any, Any], question_key: str | None, messages_key: str, reply_key: str, name: str
    ) -> None:
        self._chain, self._name = chain, name
        self._question_key, self._messages_key, self._reply_key = question_key, messages_key, reply_key

    def run(self, state: Any, config: RunnableConfig) -> dict[str, Any]:
        """The update to ``state``."""
        question, answer = self._question(state), _Answer()
        # Told to LangChain as a chat model's run, because that is what its streams of messages listen to.
        (run,) = get_callback_manager_for_config(config).on_chat_model_start(
            {"name": self._name}, [[HumanMessage(question)]], name=self._name
        )
        try:
            for chunk in self._chain.stream({"question": question}, _shown_once(config)):
                if piece := answer.add(chunk):
                    run.on_llm_new_token(piece, chunk=answer.chunk(piece))
            if rest := answer.sources():
                run.on_llm_new_token(rest, chunk=answer.chunk(rest))
        except BaseException as error:
            run.on_llm_error(error)
            raise
        run.on_llm_end(answer.result())
        return self._update(answer)

    async def arun(self, state: Any, config: RunnableConfig) -> dict[str, Any]:
        """As ``run``."""
        question, answer = self._question(state), _Answer()
        (run,) = await get_async_callback_manager_for_config(config).on_chat_model_start(
            {"name": self._name}, [[HumanMessage(question)]], name=self._name
        )
        try:
            async for chunk in self._chain.astream({"question": question}, _shown_once(config)):
                if piece := answer.add(chunk):
                    await run.on_llm_new_token(piece, chunk=answer.chunk(piece))
            if rest := answer.sources():
                await run.on_llm_new_token(rest, chunk=answer.chunk(rest))
        except BaseException as error:
            await run.on_llm_error(error)
            raise
        await run.on_llm_end(answer.result())
        return self._update(answer)

    def _update(self, answer: _Answer) -> dict[str, Any]:
        return {self._messages_key: [answer.message()], self._reply_key: answer.reply}

    def _question(self, state: Any) -> str:
        if self._question_key is not None:
            found = _value(state, self._question_key)
            if not isinstance(found, str):
                raise InputError(f"state[{self._question_key!r}] must be a question, not {shortened(found)}")
            return found
        messages = _messages(_value(state, self._messages_key), self._messages_key)
        question = _value(state, "question")
        persons = [message for message in messages if isinstance(message, HumanMessage)]
        if isinstance(question, str) and not (messages and isinstance(messages[-1], HumanMessage)):
            return question
        if not persons:
            raise InputError(
                f"the state has no question: give a message of a person in {self._messages_key!r}, or a text in "
                f"'question', not {shortened(state)}"
            )
        return str(persons[-1].text)


class _Answer:
    """An answer as it comes in."""

    def __init__(self) -> None:
        self._id, self._text, self._reply = str(uuid4()), "", dict[str, Any]()

    @property
    def reply(self) -> dict[str, Any]:
        """The whole reply, as a plain dict that a checkpointer can keep."""
        return dict(self._reply)

    def add(self, chunk: Any) -> str:
        """Take a chunk of the reply; the piece of the answer that it brought."""
        if not isinstance(chunk, Mapping):
            raise InputError(f"the chain of the node must return a reply, as rag_chain does, not {shortened(chunk)}")
        self._reply = self._reply + chunk if self._reply else chunk  # type: ignore[operator,assignment]
        piece = str(chunk.get("answer") or "")
        self._text += piece
        return piece

    def sources(self) -> str:
        """The text behind the answer, once the answer is complete."""
        listed = sources_text(self._reply) if self._reply.get("citations") else ""
        rest = f"\n\nSources:\n{listed}" if listed else ""
        self._text += rest
        return rest

    def chunk(self, piece: str) -> ChatGenerationChunk:
        """``piece`` as LangChain streams it; the id is that of the message, which is then not shown twice."""
        return ChatGenerationChunk(message=AIMessageChunk(content=piece, id=self._id))

    def message(self) -> AIMessage:
        """The whole text, with what it is worth in ``response_metadata``."""
        told = {key: self._reply.get(key) for key in ("citations", "refused", "score", "threshold", "guarantee")}
        return AIMessage(content=self._text, id=self._id, response_metadata=told)

    def result(self) -> LLMResult:
        """For LangChain's callbacks."""
        return LLMResult(generations=[[ChatGeneration(message=self.message())]])


def _shown_once(config: RunnableConfig) -> RunnableConfig:
    return merge_configs(config, {"tags": [_NOT_SHOWN]})


def _value(state: Any, key: str) -> Any:
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)


def _messages(found: Any, key: str) -> Sequence[Any]:
    if found is None:
        return []
    try:
        return convert_to_messages(found if isinstance(found, list | tuple) else [found])
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InputError(f"state[{key!r}] must be messages, not {shortened(found)}: {error}") from error
