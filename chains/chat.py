"""A conversation in front of the answer step: each question is made to stand alone, looked up, and answered from text.

What was said before only helps to understand the question. The answer comes from the documents found for it, so what
stands in the conversation alone is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, ConfigDict

from fourcorners.chains.answer import GroundedStream, Llm, MoreSettings, as_chain, merged, prompt_for
from fourcorners.chains.history import Conversation, conversation_of, is_question, messages_of, text_of
from fourcorners.chains.rag import as_list
from fourcorners.chains.reply import Reply
from fourcorners.chains.rewriting import Rewriting, RewrittenBy, Standalone
from fourcorners.chains.speaking import base_of, without_speakers
from fourcorners.errors import InputError, SettingsError, shortened
from fourcorners.grounding.evidence import DEFAULT_REFUSAL
from fourcorners.grounding.follow_up import Turn
from fourcorners.grounding.support import SupportCheck
from fourcorners.prompts.grounded import check_question

MAX_HISTORY_CHARS = 8_000


class ChatQuestion(BaseModel):
    """What ``chat_chain`` takes: a question and the messages before it, oldest first."""

    model_config = ConfigDict(title="ChatQuestion", arbitrary_types_allowed=True)

    question: str
    history: list[Any] = []


class ChatReply(Reply):
    """A ``Reply`` to a question of a conversation, as ``chat_chain`` returns it, as a dict.

    ``standalone_question`` is what was looked up and answered. ``rewritten_by`` says who made it of the question:
    ``nobody`` (it is the question), ``rule`` or ``model``; ``rewrite_problem`` what was wrong with a model's wording
    where the rule stepped in. ``usage`` has ``left_out_turns`` where the conversation was longer than its budget (turns
    left out, or cut), and ``rewrite`` with the tokens of the rewriting.
    """

    standalone_question: str
    rewritten_by: RewrittenBy
    rewrite_problem: str | None


def chat_chain(
    retriever: Runnable[str, Any],
    llm: Llm,
    grounding: Literal["verbatim", "free", "none"] = "verbatim",
    span: Literal["sentence", "phrase"] = "sentence",
    max_spans: int = 1,
    refusal: str = DEFAULT_REFUSAL,
    *,
    support_check: SupportCheck | None = None,
    system: str = "",
    rewrite: Literal["auto", "rule", "model"] = "auto",
    rewriter: Llm | None = None,
    max_history_chars: int = MAX_HISTORY_CHARS,
    **more: Unpack[MoreSettings],
) -> Runnable[Any, dict[str, Any]]:
    """``{"question", "history"}`` to a ``ChatReply`` as a dict; settings not named here as in ``rag_chain``.

    ``history`` is a list of LangChain messages, ``(role, text)`` or ``{"role", "content"}``; a text alone is a question
    without one, and ``{"messages"}`` or a list of messages is a conversation that ends in the question. So it runs in
    ``RunnableWithMessageHistory`` (keys ``question``, ``history``, ``answer``) and on the state of a LangGraph graph.

    A follow-up is first made to stand alone: by ``rewriter``, an LLM or runnable from a prompt to a text; else, with
    ``rewrite="model"``, by ``llm``, one more call a question; with ``"rule"`` by a rule of words. ``"auto"`` takes
    ``llm`` unless it is the bundled reader. A model's wording is checked, and where it is no question of this
    conversation, or the model fails, the rule steps in. ``system`` goes before the prompt's own instruction. The newest
    turns within ``max_history_chars`` are looked at. Streamed with the sources first.

    Raises SettingsError for bad settings; the chain raises InputError for bad input and EngineError for faults, and
    lets the retriever's own errors through.
    """
    if not isinstance(system, str):
        raise SettingsError(f"system must be a text, not {shortened(system)}")
    if not isinstance(max_history_chars, int) or max_history_chars < 0:
        raise SettingsError(f"max_history_chars must be a whole number, 0 or more, not {shortened(max_history_chars)}")
    if rewrite not in ("auto", "rule", "model"):
        raise SettingsError(f"rewrite must be 'auto', 'rule' or 'model', not {shortened(rewrite)}")
    if rewrite == "rule" and rewriter is not None:
        raise SettingsError("rewrite='rule' asks no model: leave out the rewriter, or rewrite")
    prompt = prompt_for(llm, grounding=grounding, span=span, max_spans=max_spans, refusal=refusal, **more)
    asks_llm = rewrite == "model" or (rewrite == "auto" and getattr(base_of(llm), "follows_instructions", True))
    rewriting = Rewriting(rewriter if rewriter is not None else llm if asks_llm else None)
    answer = GroundedStream(prompt, without_speakers(llm), support_check)
    stream = _ChatStream(retriever, answer, rewriting, system, refusal, max_history_chars)
    return as_chain(stream, "chat_chain", ChatQuestion)


@dataclass
class _ChatStream:
    retriever: Runnable[str, Any]
    answer: GroundedStream
    rewriting: Rewriting
    system: str
    refusal: str
    max_history_chars: int
    reply_type: type[Reply] = ChatReply

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        question, conversation = self._understood(list(inputs))
        made = self.rewriting.standalone(question, conversation, config)
        found = self.retriever.invoke(made.question, config)
        for chunk in self.answer.reply(self._given(made, conversation, found), config):
            yield _told(chunk, question, made, conversation)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        question, conversation = self._understood([chunk async for chunk in inputs])
        made = await self.rewriting.astandalone(question, conversation, config)
        found = await self.retriever.ainvoke(made.question, config)
        async for chunk in self.answer.areply(self._given(made, conversation, found), config):
            yield _told(chunk, question, made, conversation)

    def _understood(self, chunks: list[Any]) -> tuple[str, Conversation]:
        question, history = question_and_history(merged(chunks))
        conversation = conversation_of(history, self.max_history_chars)
        # What was refused told nothing, and its words are about nothing.
        turns = [Turn(t.question, "" if t.answer.strip() == self.refusal else t.answer) for t in conversation.turns]
        return question, Conversation(tuple(turns), conversation.n_left_out)

    def _given(self, made: Standalone, conversation: Conversation, found: Any) -> dict[str, Any]:
        given = {"question": made.question, "context": as_list(found)}
        return given | {"system": self.system, "history": conversation.as_text()}


def _told(chunk: AddableDict, question: str, made: Standalone, conversation: Conversation) -> AddableDict:
    """The answer step's chunk with the user's own question, and what was made of it."""
    if "question" in chunk:
        by = {"rewritten_by": made.rewritten_by, "rewrite_problem": made.problem}
        return AddableDict({**chunk, "question": question, "standalone_question": made.question, **by})
    if "usage" in chunk:
        more: dict[str, Any] = {"left_out_turns": conversation.n_left_out} if conversation.n_left_out else {}
        more |= {"rewrite": made.usage} if made.usage else {}
        return AddableDict({**chunk, "usage": {**chunk["usage"], **more}})
    return chunk


def question_and_history(given: Any) -> tuple[str, Any]:
    """The question and the history of an input in any of the forms that ``chat_chain`` takes. Raises InputError."""
    if isinstance(given, BaseModel) and not isinstance(given, BaseMessage):
        given = dict(given)
    if isinstance(given, str | BaseMessage):
        return _question(given), None
    if isinstance(given, list | tuple):
        return _last_question(given)
    if isinstance(given, Mapping) and "question" in given:
        question, history = given["question"], given.get("history")
        if isinstance(question, list | tuple):  # from RunnableWithMessageHistory without a key for the history
            return _last_question([*messages_of(history), *question])
        return _question(question), history
    if isinstance(given, Mapping) and "messages" in given:
        return _last_question(given["messages"])
    raise InputError(f"the input must be {{'question', 'history'}}, a question or messages, not {shortened(given)}")


def _last_question(items: Any) -> tuple[str, list[BaseMessage]]:
    messages = messages_of(items)
    if not messages or not is_question(messages[-1]):
        raise InputError(f"the last of the messages must be the user's question, not {shortened(items)}")
    return _question(messages[-1]), messages[:-1]


def _question(given: Any) -> str:
    if isinstance(given, BaseMessage):
        blocks = given.content if isinstance(given.content, list) else []
        other = [block.get("type") for block in blocks if isinstance(block, dict) and block.get("type") != "text"]
        if other:
            raise InputError(f"a question can only be a text, but it has a block of type {shortened(other[0])}")
        if not is_question(given):
            raise InputError(f"the question must be a user's message, not one of type {given.type!r}")
        given = text_of(given)
    return check_question(given)


__all__ = ["ChatQuestion", "ChatReply", "chat_chain"]
