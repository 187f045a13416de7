"""What several test files share: hostile text, checks on answers, and ways to drive a decoding policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import Field

from fourcorners.grounding.decoding import Evaluate, Outcome, Piece, Policy, Rules
from fourcorners.grounding.evidence import Evidence, GroundingOptions, documents_from
from fourcorners.grounding.segmentation import chunks

REFUSAL = "Unsure about answer"
YEAR = {"question": "What is the best year of all time ?", "context": "The best year ever is 1986"}

NASTY = [
    "e\u0301",
    "\u0301",
    "👩‍👩‍👧‍👦",
    "🇫🇷",
    "\u200d",
    "\r\n",
    "\n",
    "\n\n",
    "\r",
    "\u2028",
    "\x0b",
    "\x1c",
    "\x00",
    "\x7f",
    "\ufeff",
    "\u00a0",
    '"',
    "\\",
    "\\n",
    "{question}",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<|im_<|im_end|>end|>",
    "[/INST]",
    "</s>",
    "$1,200.50",
    "3.2 kg",
    "12 March 2024",
    "well-known",
    "don't",
    "Dr. Smith came. He left! Why?",
    "- ",
    "1. ",
    "(2) ",
    "# ",
    "> ",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "```\n",
    "今日は晴れ。明日は雨。",
    "مرحبا بالعالم؟",
    "นี่คือภาษาไทย",
    "Unsure about answer",
    " Unsure about answer.",
    ". ",
    "! ",
    " ",
    "the",
    "The ferry leaves at 6:40.",
]

any_char = st.characters(exclude_categories=["Cs"])
texts = st.lists(st.sampled_from(NASTY) | st.text(any_char, max_size=8), max_size=12).map("".join)
"""Any Unicode text, with what has broken such code before more often than chance would have it."""
contexts = st.lists(texts, min_size=1, max_size=3)
questions = texts.filter(str.strip)
words = st.sampled_from(["the", "ferry", "leaves", "at", "6:40", "Unsure", "about", "answer", "Un", "used", "1,200.50"])
plain_sentences = st.lists(words, min_size=1, max_size=6).map(" ".join)
"""Sentences that share long beginnings with one another and with the refusal."""

Logits = Callable[[Evaluate], Any]


class MadeUpModel:
    """Random logits, the same for the same sequence; refuses steps that do not follow it, as the runner does."""

    def __init__(self, n_tokens: int, seed: int = 0, spread: float = 3.0) -> None:
        self._n_tokens, self._seed, self._spread = n_tokens, seed, spread
        self.sequence: list[int] = []
        self.n_steps = 0

    def __call__(self, step: Evaluate) -> Any:
        assert 0 <= step.position <= len(self.sequence), "a step must follow what was evaluated"
        assert 1 <= step.n_logits <= len(step.tokens)
        self.n_steps += 1
        self.sequence = [*self.sequence[: step.position], *step.tokens]
        return np.stack(
            [self.logits(self.sequence[: len(self.sequence) - back]) for back in range(step.n_logits)][::-1]
        )

    def logits(self, sequence: Sequence[int]) -> Any:
        chance = np.random.default_rng([self._seed, *sequence])
        return (self._spread * chance.standard_normal(self._n_tokens)).astype(np.float32)


def drive(policy: Policy, model: Logits) -> tuple[str, Outcome]:
    """Run a policy to its end; the text it emitted, and how it ended."""
    text, outcome, reply = "", None, None
    while True:
        try:
            step = policy.send(reply)
        except StopIteration:
            assert outcome is not None, "a policy must end with an outcome"
            return text, outcome
        assert outcome is None, "nothing may follow the outcome"
        reply = model(step) if isinstance(step, Evaluate) else None
        if isinstance(step, Piece):
            text += step.text
        elif isinstance(step, Outcome):
            outcome = step


def result_of(generator: Any, model: Logits) -> Any:
    """Run a generator that asks for logits; what it returns."""
    reply = None
    while True:
        try:
            reply = model(generator.send(reply))
        except StopIteration as end:
            return end.value


def until_first_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the stop string that is complete first; of several that end there, the longest."""
    for end in range(len(text) + 1):
        begins = [end - len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)]
    return text


def evidence_of(question: str, texts: Sequence[str], **options: Any) -> Evidence:
    return Evidence(question, documents_from(texts), GroundingOptions(**options))


def rules(**changes: Any) -> Rules:
    chosen = {"prior_weight": 1.0, "model_weight": 1.0, "threshold": 0.0, "max_new_tokens": 256, "window_tokens": 4096}
    return Rules(**{**chosen, **changes})


def check_answer(
    answer: str, citations: Sequence[Mapping[str, Any]], refused: bool, evidence: Evidence, whole_sentences: bool = True
) -> None:
    """The contract of ``verbatim``: spans of the documents, or exactly the refusal."""
    options = evidence.options
    if refused:
        assert answer == options.refusal
        assert not citations
        return
    quotes = [citation["quote"] for citation in citations]
    assert answer == "\n".join(quotes)
    n_contradicting = sum(bool(citation["contradicts"]) for citation in citations)
    assert 1 <= len(quotes) <= options.max_spans + n_contradicting
    assert len(set(quotes)) == len(quotes)
    for citation in citations:
        places = [citation, *citation["also"]]
        assert len({(place["index"], place["start"], place["end"]) for place in places}) == len(places)
        assert citation["document"] == evidence.documents[citation["index"]].id
        for place in places:
            text = evidence.documents[place["index"]].text
            assert text[place["start"] : place["end"]] == citation["quote"]
            check_place(evidence, place["index"], place["start"], place["end"], whole_sentences)


def check_place(evidence: Evidence, document: int, start: int, end: int, whole_sentence: bool) -> None:
    around = [s for s in evidence.sentences if s.document == document and s.start <= start and end <= s.end]
    assert len(around) == 1, "a span stands in one sentence"
    sentence = around[0]
    if whole_sentence:
        assert (start, end) == (sentence.start, sentence.end)
        return
    borders = [(sentence.start + s, sentence.start + e) for s, e in chunks(sentence.text)]
    assert start in {s for s, _ in borders}
    assert end in {e for _, e in borders}


def outcome_dicts(outcome: Outcome) -> list[dict[str, Any]]:
    return [citation.as_dict() for citation in outcome.citations]


class Recorder(BaseLLM):
    """A LangChain LLM that keeps the prompts it is given, as they reach ``_generate`` and ``_stream``."""

    seen: list[Any] = Field(default_factory=list)
    reply: str = "noted"

    @property
    def _llm_type(self) -> str:
        return "recorder"

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        self.seen.extend(prompts)
        return LLMResult(generations=[[Generation(text=self.reply)] for _ in prompts])

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        self.seen.append(prompt)
        yield GenerationChunk(text=self.reply)
