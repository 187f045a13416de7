"""``fourcorners chat`` as a person meets it: the real process, on a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.test_cli import SCRIPT, Done, fourcorners

FERRY = (
    "# The ferry to Holm\n\nThe first ferry to Holm leaves at 6:40.\n\nA ticket for the ferry to Holm costs 12 euros.\n"
)
ASKED = "When does the first ferry to Holm leave?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ferry.md").write_text(FERRY)
    return tmp_path


def chat(folder: Path, *lines: str | bytes, options: tuple[str, ...] = ()) -> Done:
    data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    return fourcorners("chat", "ferry.md", *options, folder=folder, stdin=data)


# On a pipe


def test_questions_can_be_piped_in(folder: Path) -> None:
    done = chat(folder, ASKED, "", "How much does it cost?\r")
    assert done.status == 0
    assert done.out == "The first ferry to Holm leaves at 6:40.\nA ticket for the ferry to Holm costs 12 euros.\n"
    assert 'ferry.md:3: "The first ferry to Holm leaves at 6:40."' in done.err
    assert 'ferry.md:5: "A ticket for the ferry to Holm costs 12 euros."' in done.err
    assert "understood as: How much does it cost? (" in done.err
    assert ">" not in done.out + done.err


def test_an_empty_pipe_is_no_error(folder: Path) -> None:
    assert chat(folder) == Done(0, "", "")


def test_json_is_one_object_a_line(folder: Path) -> None:
    done = chat(folder, ASKED, "How much does it cost?", options=("--json",))
    replies = [json.loads(line) for line in done.out.splitlines()]
    assert [reply["question"] for reply in replies] == [ASKED, "How much does it cost?"]
    assert [reply["rewritten_by"] for reply in replies] == ["nobody", "rule"]
    assert replies[1]["citations"][0]["line"] == 5
    assert (done.status, done.err) == (0, "")


def test_new_forgets_and_quit_leaves(folder: Path) -> None:
    done = chat(folder, ASKED, "/new", "/sources", "How much does it cost?", "/quit", "Who?", options=("--json",))
    replies = [json.loads(line) for line in done.out.splitlines()]
    assert [reply["rewritten_by"] for reply in replies] == ["nobody", "nobody"]
    assert "ferry.md:1: # The ferry to Holm" in done.err


def test_an_error_takes_one_line_and_the_chat_goes_on(folder: Path) -> None:
    done = chat(folder, b"\xff\xfe what?", "/nope", "x" * 100_001, ASKED)
    assert done.out == "The first ferry to Holm leaves at 6:40.\n"
    assert done.status == 2
    assert "Traceback" not in done.err
    assert [line.partition(" ")[0] for line in done.err.splitlines()] == ["error:", "no", "error:", "ferry.md:3:"]


def test_a_line_that_begins_with_a_slash_may_be_a_question(folder: Path) -> None:
    assert chat(folder, "/etc/hosts is what?").out == "Unsure about answer\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no text to answer from"),
        (("-",), "standard input holds the questions"),
        (("nope.txt",), "no such file or folder: 'nope.txt'"),
        (("ferry.md", "--llm", "nope:x"), "unknown model provider 'nope'"),
        (("ferry.md", "--passages", "0"), "passages"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_question(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = fourcorners("chat", *arguments, folder=folder, stdin=b"Who?\n")
    assert (done.status, done.out) == (2, "")
    assert message in done.err


# On a terminal


class Terminal:
    """A chat on a terminal of its own."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid, self._descriptor, self._seen = pid, descriptor, ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def sees(self, text: str, within_s: float = 30) -> str:
        """What came up to ``text`` since the last time."""
        deadline = time.monotonic() + within_s
        while text not in self._seen:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come, but {self._seen!r}"
            try:
                self._seen += os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"it ended without {text!r}: {self._seen!r}") from None
        before, _, self._seen = self._seen.partition(text)
        return before + text

    def status(self, keep_pressing: str = "") -> int:
        """The exit status, once it has ended; a key may be pressed again, as a person would, where nothing happens."""
        while True:
            ready, _, _ = select.select([self._descriptor], [], [], 5)
            if not ready and keep_pressing:
                self.type(keep_pressing)
                continue
            try:
                self._seen += os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:
                return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@contextmanager
def on_a_terminal(folder: Path, *command: str) -> Iterator[Terminal]:
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ["TERM"] = "dumb"
        os.execv(command[0], list(command))
    try:
        yield Terminal(pid, descriptor)
    finally:
        os.close(descriptor)


def test_a_talk_on_a_terminal_ends_with_ctrl_d(folder: Path) -> None:
    with on_a_terminal(folder, str(SCRIPT), "chat", "ferry.md") as terminal:
        terminal.sees("/quit leaves.")
        terminal.sees("> ")
        terminal.type(f"{ASKED}\n")
        terminal.sees("leaves at 6:40.\r\n")
        terminal.sees("ferry.md:3:")
        terminal.sees("> ")
        terminal.type("How much does it cost?\n")
        terminal.sees("costs 12 euros.\r\n")
        terminal.sees("understood as:")
        terminal.sees("> ")
        terminal.type("\x04")
        assert terminal.status() == 0
        assert "Traceback" not in terminal._seen


def test_ctrl_c_at_the_prompt_leaves(folder: Path) -> None:
    with on_a_terminal(folder, str(SCRIPT), "chat", "ferry.md") as terminal:
        terminal.sees("> ")
        terminal.type("\x03")
        # Python's readline misses a signal that comes between the prompt and its wait for a key.
        assert terminal.status(keep_pressing="\x03") == 130
        assert "Traceback" not in terminal._seen


SLOW = """
import sys, time
from fourcorners import cli, cli_chat
from fourcorners.llms import factory
from langchain_core.language_models.fake import FakeStreamingListLLM
words = "word " * 400
factory._PROVIDERS["slow"] = lambda model, settings: FakeStreamingListLLM(responses=[words], sleep=0.05)
sys.argv = ["fourcorners", "chat", "ferry.md", "--llm", "slow:x"]
cli.main()
"""


def test_ctrl_c_ends_the_answer_under_way_and_the_chat_goes_on(folder: Path) -> None:
    with on_a_terminal(folder, sys.executable, "-c", SLOW) as terminal:
        terminal.sees("> ")
        terminal.type(f"{ASKED}\n")
        terminal.sees("word w")
        terminal.type("\x03")
        terminal.sees("stopped")
        terminal.sees("> ")
        terminal.type("/sources\n")
        terminal.sees("nothing was read yet")
        terminal.sees("> ")
        terminal.type("/quit\n")
        assert terminal.status() == 0
        assert "Traceback" not in terminal._seen


def test_ctrl_c_on_a_pipe_leaves_at_once(folder: Path) -> None:
    (folder / "questions.txt").write_text(f"{ASKED}\nWho?\n")
    with (folder / "questions.txt").open("rb") as questions:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW], cwd=folder, stdin=questions, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    with process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"word w"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in out + err


def test_a_reader_that_hangs_up_ends_it_quietly(folder: Path) -> None:
    line = f"{SCRIPT} chat ferry.md < questions.txt | head -n 1"
    (folder / "questions.txt").write_text(f"{ASKED}\n" * 50)
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "The first ferry to Holm leaves at 6:40.\n"
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
