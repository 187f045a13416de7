"""Files, folders and standard input as passages."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from langchain_core.documents import Document

from fourcorners.errors import SourceError
from fourcorners.retrieval.passages import passages_of
from fourcorners.retrieval.reading import STDIN, read_text

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")
"""What is read in a folder; a file that is named itself may have any name."""

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
                    passages.extend(passages_of(read_text(source, stdin), source))
                read.add(file)
                usable = True
            except SourceError as error:
                if source == path:
                    raise
                warn(f"skipped: {error}")
        if not usable:
            raise SourceError(f"no text to read in folder {path!r} ({', '.join(TEXT_SUFFIXES)}). Name other files.")
    return passages


def _sources(path: str, warn: Callable[[str], object]) -> Iterator[str]:
    """``path`` itself, or the text files below the folder ``path``: sorted, files before subfolders."""
    if path == STDIN or not Path(path).is_dir():
        yield path
        return
    hidden, other = list[str](), list[str]()
    for parent, folders, names in os.walk(path, onerror=lambda error: warn(f"skipped: {error}")):
        hidden += [str(Path(parent, name)) for name in (*folders, *names) if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(parent, name)
            if name.lower().endswith(TEXT_SUFFIXES) and file.is_file():
                yield str(file)
            else:
                other.append(str(file))
    for skipped, reason in ((hidden, "hidden"), (other, "not text by name; to have one read, name it")):
        if skipped:
            more = f" and {len(skipped) - 4} more" if len(skipped) > 4 else ""
            warn(f"skipped: {', '.join(sorted(skipped)[:4])}{more} ({reason})")
