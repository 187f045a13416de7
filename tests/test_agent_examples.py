"""The examples for agents, run as a reader would run them, from another folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def output_of(name: str, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_agent_answers_and_refuses(tmp_path: Path) -> None:
    first, second, *_ = output_of("agent.py", tmp_path).split("\n\nWhat is the password")
    assert "Anaïs Le Guélec" in first
    assert "saint-elou.md" in first
    assert "refused: False, guarantee: enforced" in first
    assert "The documents do not say it" in second
    assert "refused: True" in second


def test_the_graph_remembers(tmp_path: Path) -> None:
    shown = output_of("graph.py", tmp_path)
    assert "35 minutes" in shown
    assert "ferry-timetable.md" in shown
    assert "48 hours" in shown
    assert "4 messages kept; the last reply's guarantee: enforced" in shown


def test_the_mcp_client_asks(tmp_path: Path) -> None:
    shown = output_of("mcp_client.py", tmp_path)
    assert "tools: ask search" in shown
    assert "saint-elou.md" in shown
    assert "1.8 litres" in shown
    assert "espresso-machine.md:" in shown
    assert shown.rstrip().endswith("Unsure about answer")
