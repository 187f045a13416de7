"""How often a follow-up gets its sentence: asked alone, made to stand alone by the rule, and as a person would put it.

    python -m benchmarks.dialogues dev [test] [--show]

The dialogues are in ``data/dialogues_*.txt``. Each is held with the bundled reader over all documents of its half, in
passages by BM25, four read; the history is what was really answered before. A *hit* is an answer that holds the gold
words, or the refusal where the documents do not tell. About 15 s a half on one core.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fourcorners import chat_chain, init_llm
from fourcorners.retrieval import bm25_retriever, passages_of

DATA = Path(__file__).parent / "data"
NONE = "-"
WAYS = ("alone", "rule", "by hand")


@dataclass(frozen=True, slots=True)
class Asked:
    """One turn: as asked, as a standalone question, and words of the sentence that answers it (or ``NONE``)."""

    question: str
    standalone: str
    gold: str

    @property
    def leans(self) -> bool:
        """Whether it needs what was said before."""
        return self.question != self.standalone


def dialogues(half: str) -> list[list[Asked]]:
    """The dialogues of ``dev`` or ``test``."""
    blocks = (DATA / f"dialogues_{half}.txt").read_text("utf-8").split("\n\n")
    found = [[_asked(line) for line in block.splitlines() if not line.startswith("#")] for block in blocks]
    return [turns for turns in found if turns]


def _asked(line: str) -> Asked:
    question, standalone, gold = line.split(" | ")
    return Asked(question, question if standalone == "=" else standalone, gold)


def documents(half: str) -> list[Any]:
    """The passages of all documents of that half."""
    texts = (DATA / f"dialogue_documents_{half}.md").read_text("utf-8").split("\n---\n")
    if half == "dev":
        rows = map(json.loads, (DATA / "plain_dev.jsonl").read_text("utf-8").splitlines())
        texts += dict.fromkeys(row["context"] for row in rows)
    return [passage for number, text in enumerate(texts) for passage in passages_of(text.strip(), f"{half}{number}")]


def outcomes(half: str, llm: Any, threshold: float | None = None) -> Iterator[tuple[Asked, str, dict[str, Any], bool]]:
    """For each turn and each of WAYS: the turn, the way, the reply, and whether it was a hit."""
    chain = chat_chain(
        bm25_retriever(documents(half)), llm, rewrite="rule", threshold=threshold, contradictions="ignore"
    )
    for turns in dialogues(half):
        for way in WAYS:
            history: list[tuple[str, str]] = []
            for asked in turns:
                question = asked.standalone if way == "by hand" else asked.question
                reply = chain.invoke({"question": question, "history": history if way == "rule" else []})
                history += [("user", asked.question), ("assistant", reply["answer"])]
                hit = reply["refused"] if asked.gold == NONE else asked.gold in reply["answer"]
                yield asked, way, reply, bool(hit)


def main() -> None:
    """Print a table a half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("halves", nargs="+", choices=["dev", "test"])
    parser.add_argument("--show", action="store_true", help="also print each turn that the rule misses")
    parser.add_argument("--threshold", type=float, default=None, help="inf never refuses: which sentence comes first")
    arguments = parser.parse_args()
    llm, console = init_llm("bundled"), Console()
    for half in arguments.halves:
        hits, asked_of, changed = Counter[tuple[bool, str]](), Counter[bool](), 0
        for asked, way, reply, hit in outcomes(half, llm, arguments.threshold):
            hits[asked.leans, way] += hit
            asked_of[asked.leans] += way == "rule"
            is_changed = way == "rule" and not asked.leans and reply["standalone_question"] != asked.question
            changed += is_changed
            if arguments.show and way == "rule" and (not hit or is_changed):
                print(f"{asked.question}\n  -> {reply['standalone_question']}\n  = {reply['answer']}  [{asked.gold}]")
        table = Table(f"{half}: turns", "number", *WAYS)
        for leans, name in ((True, "follow-ups"), (False, "others")):
            shares = (f"{hits[leans, way] / asked_of[leans]:.0%}" for way in WAYS)
            table.add_row(name, str(asked_of[leans]), *shares)
        console.print(table)
        console.print(f"{changed} of {asked_of[False]} questions that stand alone were changed by the rule")


if __name__ == "__main__":
    main()
