"""The question, the documents it may be answered from, and the exact places that an answer cites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fourcorners.grounding.fields import Form
from fourcorners.grounding.layout import Kind, places
from fourcorners.grounding.segmentation import sentences as split_sentences

DEFAULT_REFUSAL = "Unsure about answer"


class GroundingOptions(BaseModel):
    """How an answer must be bound to the documents; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grounding: Literal["verbatim", "free", "none"] = "verbatim"
    span: Literal["sentence", "phrase"] = "sentence"
    max_spans: int = Field(default=1, ge=1, le=20)
    refusal: str = Field(default=DEFAULT_REFUSAL, min_length=1, max_length=200)
    threshold: float | None = Field(default=None, allow_inf_nan=True)
    """Refuse when the refusal score (log-odds of refusal against the best answer) exceeds it; None: the model's own."""
    prior_weight: float | None = Field(default=None, ge=0)
    """Weight of the lexical prior beside the model's probabilities; None: the model's own, 0: off."""
    packing: Literal["window", "rank", "error"] = "window"
    """What is shown of documents that do not fit: the best sentences by the prior, whole documents in order of rank
    while they fit, or ContextOverflow."""
    context_tokens: int | None = Field(default=None, ge=16)
    """Show at most so many tokens of documents; None: as many as the window has room for."""
    contradictions: Literal["show", "ignore"] = "show"
    """Whether a verbatim answer that another document contradicts shows both sides, beyond ``max_spans``."""
    strict: bool = False
    """Of a free answer leave out the sentences that are not supported, instead of marking them."""

    @field_validator("threshold")
    @classmethod
    def _a_number(cls, value: float | None) -> float | None:
        if value is not None and value != value:
            raise ValueError("threshold must be a number (infinity: never refuse), not nan")
        return value

    @field_validator("refusal")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if value != value.strip() or "\n" in value or "\r" in value:
            raise ValueError(f"refusal must be one line without outer white space, not {value!r}")
        return value

    @model_validator(mode="after")
    def _strict_is_for_free(self) -> Self:
        if self.strict and self.grounding != "free":
            raise ValueError(f"strict=True is for grounding='free', not {self.grounding!r}")
        return self


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A text that may be quoted. ``text`` is kept as supplied, character for character."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of the document at index ``document``; never empty."""

    document: int
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a span needs 0 <= start < end, not {self.start}, {self.end}")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a document, with what it is and the indices of the sentences that give it context."""

    document: int
    start: int
    end: int
    text: str
    kind: Kind
    under: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Citation:
    """An exact quote: ``documents[document].text[start:end] == quote``, in characters.

    ``also`` lists the other places where the same words stand, best document first. ``contradicts`` lists the numbers
    (from 1, in the order of the answer) of the citations that say otherwise.
    """

    document_id: str
    document: int
    start: int
    end: int
    quote: str
    also: tuple[Span, ...] = ()
    contradicts: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "document": self.document_id,
            "index": self.document,
            "start": self.start,
            "end": self.end,
            "quote": self.quote,
            "also": [{"index": span.document, "start": span.start, "end": span.end} for span in self.also],
            "contradicts": list(self.contradicts),
        }


@dataclass(frozen=True)
class Evidence:
    """One question, its documents in order of rank, the grounding asked for, and the form to fill in, if any.

    ``system`` and ``history`` are shown to the model beside them and are never quoted.
    """

    question: str
    documents: tuple[SourceDocument, ...]
    options: GroundingOptions = field(default_factory=GroundingOptions)
    form: Form | None = None
    system: str = ""
    history: str = ""

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """All sentences of all documents, in order; ``under`` indexes into this tuple. Computed once."""
        found: list[Sentence] = []
        for index, document in enumerate(self.documents):
            found.extend(_sentences_of(index, document.text, len(found)))
        return tuple(found)

    def quote(self, span: Span) -> str:
        """The text at ``span``, exactly as supplied."""
        return self.documents[span.document].text[span.start : span.end]


def _sentences_of(index: int, text: str, offset: int) -> list[Sentence]:
    spans = split_sentences(text)
    return [
        Sentence(index, start, end, text[start:end], place.kind, tuple(above + offset for above in place.under))
        for (start, end), place in zip(spans, places(text, spans), strict=True)
    ]


def documents_from(texts: Sequence[str]) -> tuple[SourceDocument, ...]:
    """Documents with the ids "1", "2", … for plain strings."""
    return tuple(SourceDocument(id=str(number), text=text) for number, text in enumerate(texts, start=1))
