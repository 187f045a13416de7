"""The examples with retrievers of others run, find the facts, and reach no network."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "retrievers"
HELPERS = {"showing", "lsa"}
LIGHT = {"bm25", "index_on_disk"}
HEAVY = {"in_memory_store", "faiss_store", "chroma_store", "ensemble", "compression"}
OFFLINE = """
import runpy, sys
from pytest_socket import socket_allow_hosts
socket_allow_hosts(["127.0.0.1"])
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def shown(name: str, folder: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("FOURCORNERS_", "PYTHON"))}
    command = [sys.executable, "-W", "ignore", "-c", OFFLINE, str(FOLDER), str(FOLDER / f"{name}.py")]
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == HELPERS | LIGHT | HEAVY


@pytest.mark.parametrize("name", [*sorted(LIGHT), *(pytest.param(n, marks=pytest.mark.extras) for n in sorted(HEAVY))])
def test_an_example_answers_and_refuses(name: str, tmp_path: Path) -> None:
    if name in HEAVY and importlib.util.find_spec("sklearn") is None:
        pytest.skip("needs the extra: retrievers")
    out = " ".join(shown(name, tmp_path).split())
    assert "1.8 litres" in out
    assert "from espresso-machine.md, characters" in out
    assert "48 hours" in out
    assert out.endswith("What is the password of the wireless network? Unsure about answer")
    if name == "index_on_disk":
        assert "4 files read, 0 unchanged, " in out
        assert "0 files read, 4 unchanged, " in out
