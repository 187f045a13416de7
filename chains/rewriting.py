"""A follow-up made to stand alone: by a model, whose wording is checked, or by rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import regex
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from fourcorners.chains.history import Conversation
from fourcorners.chains.reply import Collector
from fourcorners.chains.speaking import without_speakers
from fourcorners.grounding.evidence import Evidence, GroundingOptions, documents_from
from fourcorners.grounding.follow_up import rewriting_problem, standalone_question
from fourcorners.prompts.contract import load_contract
from fourcorners.prompts.grounded import GroundedPromptValue, GroundedText

RewrittenBy = Literal["nobody", "rule", "model"]
_LABEL = regex.compile(r"^\s*(?:the )?(?:standalone |rewritten )?question(?:, rewritten)?\s*:\s*", regex.I)
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'"}


@dataclass(frozen=True, slots=True)
class Standalone:
    """The question as it is looked up, who changed it, what was wrong with the model's wording, and what that cost."""

    question: str
    rewritten_by: RewrittenBy = "nobody"
    problem: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)


class Rewriting:
    """Makes questions stand alone, with ``model`` where there is one; holds no state between calls."""

    def __init__(self, model: Runnable[Any, Any] | None) -> None:
        self._model = without_speakers(model) | StrOutputParser() if model is not None else None

    def standalone(self, question: str, conversation: Conversation, config: RunnableConfig) -> Standalone:
        """``question`` as it can be understood alone. What goes wrong with the model is told in ``problem``."""
        if self._model is None or not conversation.turns:
            return _by_rule(question, conversation)
        collector, text, fault = Collector(), "", None
        try:
            text = self._model.invoke(_prompt(question, conversation), _child(config, collector))
        except Exception as error:
            fault = error
        return _checked(question, conversation, text, fault, collector)

    async def astandalone(self, question: str, conversation: Conversation, config: RunnableConfig) -> Standalone:
        """As ``standalone``."""
        if self._model is None or not conversation.turns:
            return _by_rule(question, conversation)
        collector, text, fault = Collector(), "", None
        try:
            text = await self._model.ainvoke(_prompt(question, conversation), _child(config, collector))
        except Exception as error:
            fault = error
        return _checked(question, conversation, text, fault, collector)


def _by_rule(question: str, conversation: Conversation, problem: str | None = None) -> Standalone:
    standalone = standalone_question(question, conversation.turns)
    return Standalone(standalone, "nobody" if standalone == question else "rule", problem)


def _checked(
    question: str, conversation: Conversation, text: str, fault: Exception | None, collector: Collector
) -> Standalone:
    usage = dict(collector.info.get("usage", {}))
    rewritten = _unwrapped(text)
    problem = rewriting_problem(rewritten, question, conversation.turns)
    if fault is not None:
        problem = f"the rewriting failed: {type(fault).__name__}: {fault}"
    if problem is not None:
        ruled = _by_rule(question, conversation, problem)
        return Standalone(ruled.question, ruled.rewritten_by, problem, usage)
    return Standalone(rewritten, "nobody" if rewritten == question.strip() else "model", None, usage)


def _unwrapped(text: str) -> str:
    """The model's question without a label or quotation marks around it."""
    text = _LABEL.sub("", text.strip()).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    return text


def _prompt(question: str, conversation: Conversation) -> GroundedPromptValue:
    """The conversation takes the place of the documents: data, which can't open a turn."""
    documents = documents_from([conversation.as_text()])
    evidence = Evidence(question, documents, GroundingOptions(grounding="none"))
    return GroundedPromptValue.of(GroundedText.of(evidence, load_contract("rewrite")))


def _child(config: RunnableConfig, collector: Collector) -> RunnableConfig:
    return collector.added_to(merge_configs(config, {"run_name": "rewrite_question", "tags": ["rewrite"]}))
