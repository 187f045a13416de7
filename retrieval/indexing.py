"""A folder taken up into an index on disk: what is new or changed is read, what is gone is forgotten."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from langchain_core.documents import Document

from fourcorners.errors import IndexFileError, SourceError
from fourcorners.grounding.words import folded_words
from fourcorners.retrieval.folders import INDEX_NAME, files_below
from fourcorners.retrieval.formats import SUFFIXES, MissingPackage, passages_in
from fourcorners.retrieval.ranking import language_of, with_titles
from fourcorners.retrieval.reading import printable, read_bytes
from fourcorners.retrieval.store import Entry, FileState, Store, index_file
from fourcorners.retrieval.terms import DEFAULT_LANGUAGE, terms_of

BATCH_S = 0.5
"""Files read within this time are committed together; a kill loses no more."""
_YOUNG_NS = 2 * 10**9
"""A file changed so shortly before it was read may be changed again within the same tick of the clock."""
_UNSURE = -1
_SKIPPED = "skipped: "
_warn = logging.getLogger(__name__).warning


@dataclass
class IndexReport:
    """What one run did. ``skipped`` are the files, and folders, that could not be read, each with the reason."""

    file: Path
    n_read: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_passages: int = 0
    skipped: list[str] = field(default_factory=list)


def index_folder(
    folder: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    *,
    warn: Callable[[str], object] = _warn,
    progress: Callable[[str, int, int], object] = lambda file, done, total: None,
) -> IndexReport:
    """Bring the index up to date with the files below ``folder``; by default it lies in the folder, hidden.

    Several folders may share an index. What can't be read, or only in part, is told to ``warn`` and left out, every
    time anew; ``progress`` is called with each file, how many are done, and of how many. May be killed at any moment
    and run again; readers of the index go on meanwhile. Raises SourceError where the folder has no file of a readable
    kind (the index is then left as it is), IndexFileError where the index can't be used or somebody else writes it.
    """
    top = os.fspath(folder)
    if not Path(top).is_dir():
        raise SourceError(f"no such folder: {printable(top)!r}. An index is made of a folder.")
    report = IndexReport(index_file(index) if index is not None else Path(top, INDEX_NAME))

    def skip(message: str) -> None:
        report.skipped.append(message)
        warn(message)

    files = list(dict.fromkeys(_once(files_below(top, warn, skip, _own_files(report.file)))))
    if not files:
        raise SourceError(f"no text to read in folder {printable(top)!r} ({', '.join(SUFFIXES)}). Name another folder.")
    with _locked(report.file):
        store = Store(report.file)
        try:
            _Run(store, top, report, skip, warn).take(files, progress)
            report.n_passages = store.n_passages()
        finally:
            store.close()
    return report


class _Run:
    """One run over one folder."""

    def __init__(
        self,
        store: Store,
        top: str,
        report: IndexReport,
        skip: Callable[[str], object],
        warn: Callable[[str], object],
    ) -> None:
        self._store, self._top, self._report, self._skip, self._warn = store, top, report, skip, warn
        self._trusts_problems = store.made_by(
            version("fourcorners")
        )  # another version may read what the last could not
        # Seen from the index, so that both may be moved together.
        base = os.path.realpath(report.file.parent)
        self._forget_folders(base)
        self._folder = store.folder(os.fsencode(os.path.relpath(os.path.realpath(top), base)), os.fsencode(top))
        self._known = store.files(self._folder)

    def _forget_folders(self, base: str) -> None:
        for path, folder in self._store.folders().items():
            place = Path(base, os.fsdecode(path))
            if not place.is_dir():
                self._report.n_removed += len(self._store.files(folder))
                self._store.forget(folder)
                self._warn(f"forgotten: the folder {printable(os.path.normpath(place))!r} is no longer there")

    def take(self, files: Sequence[str], progress: Callable[[str, int, int], object]) -> None:
        paths = {os.fsencode(os.path.relpath(file, self._top)): file for file in files}
        with self._store.transaction():
            for path in self._known.keys() - paths.keys():
                self._store.remove(self._folder, path)
                self._report.n_removed += 1
        waiting = list(reversed(paths.items()))
        while waiting:
            until = time.monotonic() + BATCH_S
            with self._store.transaction():
                while waiting:
                    path, file = waiting.pop()
                    progress(file, len(paths) - len(waiting) - 1, len(paths))
                    self._one(path, file)
                    if time.monotonic() >= until:
                        break

    def _one(self, path: bytes, file: str) -> None:
        known = self._known.get(path)
        try:
            stat = Path(file).stat()
            age_ns = time.time_ns() - stat.st_mtime_ns
            state = FileState(0, stat.st_size, stat.st_mtime_ns if age_ns > _YOUNG_NS else _UNSURE, b"", "")
            trusted = known is not None and (self._trusts_problems or not known.problem)
            if known is not None and trusted and (known.size, known.changed_ns) == (stat.st_size, stat.st_mtime_ns):
                self._unchanged(known)
                return
            data = read_bytes(file)
        except (OSError, SourceError) as error:
            reason = error if isinstance(error, SourceError) else f"can't read {printable(file)!r}: {error.strerror}."
            self._skip(f"{_SKIPPED}{reason}")
            self._store.remove(self._folder, path)
            return
        state = state._replace(digest=blake2b(data, digest_size=16).digest())
        if known is not None and trusted and state.digest == known.digest:
            self._store.touch(known, state.size, state.changed_ns)
            self._unchanged(known)
            return
        self._read(path, file, data, state)

    def _unchanged(self, known: FileState) -> None:
        if known.problem.startswith(_SKIPPED):
            self._skip(known.problem)
            return
        self._report.n_unchanged += 1
        if known.problem:
            self._warn(known.problem)

    def _read(self, path: bytes, file: str, data: bytes, state: FileState) -> None:
        try:
            passages, missed = passages_in(data, file, any_encoding=True)
        except SourceError as error:
            problem = f"{_SKIPPED}{error}"
            self._skip(problem)
            if isinstance(error, MissingPackage):
                self._store.remove(self._folder, path)
            else:
                self._store.put(self._folder, path, state._replace(problem=problem), None, ())
            return
        if missed:
            self._warn(missed)
        words = [folded_words(text) for text in with_titles(passages)]
        language = language_of([word for some in words for word in some]) or DEFAULT_LANGUAGE
        entries = _entries(passages, words, language)
        self._store.put(self._folder, path, state._replace(problem=missed), language, entries)
        self._report.n_read += 1


def _entries(passages: Sequence[Document], words: Sequence[list[str]], language: str) -> Iterator[Entry]:
    for passage, some in zip(passages, words, strict=True):
        metadata = {name: value for name, value in passage.metadata.items() if name != "source"}
        yield Entry(passage.page_content, metadata, " ".join(terms_of(some, language)))


def _once(files: Iterator[str]) -> Iterator[str]:
    """A file that is reached by several links only the first time."""
    seen = set[str]()
    for file in files:
        real = os.path.realpath(file)
        if real not in seen:
            seen.add(real)
            yield file


def _own_files(index: Path) -> set[str]:
    return {str(index) + ending for ending in ("", "-wal", "-shm", "-journal", ".lock")}


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Raises IndexFileError at once where another process holds the lock; the system frees it when a holder dies."""
    from filelock import FileLock, Timeout

    if not file.parent.is_dir():
        raise IndexFileError(f"no folder {str(file.parent)!r} to keep the index in. Make it, or name another FILE.")
    lock = FileLock(f"{file}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise IndexFileError(f"the index {str(file)!r} is being written by another process. Try later.") from error
    except OSError as error:
        raise IndexFileError(f"can't write the index {str(file)!r}: {error.strerror}. Name another FILE.") from error
    try:
        yield
    finally:
        lock.release()
