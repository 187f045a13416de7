"""What ``make demo`` runs, on the documents that ship with the project."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FACTS = {
    "How much water does the tank hold?": ("1.8 litres", "espresso-machine.md"),
    "Until when can I cancel a booking?": ("48 hours", "bicycle-rental.txt"),
    "How long does the crossing take?": ("35 minutes", "ferry-timetable.md"),
    "How much is the deposit for a city bicycle?": ("50 euros", "bicycle-rental.txt"),
    "Who built the lighthouse?  (streamed)": ("Anaïs Le Guélec", "saint-elou.md"),
}


def test_the_demo_answers_and_refuses(tmp_path: Path) -> None:
    """Run from another folder: it must find its documents by itself."""
    command = [sys.executable, str(ROOT / "examples" / "demo.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    blocks = done.stdout.split("\n\n")
    for question, (fact, name) in FACTS.items():
        (block,) = [block for block in blocks if block.startswith(question)]
        assert fact in " ".join(block.split())
        cited = re.search(rf"{re.escape(name)}:(\d+)$", block, re.MULTILINE)
        assert cited
        line = (ROOT / "examples" / "documents" / name).read_text("utf-8").split("\n")[int(cited[1]) - 1]
        assert block.split("\n")[1].split(". ")[0][:30] in line
    pieces = re.search(r"came in (\d+) pieces", done.stdout)
    assert pieces
    assert int(pieces[1]) > 5
    assert "Unsure about answer\n  refused: True" in blocks[-1]
