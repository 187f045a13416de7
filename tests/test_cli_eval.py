"""``fourcorners eval`` and ``fourcorners calibrate`` as a person meets them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import SCRIPT, Done, fourcorners

TEXT = "The museum opens at {n}:00. An adult ticket costs €{n}.50. Dogs are not allowed. The lift is out of order."
ASKED = [
    ("When does the museum open?", "{n}:00", "time"),
    ("How much is an adult ticket?", "€{n}.50", "price"),
    ("Who painted the Mona Lisa?", None, "none"),
]


def rows(n_contexts: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{kind}-{n}",
            "kind": kind,
            "context": TEXT.format(n=n),
            "question": question,
            "answers": [answer.format(n=n)] if answer else [],
            "answerable": answer is not None,
        }
        for n in range(10, 10 + n_contexts)
        for question, answer, kind in ASKED
    ]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path / "museum.jsonl", rows(2))
    return tmp_path


def figures(done: Done) -> dict[str, Any]:
    assert (done.status, done.err) == (0, "")
    told: dict[str, Any] = json.loads(done.out)
    return told


def test_figures_go_to_stdout_as_tables(folder: Path) -> None:
    done = fourcorners("eval", "museum.jsonl", "--by", "kind", "--threshold", "99", folder=folder)
    assert (done.status, done.err) == (0, "")
    for title in ("answers", "quotes", "refusals", "speed", "  price", "AUROC", "tokens/s"):
        assert title in done.out
    line = next(line for line in done.out.splitlines() if line.startswith(" museum"))
    assert line.split()[:4] == ["museum", "6", "0", "100.0"]


def test_json_has_all_of_it_and_the_threshold_applies(folder: Path) -> None:
    options = ("eval", "museum.jsonl", "--json", "--threshold")
    answered, refused = (figures(fourcorners(*options, level, folder=folder))["sets"][0] for level in ("99", "-99"))
    assert answered["confusion"] == {
        "answerable_answered": 4,
        "answerable_refused": 0,
        "unanswerable_answered": 2,
        "unanswerable_refused": 0,
    }
    assert (answered["hit"], answered["verbatim"], answered["risk"]) == (1.0, 1.0, pytest.approx(1 / 3))
    assert (refused["hit"], refused["coverage"], refused["em"]) == (0.0, 0.0, pytest.approx(1 / 3))
    assert answered["auroc"] == refused["auroc"] == 1.0
    curves = [[point[:2] for point in one["risk_coverage"]] for one in (answered, refused)]
    assert curves[0] == curves[1]


def test_squad_several_files_limit_and_swap(folder: Path) -> None:
    qas = [{"id": "q", "question": ASKED[0][0], "answers": [{"text": "10:00", "answer_start": 20}]}]
    squad = {"data": [{"title": "M", "paragraphs": [{"context": TEXT.format(n=10), "qas": qas}]}]}
    (folder / "squad.json").write_text(json.dumps(squad))
    both = figures(fourcorners("eval", "museum.jsonl", "squad.json", "--limit", "3", "--json", folder=folder))
    assert [(one["set"], one["rows"]) for one in both["sets"]] == [("museum", 3), ("squad", 1)]
    assert both["all"]["rows"] == 4
    (swapped,) = figures(fourcorners("eval", "museum.jsonl", "--swap", "--json", folder=folder))["sets"]
    assert (swapped["set"], swapped["answerable"], swapped["unanswerable"]) == ("museum (swapped)", 0, 6)


@pytest.mark.parametrize("grounding", ["free", "none"])
def test_other_groundings_get_what_can_be_measured(folder: Path, grounding: str) -> None:
    done = fourcorners("eval", "museum.jsonl", "--grounding", grounding, "--limit", "2", "--json", folder=folder)
    (one,) = figures(done)["sets"]
    assert (one["threshold"], one["auroc"], one["errors"]) == (None, None, 0)


def test_details_and_a_picture_are_written(folder: Path) -> None:
    done = fourcorners("eval", "museum.jsonl", "--details", "rows.jsonl", "--plot", "a.png", folder=folder)
    assert done.status == 0
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in rows(2)]
    assert {"answer", "score", "refused", "hit", "em", "f1", "kind", "error"} <= set(lines[0])
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_that_fails_is_counted_and_told(folder: Path) -> None:
    long = {"question": "Why? " * 25_000, "context": "It rained.", "answers": ["rained"]}
    written(folder / "long.jsonl", [long, *rows(1)])
    done = fourcorners("eval", "long.jsonl", "--json", folder=folder)
    (one,) = json.loads(done.out)["sets"]
    assert (done.status, one["rows"], one["errors"], one["answerable"]) == (4, 4, 1, 2)
    assert done.err.startswith("1 of 4 rows failed; the first, 1: InputError: question has 125000 ")
    written(folder / "long.jsonl", [long])
    assert fourcorners("eval", "long.jsonl", folder=folder).status == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none.jsonl",), "none.jsonl can't be read"),
        (("museum.jsonl", "--by", "colour"), "--by colour: no row has such a column (there are: id, kind"),
        (("museum.jsonl", "--plot", "a.pdf"), "can be written to .png and .svg, not to 'a.pdf'"),
        (("museum.jsonl", "--details", "none/a.jsonl"), "can't be written to 'none/a.jsonl'"),
        (("museum.jsonl", "--grounding", "free", "--threshold", "1"), "leave out --threshold"),
        (("museum.jsonl", "--thresholds", "none.json"), "none.json can't be read"),
        (("museum.jsonl", "--llm", "nope:x"), "unknown model provider"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    done = fourcorners("eval", *arguments, folder=folder)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert told in done.err
    assert done.err.count("\n") == 1


def test_an_interrupt_leaves_what_is_done(folder: Path) -> None:
    code = """
import signal, sys
from fourcorners.evaluation.measuring import Measured
from fourcorners.cli import main
from fourcorners import cli_eval
import contextlib
@contextlib.contextmanager
def progress(n_rows):
    seen = []
    def advance(title):
        seen.append(title)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
    yield advance
cli_eval._progress = progress
sys.argv = ["fourcorners", "eval", "museum.jsonl", "--json", "--concurrency", "1"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert 3 <= json.loads(done.stdout)["sets"][0]["rows"] < 6
    assert done.stderr.startswith("interrupted after ")


def test_a_terminal_is_shown_how_far_it_is(folder: Path) -> None:
    seen = bytearray()
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(SCRIPT, ["fourcorners", "eval", "museum.jsonl"])
    while True:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"6/6" in seen
    assert b"AUROC" in seen


# calibrate


def test_a_threshold_is_written_and_used(folder: Path) -> None:
    written(folder / "many.jsonl", rows(40))
    done = fourcorners("calibrate", "many.jsonl", "--max-risk", "0.2", "--out", "t.json", folder=folder)
    assert (done.status, done.err) == (0, "")
    (entry,) = json.loads((folder / "t.json").read_text())["entries"]
    assert done.out.startswith(f"t.json: threshold {entry['threshold']:.4f} for reader.gguf, verbatim, sentence\n")
    assert (entry["rows"], entry["max_risk"], entry["bound"], entry["confidence"]) == (120, 0.2, "selective", 0.95)
    assert entry["risk"] <= 0.2
    asked = ("ask", "When does it open?", "--context", "It opens at ten.", "--json")
    by_option = fourcorners(*asked, "--thresholds", "t.json", folder=folder)
    by_variable = fourcorners(*asked, folder=folder, FOURCORNERS_THRESHOLDS="t.json")
    assert [json.loads(done.out)["threshold"] for done in (by_option, by_variable)] == [entry["threshold"]] * 2
    measured = figures(fourcorners("eval", "many.jsonl", "--thresholds", "t.json", "--json", folder=folder))
    assert measured["threshold"] == entry["threshold"]
    assert measured["sets"][0]["coverage"] == pytest.approx(entry["coverage"], abs=0.1)
    assert measured["sets"][0]["risk"] == pytest.approx(entry["risk"], abs=0.1)


def test_spans_share_a_file(folder: Path) -> None:
    written(folder / "many.jsonl", rows(20))
    for span in ("sentence", "phrase"):
        options = ("--max-risk", "0.9", "--bound", "expected", "--span", span, "--json")
        found = figures(fourcorners("calibrate", "many.jsonl", *options, folder=folder))
        assert (found["file"], found["span"], found["confidence"]) == ("thresholds.json", span, None)
    entries = json.loads((folder / "thresholds.json").read_text())["entries"]
    assert [entry["span"] for entry in entries] == ["phrase", "sentence"]


def test_a_threshold_file_in_the_environment_is_not_in_the_way_of_a_new_one(folder: Path) -> None:
    options = ("--max-risk", "0.9", "--bound", "expected")
    done = fourcorners("calibrate", "museum.jsonl", *options, folder=folder, FOURCORNERS_THRESHOLDS="none.json")
    assert (done.status, done.err) == (0, "")


def test_swapped_rows_can_be_added(folder: Path) -> None:
    options = ("--max-risk", "0.9", "--bound", "expected", "--with-swapped", "--json")
    assert figures(fourcorners("calibrate", "museum.jsonl", *options, folder=folder))["rows"] == 12


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--max-risk", "0.05"), "6 rows are too few to bound the risk by 0.05 with confidence 0.95: at least"),
        (("--max-risk", "2"), "max_risk=2 must be above 0 and below 1"),
        (("--max-risk", "0.9", "--out", "none/t.json"), "can't be written to 'none/t.json'"),
        (("--max-risk", "0.9", "--bound", "expected", "--out", "museum.jsonl"), "museum.jsonl is no threshold file"),
    ],
)
def test_what_cannot_be_calibrated_is_told_and_nothing_written(
    folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = fourcorners("calibrate", "museum.jsonl", *arguments, folder=folder)
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert [path.name for path in folder.iterdir()] == ["museum.jsonl"]


def test_chat_and_serve_take_a_threshold_file_too(folder: Path) -> None:
    for command in ("chat", "serve", "mcp", "ask"):
        assert "--thresholds" in fourcorners(command, "--help", folder=folder, COLUMNS="100").out
    done = fourcorners("serve", "--thresholds", "none.json", folder=folder)
    assert (done.status, done.out) == (2, "")
    assert "none.json can't be read" in done.err
