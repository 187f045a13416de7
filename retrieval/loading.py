"""Files, folders and standard input as passages."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from langchain_core.documents import Document

from fourcorners.errors import SourceError
from fourcorners.retrieval.folders import files_below
from fourcorners.retrieval.formats import SUFFIXES, Extract, passages_in
from fourcorners.retrieval.reading import STDIN, read_bytes

_warn = logging.getLogger(__name__).warning


def load_passages(
    paths: Iterable[str | os.PathLike[str]], stdin: BinaryIO | None = None, warn: Callable[[str], object] = _warn
) -> list[Document]:
    """The passages of files, folders and standard input (``-``), in the order given; a file given twice is read once.

    Raises SourceError for what is named and can't be read as text. What is skipped inside a folder (hidden, not text by
    name, unreadable) is told to ``warn``; a folder without any text is an error.
    """
    read, passages = set[str](), list[Document]()
    for path in [os.fspath(path) for path in paths]:
        usable = False
        for source in _sources(path, warn):
            file = source if source == STDIN else os.path.realpath(source)
            try:
                if file not in read:
                    extract = read_passages(source, stdin)
                    passages.extend(extract.passages)
                    if extract.missed:
                        warn(extract.missed)
                read.add(file)
                usable = True
            except SourceError as error:
                if source == path:
                    raise
                warn(f"skipped: {error}")
        if not usable:
            raise SourceError(f"no text to read in folder {path!r} ({', '.join(SUFFIXES)}). Name other files.")
    return passages


def read_passages(path: str, stdin: BinaryIO | None = None) -> Extract:
    """The passages of one file. Raises SourceError with the reason and a remedy."""
    return passages_in(read_bytes(path, stdin), path)


def _sources(path: str, warn: Callable[[str], object]) -> Iterator[str]:
    """``path`` itself, or what can be read below the folder ``path``."""
    if path == STDIN or not Path(path).is_dir():
        yield path
    else:
        yield from files_below(path, warn, warn)
