"""The documentation's code does what it says."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.timeout(100)
def test_the_page_of_guarantees_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "guarantees.md").read_text("utf-8"), flags=re.S)
    assert len(blocks) > 5
    code = "\n".join(blocks)
    exec(compile(code, "guarantees.md", "exec"), {"__name__": "guarantees"})


def test_the_page_of_evaluation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "evaluation.md").read_text("utf-8"), flags=re.S)
    exec(compile(code, "evaluation.md", "exec"), {"__name__": "evaluation"})
