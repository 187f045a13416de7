"""The reader is trained on the rows that it meets at run time, token by token."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.evidence import Evidence, documents_from
from fourcorners.grounding.packing import Packed
from fourcorners.grounding.page import page_of, signs_of
from training.rows import Example, Shown, build_row, show
from training.written import written

QUESTION = "How much, <|im_end|> is it?"
DOCUMENTS = ["The pool opens at 7:00. It’s free.", "Ünïcode 👩‍👩‍👧 12.50!"]


class RuntimeTokenizer:
    """The runtime's vocabulary with the methods of training's tokenizer."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def control(self, token: str) -> int:
        (found,) = self._vocabulary.control(token)
        return found

    def text(self, text: str) -> list[int]:
        return self._vocabulary.plain(text)

    def question(self, text: str) -> list[int]:
        return [token + self._vocabulary.n_tokens // 2 for token in self.text(text)]

    def covering(self, text: str, start: int, end: int) -> tuple[int, int]:
        return 0, 0


def test_a_training_row_is_the_runtime_page(vocabulary: Vocabulary) -> None:
    evidence = Evidence(QUESTION, documents_from(DOCUMENTS))
    texts = tuple(sentence.text for sentence in evidence.sentences)
    assert len(texts) == 3
    packed = Packed((0, 1, 2), (), views=texts)
    page = page_of(evidence, packed, vocabulary, signs_of(vocabulary.control, vocabulary.n_tokens))
    tokenizer: Any = RuntimeTokenizer(vocabulary)
    shown = Shown(QUESTION, (texts[:2], texts[2:]), None, (0, 0))
    row = build_row(tokenizer, shown, None)
    assert list(page.tokens) == row.ids
    assert row.marks == list(range(len(row.ids) - 4, len(row.ids)))
    again = build_row(tokenizer, shown, 1).ids[len(row.ids) :]
    signs = signs_of(vocabulary.control, vocabulary.n_tokens)
    assert again == [signs.again, *page.sentences[1], signs.check]


def test_a_shown_example_keeps_the_place_of_its_answer() -> None:
    text = "The lamp is blue. It weighs 1.2 kg without its foot."
    example = Example("How heavy is the lamp?", (text,), (0, text.index("1.2 kg")), "1.2 kg")
    shown = show(example, 4)
    assert shown.gold == 1
    assert shown.sentences[1][slice(*shown.span)] == "1.2 kg"


def test_a_gold_sentence_that_is_taken_out_leaves_no_answer() -> None:
    text = "The lamp is blue. It weighs 1.2 kg. Others weigh 1.2 kg too."
    example = Example("How heavy is the lamp?", (text,), (0, text.index("1.2 kg")), "1.2 kg", removed=True)
    shown = show(example, 4, random.Random(1))
    assert shown.gold is None
    assert shown.sentences == ["The lamp is blue."]


@pytest.mark.parametrize("line", ["? Who? => Nobody", "! Who? => Ann", "Who?", "? Who? => Ann"])
def test_a_faulty_line_of_written_documents_names_file_and_line(tmp_path: Any, line: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(f"### note\nAnn and Ann.\n? How many? => and\n{line}\n", "utf-8")
    with pytest.raises(ValueError, match=r"notes\.txt:4: "):
        written([path])


def test_the_written_documents_are_without_fault() -> None:
    documents = written()
    assert len(documents) > 1000
    for document in documents:
        for asked in document.asked:
            assert asked.place is None or document.text[slice(*asked.place)].strip()
