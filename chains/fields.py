"""Structured answers: question and context in; an instance of a pydantic model out, each value with its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, Field

from fourcorners.chains.answer import GroundedStream
from fourcorners.chains.reply import Collector, Guarantee, Quote, Reply, reply_tail
from fourcorners.chains.texts import atexts, texts
from fourcorners.errors import AnswerFormatError, shortened
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.filled import FilledForm, form_details, nothing_filled
from fourcorners.grounding.form_check import check_form, json_object
from fourcorners.prompts.grounded import GroundedText


class FieldQuote(Quote):
    """Where the value of a field stands, and how that was made sure."""

    guarantee: Guarantee


class FreeChoice(BaseModel):
    """The model chose one of the values that the schema allows; no place in the context backs it."""

    guarantee: Literal["schema"]


class FilledReply(Reply):
    """The reply to a question with a schema.

    ``answer`` is JSON, or the refusal; ``result`` the same as validated by the schema, or None. ``fields`` has each
    value's place by its path (``items[0].price``), None for null. ``missing`` lists what the schema requires and the
    context does not have, ``invalid`` values that were left out, with the reason. An item of a list that lacks
    something required is left out.
    """

    result: dict[str, Any] | None
    fields: dict[str, FieldQuote | FreeChoice | None] = Field(default_factory=dict)
    missing: list[str] = Field(default_factory=list)
    invalid: dict[str, str] = Field(default_factory=dict)


def model_chain(stream: FieldsStream, schema: type[BaseModel]) -> Runnable[dict[str, Any], Any]:
    """The chain to an instance of ``schema``, or None where the documents do not fill it."""

    def invoke(given: Any, config: RunnableConfig) -> BaseModel | None:
        return _instance(list(stream.reply(given, config)), schema)

    async def ainvoke(given: Any, config: RunnableConfig) -> BaseModel | None:
        return _instance([chunk async for chunk in stream.areply(given, config)], schema)

    chain: Runnable[dict[str, Any], Any] = RunnableLambda(invoke, ainvoke, name="answer_chain")
    return chain.with_types(output_type=schema | None)  # type: ignore[arg-type]


class FieldsStream(GroundedStream):
    """The steps of a structured reply: question and context first, all else at once when it is known."""

    reply_type: type[Reply] = FilledReply

    def reply(self, given: Any, config: RunnableConfig) -> Iterator[AddableDict]:
        """Two chunks."""
        value = self._value(given, config)
        yield self._head(given)
        collector = Collector()
        if (nothing := _nothing(value)) is not None:
            yield nothing
            return
        for piece in texts(self._llm, value, collector.added_to(config)):
            collector.saw(piece)
        yield self._tail(value, collector)

    async def areply(self, given: Any, config: RunnableConfig) -> AsyncIterator[AddableDict]:
        """As ``reply``."""
        value = self._value(given, config)
        yield self._head(given)
        collector = Collector()
        if (nothing := _nothing(value)) is not None:
            yield nothing
            return
        async for piece in atexts(self._llm, value, collector.added_to(config)):
            collector.saw(piece)
        yield self._tail(value, collector)

    @staticmethod
    def _tail(value: Any, collector: Collector) -> AddableDict:
        text = value.to_string()
        assert isinstance(text, GroundedText)
        if "fields" not in collector.info:
            checked = _checked(text.evidence, collector.answer)
            collector.info = checked | collector.info | {"guarantee": "verified"}
            collector.answer = checked["answer"]
        details = {name: collector.info[name] for name in ("result", "fields", "missing", "invalid")}
        return AddableDict({**reply_tail(text.evidence, collector), **details, "answer": collector.answer})


def _nothing(value: Any) -> AddableDict | None:
    """The refusal, where there is no context to look in: then no model is asked."""
    evidence = value.to_string().evidence
    if evidence.sentences:
        return None
    said = {"answer": evidence.options.refusal, "citations": [], "refused": True, "guarantee": "enforced"}
    return AddableDict(
        {
            **said,
            "score": None,
            "threshold": None,
            "sentences": [],
            "left_out": [],
            "usage": {},
            **nothing_filled(evidence.form),
        }
    )


def _checked(evidence: Evidence, answer: str) -> dict[str, Any]:
    """For an LLM that enforces nothing: what of its JSON stands in the context. Raises AnswerFormatError."""
    form, refusal = evidence.form, evidence.options.refusal
    assert form is not None
    data = json_object(answer, form)
    if data is not None:
        filled = check_form(form, data, evidence)
    elif answer.strip().rstrip(".") == refusal.rstrip("."):
        filled = FilledForm(None, None, {}, ())
    else:
        raise AnswerFormatError(
            f"the model answered {shortened(answer)}, which is no JSON object with the fields of the schema: try again"
        )
    return {
        **form_details(filled, "verified"),
        "answer": refusal if filled.refused else filled.text,
        "refused": filled.refused,
        "citations": [one.as_dict() for one in filled.cited],
    }


def _instance(chunks: list[AddableDict], schema: type[BaseModel]) -> BaseModel | None:
    last = chunks[-1]
    return None if last["refused"] else schema.model_validate_json(last["answer"])
