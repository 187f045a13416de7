"""Question and context in; the answer, or the whole reply with its citations, out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, Protocol, TypedDict, Unpack, cast

from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, ConfigDict

from fourcorners.chains.free import FreeAnswers
from fourcorners.chains.json_safe import as_given
from fourcorners.chains.reply import Collector, Reply, reply_tail
from fourcorners.chains.texts import atexts, texts
from fourcorners.errors import InputError, SettingsError
from fourcorners.grounding.evidence import DEFAULT_REFUSAL
from fourcorners.grounding.support import SupportCheck
from fourcorners.llms.counting import token_counter
from fourcorners.prompts.grounded import ContextInput, GroundedPromptTemplate, GroundedText, grounded_prompt

Llm = BaseLanguageModel[Any] | Runnable[Any, Any]


class Question(BaseModel):
    """What the answer chains take. ``context``: a text, or a list of texts or Documents in order of rank."""

    model_config = ConfigDict(title="Question", arbitrary_types_allowed=True)

    question: str
    context: ContextInput


class MoreSettings(TypedDict, total=False):
    """Settings that the chains have in common beside their first; see ``GroundingOptions`` and ``grounded_prompt``."""

    threshold: float | None
    prior_weight: float | None
    packing: Literal["window", "rank", "error"]
    context_tokens: int | None
    contradictions: Literal["show", "ignore"]
    strict: bool
    template: str | None


def prompt_for(llm: Llm, **settings: Any) -> GroundedPromptTemplate:
    """A grounded prompt that counts tokens as ``llm`` does. Raises SettingsError, also for unknown settings."""
    return grounded_prompt(count_tokens=token_counter(llm), **settings)


def answer_chain(
    llm: Llm,
    grounding: Literal["verbatim", "free", "none"] = "verbatim",
    span: Literal["sentence", "phrase"] = "sentence",
    max_spans: int = 1,
    refusal: str = DEFAULT_REFUSAL,
    *,
    support_check: SupportCheck | None = None,
    schema: type[BaseModel] | None = None,
    **more: Unpack[MoreSettings],
) -> Runnable[dict[str, Any], Any]:
    """``{"question", "context"}`` to the answer: ``PromptTemplate | LLM | StrOutputParser``.

    With an LLM of ``init_llm`` and ``grounding="verbatim"`` the answer is, by construction, ``span``s of the context
    or exactly ``refusal``. With any other LangChain LLM or chat model it is asked for, not enforced. An answer that
    another document contradicts is followed by the contradicting span, beyond ``max_spans``, unless
    ``contradictions="ignore"``. ``packing`` says what is shown of documents that do not fit in the model's window, or
    in ``context_tokens``; an LLM that is not of ``init_llm`` is shown all where that is None.

    With ``grounding="free"`` the model answers in its own words, streamed by the sentence: each is checked against the
    context first, and followed by the numbers of its citations, `` [1][3]``, or by `` [unsupported]``; ``strict``
    leaves the latter out, and refuses where nothing is left. ``support_check`` is a model's opinion beside the rules of
    ``grounding.support``.

    With ``schema``, a pydantic model, the answer is an instance of it, or None where the context lacks something that
    it requires. Each text in it is a run of whole words of one document, each number and date one that stands there;
    what is not there is None. Only enums, ``Literal`` and ``bool`` are the model's own choice. It comes in one piece;
    ``span``, ``max_spans`` and ``max_new_tokens`` do not matter to it. An LLM that is not of ``init_llm`` is asked for
    JSON; what does not stand in the context is taken out, and AnswerFormatError raised where it is no JSON.

    Raises SettingsError for bad settings; the chain raises InputError for bad input (ContextOverflow for too much of
    it) and EngineError for faults.
    """
    prompt = prompt_for(
        llm, schema=schema, grounding=grounding, span=span, max_spans=max_spans, refusal=refusal, **more
    )
    free = free_answers(prompt, llm, support_check)
    if schema is not None:
        from fourcorners.chains.fields import FieldsStream, model_chain  # it builds on this module

        return model_chain(FieldsStream(prompt, llm), schema)
    chain: Runnable[dict[str, Any], str] = prompt | free.as_texts() if free else prompt | llm | StrOutputParser()
    return chain


def grounded_chain(
    llm: Llm,
    grounding: Literal["verbatim", "free", "none"] = "verbatim",
    span: Literal["sentence", "phrase"] = "sentence",
    max_spans: int = 1,
    refusal: str = DEFAULT_REFUSAL,
    *,
    support_check: SupportCheck | None = None,
    schema: type[BaseModel] | None = None,
    **more: Unpack[MoreSettings],
) -> Runnable[dict[str, Any], dict[str, Any]]:
    """``{"question", "context"}`` to the whole ``Reply`` as a dict; settings as in ``answer_chain``.

    Streamed as dicts that add up: question and context first, then pieces of the answer, then the rest. With ``schema``
    it is a ``FilledReply``, and comes in two pieces.
    """
    prompt = prompt_for(
        llm, schema=schema, grounding=grounding, span=span, max_spans=max_spans, refusal=refusal, **more
    )
    return as_chain(grounded_stream(prompt, llm, support_check), "grounded_chain", Question)


class ReplyStream(Protocol):
    """Both ways to stream a reply."""

    reply_type: type[Reply]

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        """Chunks of the reply to the (added up) inputs."""

    def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``transform``."""


def grounded_stream(
    prompt: GroundedPromptTemplate, llm: Llm, support_check: SupportCheck | None = None
) -> GroundedStream:
    """The steps that fit ``prompt``: it may have a schema or not."""
    if prompt.form is None:
        return GroundedStream(prompt, llm, support_check)
    from fourcorners.chains.fields import FieldsStream  # it builds on this module

    return FieldsStream(prompt, llm)


def as_chain(stream: ReplyStream, name: str, input_type: type[BaseModel]) -> Runnable[Any, dict[str, Any]]:
    """``stream`` as a runnable with schemas for LangServe."""
    # RunnableGenerator takes functions with a config, but its annotation does not say so.
    chain: Runnable[Any, Any] = RunnableGenerator(
        cast("Any", stream.transform), cast("Any", stream.atransform), name=name
    )
    return chain.with_types(input_type=input_type, output_type=stream.reply_type)


class GroundedStream:
    """The steps of a grounded reply, sync and async; holds no state between calls."""

    reply_type: type[Reply] = Reply

    def __init__(self, prompt: GroundedPromptTemplate, llm: Llm, support_check: SupportCheck | None = None) -> None:
        self._prompt = prompt
        self._free = free_answers(prompt, llm, support_check)
        self._llm = llm

    def transform(self, inputs: Iterator[Any], config: RunnableConfig) -> Iterator[AddableDict]:
        """Chunks for each input; inputs that come in chunks are added up first."""
        yield from self.reply(merged(list(inputs)), config)

    async def atransform(self, inputs: AsyncIterator[Any], config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``transform``."""
        async for chunk in self.areply(merged([chunk async for chunk in inputs]), config):
            yield chunk

    def reply(self, given: Any, config: RunnableConfig) -> Iterator[AddableDict]:
        """Chunks of one reply."""
        value = self._value(given, config)
        yield self._head(given)
        if self._free:
            yield from self._free.chunks(value, config)
            return
        collector = Collector()
        for piece in texts(self._llm, value, collector.added_to(config)):
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
        async for piece in atexts(self._llm, value, collector.added_to(config)):
            if piece:
                yield AddableDict(answer=collector.saw(piece))
        yield self._tail(value, collector)

    def _value(self, given: Any, config: RunnableConfig) -> Any:
        return self._prompt.invoke(dict(given) if isinstance(given, BaseModel) else given, config)

    @staticmethod
    def _head(given: Any) -> AddableDict:
        values = dict(given)
        return AddableDict(question=values["question"], context=as_given(values["context"]))

    @staticmethod
    def _tail(value: Any, collector: Collector) -> AddableDict:
        text = value.to_string()
        assert isinstance(text, GroundedText)
        return AddableDict(reply_tail(text.evidence, collector, text.packed))


def free_answers(prompt: GroundedPromptTemplate, llm: Llm, support_check: SupportCheck | None) -> FreeAnswers | None:
    """The check of free answers, where ``prompt`` asks for one. Raises SettingsError for a check that nobody asks."""
    if prompt.options.grounding == "free":
        return FreeAnswers(llm, support_check)
    if support_check is not None:
        raise SettingsError(f"support_check is for grounding='free', not {prompt.options.grounding!r}")
    return None


def merged(chunks: list[Any]) -> Any:
    """Inputs that came in chunks as one. Raises InputError where there is none."""
    if not chunks:
        raise InputError("the input is empty: give a question")
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole
