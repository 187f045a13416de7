import json
from pathlib import Path
from typing import Any

import pytest

from fourcorners.errors import QuestionSetError
from fourcorners.evaluation.rows import Row, read_rows, swapped

GOOD = {"question": "Who won?", "context": "Bob won.", "answers": ["Bob"], "answerable": True}


def written(tmp_path: Path, *rows: Any, name: str = "set.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    return path


def test_a_row_has_what_its_line_has(tmp_path: Path) -> None:
    line = GOOD | {"id": 7, "kind": "sport", "selected": ["Bob won."], "answer_start": [0], "note": {"by": "me"}}
    (row,) = read_rows(written(tmp_path, line))
    assert row == Row("Who won?", ("Bob won.",), ("Bob",), True, (0,), ("Bob won.",), "7", line)


def test_what_is_missing_is_taken_from_the_rest(tmp_path: Path) -> None:
    first, second = read_rows(written(tmp_path, {"question": "Who?", "context": ["One.", "Two."]}, "", GOOD))
    assert (first.answerable, first.id, first.context) == (False, "1", ("One.", "Two."))
    assert (second.answerable, second.id) == (True, "3")


def test_answers_as_the_datasets_package_exports_them(tmp_path: Path) -> None:
    exported = {"question": "Who won?", "context": "Bob won.", "answers": {"text": ["Bob"], "answer_start": [0]}}
    nothing = exported | {"answers": {"text": [], "answer_start": []}}
    rows = read_rows(written(tmp_path, exported, nothing))
    assert [(row.answers, row.answer_starts, row.answerable) for row in rows] == [
        (("Bob",), (0,), True),
        ((), (), False),
    ]


def test_a_line_separator_within_a_text_ends_no_row(tmp_path: Path) -> None:
    (row,) = read_rows(written(tmp_path, json.dumps(GOOD | {"context": "Bob\u2028won.\x85"}, ensure_ascii=False)))
    assert row.context == ("Bob\u2028won.\x85",)


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Races",
            "paragraphs": [
                {
                    "context": "Bob won. It rained.",
                    "qas": [
                        {"id": "a", "question": "Who won?", "answers": [{"text": "Bob", "answer_start": 0}]},
                        {"id": "b", "question": "Who lost?", "answers": [], "is_impossible": True,
                         "plausible_answers": [{"text": "Bob", "answer_start": 0}]},
                    ],
                }
            ],
        }
    ],
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["set.json", "set.jsonl"])
def test_squad(tmp_path: Path, indent: int | None, name: str) -> None:
    rows = read_rows(written(tmp_path, json.dumps(SQUAD, indent=indent), name=name))
    assert [(row.id, row.answers, row.answer_starts, row.answerable) for row in rows] == [
        ("a", ("Bob",), (0,), True),
        ("b", (), (), False),
    ]
    assert rows[0].columns["title"] == "Races"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"question": ""}, "question must be a text, not ''"),
        ({"question": 3}, "question must be a text, not 3"),
        ({"context": None}, "context must be a text or a list of texts, not None"),
        ({"context": [1]}, r"context must be a text or a list of texts, not \[1\]"),
        ({"answers": [2]}, r"answers must be a text or a list of texts, not \[2\]"),
        ({"answers": [" "]}, "an answer is empty"),
        ({"answers": []}, "answerable is true, but answers is empty"),
        ({"answerable": False}, r"answerable is false, but there are answers \('Bob'\)"),
        ({"answerable": None}, "answerable must be true or false, not None"),
        ({"answerable": "yes"}, "answerable must be true or false, not 'yes'"),
        ({"answer_start": [0, 4]}, "1 answers, but 2 of answer_start"),
        ({"answer_start": "0"}, "answer_start must be whole numbers, not '0'"),
        ({"answer_start": [4]}, "answer_start 4 is not where 'Bob' begins, but 'won'"),
        ({"selected": 5}, "selected must be a text or a list of texts, not 5"),
    ],
)
def test_a_bad_row_is_told_with_file_line_and_fault(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = written(tmp_path, GOOD, GOOD | change)
    with pytest.raises(QuestionSetError, match=rf"set\.jsonl:2: {told}"):
        read_rows(path)


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ('{"question": "Who?"}\n{"question"', "set.jsonl", r"set\.jsonl:1: context must be"),
        ('[1]\n', "set.jsonl", r":1: \[1\] is no JSON object"),
        ('\n{"question"', "set.jsonl", r":2: no JSON object: Expecting ':' delimiter \(column 12\)"),
        ('{\n  "data": [}', "set.json", r"set\.json:2: no JSON: Expecting value"),
        ('{"data": [{"title": "t"}]}', "set.json", r"data\[1\]: paragraphs must be a list of objects, not missing"),
        ('{"data": [{"paragraphs": [{"context": "c", "qas": [{"answers": []}]}]}]}', "set.json",
         r"data\[1\]\.paragraphs\[1\]\.qas\[1\]: question must be a text, not None"),
        (" \n", "set.jsonl", "has no rows"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_question_set(tmp_path: Path, text: str, name: str, told: str) -> None:
    with pytest.raises(QuestionSetError, match=told):
        read_rows(written(tmp_path, text, name=name))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(QuestionSetError, match="can't be read"):
        read_rows(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "caf\xe9"}')
    with pytest.raises(QuestionSetError, match="no UTF-8 text"):
        read_rows(tmp_path / "latin.jsonl")


def test_swapped_contexts_are_others_and_always_the_same(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, *(GOOD | {"context": f"Bob won {n}.", "id": n} for n in (1, 1, 2, 3, 4))))
    other = swapped(rows, tmp_path)
    assert all(a.context != b.context and a.question == b.question for a, b in zip(rows, other, strict=True))
    assert not any(row.answerable or row.answers or row.selected or row.answer_starts for row in other)
    assert other == swapped(rows, tmp_path)
    with pytest.raises(QuestionSetError, match="one context only"):
        swapped(rows[:2], tmp_path)
