"""Question sets: rows of question, context and gold answers, from JSONL or SQuAD 2.0 JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from fourcorners.errors import QuestionSetError, shortened

SWAP_SEED = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One question. ``answer_starts`` are the places of ``answers`` in the first text of ``context``, where known.

    ``selected`` are the sentences that hold the answer; ``columns`` is all that the row's line had.
    """

    question: str
    context: tuple[str, ...]
    answers: tuple[str, ...] = ()
    answerable: bool = True
    answer_starts: tuple[int, ...] = ()
    selected: tuple[str, ...] = ()
    id: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file: one JSON object a line, or SQuAD 2.0 JSON. Raises QuestionSetError naming file and line."""
    text = _text_of(path)
    whole, fault = _as_whole(text)
    if isinstance(whole, dict) and "data" in whole and "question" not in whole:
        rows = list(_squad_rows(whole, path))
    elif fault is not None and path.suffix == ".json" and not _is_json(text.lstrip().partition("\n")[0]):
        raise QuestionSetError(f"{path}:{fault.lineno}: no JSON: {fault.msg}")
    else:
        rows = list(_lines_rows(text, path))
    if not rows:
        raise QuestionSetError(f"{path} has no rows: give JSONL of {{context, question, answers, answerable}}")
    return rows


def swapped(rows: Sequence[Row], path: Path) -> list[Row]:
    """Each question over another row's context, where every answer is wrong. Always the same ones."""
    if len({row.context for row in rows}) < 2:
        raise QuestionSetError(f"{path} has one context only: to swap contexts takes at least two")
    chance = random.Random(SWAP_SEED)
    return [
        replace(
            row,
            context=_another(rows, row, chance).context,
            answers=(),
            answer_starts=(),
            selected=(),
            answerable=False,
        )
        for row in rows
    ]


def _another(rows: Sequence[Row], row: Row, chance: random.Random) -> Row:
    while (other := chance.choice(rows)).context == row.context:
        pass
    return other


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise QuestionSetError(f"{path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise QuestionSetError(f"{path} is no UTF-8 text (byte {error.start}): save it as UTF-8") from error


def _as_whole(text: str) -> tuple[Any, JSONDecodeError | None]:
    try:
        return json.loads(text), None
    except JSONDecodeError as error:
        return None, error


def _is_json(line: str) -> bool:
    return _as_whole(line)[1] is None


def _lines_rows(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        data, fault = _as_whole(line)
        if fault is not None:
            raise QuestionSetError(f"{place}: no JSON object: {fault.msg} (column {fault.colno})")
        if not isinstance(data, dict):
            raise QuestionSetError(f"{place}: {shortened(data)} is no JSON object with question and context")
        yield row_of(data, place, default_id=str(number))


def row_of(data: Mapping[str, Any], place: str, default_id: str = "") -> Row:
    """The row that ``data`` holds. Raises QuestionSetError beginning with ``place``."""
    question = data.get("question")
    if not isinstance(question, str) or not question.strip():
        raise QuestionSetError(f"{place}: question must be a text, not {_told(data, 'question')}")
    context = _texts(data, "context", place)
    if not context:
        raise QuestionSetError(f"{place}: context must be a text or a list of texts, not {_told(data, 'context')}")
    answers, starts = _answers(data, place)
    selected = _texts(data, "selected", place)
    answerable = data.get("answerable", bool(answers or selected))
    if not isinstance(answerable, bool):
        raise QuestionSetError(f"{place}: answerable must be true or false, not {_told(data, 'answerable')}")
    if answerable and not answers and not selected:
        raise QuestionSetError(f"{place}: answerable is true, but answers is empty: give one, or say false")
    if not answerable and (answers or selected):
        raise QuestionSetError(
            f"{place}: answerable is false, but there are answers ({shortened((answers or selected)[0])})"
        )
    for answer, start in zip(answers, starts, strict=False):
        if context[0][start : start + len(answer)] != answer:
            found = shortened(context[0][start : start + len(answer)])
            raise QuestionSetError(
                f"{place}: answer_start {start} is not where {shortened(answer)} begins, but {found}"
            )
    name = data.get("id")
    return Row(
        question, context, answers, answerable, starts, selected, default_id if name is None else str(name), dict(data)
    )


def _answers(data: Mapping[str, Any], place: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Gold answers and their places; also as in the ``datasets`` export of SQuAD, one object of two lists."""
    given = data.get("answers")
    if isinstance(given, Mapping):
        return _answers({"answers": given.get("text"), "answer_start": given.get("answer_start")}, place)
    answers = _texts(data, "answers", place)
    if any(not answer.strip() for answer in answers):
        raise QuestionSetError(f"{place}: an answer is empty: leave it out")
    starts = data.get("answer_start")
    listed = [] if starts is None else starts if isinstance(starts, list) else [starts]
    if any(not isinstance(start, int) or isinstance(start, bool) or start < 0 for start in listed):
        raise QuestionSetError(f"{place}: answer_start must be whole numbers, not {_told(data, 'answer_start')}")
    if listed and len(listed) != len(answers):
        raise QuestionSetError(f"{place}: {len(answers)} answers, but {len(listed)} of answer_start: one for each")
    return answers, tuple(listed)


def _texts(data: Mapping[str, Any], name: str, place: str) -> tuple[str, ...]:
    """A text or a list of texts as a tuple; what is missing or null is none."""
    value = data.get(name)
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise QuestionSetError(f"{place}: {name} must be a text or a list of texts, not {_told(data, name)}")
    return tuple(listed)


def _told(data: Mapping[str, Any], name: str) -> str:
    return shortened(data[name]) if name in data else "missing"


def _squad_rows(whole: Mapping[str, Any], path: Path) -> Iterator[Row]:
    """SQuAD 1.1 or 2.0. What is wrong is placed by article, paragraph and question, from 1."""
    for a, article in enumerate(_listed(whole, "data", str(path)), start=1):
        place = f"{path}: data[{a}]"
        title = str(article.get("title", ""))
        for p, paragraph in enumerate(_listed(article, "paragraphs", place), start=1):
            inside = f"{place}.paragraphs[{p}]"
            for q, qa in enumerate(_listed(paragraph, "qas", inside), start=1):
                yield _squad_row(qa, paragraph.get("context"), title, f"{inside}.qas[{q}]")


def _squad_row(qa: Mapping[str, Any], context: Any, title: str, place: str) -> Row:
    golds = _listed(qa, "answers", place)
    impossible = qa.get("is_impossible", not golds)
    if not isinstance(impossible, bool):
        raise QuestionSetError(f"{place}: is_impossible must be true or false, not {shortened(impossible)}")
    data = {
        "id": qa.get("id"),
        "question": qa.get("question"),
        "context": context,
        "answers": [gold.get("text") for gold in golds],
        "answerable": not impossible,
        "title": title,
    }
    starts = [gold.get("answer_start") for gold in golds]
    if None not in starts:
        data["answer_start"] = starts
    return row_of(data, place, default_id=place.partition(": ")[2])


def _listed(data: Mapping[str, Any], name: str, place: str) -> list[Mapping[str, Any]]:
    value = data.get(name)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise QuestionSetError(f"{place}: {name} must be a list of objects, not {_told(data, name)}")
    return value


__all__ = ["Row", "read_rows", "row_of", "swapped"]
