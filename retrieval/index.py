"""The index on disk as a retriever: BM25 by SQLite's FTS5 over the terms of each passage."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from fourcorners.errors import IndexFileError
from fourcorners.grounding.words import folded_words, function_words
from fourcorners.retrieval.passages import passage_id
from fourcorners.retrieval.ranking import MAX_QUERY_TERMS, check_k
from fourcorners.retrieval.reading import printable
from fourcorners.retrieval.store import explained, index_file, open_reader
from fourcorners.retrieval.terms import DEFAULT_LANGUAGE, terms_of

MIN_PART_CHARS = 3
"""A word of a question that stands nowhere is looked for inside longer words, from this length on."""
MAX_PARTS = 8
"""So many such words at most: for each, all words of the index are gone through."""
MAX_LONGER_WORDS = 24
MAX_QUESTION_WORDS = 2_000
_COLUMNS = "passages.body, passages.metadata, folders.name, files.path"
_WHOLE = "passages JOIN files ON files.id = passages.file JOIN folders ON folders.id = files.folder"
_NEAREST = f"""
WITH nearest AS (SELECT rowid, rank AS score FROM words WHERE words MATCH ? ORDER BY rank, rowid LIMIT ?)
SELECT {_COLUMNS} FROM nearest JOIN {_WHOLE} WHERE passages.id = nearest.rowid ORDER BY score, passages.id
"""
_ALL = f"SELECT {_COLUMNS} FROM {_WHOLE} ORDER BY passages.id LIMIT ?"


def open_index(path: str | os.PathLike[str]) -> DocumentIndex:
    """The index in the file ``path``, or that of the folder ``path``. Raises IndexFileError where it can't be used."""
    return DocumentIndex(index_file(path))


class DocumentIndex:
    """An index made by ``index_folder``, open for reading; use ``open_index``. Its ``len`` is the number of passages.

    May be shared by any number of threads: each search takes a connection of its own. What is indexed meanwhile is
    found by the next search.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._idle, self._closed = file, list[sqlite3.Connection](), False
        self._owner, self._inode, self._inherited = os.getpid(), 0, list[sqlite3.Connection]()
        len(self)

    def search(self, question: str, k: int = 4) -> list[Document]:
        """The ``k`` passages nearest to ``question``, best first; fewer where fewer share a term with it.

        An index of no more than ``k`` passages is returned whole: to leave any of it unread would save nothing.
        """
        check_k(k)
        with self._connection() as db:
            terms = _known_terms(db, question)
            query = " OR ".join(_quoted(term) for term in terms)
            rows = db.execute(_NEAREST, (query, k)).fetchall() if terms else []
            if len(rows) < k:
                everything = db.execute(_ALL, (k + 1,)).fetchall()
                rows += [row for row in everything if row not in rows] if len(everything) <= k else []
            return [_document(*row) for row in rows]

    def as_retriever(self, k: int = 4) -> IndexRetriever:
        """A LangChain retriever of ``k`` passages. Raises SettingsError."""
        check_k(k)
        return IndexRetriever(index=self, k=k)

    def close(self) -> None:
        """Let go of the file; searches raise IndexFileError from now on. Not while others search."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __len__(self) -> int:
        with self._connection() as db:
            return int(db.execute("SELECT count(*) FROM passages").fetchone()[0])

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> DocumentIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One that nobody else uses meanwhile."""
        if self._closed:
            raise IndexFileError(f"the index {str(self._file)!r} was closed. Open it again.")
        self._drop_stale()
        try:
            db = self._idle.pop()
        except IndexError:
            db = open_reader(self._file)
        try:
            with explained(self._file):
                db.execute("BEGIN")  # all that is read inside is of one moment
                yield db
                db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        if self._closed:
            db.close()
        else:
            self._idle.append(db)

    def _drop_stale(self) -> None:
        """Connections of the process that forked this one, or to a file that another took the place of."""
        if self._owner != os.getpid():
            self._owner, self._inherited, self._idle = os.getpid(), self._idle, []  # to close them would disturb it
        try:
            inode = self._file.stat().st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            self._inode = inode
            while self._idle:
                self._idle.pop().close()


class IndexRetriever(BaseRetriever):
    """The ``k`` passages of ``index`` nearest to a question; ``DocumentIndex.as_retriever`` makes one."""

    index: DocumentIndex
    k: int = 4

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return self.index.search(query, self.k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return await asyncio.to_thread(self.index.search, query, self.k)


def _known_terms(db: sqlite3.Connection, question: str) -> list[str]:
    """The terms of ``question`` that stand in the index, rarest first, by the stems of each language in it.

    One that stands nowhere is replaced by the terms that it is a part of: "schiff" by "dampfschiff".
    """
    known, unknown = dict[str, int](), list[str]()
    for term in _query_terms(db, question):
        if row := db.execute("SELECT doc FROM vocabulary WHERE term = ?", (term,)).fetchone():
            known[term] = row[0]
        elif len(term) >= MIN_PART_CHARS:
            unknown.append(term)
    for part in unknown[:MAX_PARTS]:
        sql = "SELECT term, doc FROM vocabulary WHERE instr(term, ?) ORDER BY doc DESC, term LIMIT ?"
        known |= dict(db.execute(sql, (part, MAX_LONGER_WORDS)).fetchall())
    return sorted(known, key=lambda term: known[term])[:MAX_QUERY_TERMS]


def _query_terms(db: sqlite3.Connection, question: str) -> list[str]:
    words = list(dict.fromkeys(folded_words(question)))[:MAX_QUESTION_WORDS]
    rows = db.execute("SELECT DISTINCT language FROM files WHERE language IS NOT NULL ORDER BY language").fetchall()
    languages = [name for (name,) in rows] or [DEFAULT_LANGUAGE]
    by_language = [(terms_of(words, name), function_words(name)) for name in languages]
    every = dict.fromkeys(term for terms, _ in by_language for term in terms)
    telling = dict.fromkeys(term for terms, common in by_language for term in terms if term not in common)
    return list(telling or every)


def _quoted(term: str) -> str:
    """A string of FTS5's query language: nothing inside it is an operator."""
    return '"' + term.replace('"', '""') + '"'


def _document(body: str, metadata: str, folder: bytes, path: bytes) -> Document:
    source = printable(str(Path(os.fsdecode(folder), os.fsdecode(path))))
    found: dict[str, Any] = {"source": source} | json.loads(metadata)
    return Document(page_content=body, metadata=found, id=passage_id(found))
