"""The whole reply, and how it is gathered from whatever LLM answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from pydantic import BaseModel, Field

from fourcorners.chains.json_safe import json_safe
from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.packing import Packed, packing_info
from fourcorners.prompts.grounded import ContextInput

Guarantee = Literal["enforced", "verified", "best-effort", "none"]
_FIRST_WITHOUT_SPACES = "\u2e80"


class Place(BaseModel):
    """A place in a context document: its index, and the characters ``start`` to ``end``."""

    index: int
    start: int
    end: int


class Quote(Place):
    """A citation: ``context[index][start:end] == quote``.

    ``number`` counts the citations of a reply from 1, in the order in which the answer uses them; ``also`` are other
    places of the same words, best document first; ``contradicts`` the numbers of citations that say otherwise;
    ``metadata`` is the document's, as JSON has it.
    """

    number: int
    document: str
    quote: str
    also: list[Place] = Field(default_factory=list)
    contradicts: list[int] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class LeftOutDocument(BaseModel):
    """A context document of which the model was not shown all: so many sentences, and characters, are missing."""

    index: int
    document: str
    sentences: int
    characters: int


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
    ``left_out`` names the first hundred documents that did not fit in the model's window, or in what it was made to
    read; ``usage`` counts all of them, and their sentences.
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
    left_out: list[LeftOutDocument]
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


def reply_tail(evidence: Evidence, collector: Collector, packed: Packed | None = None) -> dict[str, Any]:
    """The last chunk of a reply: everything but question, context and answer."""
    info = collector.info
    if "guarantee" not in info:  # another LLM, which may have "citations" of another kind
        known = {name: info[name] for name in ("usage", "timing") if name in info}
        left_out = packing_info(packed, evidence) if packed else {}
        info = known | left_out | _best_effort(evidence, collector.answer)
    tail = {name: info.get(name) for name in ("refused", "score", "threshold", "guarantee")}
    tail["citations"] = numbered(evidence, info.get("citations") or [])
    return {**tail, "sentences": [], **usage_of(info), **({} if collector.answer else {"answer": ""})}


def usage_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """``usage``, and ``left_out`` of the documents, from what a run told at its end."""
    left_out = [{**one, "document": json_safe(one["document"])} for one in info.get("left_out", [])]
    usage = {**info.get("usage", {}), **info.get("timing", {})}
    if left_out:
        usage["left_out_sentences"] = info["n_left_out"]
        usage["left_out_documents"] = info["n_left_out_documents"]
    return {"left_out": left_out, "usage": usage}


def numbered(evidence: Evidence, citations: Iterable[dict[str, Any]], first: int = 1) -> list[dict[str, Any]]:
    """The citations in order of use, each with its number and what its document's metadata say."""
    safe: dict[int, dict[str, Any]] = {}
    listed = list(citations)
    for citation in listed:
        index = citation["index"]
        if index not in safe:
            safe[index] = json_safe(dict(evidence.documents[index].metadata))
    return [
        {
            "number": number,
            **citation,
            "document": json_safe(citation["document"]),
            "metadata": safe[citation["index"]],
        }
        for number, citation in enumerate(listed, start=first)
    ]


def _best_effort(evidence: Evidence, answer: str) -> dict[str, Any]:
    """For an LLM that enforces nothing: cite the lines that happen to stand in the context, word for word."""
    text = answer.strip()
    refused = text.rstrip(".") == evidence.options.refusal.rstrip(".")
    lines = [] if refused else list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    citations = [citation for line in lines if (citation := _found(evidence, line)) is not None]
    guarantee = "best-effort" if evidence.options.grounding == "verbatim" else "none"
    told = {"guarantee": guarantee, "refused": refused, "citations": [c.as_dict() for c in citations]}
    return {"score": None, "threshold": None, **told}


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
    """Where the words of ``quote`` stand in ``text``, not cut out of longer ones."""
    start = text.find(quote)
    while start >= 0:
        end = start + len(quote)
        if not _cuts_word(text, start) and not _cuts_word(text, end):
            yield start
        start = text.find(quote, end)


def _cuts_word(text: str, at: int) -> bool:
    """Whether a word goes on across ``at``; scripts without spaces have no such borders to go by."""
    around = text[at - 1 : at + 1] if at else ""
    return len(around) == 2 and around.isalnum() and max(around) < _FIRST_WITHOUT_SPACES
