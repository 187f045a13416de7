"""Question and context in; the answer, or the whole reply with its citations, out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, Protocol, cast

from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, ConfigDict

from fourcorners.chains.free import FreeAnswers
from fourcorners.chains.reply import Collector, Reply, reply_tail
from fourcorners.errors import InputError, SettingsError
from fourcorners.grounding.evidence import DEFAULT_REFUSAL
from fourcorners.grounding.support import SupportCheck
from fourcorners.prompts.grounded import ContextInput, GroundedPromptTemplate, GroundedText, grounded_prompt

Llm = BaseLanguageModel[Any] | Runnable[Any, Any]


class Question(BaseModel):
    """What the answer chains take. ``context``: a text, or a list of texts or Documents in order of rank."""

    model_config = ConfigDict(title="Question", arbitrary_types_allowed=True)

    question: str
    context: ContextInput


def answer_chain(
    llm: Llm,
    grounding: Literal["verbatim", "free", "none"] = "verbatim",
    span: Literal["sentence", "phrase"] = "sentence",
    max_spans: int = 1,
    refusal: str = DEFAULT_REFUSAL,
    *,
    threshold: float | None = None,
    prior_weight: float | None = None,
    template: str | None = None,
    strict: bool = False,
    support_check: SupportCheck | None = None,
) -> Runnable[dict[str, Any], str]:
    """``{"question", "context"}`` to the answer: ``PromptTemplate | LLM | StrOutputParser``.

    With an LLM of ``init_llm`` and ``grounding="verbatim"`` the answer is, by construction, ``span``s of the context
    or exactly ``refusal``. With any other LangChain LLM or chat model it is asked for, not enforced.

    With ``grounding="free"`` the model answers in its own words, streamed by the sentence: each is checked against the
    context first, and followed by the numbers of its citations, `` [1][3]``, or by `` [unsupported]``; ``strict``
    leaves the latter out, and refuses where nothing is left. ``support_check`` is a model's opinion beside the rules of
    ``grounding.support``.

    Raises SettingsError for bad settings; the chain raises InputError for bad input and EngineError for faults.
    """
    prompt = grounded_prompt(
        template,
        grounding=grounding,
        span=span,
        max_spans=max_spans,
        refusal=refusal,
        threshold=threshold,
        prior_weight=prior_weight,
        strict=strict,
    )
    free = _free_answers(prompt, llm, support_check)
    chain: Runnable[dict[str, Any], str] = prompt | free.as_texts() if free else prompt | llm | StrOutputParser()
    return chain


def grounded_chain(
    llm: Llm,
    grounding: Literal["verbatim", "free", "none"] = "verbatim",
    span: Literal["sentence", "phrase"] = "sentence",
    max_spans: int = 1,
    refusal: str = DEFAULT_REFUSAL,
    *,
    threshold: float | None = None,
    prior_weight: float | None = None,
    template: str | None = None,
    strict: bool = False,
    support_check: SupportCheck | None = None,
) -> Runnable[dict[str, Any], dict[str, Any]]:
    """``{"question", "context"}`` to the whole ``Reply`` as a dict; settings as in ``answer_chain``.

    Streamed as dicts that add up: question and context first, then pieces of the answer, then the rest.
    """
    prompt = grounded_prompt(
        template,
        grounding=grounding,
        span=span,
        max_spans=max_spans,
        refusal=refusal,
        threshold=threshold,
        prior_weight=prior_weight,
        strict=strict,
    )
    stream = GroundedStream(prompt, llm, support_check)
    return as_chain(stream, "grounded_chain", Question)


class ReplyStream(Protocol):
    """Both ways to stream a reply."""

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        """Chunks of the reply to the (added up) inputs."""

    def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``transform``."""


def as_chain(stream: ReplyStream, name: str, input_type: type[BaseModel]) -> Runnable[Any, dict[str, Any]]:
    """``stream`` as a runnable with schemas for LangServe."""
    # RunnableGenerator takes functions with a config, but its annotation does not say so.
    chain: Runnable[Any, Any] = RunnableGenerator(
        cast("Any", stream.transform), cast("Any", stream.atransform), name=name
    )
    return chain.with_types(input_type=input_type, output_type=Reply)


class GroundedStream:
    """The steps of a grounded reply, sync and async; holds no state between calls."""

    def __init__(self, prompt: GroundedPromptTemplate, llm: Llm, support_check: SupportCheck | None = None) -> None:
        self._prompt = prompt
        self._free = _free_answers(prompt, llm, support_check)
        self._answer: Runnable[Any, str] = llm | StrOutputParser()

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        """Chunks for each input; inputs that come in chunks are added up first."""
        yield from self.reply(_merged(list(inputs)), config)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``transform``."""
        async for chunk in self.areply(_merged([chunk async for chunk in inputs]), config):
            yield chunk

    def reply(self, given: Any, config: RunnableConfig) -> Iterator[AddableDict]:
        """Chunks of one reply."""
        value = self._value(given, config)
        yield self._head(given)
        if self._free:
            yield from self._free.chunks(value, config)
            return
        collector = Collector()
        for piece in self._answer.stream(value, collector.added_to(config)):
            if piece:
                yield AddableDict(answer=collector.saw(piece))
        yield self._tail(value, collector)

    async def areply(self, given: Any, config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``reply``."""
        value = self._value(given, config)
        yield self._head(given)
        if self._free:
            async for chunk in self._free.achunks(value, config):
                yield chunk
            return
        collector = Collector()
        async for piece in self._answer.astream(value, collector.added_to(config)):
            if piece:
                yield AddableDict(answer=collector.saw(piece))
        yield self._tail(value, collector)

    def _value(self, given: Any, config: RunnableConfig) -> Any:
        return self._prompt.invoke(dict(given) if isinstance(given, BaseModel) else given, config)

    @staticmethod
    def _head(given: Any) -> AddableDict:
        values = dict(given)
        return AddableDict(question=values["question"], context=values["context"])

    @staticmethod
    def _tail(value: Any, collector: Collector) -> AddableDict:
        text = value.to_string()
        assert isinstance(text, GroundedText)
        return AddableDict(reply_tail(text.evidence, collector))


def _free_answers(prompt: GroundedPromptTemplate, llm: Llm, support_check: SupportCheck | None) -> FreeAnswers | None:
    if prompt.options.grounding == "free":
        return FreeAnswers(llm, support_check)
    if support_check is not None:
        raise SettingsError(f"support_check is for grounding='free', not {prompt.options.grounding!r}")
    return None


def _merged(chunks: list[Any]) -> Any:
    if not chunks:
        raise InputError("the input is empty: give question and context")
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged = merged + chunk
    return merged
