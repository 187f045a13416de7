"""Retrievers as others write them: whatever they return, citations are exact within it, or it is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever, EnsembleRetriever
from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from pydantic import Field

from fourcorners import rag_chain
from fourcorners.errors import InputError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.retrieval import bm25_retriever, passages_of
from tests.support import REFUSAL, texts

QUESTION = "When does the ferry leave?"
FACT = "The ferry leaves at 6:40."


def page_of(item: Any) -> str:
    if isinstance(item, str):
        return item
    return str(item["page_content"] if isinstance(item, Mapping) else item.page_content)


def check(reply: Mapping[str, Any]) -> None:
    """The contract, within what the retriever returned."""
    context = [reply["context"]] if isinstance(reply["context"], str | Document) else reply["context"]
    assert reply["guarantee"] == "enforced"
    if reply["refused"]:
        assert (reply["answer"], reply["citations"]) == (REFUSAL, [])
        return
    assert reply["answer"] == "\n".join(citation["quote"] for citation in reply["citations"])
    for citation in reply["citations"]:
        assert citation["quote"]
        for place in (citation, *citation["also"]):
            assert page_of(context[place["index"]])[place["start"] : place["end"]] == citation["quote"]


class Bare(Document):
    """A subclass with more than the rest of the world knows of."""

    state: dict[str, Any] = Field(default_factory=dict)


def without_metadata(text: str) -> Document:
    return Document.model_construct(page_content=text, metadata=None, id=None)


FORMS: list[Callable[[str], Any]] = [
    Document,
    str,
    without_metadata,
    lambda text: {"page_content": text},
    lambda text: {"page_content": text, "metadata": None, "id": 7, "type": "Document"},
    lambda text: Document(page_content=text, metadata={"source": None, "id": 3, "nested": {"a": [1, {"b": None}]}}),
    lambda text: Document(page_content=text, id="same"),
    lambda text: Bare(page_content=text, state={"score": float("nan")}),
]
HOLDERS: list[Callable[[list[Any]], Any]] = [
    list,
    tuple,
    iter,
    lambda items: (item for item in items),
    lambda items: dict(enumerate(items)).values(),
    lambda items: items + items,
]
found = st.lists(st.tuples(texts | st.just(FACT) | st.just(""), st.sampled_from(FORMS)), max_size=5)


@given(found, st.sampled_from(HOLDERS), st.sampled_from([1, 3]), st.sampled_from(["sentence", "phrase"]))
def test_whatever_is_returned_the_citations_are_exact(
    bundled_llm: LlamaCpp,
    items: list[tuple[str, Callable[[str], Any]]],
    holder: Callable[[list[Any]], Any],
    max_spans: int,
    span: Any,
) -> None:
    retriever = RunnableLambda(lambda _: holder([form(text) for text, form in items]))
    check(rag_chain(retriever, bundled_llm, max_spans=max_spans, span=span).invoke(QUESTION))


@given(st.lists(texts.filter(str.strip), min_size=1, max_size=4), st.data())
def test_a_compressor_that_cuts_is_cited_within_what_it_left(
    bundled_llm: LlamaCpp, contents: list[str], data: st.DataObject
) -> None:
    cuts = [sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text))))) for text in contents]

    class Cut(BaseDocumentCompressor):
        def compress_documents(
            self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
        ) -> list[Document]:
            return [
                Document(page_content=document.page_content[start:end], metadata=document.metadata)
                for document, (start, end) in zip(documents, cuts, strict=True)
            ]

    documents = [Document(page_content=text, metadata={"source": "a", "start": 90, "line": 9}) for text in contents]
    base: RunnableLambda[str, Any] = RunnableLambda(lambda _: documents)
    retriever = ContextualCompressionRetriever(base_retriever=base, base_compressor=Cut())
    reply = rag_chain(retriever, bundled_llm).invoke(QUESTION)
    check(reply)
    assert [page_of(item) for item in reply["context"]] == [t[s:e] for t, (s, e) in zip(contents, cuts, strict=True)]


class Shelf(BaseRetriever):
    """Counts who asked it, and how."""

    documents: list[Document]
    asked: list[str] = Field(default_factory=list)
    wait_s: float = 0.0

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        self.asked.append("sync")
        time.sleep(self.wait_s)
        return self.documents


class AsyncShelf(Shelf):
    """Native both ways."""

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        self.asked.append("async")
        await asyncio.sleep(self.wait_s)
        return self.documents


@pytest.mark.asyncio
async def test_the_native_way_is_taken_and_a_slow_one_holds_nobody_up(bundled_llm: LlamaCpp) -> None:
    for shelf, way in (
        (Shelf(documents=[Document(FACT)], wait_s=0.3), "sync"),
        (AsyncShelf(documents=[Document(FACT)], wait_s=0.3), "async"),
    ):
        shelf.asked = []
        chain = rag_chain(shelf, bundled_llm)
        began = time.monotonic()
        replies = await asyncio.gather(*(chain.ainvoke(QUESTION) for _ in range(4)))
        assert time.monotonic() - began < 1.1
        assert [reply["answer"] for reply in replies] == [FACT] * 4
        assert shelf.asked == [way] * 4


@pytest.mark.asyncio
async def test_a_retriever_that_is_async_alone_is_asked_so(bundled_llm: LlamaCpp) -> None:
    async def search(_: str) -> list[Document]:
        await asyncio.sleep(0)
        return [Document(FACT)]

    chain = rag_chain(RunnableLambda(search), bundled_llm)
    assert (await chain.ainvoke(QUESTION))["answer"] == FACT
    with pytest.raises(TypeError):
        chain.invoke(QUESTION)


def raising(error: Exception) -> RunnableLambda[str, Any]:
    def search(_: str) -> Iterator[Document]:
        yield Document(FACT)
        raise error

    return RunnableLambda(lambda question: list(search(question)))


@pytest.mark.parametrize("error", [ConnectionError("index down"), KeyError("page"), ValueError("odd")])
def test_what_a_retriever_raises_is_never_a_refusal(bundled_llm: LlamaCpp, error: Exception) -> None:
    with pytest.raises(type(error)):
        rag_chain(raising(error), bundled_llm).invoke(QUESTION)


@pytest.mark.asyncio
async def test_an_asynchronous_generator_is_gathered_or_refused(bundled_llm: LlamaCpp) -> None:
    async def search() -> Any:
        yield Document(FACT)

    with pytest.raises(InputError, match="context must be"):
        await rag_chain(RunnableLambda(lambda _: search()), bundled_llm).ainvoke(QUESTION)


@pytest.mark.parametrize("odd", [[None], [3], [[FACT]], [object()], {"a": 1}, 7, None, [{"text": FACT}]])
def test_what_is_no_text_is_an_error_that_names_it(bundled_llm: LlamaCpp, odd: Any) -> None:
    with pytest.raises(InputError, match=r"document|context"):
        rag_chain(RunnableLambda(lambda _: odd), bundled_llm).invoke(QUESTION)


def test_hundreds_of_documents_and_duplicates(bundled_llm: LlamaCpp) -> None:
    many = [Document(f"The train number {n} leaves at {n % 24}:15.", id=str(n)) for n in range(400)]
    reply = rag_chain(RunnableLambda(lambda _: [*many, Document(FACT), *many]), bundled_llm).invoke(QUESTION)
    check(reply)
    assert reply["answer"] == FACT
    reply = rag_chain(RunnableLambda(lambda _: [Document(FACT)] * 50), bundled_llm).invoke(QUESTION)
    check(reply)
    assert len(reply["citations"][0]["also"]) == 49


def test_an_ensemble_of_two(bundled_llm: LlamaCpp) -> None:
    passages = [p for n, text in enumerate([FACT, "Pandas eat bamboo.", "Nothing."]) for p in passages_of(text, str(n))]
    both = EnsembleRetriever(
        retrievers=[bm25_retriever(passages, k=2), Shelf(documents=[Document(FACT), passages[1]])], weights=[0.5, 0.5]
    )
    reply = rag_chain(both, bundled_llm).invoke(QUESTION)
    check(reply)
    assert reply["answer"] == FACT
    assert len(reply["context"]) == len({page_of(item) for item in reply["context"]})
