"""Random schemas on random text: JSON that is valid and stands in the documents, or an honest refusal."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models.fake import FakeListLLM
from pydantic import BaseModel, Field, create_model

from fourcorners import grounded_chain
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.support import any_char, texts
from tests.values import check_reply, leaves

pytestmark = pytest.mark.timeout(300)
NAMES = st.sampled_from(
    ["total", "name", "invoice_date", "email", "items", "größe", "x", 'a"b\\c', "unit price", "phone"]
)
LEAVES: list[Any] = [
    str,
    str | None,
    int,
    int | None,
    float | None,
    Decimal | None,
    date | None,
    datetime | None,
    time | None,
    bool,
    Literal["a", "b", None],
    str | int | None,
]
VALUES = st.sampled_from(
    [
        "-12",
        "007",
        "12%",
        "1.200,50",
        "$1,200.50",
        "9" * 40,
        "1e400",
        "3.5k",
        '"}], "total": 9',
        "\\",
        '\\"',
        "\x00\x1f",
        "2024-03-05",
        "5 March 2024 at 10:30",
        "6:40",
        "Total: 12",
        "| name | total |\n|---|---|\n| Ada | 5 |\n",
        "null",
    ]
)


def models(depth: int) -> st.SearchStrategy[type[BaseModel]]:
    kinds: st.SearchStrategy[Any] = st.sampled_from(LEAVES)
    if depth:
        inner = models(depth - 1)
        kinds |= st.sampled_from([list[str], list[int], list[date]])
        kinds |= inner | inner.map(lambda model: model | None) | inner.map(lambda model: list[model])  # type: ignore[valid-type]
    fields = st.dictionaries(NAMES, kinds, min_size=1, max_size=4)
    return fields.map(_model)


def _model(fields: dict[str, Any]) -> type[BaseModel]:
    named: dict[str, Any] = {
        f"f{number}": (kind, Field(alias=name)) for number, (name, kind) in enumerate(fields.items())
    }
    made: type[BaseModel] = create_model("Made", **named)
    return made


contexts = st.lists(st.lists(VALUES | texts, max_size=5).map(" ".join), min_size=1, max_size=3)


@given(models(2), contexts, st.sampled_from([1e9, 0.0]))
def test_any_schema_on_any_text(
    bundled_llm: LlamaCpp, random_llm: LlamaCpp, schema: type[BaseModel], context: list[str], threshold: float
) -> None:
    for llm in (bundled_llm, random_llm):
        reply = grounded_chain(llm, schema=schema, threshold=threshold).invoke({"question": "?", "context": context})
        check_reply(reply, schema, context)
        json.dumps({name: reply[name] for name in ("result", "fields", "missing", "invalid", "citations")})


@given(models(1), contexts, st.integers(0, 3))
def test_a_hot_untrained_model_on_any_text(
    random_llm: LlamaCpp, schema: type[BaseModel], context: list[str], seed: int
) -> None:
    llm = random_llm.bind(temperature=5.0, seed=seed)
    reply = grounded_chain(llm, schema=schema, threshold=1e9).invoke({"question": "?", "context": context})
    check_reply(reply, schema, context)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(any_char, max_size=6)
    | VALUES
)
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


@given(models(2), contexts, st.data())
def test_whatever_another_llm_says_only_what_stands_there_counts(
    schema: type[BaseModel], context: list[str], data: st.DataObject
) -> None:
    keys = [field.alias for field in schema.model_fields.values()]
    words = [word for text in context for word in text.split()] or ["x"]
    value = anything | st.sampled_from(words)
    said = data.draw(st.fixed_dictionaries(dict.fromkeys(keys, value)))
    reply = grounded_chain(FakeListLLM(responses=[json.dumps(said)]), schema=schema).invoke(
        {"question": "?", "context": context}
    )
    check_reply(reply, schema, context)


@given(st.text(any_char, min_size=1, max_size=30))
def test_what_stands_alone_is_quoted_character_by_character(random_llm: LlamaCpp, text: str) -> None:
    class One(BaseModel):
        said: str | None

    reply = grounded_chain(random_llm, schema=One, threshold=1e9).invoke({"question": "?", "context": text})
    check_reply(reply, One, [text])
    for _, value in leaves(reply["result"] or {}):
        assert value in text
