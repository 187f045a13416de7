from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from fourcorners import rag_chain
from fourcorners.errors import InputError
from fourcorners.llms.llama_cpp import LlamaCpp

pytestmark = pytest.mark.timeout(60)
QUESTION = "What is the best year of all time ?"
FACT = "The best year ever is 1986"


class Shelf(BaseRetriever):
    """A retriever as a user writes one: all documents that share a word with the question."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        wanted = set(query.lower().split())
        return [document for document in self.documents if wanted & set(document.page_content.lower().split())]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(documents=[Document("Pandas eat bamboo.", id="p"), Document(FACT, id="y", metadata={"page": 3})])


def test_a_retriever_of_ones_own_is_asked_and_cited(bundled_llm: LlamaCpp, shelf: Shelf) -> None:
    reply = rag_chain(shelf, bundled_llm).invoke(QUESTION)
    assert reply["answer"] == FACT
    assert reply["question"] == QUESTION
    assert [document.metadata for document in reply["context"]] == [{"page": 3}]
    assert reply["citations"][0]["document"] == "y"
    assert reply["guarantee"] == "enforced"


@pytest.mark.parametrize(
    "retriever",
    [
        RunnableLambda(lambda question: [Document(FACT)]),
        RunnableLambda(lambda question: [FACT]),
        RunnableLambda(lambda question: (FACT,)),
        RunnableLambda(str.strip) | RunnableLambda(lambda question: [{"page_content": FACT}]),
    ],
)
def test_any_runnable_will_do_as_retriever(bundled_llm: LlamaCpp, retriever: Any) -> None:
    assert rag_chain(retriever, bundled_llm).invoke({"question": QUESTION})["answer"] == FACT


def test_sources_come_first_when_streamed(bundled_llm: LlamaCpp, shelf: Shelf) -> None:
    chunks = list(rag_chain(shelf, bundled_llm).stream(QUESTION))
    assert set(chunks[0]) == {"question", "context"}
    assert "".join(chunk.get("answer", "") for chunk in chunks) == FACT
    assert "citations" in chunks[-1]


@pytest.mark.asyncio
async def test_every_async_way_works(bundled_llm: LlamaCpp, shelf: Shelf) -> None:
    chain = rag_chain(shelf, bundled_llm)
    assert (await chain.ainvoke(QUESTION))["answer"] == FACT
    assert [reply["answer"] for reply in await chain.abatch([QUESTION, {"question": QUESTION}])] == [FACT, FACT]
    chunks = [chunk async for chunk in chain.astream(QUESTION)]
    assert set(chunks[0]) == {"question", "context"}
    names = {event["event"] async for event in chain.astream_events(QUESTION, version="v2")}
    assert {"on_retriever_end", "on_llm_stream"} <= names


def test_nothing_found_is_refused(bundled_llm: LlamaCpp, shelf: Shelf) -> None:
    reply = rag_chain(shelf, bundled_llm).invoke("Quo vadis?")
    assert reply["refused"] is True
    assert reply["context"] == []


def test_a_fault_of_the_retriever_comes_through(bundled_llm: LlamaCpp, shelf: Shelf) -> None:
    def broken(_: str) -> list[Document]:
        raise TimeoutError("index down")

    chain = rag_chain(RunnableLambda(broken), bundled_llm)
    with pytest.raises(TimeoutError, match="index down"):
        chain.invoke(QUESTION)
    results = chain.with_fallbacks([rag_chain(shelf, bundled_llm)]).invoke(QUESTION)
    assert results["answer"] == FACT


@pytest.mark.parametrize("given", [3, None, {"query": "x"}, {"question": 3}, "", {"question": " "}, ["Who?"]])
def test_bad_input_is_refused(bundled_llm: LlamaCpp, shelf: Shelf, given: Any) -> None:
    with pytest.raises(InputError):
        rag_chain(shelf, bundled_llm).invoke(given)


def test_a_batch_with_a_bad_item_fails_alone(bundled_llm: LlamaCpp, shelf: Shelf) -> None:
    good, bad = rag_chain(shelf, bundled_llm).batch([QUESTION, 3], return_exceptions=True)
    assert good["answer"] == FACT
    assert isinstance(bad, InputError)


@pytest.mark.parametrize("found", [3, None, [3], [None]])
def test_what_is_no_list_of_documents_is_refused(bundled_llm: LlamaCpp, found: Any) -> None:
    with pytest.raises(InputError):
        rag_chain(RunnableLambda(lambda _: found), bundled_llm).invoke(QUESTION)


def test_a_text_from_the_retriever_is_one_document(bundled_llm: LlamaCpp) -> None:
    reply = rag_chain(RunnableLambda(lambda _: FACT), bundled_llm).invoke(QUESTION)
    assert reply["answer"] == FACT


def test_another_llm_is_best_effort(shelf: Shelf) -> None:
    reply = rag_chain(shelf, FakeListLLM(responses=[FACT])).invoke(QUESTION)
    assert reply["guarantee"] == "best-effort"
    assert reply["citations"][0]["document"] == "y"
