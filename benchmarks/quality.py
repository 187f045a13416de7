"""Hits and refusals of the answer step on question sets.

    python -m benchmarks.quality benchmarks/data/plain_dev.jsonl [MORE.jsonl …] [--llm SPEC] [--swap]

A line of a file is ``{"context", "question", "answers", "answerable"}``. A *hit* is an answer of one sentence that
contains a gold answer; a refusal of an answerable question is a miss. ``--swap`` pairs each question with another
row's context, where every answer is wrong. About 20 ms a row with the bundled reader on one core.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fourcorners import grounded_chain, init_llm

SEED = 7


def rows_of(path: Path, *, swap: bool) -> list[dict[str, Any]]:
    """The rows of a file; with ``swap`` each with another row's context, and so without an answer."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not swap:
        return rows
    chance = random.Random(SEED)
    return [
        {**row, "context": _other(rows, row, chance)["context"], "answers": [], "answerable": False} for row in rows
    ]


def _other(rows: list[dict[str, Any]], row: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    while (other := chance.choice(rows))["context"] == row["context"]:
        pass
    return other


def outcomes(rows: list[dict[str, Any]], chain: Any, title: str) -> Iterator[tuple[bool, bool, bool]]:
    """For each row: was it answerable, was it answered, was that a hit."""
    for row in track(rows, description=title, transient=True):
        reply = chain.invoke({"question": row["question"], "context": row["context"]})
        hit = not reply["refused"] and any(answer in reply["answer"] for answer in row["answers"])
        yield bool(row["answerable"]), not reply["refused"], hit


def main() -> None:
    """Print one line a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--llm", default="bundled", help="a model spec of init_llm")
    parser.add_argument("--swap", action="store_true", help="pair each question with another row's context")
    parser.add_argument("--span", default="sentence", choices=["sentence", "phrase"])
    parser.add_argument("--threshold", type=float, default=None)
    arguments = parser.parse_args()
    llm = init_llm(arguments.llm)
    chain = grounded_chain(llm, span=arguments.span, threshold=arguments.threshold)
    table = Table("file", "answerable", "answered", "hits", "unanswerable", "refused", "ms a row")
    for path in arguments.files:
        started = time.perf_counter()
        found = list(outcomes(rows_of(path, swap=arguments.swap), chain, path.stem))
        taken = (time.perf_counter() - started) * 1000 / max(1, len(found))
        asked = [o for o in found if o[0]]
        other = [o for o in found if not o[0]]
        table.add_row(
            path.stem + (" (swapped)" if arguments.swap else ""),
            str(len(asked)),
            _share(sum(o[1] for o in asked), len(asked)),
            _share(sum(o[2] for o in asked), len(asked)),
            str(len(other)),
            _share(sum(not o[1] for o in other), len(other)),
            f"{taken:.0f}",
        )
    Console().print(table)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


if __name__ == "__main__":
    main()
