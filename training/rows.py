"""From an example (question, documents, where the answer stands) to a row of token ids with loss weights.

A row looks exactly like the runtime's prompt: the best sentences by lexical overlap, in document order, one a line.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from fourcorners.grounding.evidence import Evidence, Sentence, documents_from
from fourcorners.grounding.prior import lexical_prior
from training.tokenizer import TURN_END, TURN_START, Segment, SegmentTokenizer

Task = Literal["sentence", "phrase"]
REFUSAL = "Unsure about answer"
CONTEXT_TOKENS = 448
"""At most so many tokens a row, answer included; the runtime shows no more either."""

LATER_WEIGHT = 0.15
"""Weight of an answer token that the grammar forces anyhow."""
POINTED_TOKENS = 5


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
        """All shown sentences in order."""
        return [sentence for document in self.documents for sentence in document]


@dataclass(frozen=True)
class Choice:
    """A position where the grammar leaves several ways: their tokens, the prior's log-mass of each, the right one."""

    at: int
    tokens: tuple[int, ...]
    prior: tuple[float, ...]
    right: int


@dataclass
class Row:
    """Token ids of prompt and answer. Positions are those whose *next* token is predicted.

    ``copies`` are (position, weight) of answer tokens, ``pointers`` (position, head, position that it should look at),
    ``question`` the tokens of the question before the context, ``spans`` those of each shown sentence, ``ends`` its
    last token and ``starts`` the id of its first.
    """

    ids: list[int]
    prompt_length: int
    choices: list[Choice] = field(default_factory=list)
    copies: list[tuple[int, float]] = field(default_factory=list)
    pointers: list[tuple[int, int, int]] = field(default_factory=list)
    question: tuple[int, int] = (0, 0)
    spans: list[tuple[int, int]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    prior: tuple[float, ...] = ()
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
    if example.removed:
        example = _without_gold(example)
    evidence = Evidence(example.question, documents_from(example.documents))
    found = evidence.sentences
    scores = lexical_prior(example.question, found)
    gold = next((i for i, sentence in enumerate(found) if _is_gold(sentence, example)), None)
    order = sorted(range(len(found)), key=lambda i: -scores.sentences[i])
    kept = order[:limit]
    if gold is not None and gold not in kept and rng is not None and rng.random() < 0.8:
        kept[-1] = gold
    kept.sort()
    documents = [tuple(found[i].text for i in kept if found[i].document == n) for n in range(len(example.documents))]
    place = kept.index(gold) if gold in kept else None
    prior = (*(float(scores.sentences[i]) for i in kept), scores.refusal)
    return Shown(
        example.question,
        tuple(d for d in documents if d),
        place,
        example.answer if place is not None else "",
        prior,
    )


def _is_gold(sentence: Sentence, example: Example) -> bool:
    return (
        example.gold is not None
        and sentence.document == example.gold[0]
        and sentence.start <= example.gold[1] < sentence.end
    )


def _without_gold(example: Example) -> Example:
    """The example with the gold sentence, and others that hold the answer's words, cut out of its documents."""
    documents = []
    for number, text in enumerate(example.documents):
        evidence = Evidence(example.question, documents_from([text]))
        for sentence in reversed(evidence.sentences):
            gold = (
                example.gold is not None
                and example.gold[0] == number
                and sentence.start <= example.gold[1] < sentence.end
            )
            if gold or (example.answer and example.answer in sentence.text):
                text = text[: sentence.start] + text[sentence.end :].lstrip(" ")
        documents.append(text)
    return Example(example.question, tuple(documents), None, "")


def prompt_segments(task: Task, question: str, documents: Sequence[Sequence[str]]) -> list[Segment]:
    """The runtime's prompt up to and including the line that opens the assistant's turn."""
    system, user = prompt_parts(task)
    segments: list[Segment] = [
        (TURN_START, True),
        (f"system\n{system}", False),
        (TURN_END, True),
        ("\n", False),
    ]
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
    """Ids and what each position should learn, for one example."""
    spans: list[tuple[int, int]] = []
    ids: list[int] = []
    question = (0, 0)
    by_text = {"\n".join(document): document for document in shown.documents}
    for text, is_control in prompt_segments(task, shown.question, shown.documents):
        start = len(ids)
        for sentence in () if is_control else by_text.get(text, ()):
            length = len(tokenizer.text(sentence))
            spans.append((start, start + length))
            start += length + 1
        if text == shown.question and not question[1]:
            question = (len(ids), len(ids) + len(tokenizer.text(text)))
        ids.extend(tokenizer.segments([(text, is_control)]))
    answer = tokenizer.segments([(_target(shown, task), False), (TURN_END, True)])
    row = Row(ids + answer, len(ids), prior=shown.prior, gold=-1 if shown.gold is None else shown.gold)
    row.question, row.spans = question, spans
    if len(spans) == len(shown.sentences):
        row.ends, row.starts = [end - 1 for _, end in spans], [row.ids[start] for start, _ in spans]
    first = len(ids) - 1
    if task == "sentence":
        row.choices = _choices(tokenizer, shown, first)
    chosen = {choice.at for choice in row.choices}
    weight = LATER_WEIGHT if task == "sentence" else 1.0
    row.copies = [(first + i, weight) for i in range(len(answer)) if first + i not in chosen]
    row.pointers = _pointers(row, spans, first, len(answer) if task == "sentence" else 1)
    return row


def branches(tokenizer: SegmentTokenizer, shown: Shown) -> list[list[int]]:
    """Token ids of each shown sentence, then of the refusal, each with the end of turn."""
    return [tokenizer.segments([(text, False), (TURN_END, True)]) for text in (*shown.sentences, REFUSAL)]


def _choices(tokenizer: SegmentTokenizer, shown: Shown, first: int) -> list[Choice]:
    """The forks on the way to the right answer."""
    ways = branches(tokenizer, shown)
    right = ways[shown.gold if shown.gold is not None else -1]
    choices = []
    for depth in range(len(right)):
        mass: dict[int, float] = {}
        for way, prior in zip(ways, shown.prior, strict=True):
            if len(way) > depth and way[:depth] == right[:depth]:
                mass[way[depth]] = (
                    math.log(math.exp(mass[way[depth]]) + math.exp(prior)) if way[depth] in mass else prior
                )
        if len(mass) < 2:
            break
        tokens = tuple(mass)
        choices.append(Choice(first + depth, tokens, tuple(mass.values()), tokens.index(right[depth])))
    return choices


def _pointers(row: Row, spans: Sequence[tuple[int, int]], first: int, answer_length: int) -> list[tuple[int, int, int]]:
    """Where to look: at the end of the right sentence first (token 0 on refusal), then at each token that is copied."""
    if row.gold < 0 or row.gold >= len(spans):
        return [(first, 0, 0)]
    start, end = spans[row.gold]
    copied = min(POINTED_TOKENS, answer_length, end - start)
    return [(first, 0, end - 1)] + [(first + i, 1, start + i) for i in range(1, copied)]


def _target(shown: Shown, task: Task) -> str:
    if shown.gold is None:
        return REFUSAL
    sentence = shown.sentences[shown.gold]
    return sentence if task == "sentence" or shown.answer not in sentence else shown.answer
