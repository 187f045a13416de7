"""Several documents: numbers, places, metadata and contradictions in a reply."""

import enum
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.runnables import RunnableLambda
from langserve import add_routes

from fourcorners import grounded_chain, rag_chain
from fourcorners.chains import marked_answer
from fourcorners.chains.json_safe import as_given, json_safe
from fourcorners.chains.reply import Reply
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.support import YEAR, check_answer, contexts, evidence_of

pytestmark = pytest.mark.timeout(100)
FACT = "The best year ever is 1986"
FERRY = {"question": "When does the ferry leave?"}


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    where: Path


@dataclass
class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__
    __iter__ = None


loop: dict[str, Any] = {"name": "loop"}
loop["self"] = loop
ODD: dict[Any, Any] = {
    "when": datetime(2024, 3, 12, tzinfo=UTC),
    "day": date(2024, 3, 12),
    "path": Path("a/b.pdf"),
    "score": np.float32(0.5),
    "vector": np.arange(3),
    "nan": float("nan"),
    "large": 2**80,
    "none": None,
    "set": {3, 1},
    "tuple": (1, "a"),
    "bytes": b"\xff\x00",
    "uuid": uuid.UUID(int=1),
    "price": Decimal("1.50"),
    "colour": Colour.RED,
    "point": Point(1, Path("x")),
    "half": "\ud800",
    "nested": {"deep": [{"list": [None, np.int64(4)]}]},
    7: "seven",
    (1, 2): "pair",
    None: "no name",
    "loop": loop,
    "rude": Unspeakable,
    "function": print,
}


# Citations


def test_citations_are_numbered_in_order_of_use_and_marked(bundled_llm: LlamaCpp) -> None:
    context = ["It rains.", "The ferry leaves at 6:40. In winter the ferry leaves at 8:00."]
    chain = grounded_chain(bundled_llm, max_spans=3, threshold=1e9)
    reply = chain.invoke({**FERRY, "context": context})
    quotes = [citation["quote"] for citation in reply["citations"]]
    assert len(quotes) > 1
    assert [citation["number"] for citation in reply["citations"]] == list(range(1, len(quotes) + 1))
    assert reply["answer"] == "\n".join(quotes)
    assert marked_answer(reply) == "\n".join(f"{quote} [{number}]" for number, quote in enumerate(quotes, start=1))


def test_an_answer_of_another_llm_is_marked_where_it_quotes() -> None:
    said = f"Well, look here:\n{FACT}\nThat is it.\nIt rains."
    reply = grounded_chain(FakeListLLM(responses=[said])).invoke({**YEAR, "context": ["It rains.", FACT]})
    assert [(c["number"], c["index"]) for c in reply["citations"]] == [(1, 1), (2, 0)]
    assert marked_answer(reply) == f"Well, look here:\n{FACT} [1]\nThat is it.\nIt rains. [2]"
    assert marked_answer({"answer": "Unsure", "citations": []}) == "Unsure"


@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_only_the_very_same_words_are_the_same_quote(bundled_llm: LlamaCpp, span: Any) -> None:
    context = ["It rains.", f"{FACT}.", f"{FACT}.", f"{FACT.upper()}.", FACT.replace(" ", "  ") + "."]
    reply = grounded_chain(bundled_llm, span=span, threshold=1e9).invoke({**YEAR, "context": context})
    (citation,) = reply["citations"]
    if span == "sentence":
        also = {0: [], 1: [2], 3: [], 4: []}
        assert [place["index"] for place in citation["also"]] == also[citation["index"]]
    for place in (citation, *citation["also"]):
        assert context[place["index"]][place["start"] : place["end"]] == citation["quote"]


def test_a_phrase_lists_its_places_also_in_sentences_that_the_model_did_not_see(bundled_llm: LlamaCpp) -> None:
    context = [f"In the view of reader number {n}, the best year ever is 1986." for n in range(12)]
    reply = grounded_chain(bundled_llm, span="phrase", threshold=1e9).invoke({**YEAR, "context": context})
    (citation,) = reply["citations"]
    holding = [n for n, text in enumerate(context) if citation["quote"] in text]
    assert sorted([citation["index"], *(place["index"] for place in citation["also"])]) == holding


def test_a_quote_of_another_llm_is_not_cut_out_of_a_word() -> None:
    reply = grounded_chain(FakeListLLM(responses=["198"])).invoke({**YEAR, "context": [FACT, "198 is a number."]})
    (citation,) = reply["citations"]
    assert (citation["index"], citation["start"], citation["also"]) == (1, 0, [])
    reply = grounded_chain(FakeListLLM(responses=["晴れ"])).invoke({**YEAR, "context": ["今日は晴れです。"]})
    assert reply["citations"][0]["start"] == 3


def test_hundreds_of_documents_some_empty_some_equal(bundled_llm: LlamaCpp) -> None:
    context = [Document(f"House {n % 50} is old.", id=f"d{n}") for n in range(400)]
    context[7] = Document("", id="empty")
    context[300] = context[350] = Document(f"{FACT}.", id="fact")
    for span in ("sentence", "phrase"):
        reply = grounded_chain(bundled_llm, span=span, threshold=1e9).invoke({**YEAR, "context": context})
        (citation,) = reply["citations"]
        assert (citation["document"], citation["index"]) == ("fact", 300)
        assert [place["index"] for place in citation["also"]] == [350]
        assert reply["context"] == context


# Contradictions


@pytest.mark.parametrize(
    ("question", "context", "quotes"),
    [
        ("When does the ferry leave?", ["The ferry leaves at 6:40.", "The ferry leaves at 7:15."], [0, 1]),
        ("Are dogs allowed on board?", ["Dogs are not allowed on board.", "Dogs are allowed on board."], [0, 1]),
        (
            "Who founded Velmar?",
            ["Velmar was founded by Ada Roth.", "It rains.", "Velmar was founded by Leo Kern."],
            [0, 2],
        ),
    ],
)
def test_both_sides_of_a_contradiction_are_shown_with_their_sources(
    bundled_llm: LlamaCpp, question: str, context: list[str], quotes: list[int]
) -> None:
    reply = grounded_chain(bundled_llm, threshold=1e9).invoke({"question": question, "context": context})
    assert sorted(citation["index"] for citation in reply["citations"]) == quotes
    assert reply["answer"] == "\n".join(citation["quote"] for citation in reply["citations"])
    assert [citation["contradicts"] for citation in reply["citations"]] == [[2], [1]]
    check_answer(reply["answer"], reply["citations"], False, evidence_of(question, context))


def test_contradicting_phrases_are_shown_as_phrases(bundled_llm: LlamaCpp) -> None:
    context = ["The ferry leaves at 6:40.", "The ferry leaves at 7:15."]
    chain = grounded_chain(bundled_llm, span="phrase", threshold=1e9)
    reply = chain.invoke({**FERRY, "context": context})
    check_answer(reply["answer"], reply["citations"], False, evidence_of("?", context), whole_sentences=False)
    if any("6:40" in quote or "7:15" in quote for quote in [reply["citations"][0]["quote"]]):
        assert len(reply["citations"]) == 2
        assert reply["citations"][1]["quote"] in ("6:40", "7:15")
        assert [citation["contradicts"] for citation in reply["citations"]] == [[2], [1]]


@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_contradictions_can_be_ignored(bundled_llm: LlamaCpp, span: Any) -> None:
    context = ["The ferry leaves at 6:40.", "The ferry leaves at 7:15."]
    chain = grounded_chain(bundled_llm, span=span, threshold=1e9, contradictions="ignore")
    (citation,) = chain.invoke({**FERRY, "context": context})["citations"]
    assert citation["contradicts"] == []


def test_of_documents_that_agree_in_their_contradiction_the_best_is_shown(bundled_llm: LlamaCpp) -> None:
    context = ["The ferry leaves at 6:40."] * 2 + ["The ferry leaves at 7:15 daily.", "The ferry leaves at 7:15."]
    reply = grounded_chain(bundled_llm, threshold=1e9).invoke({**FERRY, "context": context})
    assert len(reply["citations"]) == 2
    first, second = sorted(reply["citations"], key=lambda citation: citation["index"])
    assert (first["index"], [place["index"] for place in first["also"]]) == (0, [1])
    assert second["index"] in (2, 3)


def test_the_same_document_does_not_contradict_itself(bundled_llm: LlamaCpp) -> None:
    context = ["The ferry leaves at 6:40. The ferry leaves at 7:15."]
    assert len(grounded_chain(bundled_llm, threshold=1e9).invoke({**FERRY, "context": context})["citations"]) == 1


def test_different_things_are_not_shown_beside_an_answer(bundled_llm: LlamaCpp) -> None:
    context = ["The library opens at 9:00.", "The pool opens at 10:00.", "The library shop opens at 11:00."]
    reply = grounded_chain(bundled_llm, threshold=1e9).invoke(
        {"question": "When does the library open?", "context": context}
    )
    assert reply["answer"] in context, "one of them, and no second beside it"


def test_a_stop_string_takes_the_other_side_away_and_its_mark_too(bundled_llm: LlamaCpp) -> None:
    context = ["The ferry leaves at 6:40.", "The ferry leaves at 7:15."]
    reply = grounded_chain(bundled_llm.bind(stop=["\n"]), threshold=1e9).invoke({**FERRY, "context": context})
    (citation,) = reply["citations"]
    assert citation["contradicts"] == []


@given(contexts, contexts, st.sampled_from(["sentence", "phrase"]), st.integers(1, 3))
def test_whatever_contradicts_it_the_answer_is_of_the_documents(
    bundled_llm: LlamaCpp, texts: list[str], more: list[str], span: str, most: int
) -> None:
    context = [
        *texts,
        "The ferry leaves at 6:40.",
        *more,
        "The ferry leaves at 7:15.",
        "The ferry does not leave at 6:40.",
    ]
    chain = grounded_chain(bundled_llm, span=span, max_spans=most, threshold=1e9)  # type: ignore[arg-type]
    reply = chain.invoke({**FERRY, "context": context})
    evidence = evidence_of(FERRY["question"], context, max_spans=most, span=span)
    check_answer(reply["answer"], reply["citations"], reply["refused"], evidence, span == "sentence")
    for citation in reply["citations"]:
        for other in citation["contradicts"]:
            assert citation["number"] in reply["citations"][other - 1]["contradicts"]


# Metadata


def test_metadata_comes_with_each_citation_and_the_documents_as_given(bundled_llm: LlamaCpp) -> None:
    plain = {"source": "a.pdf", "page": 3, "tags": ["x", {"y": None}], "ok": True, "score": 0.5}
    context = [Document("It rains.", metadata={"source": "b"}), Document(FACT, metadata=plain, id="fact")]
    reply = grounded_chain(bundled_llm).invoke({**YEAR, "context": context})
    (citation,) = reply["citations"]
    assert (citation["document"], citation["metadata"]) == ("fact", plain)
    assert all(given is kept for given, kept in zip(context, reply["context"], strict=True))


@pytest.mark.parametrize("llm", [None, FakeListLLM(responses=[FACT])])
def test_odd_metadata_does_not_break_a_reply(bundled_llm: LlamaCpp, llm: Any) -> None:
    document = Document(FACT, metadata=ODD)
    reply = grounded_chain(llm or bundled_llm).invoke({**YEAR, "context": [document]})
    (kept,) = reply["context"]
    assert isinstance(kept, Document)
    assert kept.metadata["path"] == Path("a/b.pdf")
    (citation,) = reply["citations"]
    metadata = citation["metadata"]
    assert json.loads(json.dumps(metadata, allow_nan=False)) == metadata
    assert metadata["when"] == "2024-03-12T00:00:00+00:00"
    assert (metadata["path"], metadata["score"], metadata["vector"]) == ("a/b.pdf", 0.5, [0, 1, 2])
    assert (metadata["nan"], metadata["none"], metadata["set"], metadata["7"]) == (None, None, [1, 3], "seven")
    assert metadata["nested"] == {"deep": [{"list": [None, 4]}]}
    assert metadata["point"] == {"x": 1, "where": "x"}
    assert Reply(**reply).citations[0].metadata == metadata


def test_odd_ids_do_not_break_a_reply(bundled_llm: LlamaCpp) -> None:
    for odd in (np.arange(3), 0, Path("x"), "", None, ODD):
        reply = grounded_chain(bundled_llm).invoke({**YEAR, "context": [Document(FACT, metadata={"id": odd})]})
        assert isinstance(reply["citations"][0]["document"], str)
        assert reply["citations"][0]["document"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_what_is_json_already_stays_equal(value: Any) -> None:
    assert json_safe(value) == value
    document = Document("x", metadata={"value": value})
    assert as_given([document])[0] is document


@given(st.recursive(st.sampled_from(list(ODD.values())), lambda inner: st.lists(inner) | st.tuples(inner, inner)))
def test_everything_becomes_json(value: Any) -> None:
    orjson.dumps(json_safe(value))
    json.dumps(json_safe(value), allow_nan=False)


@pytest.fixture
def client(bundled_llm: LlamaCpp) -> Iterator[TestClient]:
    """Somebody's own LangServe app, with a retriever whose documents carry odd metadata."""
    retriever: Any = RunnableLambda(lambda _: [Document("It rains."), Document(FACT, metadata=ODD)])
    app = FastAPI()
    add_routes(app, rag_chain(retriever, bundled_llm), path="/rag")
    with TestClient(app) as made:
        yield made


def test_odd_metadata_does_not_break_langserve(client: TestClient) -> None:
    asked = {"question": YEAR["question"]}
    reply = client.post("/rag/invoke", json={"input": asked}).json()["output"]
    assert reply["answer"] == FACT
    assert reply["context"][1]["metadata"]["path"] == "a/b.pdf"
    assert reply["citations"][0]["metadata"]["score"] == 0.5
    (batched,) = client.post("/rag/batch", json={"inputs": [asked]}).json()["output"]
    assert batched["citations"] == reply["citations"]
    streamed = client.post("/rag/stream", json={"input": asked}).text
    assert "a/b.pdf" in streamed
    assert "event: error" not in streamed
