"""The answer step as a tool that an agent calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langchain_core.tools import StructuredTool, ToolException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fourcorners.chains.answer import Llm
from fourcorners.chains.rag import rag_chain
from fourcorners.chains.sources import reply_text
from fourcorners.errors import ContextOverflow, InputError, SettingsError, shortened
from fourcorners.grounding.evidence import GroundingOptions
from fourcorners.prompts.grounded import make_evidence

TOOL_NAME = "answer_from_documents"
TOOL_DESCRIPTION = (
    "Answers a question from the documents at hand and from nothing else: quotes with numbered sources, or the "
    "statement that the documents do not say it. Ask one complete question at a time."
)
_REPLY = {"answer", "citations", "context", "guarantee", "refused"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""What all makers of models take: OpenAI and Anthropic no other characters, Gemini no digit at the beginning."""


class ToolQuestion(BaseModel):
    """The arguments of the tool."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(
        description="A complete question that can be understood by itself, in the words that the documents would use."
    )

    @field_validator("question")
    @classmethod
    def _can_be_asked(cls, value: str) -> str:
        make_evidence(value, [], GroundingOptions())
        return value


def answer_tool(
    source: Runnable[Any, Any],
    llm: Llm | None = None,
    *,
    name: str = TOOL_NAME,
    description: str = TOOL_DESCRIPTION,
    **options: Any,
) -> StructuredTool:
    """A tool that answers ``question``: with an ``llm`` from the retriever ``source``, else by the chain ``source``.

    ``options`` are those of ``rag_chain``. A chain takes ``{"question"}`` and returns a ``Reply`` as a dict. What the
    agent's model reads is the answer with numbered sources, or that the documents do not say it; the message's
    ``artifact`` is the whole reply. Bad arguments, and a question too long for the model, come back as a message that
    tells the agent what to change; faults of the retriever and the engine are raised. Raises SettingsError.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"name={shortened(name)} is no name for a tool: use up to 64 letters, digits, _ and -, no digit first"
        )
    if not description.strip():
        raise SettingsError(f"description={description!r} is empty: say what the documents are about")
    if llm is None and (options or isinstance(source, BaseRetriever)):
        given = f"the settings {sorted(options)}" if options else f"the retriever {type(source).__name__}"
        raise SettingsError(f"{given} need an llm: answer_tool(retriever, llm, …); a chain has its own settings")
    asker = _Asker(source if llm is None else rag_chain(source, llm, **options), name)
    return StructuredTool.from_function(
        asker.ask,
        asker.aask,
        name=name,
        description=description,
        args_schema=ToolQuestion,
        response_format="content_and_artifact",
        handle_validation_error=_what_to_change,
        handle_tool_error=True,
    )


class _Asker:
    def __init__(self, chain: Runnable[Any, Any], name: str) -> None:
        self._chain, self._name = chain, name

    def ask(self, question: str) -> tuple[str, dict[str, Any]]:
        """Content and artifact."""
        with self._told_apart():
            return self._result(self._chain.invoke({"question": question}))

    async def aask(self, question: str) -> tuple[str, dict[str, Any]]:
        """As ``ask``."""
        with self._told_apart():
            return self._result(await self._chain.ainvoke({"question": question}))

    def _result(self, reply: Any) -> tuple[str, dict[str, Any]]:
        if not isinstance(reply, Mapping) or not reply.keys() >= _REPLY:
            raise InputError(
                f"the chain behind {self._name!r} must return a reply, as rag_chain does, not {shortened(reply)}"
            )
        return reply_text(reply), dict(reply)

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """What the agent can mend becomes a message for it; a fault must not look as if its arguments were wrong."""
        try:
            yield
        except ContextOverflow as error:
            raise ToolException(str(error)) from error
        except ValidationError as error:
            raise RuntimeError(f"the chain behind the tool {self._name!r} failed: {error}") from error


def _what_to_change(error: Any) -> str:
    problems = [
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False)
    ]
    return f'Not asked: {"; ".join(problems)}. Call it again with {{"question": "…"}}.'
