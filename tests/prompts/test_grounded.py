import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableLambda

from fourcorners import grounded_prompt
from fourcorners.errors import InputError, SettingsError
from fourcorners.prompts.grounded import MAX_QUESTION_CHARS, GroundedText
from tests.support import YEAR, Recorder, questions, texts


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(seen=[])


def check_seen(recorder: Recorder, count: int = 1) -> None:
    assert len(recorder.seen) == count
    for prompt in recorder.seen:
        assert isinstance(prompt, GroundedText)
        assert prompt.evidence.question == YEAR["question"]
        assert [document.text for document in prompt.evidence.documents] == [YEAR["context"]]


def test_the_evidence_reaches_the_llm_by_invoke_batch_and_stream(recorder: Recorder) -> None:
    chain = grounded_prompt() | recorder
    chain.invoke(YEAR)
    chain.batch([YEAR, YEAR])
    list(chain.stream(YEAR))
    check_seen(recorder, 4)


@pytest.mark.asyncio
async def test_the_evidence_reaches_the_llm_by_every_async_way(recorder: Recorder) -> None:
    chain = grounded_prompt() | recorder
    await chain.ainvoke(YEAR)
    await chain.abatch([YEAR, YEAR])
    assert [chunk async for chunk in chain.astream(YEAR)]
    assert [event async for event in chain.astream_events(YEAR, version="v2")]
    check_seen(recorder, 5)


def broken(_: Any) -> Any:
    raise ConnectionError("not today")


def test_the_evidence_survives_what_langchain_wraps_around_an_llm(recorder: Recorder) -> None:
    prompt = grounded_prompt()
    for chain in (
        prompt | recorder.with_retry(stop_after_attempt=2),
        prompt | RunnableLambda(broken).with_fallbacks([recorder]),
        prompt | recorder.bind(stop=["x"]),
        prompt | recorder.with_config(tags=["a"]),
        prompt
        | Recorder(reply="wrong")
        .configurable_alternatives(ConfigurableField("llm"), other=recorder)
        .with_config(configurable={"llm": "other"}),
        (prompt | recorder).with_retry(),
        (RunnableLambda(broken) | recorder).with_fallbacks([prompt | recorder]),
    ):
        recorder.seen.clear()
        assert chain.invoke(YEAR) == "noted"
        check_seen(recorder)


def test_a_copied_or_pickled_prompt_is_still_text() -> None:
    text = grounded_prompt().format(**YEAR)
    assert isinstance(text, str)
    assert YEAR["context"] in text
    assert copy.copy(text) == text
    assert pickle.loads(pickle.dumps(text)) == text


DOCUMENTS = [
    Document("one", metadata={"source": "a.txt"}),
    Document("two", id="b", metadata={"source": "c.txt"}),
    Document("three"),
]


@pytest.mark.parametrize(
    ("context", "ids", "texts"),
    [
        ("one", ["1"], ["one"]),
        (["one", "two"], ["1", "2"], ["one", "two"]),
        (("one", "two"), ["1", "2"], ["one", "two"]),
        (DOCUMENTS, ["a.txt", "b", "3"], ["one", "two", "three"]),
        (DOCUMENTS[0], ["a.txt"], ["one"]),
        ([{"page_content": "one", "metadata": {"source": "a.txt"}, "type": "Document"}], ["a.txt"], ["one"]),
        ([{"page_content": "one", "id": "x", "metadata": None}, "two"], ["x", "2"], ["one", "two"]),
        ({"page_content": "one"}, ["1"], ["one"]),
        ([], [], []),
        ("", ["1"], [""]),
    ],
)
def test_context_comes_in_many_shapes(context: Any, ids: list[str], texts: list[str]) -> None:
    text = grounded_prompt().format(question="Who?", context=context)
    assert isinstance(text, GroundedText)
    assert [document.id for document in text.evidence.documents] == ids
    assert [document.text for document in text.evidence.documents] == texts


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"question": None, "context": "x"}, "question must be a text, not NoneType None"),
        ({"question": 3, "context": "x"}, "question must be a text, not int 3"),
        ({"question": ["Who?"], "context": "x"}, "question must be a text, not list"),
        ({"question": "", "context": "x"}, "question is empty"),
        ({"question": " \n", "context": "x"}, r"question is empty \(' \\n'\)"),
        ({"question": "x" * (MAX_QUESTION_CHARS + 1), "context": "x"}, f"{MAX_QUESTION_CHARS + 1} characters"),
        ({"question": "\ud800", "context": "x"}, "question has half a surrogate pair at character 0"),
        ({"question": "Who?", "context": None}, "context must be a text.*NoneType None"),
        ({"question": "Who?", "context": 3}, "context must be a text.*int 3"),
        ({"question": "Who?", "context": {"a": "b"}}, "document 1 of the context.*{'a': 'b'}"),
        ({"question": "Who?", "context": ["x", 3]}, "document 2 of the context.*3"),
        ({"question": "Who?", "context": [b"bytes"]}, "document 1 of the context.*b'bytes'"),
        ({"question": "Who?", "context": [{"page_content": 3}]}, "document 1 of the context"),
        ({"question": "Who?", "context": [{"page_content": "x", "metadata": 3}]}, "metadata of document 1.*3"),
        ({"question": "Who?", "context": ["x", "\udc00"]}, "document 2 has half a surrogate pair"),
        ({"question": "Who?"}, "context"),
        ({"context": "x"}, "question"),
        ({}, "question"),
        ("Who?", "question"),
        (None, "question"),
    ],
)
def test_bad_input_is_refused_with_the_field_and_the_value(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grounded_prompt().invoke(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span": "word"}, r"span='word'.*sentence.*phrase"),
        ({"grounding": "loose"}, "grounding='loose'"),
        ({"max_spans": 0}, "max_spans=0"),
        ({"max_spans": "many"}, "max_spans='many'"),
        ({"refusal": ""}, "refusal=''"),
        ({"refusal": "two\nlines"}, "refusal"),
        ({"threshold": "high"}, "threshold='high'"),
        ({"spam": 1}, r"spam=1.*max_spans"),
        ({"template": "{question}"}, "context"),
        ({"template": "{context} {question} {spam}"}, "spam"),
    ],
)
def test_bad_settings_are_refused_with_name_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        grounded_prompt(**options)


@given(questions, texts)
def test_braces_and_marks_in_questions_and_documents_are_harmless(question: str, context: str) -> None:
    question, context = f"{{context}}{question}{{", f"{{question}}{context}}}{{0}}"
    text = grounded_prompt().format(question=question, context=context)
    assert question in text
    assert context in text
    assert isinstance(text, GroundedText)
    assert text.evidence.documents[0].text == context


def test_the_refusal_and_a_template_of_ones_own_are_shown() -> None:
    prompt = grounded_prompt("C: {context} Q: {question} else {refusal}", system="Be brief.", refusal="No idea")
    assert str(prompt.format(question="Who?", context="Me")) == "Be brief.\n\nC: Me Q: Who? else No idea"


@pytest.mark.asyncio
async def test_async_and_sync_give_the_same_prompt() -> None:
    prompt = grounded_prompt(span="phrase", max_spans=3)
    assert (await prompt.ainvoke(YEAR)).to_string() == prompt.invoke(YEAR).to_string()


def test_the_schema_allows_texts_and_documents() -> None:
    schema = grounded_prompt().get_input_schema()
    schema(question="Who?", context=["a", DOCUMENTS[0]])
    assert set(schema.model_fields) == {"question", "context"}
