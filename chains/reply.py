"""The whole reply, and how it is gathered from whatever LLM answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from pydantic import BaseModel, Field

from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.prompts.grounded import ContextInput

Guarantee = Literal["enforced", "verified", "best-effort", "none"]


class Place(BaseModel):
    """A place in a context document: its index, and the characters ``start`` to ``end``."""

    index: int
    start: int
    end: int


class Quote(Place):
    """A citation: ``context[index][start:end] == quote``. ``also``: other places of the same words."""

    document: str
    quote: str
    also: list[Place] = Field(default_factory=list)


class CheckedSentence(BaseModel):
    """A sentence of a free answer: ``answer[start:end] == text``.

    ``citations`` are numbers, counted from 1, into the reply's own; ``reason`` says what supports it, or the rule that
    it broke and the word that broke it.
    """

    text: str
    start: int
    end: int
    supported: bool
    reason: str
    citations: list[int]


class Reply(BaseModel):
    """What ``grounded_chain`` and ``rag_chain`` return, as a dict.

    ``refused`` says that the refusal branch was taken; ``score`` is the refusal's log-odds against the best answer
    (None where no model was asked or the LLM does not tell), ``threshold`` the limit it was held against.
    ``sentences`` are those of a free answer, else none.
    ``guarantee`` is about provenance, never about truth.
    """

    question: str
    context: ContextInput
    answer: str
    citations: list[Quote]
    sentences: list[CheckedSentence] = Field(default_factory=list)
    refused: bool
    score: float | None
    threshold: float | None
    guarantee: Guarantee
    usage: dict[str, Any]


class Collector(BaseCallbackHandler):
    """Keeps what one LLM call tells at its end. Of several tries (retry, fallbacks) the last that ended counts."""

    def __init__(self) -> None:
        self.answer = ""
        self.info: dict[str, Any] = {}

    def added_to(self, config: RunnableConfig) -> RunnableConfig:
        """``config`` with this handler."""
        return merge_configs(config, {"callbacks": [self]})

    def saw(self, piece: str) -> str:
        """Note a piece of the answer."""
        self.answer += piece
        return piece

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """LangChain's hook."""
        if response.generations and response.generations[0]:
            generation = response.generations[0][0]
            self.info = dict(generation.generation_info or {})
            usage = getattr(getattr(generation, "message", None), "usage_metadata", None)
            reported = usage or (response.llm_output or {}).get("token_usage") or {}
            self.info.setdefault("usage", dict(reported))


def reply_tail(evidence: Evidence, collector: Collector) -> dict[str, Any]:
    """The last chunk of a reply: everything but question, context and answer."""
    info = collector.info
    if "guarantee" not in info:
        info = _best_effort(evidence, collector.answer) | info
    tail = {name: info.get(name) for name in ("citations", "refused", "score", "threshold", "guarantee")}
    usage = {**info.get("usage", {}), **info.get("timing", {})}
    if info.get("n_left_out"):
        usage["left_out_sentences"] = info["n_left_out"]
    return {**tail, "sentences": [], "usage": usage, **({} if collector.answer else {"answer": ""})}


def _best_effort(evidence: Evidence, answer: str) -> dict[str, Any]:
    """For an LLM that enforces nothing: cite the lines that happen to stand in the context, word for word."""
    text = answer.strip()
    refused = text.rstrip(".") == evidence.options.refusal.rstrip(".")
    lines = [] if refused else list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    citations = [citation for line in lines if (citation := _found(evidence, line)) is not None]
    guarantee = "best-effort" if evidence.options.grounding == "verbatim" else "none"
    return {"guarantee": guarantee, "refused": refused, "citations": [c.as_dict() for c in citations]}


def _found(evidence: Evidence, quote: str) -> Citation | None:
    places = [
        Span(index, start, start + len(quote))
        for index, document in enumerate(evidence.documents)
        for start in _all_starts(document.text, quote)
    ]
    if not places:
        return None
    first = places[0]
    document_id = evidence.documents[first.document].id
    return Citation(document_id, first.document, first.start, first.end, quote, tuple(places[1:]))


def _all_starts(text: str, quote: str) -> Iterator[int]:
    start = text.find(quote)
    while start >= 0:
        yield start
        start = text.find(quote, start + len(quote))
