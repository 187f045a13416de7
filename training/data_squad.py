"""Examples from a SQuAD 2.0 file: questions by people, with the paragraph that answers them or does not.

The file is read where it lies (``--squad PATH``), never copied. Licence of the ten train articles: CC BY-SA 4.0.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data_values import word_lists
from training.rows import Example

HELD_BACK = ("To_Kill_a_Mockingbird", "Solar_energy")
"""Articles that no training row is made of."""

_KEEP = frozenset(word_lists()["kept"])
"""Capitalised words that are no names."""
_FREQUENT = frozenset(word_lists()["frequent"])
_WORD = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Question:
    """A question of the file and its first answer."""

    text: str
    answer: str
    start: int
    """Character offset of the answer in the paragraph; -1 where there is none."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph with its questions."""

    article: str
    text: str
    questions: tuple[Question, ...]


def load(path: Path) -> list[Paragraph]:
    """All paragraphs of the file; 0.1 s for 1.4 MB."""
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [
        Paragraph(article["title"], paragraph["context"], tuple(_question(qa) for qa in paragraph["qas"]))
        for article in articles
        for paragraph in article["paragraphs"]
    ]


def _question(qa: dict[str, object]) -> Question:
    answers = qa["answers"]
    text = " ".join(str(qa["question"]).split())
    if qa.get("is_impossible") or not isinstance(answers, list) or not answers:
        return Question(text, "", -1)
    return Question(text, str(answers[0]["text"]), int(answers[0]["answer_start"]))


def split(paragraphs: Sequence[Paragraph]) -> tuple[list[Paragraph], list[Paragraph]]:
    """Training and held-back paragraphs."""
    return [p for p in paragraphs if p.article not in HELD_BACK], [p for p in paragraphs if p.article in HELD_BACK]


class SquadSource:
    """Draws examples: answerable ones, near misses, swapped contexts, and the file's own unanswerable questions."""

    def __init__(self, paragraphs: Sequence[Paragraph]) -> None:
        self.paragraphs = list(paragraphs)
        self.by_article: dict[str, list[Paragraph]] = {}
        for paragraph in paragraphs:
            self.by_article.setdefault(paragraph.article, []).append(paragraph)
        pairs = [(p, q) for p in paragraphs for q in p.questions]
        self.answerable = [(p, q) for p, q in pairs if q.start >= 0]
        self.unanswerable = [(p, q) for p, q in pairs if q.start < 0]
        self._swapper = Swapper([p.text for p in paragraphs])

    def draw(self, rng: random.Random, swap_names: bool = True) -> Example:
        """One example; about 40 % without an answer."""
        kind = rng.random()
        if self.unanswerable and kind < 0.06:
            paragraph, question = rng.choice(self.unanswerable)
            example = Example(question.text, (paragraph.text,), None, "")
        else:
            paragraph, question = rng.choice(self.answerable)
            if kind < 0.18:
                example = self._elsewhere(rng, paragraph, question)
            elif kind < 0.36:
                example = Example(question.text, (paragraph.text,), (0, question.start), question.answer, removed=True)
            else:
                example = self._answered(rng, paragraph, question)
        return self._swapper.swapped(rng, example) if swap_names and rng.random() < 0.5 else example

    def _answered(self, rng: random.Random, paragraph: Paragraph, question: Question) -> Example:
        if rng.random() < 0.7:
            return Example(question.text, (paragraph.text,), (0, question.start), question.answer)
        other = rng.choice(self.by_article[paragraph.article] if rng.random() < 0.6 else self.paragraphs)
        if other.text == paragraph.text or question.answer in other.text:
            return Example(question.text, (paragraph.text,), (0, question.start), question.answer)
        if rng.random() < 0.5:
            return Example(question.text, (paragraph.text, other.text), (0, question.start), question.answer)
        return Example(question.text, (other.text, paragraph.text), (1, question.start), question.answer)

    def _elsewhere(self, rng: random.Random, paragraph: Paragraph, question: Question) -> Example:
        """The question over paragraphs that do not hold its answer, mostly of the same article."""
        pool = self.by_article[paragraph.article] if rng.random() < 0.75 else self.paragraphs
        others = [
            p for p in rng.sample(pool, min(len(pool), 5)) if question.answer not in p.text and p is not paragraph
        ]
        return Example(question.text, tuple(p.text for p in others[:2]) or ("",), None, "")


class Swapper:
    """Replaces names and numbers, so that nothing can be known by heart."""

    def __init__(self, texts: Sequence[str]) -> None:
        found = {word for text in texts for word in re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}", text)}
        self._names: list[str] = sorted(found - _KEEP)

    def swapped(self, rng: random.Random, example: Example) -> Example:
        """The example with names and numbers replaced consistently in question, context and answer."""
        names: dict[str, str] = {}

        def replace(match: re.Match[str]) -> str:
            word = match.group()
            if word not in names:
                names[word] = self._other(rng, word)
            return names[word]

        documents, gold = [], example.gold
        for number, text in enumerate(example.documents):
            if gold and gold[0] == number:
                head = _WORD.sub(replace, text[: gold[1]])
                gold = (number, len(head))
                documents.append(head + _WORD.sub(replace, text[example.gold[1] :]))  # type: ignore[index]
            else:
                documents.append(_WORD.sub(replace, text))
        question, answer = _WORD.sub(replace, example.question), _WORD.sub(replace, example.answer)
        return Example(question, tuple(documents), gold, answer, example.removed)

    def _other(self, rng: random.Random, word: str) -> str:
        if word.isdigit():
            digits = "".join(rng.choice("0123456789") for _ in word[1:])
            return word[:2] + digits[1:] if len(word) == 4 else rng.choice("123456789") + digits
        if not word[0].isupper() or word in _KEEP or len(word) < 3 or word.lower() in _FREQUENT:
            return word
        if rng.random() < 0.5:
            return rng.choice(self._names)
        return "".join(rng.choice(word_lists()["syllable"]) for _ in range(rng.randint(2, 3))).capitalize()
