"""What the command line and the server retrieve with: files as they are, or an index of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from langchain_core.retrievers import BaseRetriever

from fourcorners.errors import SettingsError
from fourcorners.retrieval.index import open_index
from fourcorners.retrieval.loading import load_passages
from fourcorners.retrieval.ranking import bm25_retriever

_warn = logging.getLogger(__name__).warning


def retriever_for(
    paths: Sequence[str | os.PathLike[str]] = (),
    index: str | os.PathLike[str] | None = None,
    k: int = 4,
    *,
    warn: Callable[[str], object] = _warn,
) -> BaseRetriever:
    """The ``k`` nearest passages of the files and folders ``paths``, read now, or of an ``index`` on disk.

    Raises SettingsError where both are given, SourceError and IndexFileError where one of them can't be read.
    """
    if index is None:
        return bm25_retriever(load_passages(paths, warn=warn), k)
    if paths:
        raise SettingsError(f"files ({os.fspath(paths[0])!r}) and an index ({os.fspath(index)!r}): give one of them.")
    return open_index(index).as_retriever(k)
