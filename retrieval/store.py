"""The index on disk: one SQLite file, its tables, and what may be wrong with it.

Readers work while it is written (write-ahead log), and see each file whole: old, new or not at all. Whatever the
moment at which a writer is killed, the file is consistent, and the next run goes on from there.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from fourcorners.errors import IndexFileError
from fourcorners.retrieval.folders import INDEX_NAME

APPLICATION_ID = 0x34434E52
"""How SQLite's header says whose file this is: "4CNR"."""
FORMAT = 1
"""To be raised with every change of the tables, of the terms, or of how files become passages."""
_WAIT_S = 30.0
_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE folders (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, name BLOB NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL REFERENCES folders,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    digest BLOB NOT NULL,
    language TEXT,
    problem TEXT NOT NULL,
    UNIQUE (folder, path)
);
CREATE INDEX languages ON files (language);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES files,
    body TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX passages_of_file ON passages (file);
CREATE VIRTUAL TABLE words USING fts5 (terms, tokenize = "ascii tokenchars '.,:'");
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, row);
"""


class FileState(NamedTuple):
    """What the index knows of a file; ``problem`` says why it has no passages, or which part is missing."""

    id: int
    size: int
    changed_ns: int
    digest: bytes
    problem: str


class Entry(NamedTuple):
    """One passage to be kept: its text, its metadata without ``source``, and the terms it is found by."""

    body: str
    metadata: Mapping[str, Any]
    terms: str


def index_file(path: str | os.PathLike[str]) -> Path:
    """The index that ``path`` names: itself, or the one in the folder ``path``."""
    return Path(path, INDEX_NAME) if Path(path).is_dir() else Path(path)


def open_reader(file: Path) -> sqlite3.Connection:
    """A connection that only reads; any thread may use it, one at a time. Raises IndexFileError."""
    if not file.is_file():
        raise IndexFileError(f"no index at {str(file)!r}. Make one: fourcorners index FOLDER --index FILE")
    with explained(file):
        try:
            db = _connected(f"{file.absolute().as_uri()}?mode=ro")
        except sqlite3.OperationalError:
            if os.access(file.parent, os.W_OK):
                raise
            # Nobody writes here, SQLite's own helper files included: then it need not look for a writer either.
            db = _connected(f"{file.absolute().as_uri()}?mode=ro&immutable=1")
        if not _is_ours(db, file):
            db.close()
            raise IndexFileError(f"the index {str(file)!r} is empty. Run fourcorners index again.")
    return db


def _connected(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error:
        db.close()
        raise
    return db


def _is_ours(db: sqlite3.Connection, file: Path) -> bool:
    """Whether it has our tables; False for an empty database. Raises IndexFileError where it is another's."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (written,) = db.execute("PRAGMA user_version").fetchone()
    (n_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and n_tables == 0:
        return False
    if application != APPLICATION_ID:
        raise IndexFileError(f"{str(file)!r} is a database, but no index of fourcorners. Name another file.")
    if written != FORMAT:
        remedy = "update fourcorners" if written > FORMAT else "delete it and run fourcorners index again"
        raise IndexFileError(f"the index {str(file)!r} has format {written}, this version reads {FORMAT}: {remedy}.")
    return True


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """SQLite's errors as IndexFileError."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked, full, read-only, no such module
        reason = f"this Python's SQLite {sqlite3.sqlite_version} lacks FTS5" if "fts5" in str(error) else str(error)
        raise IndexFileError(f"can't use the index {str(file)!r}: {reason}.") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError, json.JSONDecodeError) as error:
        remedy = "Delete it and run fourcorners index again"
        raise IndexFileError(f"the index {str(file)!r} is damaged ({error}). {remedy}.") from error


class Store:
    """The one writer of an index; who makes it holds the lock. Every method is one transaction."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with explained(file):
            self._db = sqlite3.connect(file, timeout=_WAIT_S, isolation_level=None)
        try:
            with explained(file):
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        if not _is_ours(self._db, self._file):
            self._db.execute("PRAGMA journal_mode = WAL")
            script = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; {_TABLES}"
            self._db.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
        # A loss of power may undo the last files written, and never damages the index.
        self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Let go of the file; its write-ahead log is folded in."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done inside is kept, or on an error nothing. May be nested; the outermost counts."""
        if self._db.in_transaction:
            yield
            return
        with explained(self._file):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def made_by(self, version: str) -> bool:
        """Whether the last run was of ``version``, which is noted from now on."""
        with self.transaction():
            last = self._db.execute("SELECT value FROM about WHERE name = 'version'").fetchone()
            self._db.execute("INSERT OR REPLACE INTO about VALUES ('version', ?)", (version,))
        return bool(last == (version,))

    def folders(self) -> dict[bytes, int]:
        """The ids of all folders, by path."""
        with explained(self._file):
            return dict(self._db.execute("SELECT path, id FROM folders").fetchall())

    def forget(self, folder: int) -> None:
        """A folder and all its files."""
        with self.transaction():
            for path in self.files(folder):
                self.remove(folder, path)
            self._db.execute("DELETE FROM folders WHERE id = ?", (folder,))

    def folder(self, path: bytes, name: bytes) -> int:
        """The id of the folder at ``path``; ``name`` is what its files' sources begin with from now on."""
        with self.transaction():
            sql = "INSERT INTO folders (path, name) VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET name = excluded.name"
            self._db.execute(sql, (path, name))
            (found,) = self._db.execute("SELECT id FROM folders WHERE path = ?", (path,)).fetchone()
        return int(found)

    def files(self, folder: int) -> dict[bytes, FileState]:
        """All files of a folder, by path."""
        with explained(self._file):
            rows = self._db.execute(
                "SELECT path, id, size, changed_ns, digest, problem FROM files WHERE folder = ?", (folder,)
            )
            return {path: FileState(*state) for path, *state in rows}

    def put(self, folder: int, path: bytes, state: FileState, language: str | None, entries: Iterable[Entry]) -> None:
        """A file with its passages, in place of what was there of it; the id in ``state`` counts for nothing."""
        with self.transaction():
            self.remove(folder, path)
            sql = "INSERT INTO files (folder, path, size, changed_ns, digest, language, problem) VALUES (?,?,?,?,?,?,?)"
            file = self._db.execute(sql, (folder, path, *state[1:4], language, state.problem)).lastrowid
            for entry in entries:
                sql = "INSERT INTO passages (file, body, metadata) VALUES (?, ?, ?)"
                row = self._db.execute(sql, (file, entry.body, json.dumps(dict(entry.metadata)))).lastrowid
                self._db.execute("INSERT INTO words (rowid, terms) VALUES (?, ?)", (row, entry.terms))

    def touch(self, state: FileState, size: int, changed_ns: int) -> None:
        """The same content was written again."""
        with self.transaction():
            self._db.execute("UPDATE files SET size = ?, changed_ns = ? WHERE id = ?", (size, changed_ns, state.id))

    def remove(self, folder: int, path: bytes) -> None:
        """A file and its passages, if it is there."""
        with self.transaction():
            found = self._db.execute("SELECT id FROM files WHERE folder = ? AND path = ?", (folder, path)).fetchone()
            if found:
                self._db.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM passages WHERE file = ?)", found)
                self._db.execute("DELETE FROM passages WHERE file = ?", found)
                self._db.execute("DELETE FROM files WHERE id = ?", found)

    def n_passages(self) -> int:
        """How many passages there are in all."""
        with explained(self._file):
            return int(self._db.execute("SELECT count(*) FROM passages").fetchone()[0])
