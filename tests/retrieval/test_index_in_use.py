"""``fourcorners index``, and the index behind ``ask`` and ``serve``."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fourcorners.errors import IndexFileError, SettingsError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.retrieval import bm25_retriever, index_folder, retriever_for
from fourcorners.server import create_app
from fourcorners.settings import load_settings
from tests.retrieval.made_files import SCAN, pdf, put, word
from tests.test_cli import SCRIPT, Done, fourcorners

PUMP = pdf([["The manual of the pump."], ["The warranty of the pump is 24 months."]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, docs__pump_pdf=PUMP, docs__boat_md="# The boat\n\nThe boat sails at nine.\n")
    put(tmp_path, docs__terms_docx=word("# Terms", "The deposit for a bicycle is 50 euros."))
    return tmp_path


def test_a_folder_is_indexed_and_asked(folder: Path) -> None:
    done = fourcorners("index", "docs", folder=folder)
    assert done == Done(0, "docs/.fourcorners.db: 4 passages (files: 3 read, 0 unchanged, 0 gone, 0 skipped)\n", "")
    done = fourcorners("ask", "How long is the warranty of the pump?", "--index", "docs", folder=folder)
    quote = "The warranty of the pump is 24 months."
    assert done == Done(0, f"{quote}\n", f'docs/pump.pdf:2: "{quote}"\n')
    done = fourcorners("ask", "When does the boat sail?", "--index", "docs/.fourcorners.db", folder=folder)
    assert done == Done(0, "The boat sails at nine.\n", 'docs/boat.md:3: "The boat sails at nine."\n')
    done = fourcorners("ask", "How much is the deposit for a bicycle?", folder=folder, FOURCORNERS_INDEX="docs")
    quote = "The deposit for a bicycle is 50 euros."
    assert done == Done(0, f"{quote}\n", f'docs/terms.docx:2: "{quote}"\n')


def test_a_pdf_and_a_word_file_can_be_asked_without_an_index(folder: Path) -> None:
    done = fourcorners("ask", "How long is the warranty of the pump?", "docs/pump.pdf", "--json", folder=folder)
    reply = json.loads(done.out)
    (citation,) = reply["citations"]
    passage = reply["context"][citation["index"]]
    assert passage["page_content"][citation["start"] : citation["end"]] == citation["quote"] == reply["answer"]
    assert (citation["source"], citation["page"], citation["line"]) == ("docs/pump.pdf", 2, 1)


def test_skipped_files_are_named_and_the_status_tells(folder: Path) -> None:
    put(folder, docs__scan_pdf=pdf([SCAN]), docs__empty_txt="")
    done = fourcorners("index", "docs", "--index", "all.db", folder=folder)
    assert done.status == 4
    assert done.out == "all.db: 4 passages (files: 3 read, 0 unchanged, 0 gone, 2 skipped)\n"
    assert "skipped: 'docs/scan.pdf' has no text layer on any of its 1 pages" in done.err
    assert "skipped: 'docs/empty.txt' is empty." in done.err
    assert done.err.count("\n") == 2


def test_a_file_name_of_odd_bytes_does_no_harm(folder: Path) -> None:
    name = os.fsdecode(b"b\xe9\x1b[2J\nx.txt")
    (folder / "docs" / name).write_text("The tower is 90 metres high.")
    (folder / "docs" / (name + ".pdf")).write_bytes(b"%PDF broken")
    assert fourcorners("index", "docs", folder=folder).status == 4
    done = fourcorners("ask", "How high is the tower?", "--index", "docs", folder=folder)
    assert (done.status, done.out) == (0, "The tower is 90 metres high.\n")
    assert done.err == 'docs/b\\xe9\\x1b[2J x.txt:1: "The tower is 90 metres high."\n'
    done = fourcorners("ask", "How high is the tower?", "--index", "docs", "--json", folder=folder)
    assert json.loads(done.out)["citations"][0]["source"] == "docs/b\\xe9\x1b[2J\nx.txt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("index", "nope"), "no such folder: 'nope'"),
        (("index", "empty"), "no text to read in folder 'empty'"),
        (("index", "docs", "--index", "no/such/x.db"), "no folder 'no/such' to keep the index in"),
        (("ask", "Who?", "--index", "nope.db"), "no index at 'nope.db'. Make one: fourcorners index FOLDER"),
        (("ask", "Who?", "--index", "docs"), "no index at 'docs/.fourcorners.db'"),
        (("ask", "Who?", "--index", "notes.txt"), "the index 'notes.txt' is damaged (file is not a database)."),
        (("ask", "Who?", "--index", "new.db"), "the index 'new.db' has format 99, this version reads 1: update"),
        (("ask", "Who?", "docs", "--index", "new.db"), "text and an index ('new.db') are given"),
        (("ask", "Who?", "--context", "x", "--index", "new.db"), "text and an index ('new.db') are given"),
        (("serve", "--index", "nope.db"), "no index at 'nope.db'"),
        (("serve", "docs", "--index", "nope.db"), "files ('docs') and an index ('nope.db'): give one of them."),
    ],
)
def test_what_can_go_wrong_is_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no database " * 100)
    index_folder(folder / "docs", folder / "new.db", warn=lambda _: None)
    with sqlite3.connect(folder / "new.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    done = fourcorners(*arguments, folder=folder)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_text_that_is_named_wins_over_an_index_that_is_set(folder: Path) -> None:
    done = fourcorners("ask", "When does the boat sail?", "docs/boat.md", folder=folder, FOURCORNERS_INDEX="nope.db")
    assert done.status == 0


def test_a_terminal_sees_how_far_it_is(folder: Path) -> None:
    for number in range(300):
        (folder / "docs" / f"{number}.md").write_text("Some words stand here. " * 400)
    seen = bytearray()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(SCRIPT, ["fourcorners", "index", "docs"], {**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    while True:
        try:
            seen += os.read(terminal, 4096) or b""
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"/303" in seen
    assert b"303 read" in seen


def test_rag_over_rest_answers_from_the_index(folder: Path, bundled_llm: LlamaCpp) -> None:
    index_folder(folder / "docs", warn=lambda _: None)
    settings = load_settings(index=folder / "docs")
    with TestClient(create_app(bundled_llm, settings=settings)) as client:
        reply = client.post("/rag/invoke", json={"input": "How long is the warranty of the pump?"}).json()["output"]
    (citation,) = reply["citations"]
    document = reply["context"][citation["index"]]
    assert document["page_content"][citation["start"] : citation["end"]] == citation["quote"] == reply["answer"]
    assert document["metadata"]["page"] == 2


def test_a_server_does_not_start_without_its_index(folder: Path, bundled_llm: LlamaCpp) -> None:
    app = create_app(bundled_llm, settings=load_settings(index=folder / "nope.db"))
    with pytest.raises(IndexFileError), TestClient(app):
        pass
    both = load_settings(index=folder / "nope.db", paths=(folder,))
    with pytest.raises(SettingsError), TestClient(create_app(bundled_llm, settings=both)):
        pass


def test_an_index_is_ready_in_half_the_time_that_reading_the_files_takes(folder: Path) -> None:
    for number in range(300):
        put(folder / "docs", **{f"n{number}_md": f"# Note {number}\n\n" + "Some words stand here and there. " * 40})
    file = index_folder(folder / "docs").file
    taken = []
    bm25_retriever([])  # what is imported once counts for neither
    for given in ({"index": file}, {"paths": [folder / "docs"], "warn": lambda _: None}):
        began = time.monotonic()
        found = retriever_for(k=1, **given).invoke("When does the boat sail?")
        taken.append(time.monotonic() - began)
        assert "The boat sails at nine." in found[0].page_content
    assert taken[0] * 2 < taken[1]
