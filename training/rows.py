"""From an example (question, documents, where the answer stands) to a row of token ids with what each place should say.

A row is what the runtime shows (``grounding/reading.py``): the question, the sentences, each closed by a mark, the
question again, all marks and the place of the refusal; then one sentence once more, and the place that confirms it::

    <question> q <text> s1 <1> s2 <2> … <question> q <1> <2> … <none> <again> s2 <check>
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from fourcorners.grounding.evidence import Evidence, Sentence, documents_from
from fourcorners.grounding.prior import lexical_prior
from training.tokenizer import AGAIN, CHECK, MARKS, NONE, QUESTION, TEXT, SegmentTokenizer

ROW_TOKENS = 448
"""Most tokens of a row; the runtime shows no more either."""


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
    """The sentences that the reader sees, by document; ``gold`` counts through all of them.

    ``span`` is the answer's place in the gold sentence, in characters.
    """

    question: str
    documents: tuple[tuple[str, ...], ...]
    gold: int | None
    span: tuple[int, int]
    prior: tuple[float, ...] = ()
    """Lexical log-score of each shown sentence; the last entry is the refusal's."""

    @property
    def sentences(self) -> list[str]:
        """All shown sentences in order."""
        return [sentence for document in self.documents for sentence in document]


@dataclass
class Row:
    """Token ids, and the places that are asked.

    ``starts`` are the places of the sentences' first tokens, ``question_end`` that behind the first question;
    ``marks`` are the places of the sentences' marks at the end and of ``<none>`` behind them, ``inner`` those inside
    the text; ``gold`` counts into ``marks``. ``again`` are the places of the repeated sentence's tokens, ``start`` and
    ``end`` count into it (-1: this is not the sentence that answers), ``check`` is the place that confirms it.
    """

    ids: list[int]
    marks: list[int]
    inner: list[int]
    prior: tuple[float, ...]
    gold: int
    question_end: int
    starts: list[int]
    again: list[int] = field(default_factory=list)
    start: int = -1
    end: int = -1
    check: int = 0


@lru_cache(maxsize=20_000)
def _sentences(documents: tuple[str, ...]) -> tuple[Sentence, ...]:
    return Evidence("", documents_from(documents)).sentences


def show(example: Example, limit: int, rng: random.Random | None = None) -> Shown:
    """Keep the ``limit`` sentences of highest overlap, in document order. About 1 ms.

    In training (``rng`` given) a gold sentence that fell out usually comes back in place of the last one, so that the
    reader learns from questions that share few words with their answer.
    """
    if example.removed:
        example = _without_gold(example)
    found = _sentences(example.documents)
    scores = lexical_prior(example.question, found)
    gold = next((i for i, sentence in enumerate(found) if _is_gold(sentence, example)), None)
    order = sorted(range(len(found)), key=lambda i: -scores.sentences[i])
    kept = order[: min(limit, len(MARKS))]
    if gold is not None and gold not in kept and rng is not None and rng.random() < 0.8:
        kept[-1] = gold
    kept.sort()
    documents = [tuple(found[i].text for i in kept if found[i].document == n) for n in range(len(example.documents))]
    place = kept.index(gold) if gold in kept else None
    span = (0, 0)
    if gold is not None and example.gold is not None:
        start = example.gold[1] - found[gold].start
        span = start, min(start + len(example.answer), len(found[gold].text))
    prior = (*(float(scores.sentences[i]) for i in kept), scores.refusal)
    return Shown(example.question, tuple(d for d in documents if d), place, span, prior)


def _is_gold(sentence: Sentence, example: Example) -> bool:
    return (
        example.gold is not None
        and sentence.document == example.gold[0]
        and sentence.start <= example.gold[1] < sentence.end
    )


def _without_gold(example: Example) -> Example:
    """The example with the gold sentence, and others that hold the answer's words, cut out of its documents."""
    found = _sentences(example.documents)
    documents = list(example.documents)
    for sentence in reversed(found):
        if _is_gold(sentence, example) or (example.answer and example.answer in sentence.text):
            text = documents[sentence.document]
            documents[sentence.document] = text[: sentence.start] + text[sentence.end :].lstrip(" ")
    return replace(example, documents=tuple(documents), gold=None, answer="", removed=False)


def build_row(tokenizer: SegmentTokenizer, shown: Shown, again: int | None, rng: random.Random | None = None) -> Row:
    """Ids and places for one example; ``again`` is the sentence that is repeated (None: none).

    In training the marks begin anywhere in their list, so that all of them are learned.
    """
    count = len(shown.sentences)
    first = rng.randint(0, len(MARKS) - count) if rng is not None else 0
    marks = [tokenizer.control(mark) for mark in MARKS[first : first + count]]
    question = [tokenizer.control(QUESTION), *tokenizer.question(shown.question)]
    ids, inner, starts = list(question), list[int](), list[int]()
    for document in shown.documents:
        ids.append(tokenizer.control(TEXT))
        for sentence in document:
            starts.append(len(ids))
            ids += tokenizer.text(sentence)
            inner.append(len(ids))
            ids.append(marks[len(inner) - 1])
    ids += question
    asked = list(range(len(ids), len(ids) + count + 1))
    ids += [*marks, tokenizer.control(NONE)]
    gold = count if shown.gold is None else shown.gold
    row = Row(ids, asked, inner, shown.prior, gold, len(question), starts)
    if again is not None:
        _append(row, tokenizer, shown, again)
    return row


def _append(row: Row, tokenizer: SegmentTokenizer, shown: Shown, again: int) -> None:
    text = shown.sentences[again]
    row.ids.append(tokenizer.control(AGAIN))
    tokens = tokenizer.text(text)
    row.again = list(range(len(row.ids), len(row.ids) + len(tokens)))
    row.ids += [*tokens, tokenizer.control(CHECK)]
    row.check = len(row.ids) - 1
    if again == shown.gold:
        row.start, row.end = tokenizer.covering(text, *shown.span)


def sentence_to_repeat(shown: Shown, rng: random.Random) -> int | None:
    """In training: mostly the gold sentence, else one that words speak for."""
    others = [number for number in range(len(shown.sentences)) if number != shown.gold]
    if shown.gold is not None and (not others or rng.random() < 0.6):
        return shown.gold
    if not others:
        return None
    return max(rng.sample(others, min(2, len(others))), key=lambda number: shown.prior[number])


def texts_of(examples: Sequence[Example]) -> list[str]:
    """All texts of the examples."""
    return [text for example in examples for text in (example.question, *example.documents)]
