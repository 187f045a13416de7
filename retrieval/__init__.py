"""From files to the passages that a question is answered from: reading, cutting, ranking.

A passage is ``text[start:end]`` of its file, exactly. Its metadata say where it stands: ``source`` (the path as given),
``start`` (characters from the beginning of the file's text, a byte order mark not counted) and ``line`` (from 1).
"""

from fourcorners.retrieval.loading import load_passages
from fourcorners.retrieval.passages import line_of, passages_of
from fourcorners.retrieval.ranking import bm25_retriever
from fourcorners.retrieval.reading import STDIN, read_text

__all__ = ["STDIN", "bm25_retriever", "line_of", "load_passages", "passages_of", "read_text"]
