"""From an example (question, documents, where the answer stands) to a row of token ids with loss weights.

A row looks exactly like the runtime's prompt: the best sentences by lexical overlap, in document order, one a line.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from fourcorners.grounding.evidence import Evidence, Sentence, documents_from
from fourcorners.grounding.prior import PriorScores, lexical_prior

from training.tokenizer import TURN_END, TURN_START, Segment, SegmentTokenizer

Task = Literal["sentence", "phrase"]
REFUSAL = "Unsure about answer"
CONTEXT_TOKENS = 448
"""At most so many tokens a row, answer included; the runtime shows no more either."""

FULL_WEIGHT_TOKENS = 4
LATER_WEIGHT = 0.2


@dataclass(frozen=True)
class Example:
    """A question over documents; ``gold`` is (document, character offset) of the answer, None where there is none."""

    question: str
    documents: tuple[str, ...]
    gold: tuple[int, int] | None
    answer: str
    removed: bool = False
    """The gold sentence is taken out, which makes a near miss on the topic."""


@dataclass(frozen=True)
class Shown:
    """The sentences that the reader sees, by document; ``gold`` counts through all of them."""

    question: str
    documents: tuple[tuple[str, ...], ...]
    gold: int | None
    answer: str
    prior: tuple[float, ...] = ()
    """Lexical log-score of each shown sentence; the last entry is the refusal's."""

    @property
    def sentences(self) -> list[str]:
        return [sentence for document in self.documents for sentence in document]


@dataclass
class Row:
    """Token ids; ``targets`` are (position whose next token counts, weight); ``gold_span`` the tokens to look at."""

    ids: list[int]
    targets: list[tuple[int, float]] = field(default_factory=list)
    gold_span: tuple[int, int] = (0, 1)
    sentence_ends: list[int] = field(default_factory=list)
    gold: int = -1


@lru_cache(maxsize=2)
def prompt_parts(task: Task) -> tuple[str, str]:
    """System text and user template of the runtime's own prompt file."""
    text = (files("fourcorners.prompts") / f"reader_{task}.txt").read_text(encoding="utf-8")
    system, _, user = text.partition("\n---\n")
    return system, user.rstrip("\n")


def show(example: Example, limit: int, rng: random.Random | None = None) -> Shown:
    """Keep the ``limit`` sentences of highest overlap, in document order. About 1 ms.

    In training (``rng`` given) a gold sentence that fell out usually comes back in place of the last one, so that the
    reader learns from questions that share few words with their answer.
    """
    found, scores = _ranked(example)
    gold = next((i for i, sentence in enumerate(found) if _is_gold(sentence, example)), None)
    order = sorted(range(len(found)), key=lambda i: -scores.sentences[i])
    if example.removed:
        order = [i for i in order if i != gold and not (example.answer and example.answer in found[i].text)]
    kept = order[:limit]
    if gold in order[limit:] and gold is not None and rng is not None and rng.random() < 0.8:
        kept[-1] = gold
    kept.sort()
    documents = [tuple(found[i].text for i in kept if found[i].document == n) for n in range(len(example.documents))]
    place = kept.index(gold) if gold in kept else None
    prior = (*(float(scores.sentences[i]) for i in kept), scores.refusal)
    return Shown(example.question, tuple(d for d in documents if d), place, example.answer if place is not None else "", prior)


def _ranked(example: Example) -> tuple[tuple[Sentence, ...], PriorScores]:
    evidence = Evidence(example.question, documents_from(example.documents))
    return evidence.sentences, lexical_prior(example.question, evidence.sentences)


def _is_gold(sentence: Sentence, example: Example) -> bool:
    return example.gold is not None and sentence.document == example.gold[0] and sentence.start <= example.gold[1] < sentence.end


def prompt_segments(task: Task, question: str, documents: Sequence[Sequence[str]]) -> list[Segment]:
    """The runtime's prompt up to and including the line that opens the assistant's turn."""
    system, user = prompt_parts(task)
    segments: list[Segment] = [(TURN_START, True), (f"system\n{system}", False), (TURN_END, True), ("\n", False)]
    segments += [(TURN_START, True)]
    text = "user\n"
    for number, piece in enumerate(user.replace("{context}", "\0c\0").replace("{question}", "\0q\0").split("\0")):
        if number % 2 == 0:
            segments.append((text + piece, False))
            text = ""
        elif piece == "q":
            segments.append((question, False))
        else:
            for place, document in enumerate(documents):
                segments += [("\n\n", False)] * (place > 0) + [("\n".join(document), False)]
    segments += [(TURN_END, True), ("\n", False), (TURN_START, True), ("assistant\n", False)]
    return [segment for segment in segments if segment[0]]


def build_row(tokenizer: SegmentTokenizer, shown: Shown, task: Task) -> Row:
    """Ids and loss weights of one example. Only tokens of the answer carry the main loss."""
    segments = prompt_segments(task, shown.question, shown.documents)
    by_text = {"\n".join(document): document for document in shown.documents}
    row = Row([], gold=-1 if shown.gold is None else shown.gold)
    spans: list[tuple[int, int]] = []
    for text, is_control in segments:
        if not is_control and text in by_text:
            start = len(row.ids)
            for sentence in by_text[text]:
                ids = tokenizer.text(sentence)
                spans.append((start, start + len(ids)))
                start += len(ids) + 1
        row.ids.extend(tokenizer.segments([(text, is_control)]))
    answer = _target(shown, task)
    answer_ids = tokenizer.segments([(answer, False), (TURN_END, True)])
    first = len(row.ids) - 1
    row.ids.extend(answer_ids)
    row.targets = [
        (first + i, 1.0 if i < FULL_WEIGHT_TOKENS or task == "phrase" or shown.gold is None else LATER_WEIGHT)
        for i in range(len(answer_ids))
    ]
    row.sentence_ends = [end for _, end in spans]
    if shown.gold is not None and shown.gold < len(spans):
        row.gold_span = spans[shown.gold]
    return row


def _target(shown: Shown, task: Task) -> str:
    if shown.gold is None:
        return REFUSAL
    sentence = shown.sentences[shown.gold]
    return sentence if task == "sentence" or shown.answer not in sentence else shown.answer
