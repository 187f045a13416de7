"""What the bundled reader is shown, and where its scores stand: the layout that its training uses too.

The question, the sentences, each closed by a mark, the question again, all marks and the place of the refusal; then one
sentence once more, and the place that confirms it::

    <question> q <text> s1 <1> s2 <2> … <question> q <1> <2> … <none> <again> s2 <check>
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fourcorners.grounding.decoding import Tokens
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.packing import Packed

N_MARKS = 24
"""Sentences that it can be shown at once."""
QUESTION_TOKENS = 96
"""Of a longer question it sees the end; the lexical prior sees all of it."""


@dataclass(frozen=True, slots=True)
class Signs:
    """Ids of control tokens. ``yes``, ``start`` and ``end`` never stand in a row: their logits are the scores."""

    question: int
    text: int
    none: int
    again: int
    check: int
    yes: int
    start: int
    end: int
    marks: tuple[int, ...]
    question_offset: int
    """A question's words have ids of their own, so much behind those of text."""


@dataclass(frozen=True, slots=True)
class Page:
    """A row up to ``<none>``, and the tokens of each shown sentence; the last ``len(sentences) + 1`` places score."""

    tokens: tuple[int, ...]
    sentences: tuple[tuple[int, ...], ...]


def signs_of(control: Callable[[str], Sequence[int]], n_tokens: int) -> Signs:
    """The signs of a reader's vocabulary of ``n_tokens``; ``control`` gives the tokens of trusted text."""

    def one(name: str) -> int:
        (token,) = control(f"<|{name}|>")
        return token

    names = ("question", "text", "none", "again", "check", "yes", "start", "end")
    marks = tuple(one(f"mark_{number}") for number in range(1, N_MARKS + 1))
    return Signs(marks=marks, question_offset=n_tokens // 2, **{name: one(name) for name in names})


def frame_tokens(question: Sequence[int], n_documents: int) -> int:
    """How many tokens a page takes beside the sentences and two for each of them."""
    return 2 * (1 + min(len(question), QUESTION_TOKENS)) + n_documents + 1


def page_of(evidence: Evidence, packed: Packed, tokens: Tokens, signs: Signs) -> Page:
    """The page of the sentences in ``packed``, which shows at most ``N_MARKS``, each as it is cut there."""
    asked = tokens.plain(evidence.question)[-QUESTION_TOKENS:]
    question = (signs.question, *(token + signs.question_offset for token in asked))
    row: list[int] = list(question)
    sentences: list[tuple[int, ...]] = []
    document = -1
    for index, view in zip(packed.shown, packed.views, strict=True):
        if evidence.sentences[index].document != document:
            document = evidence.sentences[index].document
            row.append(signs.text)
        sentences.append(tuple(tokens.plain(view)))
        row += [*sentences[-1], signs.marks[len(sentences) - 1]]
    row += [*question, *signs.marks[: len(sentences)], signs.none]
    return Page(tuple(row), tuple(sentences))
