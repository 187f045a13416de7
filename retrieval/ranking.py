"""The passages nearest to a question, by BM25."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from fourcorners.errors import SettingsError
from fourcorners.grounding.segmentation import headings
from fourcorners.grounding.words import folded_words, function_words, guess_language
from fourcorners.retrieval.terms import DEFAULT_LANGUAGE, terms_of

MAX_QUERY_TERMS = 256


def bm25_retriever(passages: Sequence[Document], k: int = 4) -> BaseRetriever:
    """The ``k`` passages nearest to a question by BM25 over stems, ties in order; all of them where there are no more.

    The name of a passage's file, and the title and heading above it, count as words of the passage.
    """
    check_k(k)
    with warnings.catch_warnings():  # langchain-community announces at import that it is no longer maintained
        warnings.filterwarnings("ignore", message=".*langchain-community.* is being sunset")
        from langchain_community.retrievers import BM25Retriever

    indexed = [folded_words(text) for text in with_titles(passages)]
    language = language_of([word for words in indexed for word in words]) or DEFAULT_LANGUAGE

    def terms(words: Iterable[str]) -> list[str]:
        stems = terms_of(words, language)
        return [term for term in stems if term not in function_words(language)] or stems

    def query_terms(question: str) -> list[str]:
        return list(dict.fromkeys(terms(folded_words(question))))[:MAX_QUERY_TERMS]

    ranking = _Ranking([terms(words) for words in indexed])
    return BM25Retriever(vectorizer=ranking, docs=list(passages), k=k, preprocess_func=query_terms)


def check_k(k: int) -> None:
    """Raises SettingsError where ``k`` passages can't be read."""
    if k < 1:
        raise SettingsError(f"k, the number of passages to read, must be at least 1, not {k!r}.")


def language_of(words: Sequence[str]) -> str | None:
    """The language (a Snowball name) of ``words`` (folded), by a sample from all over them; None where unclear."""
    return guess_language(list(words[:: 1 + len(words) // 400]))


def with_titles(passages: Iterable[Document]) -> Iterator[str]:
    """Each passage with the name of its file, the title of its file and the heading above it in front."""
    source = title = heading = ""
    for passage in passages:
        if passage.metadata.get("source", "") != source:
            source, heading = str(passage.metadata.get("source", "")), ""
            title = passage.page_content.strip().split("\n", 1)[0][:200]
        yield f"{Path(source).stem} {title} {heading} {passage.page_content}"
        if found := headings(passage.page_content):
            heading = passage.page_content[slice(*found[-1])]


class _Ranking:
    """What BM25Retriever asks of rank_bm25, but for no passages too, and with ties in the order given.

    BM25Plus, because the plain formula gives words that stand in most of a few passages a negative weight.
    """

    def __init__(self, documents: list[list[str]]) -> None:
        from rank_bm25 import BM25Plus

        self._bm25 = BM25Plus(documents) if any(documents) else None

    def get_top_n(self, query: list[str], documents: list[Document], n: int) -> list[Document]:
        if self._bm25 is None:
            return documents[:n]
        order: Any = (-self._bm25.get_scores(query)).argsort(kind="stable")
        return [documents[index] for index in order[:n]]
