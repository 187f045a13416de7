"""What a document says to a terminal is shown and not obeyed; a pipe gets it as it stands."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from fourcorners import cli
from tests.injection.hostile import HOSTILE, QUESTIONS

SCRIPT = Path(sys.executable).with_name("fourcorners")
TRAP = (
    "The tank \x1b[2J\x1b]0;gone\x07holds \x9b2J \u202e09\u202c \u2066nine\u2069 "
    "\U000e0041\U000e007f litres \x08of\rwater \x7f."
)


def on_terminal(folder: Path, *arguments: str) -> bytes:
    """What a terminal is sent."""
    seen = bytearray()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(SCRIPT, ["fourcorners", *arguments])
    while True:
        try:
            seen += os.read(terminal, 4096) or b""
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return bytes(seen)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trap.txt").write_text(TRAP, newline="")
    return tmp_path


def check_harmless(seen: bytes) -> None:
    text = seen.decode()
    for order in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\x08", "\x7f", "\u202e", "\u2066", "\U000e0041", "of\rwater"):
        assert order not in text


def test_an_answer_gives_a_terminal_no_orders(folder: Path) -> None:
    seen = on_terminal(folder, "ask", QUESTIONS["benign"], "trap.txt")
    check_harmless(seen)
    for shown in (rb"The tank \x1b[2J\x1b]0;gone\x07holds \x9b2J \u{202e}09\u{202c}", b"of water"):
        assert shown in seen


def test_json_on_a_terminal_gives_no_orders_and_reads_as_ever(folder: Path) -> None:
    seen = on_terminal(folder, "ask", QUESTIONS["benign"], "trap.txt", "--json")
    check_harmless(seen)
    begin, end = seen.index(b"{"), seen.rindex(b"}") + 1
    assert json.loads(seen[begin:end])["answer"] == TRAP


def test_a_pipe_gets_what_stands_in_the_document(folder: Path) -> None:
    command = [str(SCRIPT), "ask", QUESTIONS["benign"], "trap.txt"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == TRAP + "\n"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_every_hostile_text_is_harmless_when_written(text: str) -> None:
    shown = text.translate(cli._VISIBLE)
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\t\n"]
    assert not {unicodedata.bidirectional(c) for c in shown} & {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }
    dumped = json.dumps(text, ensure_ascii=False).translate(cli._VISIBLE_JSON)
    assert json.loads(dumped) == text
    assert not [c for c in dumped if unicodedata.category(c) == "Cc"]


def test_a_folder_of_hostile_files_is_read_and_answered(tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE.values()):
        if text.strip() and "\0" not in text:
            (tmp_path / f"{number:03}.txt").write_text(text, newline="")
    for question in QUESTIONS.values():
        command = [str(SCRIPT), "ask", question, str(tmp_path), "--json", "--passages", "20"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode in (0, 3), done.stderr.decode()
        reply = json.loads(done.stdout)
        for citation in reply["citations"]:
            passage = reply["context"][citation["index"]]["page_content"]
            assert passage[citation["start"] : citation["end"]] == citation["quote"]
        assert reply["answer"] == ("\n".join(c["quote"] for c in reply["citations"]) or "Unsure about answer")
