"""The console script as a person meets it: what is printed where, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("fourcorners")
DOCUMENTS = Path(__file__).resolve().parent.parent / "examples" / "documents"
REFUSAL = "Unsure about answer\n"
BOILER = "# Boiler\n\nThe boiler holds 90 litres.\n\nThe guarantee is 24 months."


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "boiler.md").write_text(BOILER)
    return tmp_path


def fourcorners(*arguments: str, folder: Path, stdin: bytes | None = None, **env: str) -> Done:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FOURCORNERS_", "PYTHON"))}
    done = subprocess.run(
        [SCRIPT, *arguments],
        cwd=folder,
        env=clean | env,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


# What goes where


def test_an_answer_goes_to_stdout_and_its_place_to_stderr(folder: Path) -> None:
    done = fourcorners("ask", "How long is the guarantee?", "boiler.md", folder=folder)
    assert done == Done(0, "The guarantee is 24 months.\n", 'boiler.md:5: "The guarantee is 24 months."\n')


def test_a_refusal_has_a_status_of_its_own(folder: Path) -> None:
    done = fourcorners("ask", "Who is the president of France?", "boiler.md", folder=folder)
    assert done == Done(3, REFUSAL, "not in the text read\n")
    done = fourcorners("ask", "Who won?", "boiler.md", "--refusal", "No idea", "--threshold", "-99", folder=folder)
    assert done == Done(3, "No idea\n", "not in the text read\n")


def test_json_is_the_whole_reply_on_stdout(folder: Path) -> None:
    done = fourcorners("ask", "How long is the guarantee?", "boiler.md", "--json", folder=folder)
    assert (done.status, done.err) == (0, "")
    reply = json.loads(done.out)
    assert reply["answer"] == "The guarantee is 24 months."
    assert (reply["refused"], reply["guarantee"]) == (False, "enforced")
    assert reply["score"] <= reply["threshold"]
    assert reply["usage"]["completion_tokens"] > 0
    (passage,) = reply["context"]
    assert (passage["page_content"], passage["metadata"]["source"]) == (BOILER, "boiler.md")
    (citation,) = reply["citations"]
    assert passage["page_content"][citation["start"] : citation["end"]] == citation["quote"] == reply["answer"]
    assert (citation["source"], citation["line"]) == ("boiler.md", 5)


def test_json_of_an_empty_context(folder: Path) -> None:
    done = fourcorners("ask", "Who?", "--context", "", "--json", folder=folder)
    reply = json.loads(done.out)
    assert (done.status, reply["refused"], reply["score"], reply["citations"]) == (3, True, None, [])


def test_a_phrase_is_shorter_than_its_sentence(folder: Path) -> None:
    options = ("--span", "phrase", "--threshold", "99")  # never refuse: how good the phrase is, is no matter here
    done = fourcorners("ask", "How long is the guarantee?", "boiler.md", *options, folder=folder)
    assert done.status == 0
    assert done.out.strip() in BOILER
    assert len(done.out) < len("The guarantee is 24 months.\n")
    assert done.err.startswith("boiler.md:")


def test_settings_come_from_the_environment_and_arguments_win(folder: Path) -> None:
    question = ("ask", "How long is the guarantee?", "boiler.md")
    wrong = fourcorners(*question, folder=folder, FOURCORNERS_LLM="nope:x")
    assert (wrong.status, "unknown model provider 'nope'" in wrong.err) == (2, True)
    assert fourcorners(*question, "--llm", "bundled", folder=folder, FOURCORNERS_LLM="nope:x").status == 0


# Where text comes from


def test_standard_input_is_read_when_nothing_else_is_given(folder: Path) -> None:
    for paths in ([], ["-"]):
        done = fourcorners("ask", "How long is the guarantee?", *paths, folder=folder, stdin=BOILER.encode())
        assert done == Done(0, "The guarantee is 24 months.\n", '-:5: "The guarantee is 24 months."\n')


def test_context_may_be_given_more_than_once(folder: Path) -> None:
    context = ("--context", "It rained.", "--context", "The best year ever is 1986.")
    done = fourcorners("ask", "What is the best year?", *context, folder=folder)
    assert done == Done(0, "The best year ever is 1986.\n", 'context 2:1: "The best year ever is 1986."\n')


def test_a_folder_is_searched_and_the_line_is_that_of_the_file() -> None:
    done = fourcorners("ask", "Who built the lighthouse?", "documents", folder=DOCUMENTS.parent)
    assert done.status == 0
    assert "Anaïs Le Guélec" in done.out
    line = done.err.removeprefix("documents/saint-elou.md:").partition(":")[0]
    text = (DOCUMENTS / "saint-elou.md").read_text("utf-8")
    assert text.split("\n")[int(line) - 1].startswith(done.out[:40])


def test_crlf_a_byte_order_mark_emoji_and_control_tokens_come_back_as_they_stand(folder: Path) -> None:
    quote = "The code 🧑‍🚒 <|im_end|> opens the safe."
    (folder / "odd.txt").write_bytes(f"\ufeffFirst e\u0301 line.\r\n\r\n{quote}\r\n\r\nThe end.\r\n".encode())
    done = fourcorners("ask", "What opens the safe?", "odd.txt", "--json", folder=folder)
    (citation,) = json.loads(done.out)["citations"]
    assert (citation["quote"], citation["line"]) == (quote, 3)


# What can go wrong


@pytest.mark.parametrize(
    ("arguments", "content", "message"),
    [
        (("nope.txt",), None, "no such file or folder: 'nope.txt'. Check its name"),
        (("file",), b"", "'file' is empty. Give a file with text in it."),
        (("file",), b"\x7fELF\0\0", "'file' is binary (NUL byte at offset 4). Give a text file"),
        (("file",), b"caf\xe9", "'file' is not valid UTF-8 (byte 0xE9 at offset 3). Convert it"),
        (("-",), None, "standard input is empty."),
        ((), None, "standard input is empty."),
        (("empty",), None, "no text to read in folder 'empty'"),
    ],
)
def test_input_that_is_no_text(folder: Path, arguments: tuple[str, ...], content: bytes | None, message: str) -> None:
    (folder / "empty").mkdir()
    if content is not None:
        (folder / "file").write_bytes(content)
    done = fourcorners("ask", "Who?", *arguments, "--llm", "llama_cpp:never-loaded.gguf", folder=folder)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("", "boiler.md"), 2, "question is empty (''): ask something"),
        (("x" * 110_000, "boiler.md"), 2, "question has 110000 characters, 100000 are allowed: shorten it"),
        (("Who?", "boiler.md", "--span", "word"), 2, "'--span'"),
        (("Who?", "boiler.md", "--max-spans", "99"), 2, "max_spans (FOURCORNERS_MAX_SPANS) can't be 99"),
        (("Who?", "boiler.md", "--passages", "0"), 2, "passages (FOURCORNERS_PASSAGES) can't be 0"),
        (("Who?", "boiler.md", "--refusal", ""), 2, "refusal=''"),
        (("Who?", "boiler.md", "--colour"), 2, "No such option: --colour"),
        (("Who?", "boiler.md", "--llm", "magic:box"), 2, "unknown model provider 'magic' in 'magic:box'"),
        (("Who?", "boiler.md", "--llm", "llama_cpp:no.gguf"), 1, "no model file at 'no.gguf'"),
        (("Who?", "boiler.md", "--llm", "llama_cpp:boiler.md"), 1, "boiler.md"),
    ],
)
def test_bad_usage_and_faults(folder: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    done = fourcorners("ask", *arguments, folder=folder)
    assert (done.status, done.out) == (status, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_question_of_a_million_characters(folder: Path) -> None:
    """No system passes so long an argument on the command line; called in process it is refused all the same."""
    code = "import sys; from fourcorners.cli import main; sys.argv = ['', 'ask', 'why ' * 250_000, 'boiler.md']; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: question has 1000000 characters, 100000 are allowed: shorten it\n"


def test_a_truncated_model_is_a_fault_in_one_line_and_debug_shows_where(folder: Path) -> None:
    from fourcorners.models import reader_path

    (folder / "half.gguf").write_bytes(Path(reader_path()).read_bytes()[:100_000])
    arguments = ("ask", "Who?", "boiler.md", "--llm", "llama_cpp:half.gguf")
    done = fourcorners(*arguments, folder=folder)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "half.gguf" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in fourcorners(*arguments, folder=folder, FOURCORNERS_DEBUG="1").err


def test_a_reader_that_goes_away_is_no_fault(folder: Path) -> None:
    command = f"'{SCRIPT}' ask 'How long is the guarantee?' boiler.md | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")


@pytest.mark.parametrize("moment", ["fourcorners.retrieval.loading.read_passages", "fourcorners.cli._write"])
def test_an_interrupt_is_quiet(folder: Path, moment: str) -> None:
    """While it reads, and while the engine's thread is at work."""
    module, _, name = moment.rpartition(".")
    code = f"""
import signal, sys, {module} as module
from fourcorners.cli import main
module.{name} = lambda *_: signal.raise_signal(signal.SIGINT)
sys.argv = ["fourcorners", "ask", "How long is the guarantee?", "boiler.md"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# On a terminal


def test_on_a_terminal_a_document_can_not_give_orders_to_it(folder: Path) -> None:
    (folder / "trap.txt").write_text("The guarantee \x1b[2J\x1b]0;gone\x07 is 24 months.")
    seen = bytearray()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(SCRIPT, ["fourcorners", "ask", "How long is the guarantee?", "trap.txt"])
    while True:
        try:
            seen += os.read(terminal, 4096) or b""
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"The guarantee \\x1b[2J\\x1b]0;gone\\x07 is 24 months." in seen
    assert b"\x1b[2J" not in seen
    assert b"\x1b]0" not in seen


# Help and version


def test_version_is_quick_because_nothing_heavy_is_imported(folder: Path) -> None:
    from fourcorners import __version__

    assert fourcorners("--version", folder=folder) == Done(0, f"fourcorners {__version__}\n", "")
    code = "import sys, fourcorners.cli; print(len(sys.modules), *{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *names = done.stdout.split()
    assert not {"langchain_core", "pydantic", "numpy", "llama_cpp", "rich", "regex", "fastapi"} & set(names)
    assert int(count) < 250


def test_help_has_examples_and_the_exit_statuses(folder: Path) -> None:
    done = fourcorners("ask", "--help", folder=folder, COLUMNS="100")
    assert (done.status, done.err) == (0, "")
    for text in ('fourcorners ask "How long is the warranty?" manual.md', "--context", "3 refused", "standard input"):
        assert text in done.out
    assert fourcorners(folder=folder).status == 2
    assert "/v1/completions" in fourcorners("serve", "--help", folder=folder, COLUMNS="100").out


def test_the_package_can_be_run_as_a_module(folder: Path) -> None:
    command = [sys.executable, "-m", "fourcorners", "--version"]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout.startswith(b"fourcorners ")
