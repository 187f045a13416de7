"""The index on disk: what it takes up, what it forgets, and what becomes of it when something goes wrong."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import IndexFileError, SourceError
from fourcorners.retrieval import IndexReport, index_folder, indexing, load_passages, open_index, store
from fourcorners.retrieval.formats import Extract, passages_in
from fourcorners.retrieval.indexing import _locked
from fourcorners.retrieval.reading import read_bytes
from tests.retrieval.made_files import SCAN, encrypted, pdf, put, word

LONG_AGO = 1_600_000_000


def silent(_: str) -> None:
    """Nobody listens."""


def run(folder: Path, index: Path | None = None, warn: Callable[[str], object] = silent) -> IndexReport:
    return index_folder(folder, index, warn=warn)


def counts(report: IndexReport) -> tuple[int, int, int, int]:
    return report.n_read, report.n_unchanged, report.n_removed, len(report.skipped)


def content(file: Path) -> list[tuple[object, ...]]:
    """All that an index holds, but for ids and times."""
    with sqlite3.connect(file) as db:
        sql = """SELECT files.path, passages.body, passages.metadata, words.terms, files.language
            FROM passages JOIN files ON files.id = passages.file JOIN words ON words.rowid = passages.id"""
        rows = sorted(db.execute(sql).fetchall())
        assert len(rows) == db.execute("SELECT count(*) FROM words").fetchone()[0]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        problems = db.execute("SELECT path, problem FROM files WHERE problem <> ''").fetchall()
    db.close()
    return rows + sorted(problems)


def aged(folder: Path) -> None:
    """Files that were changed long ago, so that their times can be trusted."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    put(
        made,
        boat_md="# The boat\n\nIt sails at nine.",
        sub__mill_txt="The mill burned down in 1734.",
        pump_pdf=pdf([["The pump weighs nine kilograms."], ["The warranty is 24 months."]]),
        terms_docx=word("# Terms", "The deposit is 50 euros."),
        museum_html="<h1>Museum</h1><p>It opens at ten.</p>",
    )
    return made


# What is read


def test_all_formats_are_found_with_their_places(folder: Path) -> None:
    report = run(folder)
    assert (report.file, counts(report), report.n_passages) == (folder / ".fourcorners.db", (5, 0, 0, 0), 6)
    questions = {
        "When does the boat sail?": ("boat.md", {"start": 0, "line": 1}),
        "When did the mill burn?": ("sub/mill.txt", {"start": 0, "line": 1}),
        "How long is the warranty?": ("pump.pdf", {"start": 0, "line": 1, "page": 2}),
        "How much is the deposit?": ("terms.docx", {"start": 0, "line": 1, "paragraph": 1}),
        "When does the museum open?": ("museum.html", {"start": 0, "line": 1}),
    }
    with open_index(folder) as index:
        assert len(index) == 6
        for question, (name, place) in questions.items():
            (found,) = index.search(question, k=1)
            assert found.metadata == {"source": str(folder / name), **place}


def test_the_index_holds_what_reading_the_files_would_give(folder: Path) -> None:
    run(folder)
    passages = load_passages([folder], warn=silent)
    with open_index(folder) as index:
        found = index.search("anything", k=100)
    assert sorted(found, key=lambda p: str(p.id)) == sorted(passages, key=lambda p: str(p.id))


def test_what_can_not_be_read_is_named_with_the_reason_every_time(folder: Path) -> None:
    put(
        folder,
        locked_pdf=encrypted(pdf([["x"]]), "secret", "boss", "AES-256"),
        broken_pdf=b"%PDF-1.7 nothing",
        scanned_pdf=pdf([SCAN]),
        half_pdf=pdf([["Some text."], SCAN]),
        empty_txt="",
        binary_txt=b"\x7fELF\0\0\0",
        broken_docx=b"PK\x03\x04",
        latin_txt="Das Café schließt um fünf.".encode("latin1"),
        wide_txt="The wide text stands here.".encode("utf-16"),
    )
    reasons = ("protected with a password", "not a PDF", "no text layer", "is empty", "is binary", "not a Word file")
    for expected in ((8, 0, 0, 6), (0, 8, 0, 6)):
        said: list[str] = []
        report = run(folder, warn=said.append)
        assert counts(report) == expected
        assert all(sum(reason in line for line in report.skipped) == 1 for reason in reasons)
        assert [line for line in said if line not in report.skipped] == [
            f"no text on page 2 of '{folder}/half.pdf' (blank or scanned)"
        ]
        aged(folder)
    with open_index(folder) as index:
        assert index.search("Wann schließt das Café?", k=1)[0].page_content.startswith("Das Café")
        assert index.search("wide text", k=1)[0].page_content.startswith("The wide")


def test_too_large_or_unreadable_files_are_skipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder)
    from fourcorners.retrieval import reading

    (folder / "boat.md").write_text("x" * 2000)
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 1_000)
    (folder / "terms.docx").unlink()
    aged(folder)
    report = run(folder)
    assert any("boat.md' is larger than" in line for line in report.skipped)
    with open_index(folder) as index:
        assert not [p for p in index.search("boat sails", k=100) if "boat.md" in p.metadata["source"]]


def test_a_subfolder_that_can_not_be_read_is_a_skip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = os.walk

    def refusing(top: str, onerror: Callable[[OSError], None]) -> object:
        onerror(PermissionError(13, "Permission denied", str(folder / "sub")))
        return (step for step in walk(top) if Path(step[0]).name != "sub")

    monkeypatch.setattr("fourcorners.retrieval.folders.os.walk", refusing)  # chmod would not stop root
    report = run(folder)
    assert report.skipped == [f"skipped: can't read the folder '{folder}/sub': Permission denied"]


def test_hidden_files_and_links_in_circles(folder: Path) -> None:
    put(folder, sub__deep__note_txt="A note.")
    (folder / ".secret.txt").write_text("hidden")
    (folder / "sub" / "deep" / "loop").symlink_to(folder)
    (folder / "self.txt").symlink_to(folder / "self.txt")
    (folder / "again.md").symlink_to(folder / "boat.md")
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    os.mkfifo(folder / "pipe.txt")
    said: list[str] = []
    assert counts(run(folder, warn=said.append)) == (6, 0, 0, 0)
    assert len(said) == 3
    assert "(hidden)" in said[0]
    assert "loop (a link to a folder" in said[1]
    assert all(name in said[2] for name in ("self.txt", "gone.txt", "pipe.txt"))


def test_odd_names_are_kept_apart_and_can_be_printed(folder: Path) -> None:
    names = [b"caf\xe9.txt", "café.txt".encode(), b"new\nline.txt", b"quo\"te'.txt", "東京.txt".encode(), b"-rf.txt"]
    for number, name in enumerate(names):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_text(f"Zebra number {number}.")  # noqa: PTH118
    assert counts(run(folder)) == (11, 0, 0, 0)
    with open_index(folder) as index:
        found = index.search("zebra", k=6)
    assert len(found) == 6
    sources = {passage.metadata["source"].removeprefix(f"{folder}/") for passage in found}
    assert sources == {"caf\\xe9.txt", "café.txt", "new\nline.txt", "quo\"te'.txt", "東京.txt", "-rf.txt"}
    assert all(source.encode() for source in sources)
    aged(folder)
    run(folder)
    assert counts(run(folder)) == (0, 11, 0, 0)


def test_a_folder_without_text_leaves_the_index_as_it_is(folder: Path) -> None:
    report = run(folder)
    before = content(report.file)
    for path in [*folder.glob("*.*"), folder / "sub" / "mill.txt"]:
        if not path.name.startswith("."):
            path.unlink()
    with pytest.raises(SourceError, match="no text to read in folder"):
        run(folder)
    assert content(report.file) == before
    with pytest.raises(SourceError, match="no such folder: 'nope'"):
        run(Path("nope"))
    assert not Path("nope").exists()


def test_several_folders_may_share_an_index(folder: Path, tmp_path: Path) -> None:
    other, index = tmp_path / "other", tmp_path / "shared.db"
    put(other, tower_md="The tower is 90 metres high.")
    assert run(folder, index).n_passages == 6
    assert counts(run(other, index)) == (1, 0, 0, 0)
    assert run(folder, index).n_passages == 7
    with open_index(index) as opened:
        assert opened.search("How high is the tower?", k=1)[0].metadata["source"] == str(other / "tower.md")


def test_folder_and_index_may_be_moved_together_and_a_folder_that_is_gone_is_forgotten(
    folder: Path, tmp_path: Path
) -> None:
    aged(folder)
    run(folder)
    folder.rename(tmp_path / "moved")
    assert counts(run(tmp_path / "moved")) == (0, 5, 0, 0)
    with open_index(tmp_path / "moved") as index:
        assert index.search("boat", k=1)[0].metadata["source"] == str(tmp_path / "moved" / "boat.md")
    shared, said = tmp_path / "shared.db", list[str]()
    put(tmp_path / "other", tower_md="The tower is 90 metres high.")
    run(tmp_path / "moved", shared)
    (tmp_path / "moved").rename(tmp_path / "again")
    assert counts(run(tmp_path / "other", shared, said.append)) == (1, 0, 5, 0)
    assert said == [f"forgotten: the folder '{tmp_path}/moved' is no longer there"]
    with open_index(shared) as index:
        assert len(index) == 1


# What is new, changed or gone


def test_only_what_changed_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(folder)
    assert counts(run(folder)) == (5, 0, 0, 0)
    opened: list[str] = []

    def reading(file: str) -> bytes:
        opened.append(file)
        return read_bytes(file)

    monkeypatch.setattr(indexing, "read_bytes", reading)
    assert counts(run(folder)) == (0, 5, 0, 0)
    assert opened == []
    os.utime(folder / "boat.md")  # touched, the content is the same
    assert counts(run(folder)) == (0, 5, 0, 0)
    (folder / "boat.md").write_text("# The boat\n\nIt sails at TEN.")
    (folder / "pump.pdf").rename(folder / "well.pdf")
    (folder / "museum.html").unlink()
    assert counts(run(folder)) == (2, 2, 2, 0)
    with open_index(folder) as index:
        names = {Path(passage.metadata["source"]).name for passage in index.search("anything", k=100)}
        assert names == {"boat.md", "mill.txt", "well.pdf", "terms.docx"}
        assert "at TEN" in index.search("When does the boat sail?", k=1)[0].page_content


def test_a_change_within_one_tick_of_the_clock_is_seen(folder: Path) -> None:
    (folder / "boat.md").write_text("It sails at nine.")
    stat = (folder / "boat.md").stat()
    run(folder)
    (folder / "boat.md").write_text("It sails at nigh.")
    os.utime(folder / "boat.md", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert counts(run(folder)) == (1, 4, 0, 0)


def test_what_another_version_could_not_read_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, broken_docx=b"PK\x03\x04")
    aged(folder)
    run(folder)
    tried: list[str] = []

    def taking(data: bytes, file: str, any_encoding: bool) -> Extract:
        tried.append(file)
        return passages_in(data, file, any_encoding=any_encoding)

    monkeypatch.setattr(indexing, "passages_in", taking)
    run(folder)
    assert tried == []
    monkeypatch.setattr(indexing, "version", lambda _: "99.0")
    run(folder)
    assert tried == [str(folder / "broken.docx")]


change = st.tuples(
    st.sampled_from(["write", "delete", "rename", "break", "touch"]),
    st.sampled_from(["a.txt", "b.md", "c.txt", "d/e.txt"]),
    st.sampled_from(
        ["One text.", "Another text, and longer.", "# Head\n\nBody " * 300, "Ein Text über Käse und der die das."]
    ),
)


@given(st.lists(st.lists(change, max_size=4), min_size=1, max_size=4))
def test_an_index_brought_up_to_date_is_like_a_new_one(rounds: list[list[tuple[str, str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "docs")
        put(folder, always_txt="Always here.", d__x_txt="X.")
        for changes in rounds:
            for action, name, text in changes:
                path = folder / name
                if action in ("write", "break"):
                    path.write_bytes(text.encode() if action == "write" else b"\0\1\2")
                elif path.exists() and action == "delete":
                    path.unlink()
                elif path.exists() and action == "rename":
                    path.rename(path.with_name("new.txt"))
                elif path.exists():
                    os.utime(path, (LONG_AGO, LONG_AGO))
            old, new = Path(scratch, "old.db"), Path(scratch, "new.db")
            run(folder, old)
            new.unlink(missing_ok=True)
            run(folder, new)
            assert content(old) == content(new)


# Killed, disturbed, damaged

SLOW = """
import sys
from fourcorners.retrieval import indexing
indexing.BATCH_S = 0.0  # each file by itself
print("ready", flush=True)
indexing.index_folder(sys.argv[1], sys.argv[2], warn=print, progress=lambda *at: print(at[1], flush=True))
"""


def many(folder: Path, n_files: int) -> Path:
    chance = random.Random(7)
    words = [f"word{number}" for number in range(500)]
    for number in range(n_files):
        put(folder, **{f"f{number}_txt": f"File {number}. " + " ".join(chance.choices(words, k=600)) + "."})
    aged(folder)
    return folder


def started(folder: Path, index: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(folder), str(index)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_killed_at_any_moment_and_run_again_it_is_complete(tmp_path: Path) -> None:
    folder, index, whole = many(tmp_path / "docs", 250), tmp_path / "index.db", tmp_path / "whole.db"
    run(folder, whole)
    chance = random.Random(3)
    n_before = -1
    for reached in (0, 30, 100, 180):
        process = started(folder, index)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == str(reached):
                break
        time.sleep(chance.random() / 200)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        held = content(index) if index.stat().st_size else []
        assert set(held) <= set(content(whole))
        assert len(held) >= n_before
        n_before = len(held)
    assert 0 < n_before < len(content(whole))
    report = run(folder, index)
    assert 0 < report.n_read < 250
    assert report.n_read + report.n_unchanged == 250
    assert content(index) == content(whole)


def test_two_at_once_are_told_apart(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.db"
    process = started(many(tmp_path / "many", 200), index)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "5":
            break
    with pytest.raises(IndexFileError, match=r"index\.db' is being written by another process"):
        run(folder, index)
    process.kill()
    process.communicate()
    assert counts(run(folder, index)) == (5, 0, 0, 0)
    with _locked(index), pytest.raises(IndexFileError, match="another process"):
        run(folder, index)


def test_readers_go_on_while_it_is_written_and_see_whole_files(tmp_path: Path) -> None:
    folder = many(tmp_path / "docs", 120)
    run(folder)
    stop, faults, n_searches = threading.Event(), list[BaseException](), 0

    def search() -> None:
        nonlocal n_searches
        try:
            while not stop.is_set():
                found = index.search("file word1 word2 word3", k=1000)
                by_file: dict[str, list[str]] = {}
                for passage in found:
                    by_file.setdefault(passage.metadata["source"], []).append(passage.page_content)
                for texts in by_file.values():
                    assert len({text.rpartition("round ")[2] for text in texts if "round " in text}) <= 1
                n_searches += 1
        except BaseException as error:
            faults.append(error)

    with open_index(folder) as index:
        readers = [threading.Thread(target=search) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(3):
            for path in folder.glob("*.txt"):
                path.write_text(f"File word1 word2. {'More. ' * 300} round {number}")
            assert run(folder).n_read == 120
        stop.set()
        for reader in readers:
            reader.join(30)
        assert faults == []
        assert n_searches > 3
        assert all("round 2" in passage.page_content for passage in index.search("round", k=100))


def test_files_that_are_no_index_of_ours_are_left_alone(folder: Path, tmp_path: Path) -> None:
    notes, foreign, newer, older = (tmp_path / name for name in ("notes.txt", "foreign.db", "newer.db", "older.db"))
    notes.write_text("These are notes, not an index. " * 100)
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    for file, number in ((newer, store.FORMAT + 1), (older, store.FORMAT - 1)):
        run(folder, file)
        with sqlite3.connect(file) as db:
            db.execute(f"PRAGMA user_version = {number}")
        db.close()
    expected = {
        notes: "is damaged (file is not a database). Delete it and run fourcorners index again.",
        foreign: "is a database, but no index of fourcorners. Name another file.",
        newer: f"has format {store.FORMAT + 1}, this version reads {store.FORMAT}: update fourcorners.",
        older: f"has format {store.FORMAT - 1}, this version reads {store.FORMAT}: delete it and run",
    }
    for file, message in expected.items():
        before = file.read_bytes()
        for use in (lambda file=file: open_index(file), lambda file=file: run(folder, file)):
            with pytest.raises(IndexFileError) as caught:
                use()
            assert message in str(caught.value)
            assert str(file) in str(caught.value)
        assert file.read_bytes() == before


def test_a_missing_or_empty_index(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match=r"no index at 'nope\.db'\. Make one: fourcorners index"):
        open_index("nope.db")
    assert not Path("nope.db").exists()
    with pytest.raises(IndexFileError, match="no index at"):
        open_index(folder)
    (tmp_path / "empty.db").touch()
    with pytest.raises(IndexFileError, match=r"is empty\. Run"):
        open_index(tmp_path / "empty.db")
    assert counts(run(folder, tmp_path / "empty.db")) == (5, 0, 0, 0)


@pytest.mark.parametrize("damage", ["cut", "flipped", "zeroed"])
def test_a_damaged_index_is_an_error_or_still_right(tmp_path: Path, damage: str) -> None:
    folder = many(tmp_path / "docs", 60)
    whole, file = tmp_path / "whole.db", tmp_path / "damaged.db"
    run(folder, whole)
    data, chance, messages = whole.read_bytes(), random.Random(5), list[str]()
    for _ in range(12):
        at = chance.randrange(200, len(data) - 5000)
        changed = {
            "cut": data[:at],
            "flipped": data[:at] + bytes(255 - byte for byte in data[at : at + 300]) + data[at + 300 :],
            "zeroed": data[:at] + bytes(5000) + data[at + 5000 :],
        }[damage]
        file.write_bytes(changed)
        for use in (lambda: open_index(file).search("word1 word2 word3 word4", k=20), lambda: run(folder, file)):
            try:
                use()
            except IndexFileError as error:
                messages.append(str(error))
        for rest in tmp_path.glob("damaged.db-*"):
            rest.unlink()
    assert messages
    assert all("damaged.db'" in message and "\n" not in message for message in messages)


def test_where_the_index_can_not_be_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="no folder"):
        run(folder, tmp_path / "no" / "such" / "folder.db")


def test_a_sqlite_without_fts5_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_TABLES", "CREATE VIRTUAL TABLE words USING fts5x (terms);")
    with pytest.raises(IndexFileError, match="lacks FTS5"):
        run(folder)


# Much of it


@pytest.mark.extras
@pytest.mark.timeout(900)
def test_ten_thousand_files_and_one_of_fifty_megabytes(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    for number in range(10_000):
        put(folder, **{f"d{number % 100}__f{number}_txt": f"The number of this file is {number}. It is small."})
    sentence = "The quick brown fox number {} jumps over the lazy dog in the garden of the old house. "
    put(folder, huge_txt="".join(sentence.format(n) + ("\n\n" if n % 9 == 0 else "") for n in range(590_000)))
    assert (folder / "huge.txt").stat().st_size > 50 * 2**20
    aged(folder)
    assert counts(run(folder)) == (10_001, 0, 0, 0)
    began = time.monotonic()
    assert counts(run(folder)) == (0, 10_001, 0, 0)
    assert time.monotonic() - began < 60
    with open_index(folder) as index:
        assert "is 7777." in index.search("Which file has the number 7777?", k=1)[0].page_content
        assert "number 123457 jumps" in index.search("Where does fox 123457 jump?", k=1)[0].page_content
    shutil.rmtree(folder)
