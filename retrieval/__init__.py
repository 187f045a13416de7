"""From files to the passages that a question is answered from: reading, cutting, ranking, and an index on disk.

A passage is ``text[start:end]`` of its file, exactly. Its metadata say where it stands: ``source`` (the path as given),
``start`` (characters from the beginning of the file's text, a byte order mark not counted) and ``line`` (from 1).
One of a PDF has ``page`` too, its ``start`` and ``line`` being those on the page; one of a Word file ``paragraph``.
"""

from fourcorners.retrieval.index import DocumentIndex, IndexRetriever, open_index
from fourcorners.retrieval.indexing import IndexReport, index_folder
from fourcorners.retrieval.loading import load_passages
from fourcorners.retrieval.passages import line_of, passages_of, place_of
from fourcorners.retrieval.ranking import bm25_retriever
from fourcorners.retrieval.reading import STDIN, read_text
from fourcorners.retrieval.retriever import retriever_for

__all__ = [
    "STDIN",
    "DocumentIndex",
    "IndexReport",
    "IndexRetriever",
    "bm25_retriever",
    "index_folder",
    "line_of",
    "load_passages",
    "open_index",
    "passages_of",
    "place_of",
    "read_text",
    "retriever_for",
]
